//! What `demo` is told.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{Output, PageArgs};

pub(crate) const DEMO_EXAMPLES: &str = "\
Examples:
  casefile demo                       four faults on twelve machines that never were: the verdict, and the page in the browser
  casefile demo --no-open             prints the address of the page instead
  casefile demo --no-page             the verdict alone
  casefile demo --into /tmp           keep the case file there, and try every other command on it";

/// What `demo` is told.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Where to write the case file; without it, below the directory for temporary files.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) into: Option<PathBuf>,
    /// The verdict alone: no page is served.
    #[arg(long, conflicts_with_all = ["no_open", "listen"])]
    pub(crate) no_page: bool,
    /// How the page is shown.
    #[command(flatten)]
    pub(crate) page: PageArgs,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: Output,
}
