//! What `demo` is told.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::Output;

pub(crate) const DEMO_EXAMPLES: &str = "\
Examples:
  casefile demo                       four faults on twelve machines that never were: the verdict
  casefile demo --into /tmp           keep the case file there, and try every other command on it";

/// What `demo` is told.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Where to write the case file; without it, below the directory for temporary files.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) into: Option<PathBuf>,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: Output,
}
