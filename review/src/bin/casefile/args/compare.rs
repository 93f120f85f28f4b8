//! What `compare` and `diff` are told.

use casefile_proto::ids::NodeName;
use clap::Args;

use super::Output;
use super::source::{NodeArg, Place, SourceArgs};

pub(super) const COMPARE_EXAMPLES: &str = "\
Examples:
  casefile compare FILE n7 n8                            what is different on n7, the most telling first
  casefile compare FILE n7 n8 --since 03:05Z --until 03:15Z
  casefile compare INC-000123 n7 n8 -o json              with mean, 95th percentile and largest value of both

Rates of counters, values of gauges. Processes are put together by name, pods by the workload that they belong to. Only what
differs by a tenth and by more than it varies is shown; what one node does not have is said, and is never a zero.";

/// What `compare` is told.
#[derive(Args, Debug)]
pub(crate) struct CompareArgs {
    /// What is read.
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// The node that is looked at.
    #[arg(value_name = "NODE")]
    pub(crate) a: NodeName,
    /// The node that it is compared with.
    #[arg(value_name = "NODE")]
    pub(crate) b: NodeName,
    /// From this time on: 10m (before the end of the window), 2026-11-23T03:12:00Z, 03:12Z.
    #[arg(short = 's', long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Up to this time, which is not in it.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// How many rows are shown.
    #[arg(short = 'n', long = "count", value_name = "COUNT", default_value_t = 30)]
    pub(crate) count: usize,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: Output,
}

pub(super) const DIFF_EXAMPLES: &str = "\
Examples:
  casefile diff FILE --before 03:11:40Z                  since then, against up to four times as long right before
  casefile diff FILE --node n7 --before 5m               the last five minutes against the twenty before them
  casefile diff FILE --before 5m --with LAST-WEEK.tar.gz against the same node in another case file
  casefile diff FILE --with LAST-WEEK.tar.gz             the whole window of each

Within one case file, changes are those of what is recorded all the time; with another one, all that both say of the machine.";

/// What `diff` is told.
#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// What is read.
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Which node.
    #[command(flatten)]
    pub(crate) node: NodeArg,
    /// What lies before this time is what it is compared with: 5m (before the end), 2026-11-23T03:12:00Z, 03:12Z.
    #[arg(long, value_name = "TIME", required_unless_present = "with")]
    pub(crate) before: Option<String>,
    /// What is looked at ends here.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Another case file (or an incident) of the node, which is compared with as a whole.
    #[arg(long, value_name = "FILE")]
    pub(crate) with: Option<Place>,
    /// How many rows are shown.
    #[arg(short = 'n', long = "count", value_name = "COUNT", default_value_t = 30)]
    pub(crate) count: usize,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: Output,
}
