//! What `export` is told.

use std::path::PathBuf;

use casefile_proto::ids::NodeName;
use casefile_review::export::{self, Form};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueHint};

use super::Output;
use super::source::SourceArgs;

pub(crate) const EXAMPLES: &str = "\
Examples:
  casefile export FILE --to parquet                        tables for DuckDB, pandas, Polars: duckdb -init views.sql
  casefile export FILE --to openmetrics --into m.txt       every sample for promtool and a Prometheus of your own
  casefile export FILE --to perfetto --node gpu-17         a trace for ui.perfetto.dev
  casefile export FILE --to timeline                       what happened, for lnav and Timesketch
  casefile export FILE --to csv --metric '^node_load' --around 03:12Z±5m
  casefile export FILE --to openmetrics --into - | gzip > m.gz

Without --into it goes into this directory, under the name of the case file. Nothing that is there is overwritten.
Exits with 3 when a part of the case file could not be read; what was whole is exported.";

/// What `export` is told.
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// What is exported.
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Which form.
    #[arg(long, value_name = "FORM", value_parser = forms())]
    pub(crate) to: &'static Form,
    /// Where to: a file or a new directory, as the form has it; of a form of one file also `-`, standard output.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) into: Option<PathBuf>,
    /// Only this node; may be given again.
    #[arg(long = "node", value_name = "NAME")]
    pub(crate) nodes: Vec<NodeName>,
    /// Only metrics whose name this regular expression matches; may be given again.
    #[arg(long = "metric", value_name = "RE")]
    pub(crate) metrics: Vec<regex::Regex>,
    /// From this time on: 5m (before the end of the window), 2026-11-23T03:12:00Z, 03:12Z.
    #[arg(long, value_name = "TIME", conflicts_with = "around")]
    pub(crate) since: Option<String>,
    /// Up to this time, which is not in it.
    #[arg(long, value_name = "TIME", conflicts_with = "around")]
    pub(crate) until: Option<String>,
    /// A window around an instant, such as 03:12Z±30s.
    #[arg(long, value_name = "TIME±LENGTH")]
    pub(crate) around: Option<String>,
    /// Of perfetto: the most values of all counters together; beyond it only the extremes of each short interval.
    #[arg(long, value_name = "N")]
    pub(crate) max_points: Option<usize>,
    /// How to print what was written.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// The forms with what each is for; help and completions come from here.
fn forms() -> impl TypedValueParser<Value = &'static Form> {
    let names = export::ALL.iter().map(|form| PossibleValue::new(form.name).help(form.about));
    PossibleValuesParser::new(names).try_map(|name| export::form(&name).ok_or("it is no form"))
}
