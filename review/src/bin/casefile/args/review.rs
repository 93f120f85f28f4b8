//! What `check`, `findings`, `timeline` and `cite` are told.

use std::path::PathBuf;

use casefile_proto::ids::NodeName;
use clap::{Args, ValueEnum, ValueHint};

use super::Output;
use super::source::SourceArgs;

pub(crate) const CHECK_EXAMPLES: &str = "\
Examples:
  casefile check FILE                    every check of today over a case file: what was found, and what nobody can tell
  casefile check FILE --pack ours.toml   with signatures of your own
  casefile check /var/lib/casefile/agent/ring   over a node's own recording
  casefile check FILE -o json | jq .checks      every check of every node

Exit codes: 0 nothing above info · 1 error · 2 usage · 3 errors or worse were found · 4 warnings only · 5 nothing found, but evidence is missing";

/// What `check` is told.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// What is read.
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// A file of signatures of your own, tried before ours. May be given again.
    #[arg(long = "pack", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) packs: Vec<PathBuf>,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// The least that is shown.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Least {
    /// Everything.
    Info,
    /// Warnings and worse.
    Warning,
    /// Errors and worse.
    Error,
    /// Only what is fatal.
    Fatal,
}

pub(crate) const FINDINGS_EXAMPLES: &str = "\
Examples:
  casefile findings FILE                       in the order of rank, as they were sealed
  casefile findings FILE --least error --node n7
  casefile findings FILE -o jsonl | jq .evidence";

/// What `findings` is told.
#[derive(Args, Debug)]
pub(crate) struct FindingsArgs {
    /// What is read.
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Only of this node.
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<NodeName>,
    /// Only what is at least so bad.
    #[arg(long, value_enum, default_value_t = Least::Info, value_name = "SEVERITY")]
    pub(crate) least: Least,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: Output,
}

pub(crate) const TIMELINE_EXAMPLES: &str = "\
Examples:
  casefile timeline FILE                           everything that happened, of all nodes, on one clock
  casefile timeline FILE --around 03:12Z±90s
  casefile timeline FILE --least warning --node n7
  casefile timeline FILE -o jsonl > timeline.jsonl # opens in lnav and Timesketch";

/// What `timeline` is told.
#[derive(Args, Debug)]
pub(crate) struct TimelineArgs {
    /// What is read.
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Only of this node.
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<NodeName>,
    /// Only what is at least so bad.
    #[arg(long, value_enum, default_value_t = Least::Info, value_name = "SEVERITY")]
    pub(crate) least: Least,
    /// Only around an instant: 03:12Z±90s.
    #[arg(long, value_name = "TIME±LENGTH")]
    pub(crate) around: Option<String>,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: Output,
}

pub(crate) const CITE_EXAMPLES: &str = "\
Examples:
  casefile cite FILE E5      a line for a chat or a post-mortem: what it says, where it stands, its digest
  casefile cite FILE F1      a finding, with the names of its evidence";

/// What `cite` is told.
#[derive(Args, Debug)]
pub(crate) struct CiteArgs {
    /// What is read.
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// The evidence or the finding: E5, F1.
    pub(crate) reference: String,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: Output,
}
