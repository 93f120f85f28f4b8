//! The arguments of `casefile test-connectivity`.

use casefile_proto::ids::NodeName;
use clap::{Args, ValueHint};

use super::source::Place;
use super::{CollectorArgs, Output};

pub(crate) const EXAMPLES: &str = "\
Examples:
  casefile test-connectivity --target api-gateway            from every node, now
  casefile test-connectivity --target https://api.shop.svc/healthz --node n7 --node n8
  casefile test-connectivity INC-000123_….tar.gz             what was tested in the window of a case file
  casefile test-connectivity --target db -o json | jq .verdict

Targets are those that the collector's configuration lists, by name or URL; nothing else is ever tested. `-` is a step that
was not reached. Exit codes: 0 every node reaches it · 3 one does not · 5 one could not test";

/// What `test-connectivity` is told.
#[derive(Args, Debug)]
pub(crate) struct TestConnectivityArgs {
    /// Show the tests that a case file, or an incident such as INC-000123, holds, instead of testing now.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath, required_unless_present = "target")]
    pub(crate) file: Option<Place>,
    /// The target: its name, or its URL, in the collector's configuration.
    #[arg(short = 't', long, value_name = "TARGET")]
    pub(crate) target: Option<String>,
    /// Only from this node; may be given again. Without it: from every node that the collector knows.
    #[arg(long = "node", value_name = "NAME", conflicts_with = "file")]
    pub(crate) nodes: Vec<NodeName>,
    /// How many seconds each node may take: 1 to 10. Without it: 5.
    #[arg(long, value_name = "SECONDS", conflicts_with = "file", value_parser = clap::value_parser!(u64).range(1..=10))]
    pub(crate) deadline: Option<u64>,
    /// Which collector.
    #[command(flatten)]
    pub(crate) collector: CollectorArgs,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: Output,
}
