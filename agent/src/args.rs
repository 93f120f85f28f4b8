//! The command line of `casefile-agent`: parser, help, manual page and completions out of one definition.

use std::path::PathBuf;

use casefile_proto::scope::Selection;
use casefile_proto::time::{NANOS_PER_SEC, WallTime};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::config::{DEFAULT_DATA_DIR, KEYS};

/// Records one machine, and cuts windows out of what it recorded.
#[derive(Debug, Parser)]
#[command(name = "casefile-agent", version, max_term_width = 120, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// How the log on standard error is written.
    #[arg(long, global = true, env = "CASEFILE_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line: timestamp, level, target, fields with the message.
    Json,
}

const AFTER_HELP: &str = "\
Examples:
  casefile-agent run --config /etc/casefile/agent.toml
  casefile-agent sandbox-check --config /etc/casefile/agent.toml
  casefile-agent extract --since-time 2026-11-23T02:44:00Z --until-time 2026-11-23T03:14:00Z -o node.tar.gz
  casefile-agent extract --since 30m --source kernel -o - | less

Environment:
  CASEFILE_NODE   the node's name, where the configuration does not say it
  CASEFILE_LOG    what is logged to stderr: error, warn, info (default), debug
  CASEFILE_LOG_FORMAT  how: text (default) or json

Exit codes: 0 done, 1 error, 2 usage, 5 done but evidence is missing";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Record this machine until stopped, and answer to the collector.
    #[command(after_help = run_help())]
    Run {
        /// The configuration file (TOML); see below for what may stand in it.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Take the token on standard input, with which this node joins its collector.
    #[command(after_help = "Example:\n  casefile-collector token create --node web-1 | \
        ssh web-1 casefile-agent join --config /etc/casefile/agent.toml")]
    Join {
        /// The agent's configuration, for its collector and its data directory.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Say whether this machine is being recorded: whether the newest frame of the ring is as young as it should be.
    #[command(after_help = READY_HELP)]
    Ready {
        /// The agent's configuration, for its data directory and host root; every default where there is none.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Cut a window of this machine into an unsigned archive, with no collector in reach.
    Extract(Box<Extract>),
    /// Enter the sandbox as `run` does, try what it forbids, and print how each try ended.
    #[command(after_help = CHECK_HELP)]
    SandboxCheck(SandboxCheck),
    /// Print a completion script for a shell.
    #[command(hide = true)]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory.
    #[command(hide = true)]
    Man {
        /// The directory, which must exist.
        dir: PathBuf,
    },
}

const READY_HELP: &str = "\
Meant to be asked every few seconds, beside an agent that runs: it reads the end of the ring, writes nothing and talks to nobody.
That the agent has a collector, and that the collector has what it sent, is another question: see `casefile nodes`.

Exit codes: 0 it is; 1 the ring cannot be read; 2 usage; 3 it is not: the line says why";

const CHECK_HELP: &str = "\
Nothing is harmed, whatever is allowed: tries are made on files of their own, or with arguments that the kernel turns down.

Exit codes: 0 all is refused that should be, and the rest works; 1 error; 2 usage; 3 something is allowed that should be
refused, or does not work; 4 the kernel, or what the agent was started in, lacks a piece of the sandbox";

/// Whose sandbox is tried.
#[derive(Debug, Args)]
pub struct SandboxCheck {
    /// The agent's configuration; every default where there is none.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The form of what is printed.
    #[arg(short = 'o', long = "output", value_enum, default_value_t = Form::Table, value_name = "FORM")]
    pub output: Form,
    /// For the process that is inside: what was prepared for it.
    #[arg(long, hide = true, value_name = "DIR")]
    pub inside: Option<PathBuf>,
}

/// How something is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    Table,
    /// One JSON document.
    Json,
}

/// What is cut, from where, to where.
#[derive(Debug, Args)]
pub struct Extract {
    /// Begin of the window, RFC 3339 (2026-11-23T02:44:00Z) or so long ago (90s, 30m, 2h, 1d); this instant is in it.
    #[arg(long, visible_alias = "since", value_name = "TIME", value_parser = since)]
    pub since_time: WallTime,
    /// End of the window; this instant is not in it. Now, when it is not given.
    #[arg(long, value_name = "TIME")]
    pub until_time: Option<WallTime>,
    /// Only this source, log source or table (recording, inventory, state, kernel, pods, …); may be given again.
    #[arg(long = "source", value_name = "NAME")]
    pub sources: Vec<String>,
    /// Only pod logs of this namespace; may be given again. Everything else is still collected.
    #[arg(short = 'n', long = "namespace", value_name = "NAME", value_parser = selected)]
    pub namespaces: Vec<String>,
    /// Only logs of this pod; may be given again. Everything else is still collected.
    #[arg(long = "pod", value_name = "NAME", value_parser = selected)]
    pub pods: Vec<String>,
    /// Only this unit of the journal, with or without .service; may be given again. Everything else is still collected.
    #[arg(long = "unit", value_name = "NAME", value_parser = selected)]
    pub units: Vec<String>,
    /// The archive to write; `-` prints the text of what --source names to standard output instead.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace the archive if it is there.
    #[arg(long)]
    pub force: bool,
    /// The agent's configuration, for its data directory, host root, node name and log files.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the machine's proc, sys and var are.
    #[arg(long, value_name = "DIR")]
    pub host_root: Option<PathBuf>,
    /// The ring to cut from.
    #[arg(long, value_name = "DIR", long_help = ring_help())]
    pub ring: Option<PathBuf>,
    /// The most MiB of evidence, before compression; what does not fit is told.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub max_mib: u64,
    /// Why this is done; kept in the archive.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

fn selected(name: &str) -> Result<String, String> {
    match name.len() {
        0 => Err("a name has at least one letter".to_owned()),
        1..=Selection::MAX_NAME => Ok(name.to_owned()),
        long => Err(format!("a name has at most {} bytes, and this has {long}", Selection::MAX_NAME)),
    }
}

/// A time, or how long ago it was.
fn since(text: &str) -> Result<WallTime, String> {
    let error = match text.parse() {
        Ok(time) => return Ok(time),
        Err(error) => error,
    };
    let ago = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds: i64 = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        let number: u32 = number.parse().ok()?;
        seconds.checked_mul(i64::from(number))?.checked_mul(NANOS_PER_SEC)
    };
    match ago() {
        Some(nanos) => Ok(crate::clock::system()().wall.offset(-nanos)),
        None => Err(format!("{error}; or say how long ago: 30m, 2h, 1d")),
    }
}

fn run_help() -> String {
    format!("What may stand in the configuration file; everything has a default:\n\n{KEYS}")
}

fn ring_help() -> String {
    format!("The ring to cut from [that of the configuration, else {DEFAULT_DATA_DIR}/ring, where it is there]")
}

/// The whole command, for completions and the manual page.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The arguments of this process; ends it with 2 when they are wrong.
pub fn parse() -> Cli {
    Cli::parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_whole() {
        command().debug_assert();
    }

    #[test]
    fn a_time_without_a_zone_is_a_usage_error() {
        let parse = |since: &str| Cli::try_parse_from(["x", "extract", "--since-time", since, "-o", "f"]);
        assert!(parse("2026-11-23T02:44:00Z").is_ok());
        assert_eq!(parse("2026-11-23T02:44:00").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_window_may_begin_so_long_ago() {
        let now = crate::clock::system()().wall;
        let parse = |since: &str| match Cli::try_parse_from(["x", "extract", "--since", since, "-o", "f"]).ok()?.verb {
            Verb::Extract(args) => Some(args.since_time),
            _ => None,
        };
        let half_an_hour_ago = parse("30m").unwrap();
        assert!(half_an_hour_ago >= now.offset(-1_800 * NANOS_PER_SEC) && half_an_hour_ago < now);
        assert!(parse("1d").unwrap() < parse("23h").unwrap());
        for bad in ["", "m", "30", "-5m", "1w", "99999999999d", "4294967295d", "é", "1h30m"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
