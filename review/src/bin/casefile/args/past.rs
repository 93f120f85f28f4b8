//! What the verbs are told that show a machine as it was: `top`, `vmstat`, `iostat`, `sar`, `dmesg`, `ss`, `df`.

use clap::{ArgAction, Args, ValueEnum};

use super::Output;
use super::source::{NodeArg, PartArgs, SourceArgs};

pub(super) const TOP_EXAMPLES: &str = "\
Examples:
  casefile top FILE --at 03:11:40Z                what ran, and what it used, at an instant
  casefile top FILE --at 5m --by memory -n 10     five minutes before the end, the ten largest
  casefile top INC-000123 --node n7 --pods        what pods and containers used, of which limits
  casefile top /var/lib/casefile/agent/ring       a node's own recording, with everything else down

A process at rest is read every ten seconds: AGE says how long before that was. `-` is what was not read; users are numbers.";

/// By what a list is ordered.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Time of the CPU.
    Cpu,
    /// Memory.
    Memory,
    /// Bytes from and to storage.
    Io,
}

/// What `top` is told.
#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// What is read.
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Which node.
    #[command(flatten)]
    pub(crate) node: NodeArg,
    /// At this instant: 03:11:40Z, 2026-11-23T03:11:40Z, 5m (before the end of the window). Without it: the end of the window.
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<String>,
    /// How many are shown. Without it: 20 in a table, all of them as JSON.
    #[arg(short = 'n', long = "count", value_name = "COUNT")]
    pub(crate) count: Option<usize>,
    /// By what they are ordered.
    #[arg(long, value_enum, default_value_t = Order::Cpu, value_name = "WHAT")]
    pub(crate) by: Order,
    /// Pods and containers instead of processes; of a machine without pods, its cgroups.
    #[arg(long)]
    pub(crate) pods: bool,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: Output,
}

pub(super) const VMSTAT_EXAMPLES: &str = "\
Examples:
  casefile vmstat FILE --node n7                         the whole window in some twenty rows
  casefile vmstat FILE --since 5m --every 10s            the last five minutes of it
  casefile vmstat FILE --at 03:11:40Z                    the five seconds before an instant
  casefile vmstat FILE --since 1m --every 1s -o jsonl    every second, in bytes and ratios

As with vmstat: memory in KiB, si, so, bi and bo in KiB a second, CPU in percent; each row ends at its time. `-` was not read.";

pub(super) const IOSTAT_EXAMPLES: &str = "\
Examples:
  casefile iostat FILE --node n7 --at 03:11:40Z          the five seconds before an instant
  casefile iostat FILE --since 03:10Z --until 03:12Z --every 10s
  casefile iostat FILE -o jsonl                          in bytes and seconds

As with iostat -xt: kB are 1024 bytes, waits are milliseconds. Where no request ended there is no wait: `-`.";

/// What a table over time is told.
#[derive(Args, Debug)]
pub(crate) struct TableArgs {
    /// What is read.
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Which node.
    #[command(flatten)]
    pub(crate) node: NodeArg,
    /// Which part of the window.
    #[command(flatten)]
    pub(crate) part: PartArgs,
    /// The length of a step, such as 10s. Without it: so that there are some twenty; with --at, five seconds.
    #[arg(long, value_name = "LENGTH")]
    pub(crate) every: Option<String>,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: Output,
}

pub(super) const SAR_EXAMPLES: &str = "\
Examples:
  casefile sar FILE cpu --node n7                        sar -u
  casefile sar FILE memory --since 10m --every 30s       sar -r
  casefile sar FILE network --at 03:11:40Z               sar -n DEV, with errors and drops of -n EDEV
  casefile sar FILE load                                 sar -q; also: disk (-d), paging (-B), pressure (-q PSI)";

/// What a report of `sar` is about.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SarReport {
    /// sar -u: CPU time by mode.
    Cpu,
    /// sar -r: memory.
    Memory,
    /// sar -B: paging.
    Paging,
    /// sar -d: disks.
    Disk,
    /// sar -n DEV: interfaces, with errors and drops.
    Network,
    /// sar -q: run queue and load.
    Load,
    /// sar -q PSI: time that tasks waited for CPU, I/O and memory.
    Pressure,
}

/// What `sar` is told.
#[derive(Args, Debug)]
pub(crate) struct SarArgs {
    /// What is read, which part of it, and how it is printed.
    #[command(flatten)]
    pub(crate) table: TableArgs,
    /// What the report is about.
    #[arg(value_enum, value_name = "REPORT", default_value_t = SarReport::Cpu)]
    pub(crate) report: SarReport,
}

pub(super) const DMESG_EXAMPLES: &str = "\
Examples:
  casefile dmesg FILE --node n7                          all that the kernel logged in the window
  casefile dmesg FILE --level err,warn --since 10m       errors and warnings of the last ten minutes
  casefile dmesg FILE | casefile explain                 what the lines mean that are known

As with dmesg -x and -T: facility, level, time (UTC, on the collector's clock). Where the case file has no kernel log, as of a
node that died, the records that it streamed before are shown.";

/// What `dmesg` is told.
#[derive(Args, Debug)]
pub(crate) struct DmesgArgs {
    /// What is read.
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Which node.
    #[command(flatten)]
    pub(crate) node: NodeArg,
    /// Which part of the window; up to the instant of --at.
    #[command(flatten)]
    pub(crate) part: PartArgs,
    /// Only these levels: emerg, alert, crit, err, warn, notice, info, debug.
    #[arg(short = 'l', long = "level", value_name = "LIST", value_delimiter = ',', value_parser = level)]
    pub(crate) levels: Vec<String>,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: Output,
}

fn level(text: &str) -> Result<String, String> {
    let levels = casefile_review::past::dmesg::LEVELS;
    if levels.contains(&text) { Ok(text.to_owned()) } else { Err(format!("say one of {}", levels.join(", "))) }
}

pub(super) const SS_EXAMPLES: &str = "\
Examples:
  casefile ss FILE --node n7                             sockets that were connected at collection time
  casefile ss FILE -lt                                   TCP sockets that listened
  casefile ss FILE -s --since 10m --every 30s            how many there were, over time
  casefile ss FILE -s --at 03:11:40Z                     and at an instant

Single sockets are read once, when the case file is gathered; how many there are is recorded each second, their states each minute.";

/// What `ss` is told.
#[derive(Args, Debug)]
pub(crate) struct SsArgs {
    /// What is read, which part of it, and how it is printed.
    #[command(flatten)]
    pub(crate) table: SsTable,
    /// Only how many there were, over time.
    #[arg(short = 's', long)]
    pub(crate) summary: bool,
    /// Those that listen, instead of those that are connected.
    #[arg(short = 'l', long)]
    pub(crate) listening: bool,
    /// Both.
    #[arg(short = 'a', long)]
    pub(crate) all: bool,
    /// Only TCP.
    #[arg(short = 't', long)]
    pub(crate) tcp: bool,
    /// Only UDP.
    #[arg(short = 'u', long)]
    pub(crate) udp: bool,
    /// Only raw and packet sockets.
    #[arg(short = 'w', long)]
    pub(crate) raw: bool,
    /// Only Unix sockets.
    #[arg(short = 'x', long)]
    pub(crate) unix: bool,
}

/// What a summary of sockets is told; `-s` is taken, as with ss.
#[derive(Args, Debug)]
pub(crate) struct SsTable {
    /// What is read.
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Which node.
    #[command(flatten)]
    pub(crate) node: NodeArg,
    /// The summary at this instant: 03:11:40Z, 2026-11-23T03:11:40Z, 5m (before the end of the window).
    #[arg(long, value_name = "TIME", conflicts_with_all = ["since", "until"], requires = "summary")]
    pub(crate) at: Option<String>,
    /// The summary from this time on.
    #[arg(long, value_name = "TIME", requires = "summary")]
    pub(crate) since: Option<String>,
    /// The summary up to this time, which is not in it.
    #[arg(long, value_name = "TIME", requires = "summary")]
    pub(crate) until: Option<String>,
    /// The length of a step of the summary, such as 10s.
    #[arg(long, value_name = "LENGTH", requires = "summary")]
    pub(crate) every: Option<String>,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: Output,
}

pub(super) const DF_EXAMPLES: &str = "\
Examples:
  casefile df FILE --node n7 -h                          how full at the end of the window
  casefile df FILE --at 03:11:40Z                        and at an instant, in KiB
  casefile df FILE -i                                    inodes

A file system that did not answer has no numbers, and that is said behind it.";

/// What `df` is told.
#[derive(Args, Debug)]
pub(crate) struct DfArgs {
    /// What is read.
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Which node.
    #[command(flatten)]
    pub(crate) node: NodeArg,
    /// At this instant: 03:11:40Z, 2026-11-23T03:11:40Z, 5m (before the end of the window). Without it: the end of the window.
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<String>,
    /// Sizes with a unit.
    #[arg(short = 'h', long = "human-readable")]
    pub(crate) human: bool,
    /// Inodes instead of bytes.
    #[arg(short = 'i', long)]
    pub(crate) inodes: bool,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: Output,
    /// Print help: `-h` is taken, as with df.
    #[arg(long, action = ArgAction::Help)]
    pub(crate) help: Option<bool>,
}
