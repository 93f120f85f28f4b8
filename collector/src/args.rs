//! The command line: every verb, flag and example. Help, completions and man pages all come from here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use casefile_identity::dial::Address;
use casefile_proto::identity::{MAX_LIFE, PersonName, Role, TokenId};
use casefile_proto::ids::NodeName;
use clap::{CommandFactory, Parser, Subcommand, ValueHint};

use crate::config::KEYS;

const EXAMPLES: &str = "\
Examples:
  casefile-collector local --once                  a case file of this machine, and done: no set-up, no root
  casefile-collector local                         the same, then goes on recording until Ctrl-C
  casefile collect --since 2m --wait               meanwhile, elsewhere: seal the last two minutes
  casefile-collector serve --config collector.toml the collector of a cluster
  casefile-collector token create --node web-1     a token with which a node joins; --user makes one for a person
  casefile-collector key > allowed                 whom to believe: for casefile verify and ssh-keygen -Y verify

Exit codes: 0 done · 1 error · 2 usage · 3 the audit log was changed";

/// Gathers evidence from nodes and seals it into case files.
#[derive(Parser, Debug)]
#[command(
    name = "casefile-collector",
    version,
    after_help = EXAMPLES,
    arg_required_else_help = true,
    max_term_width = 110
)]
pub struct Cli {
    /// The verb.
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

/// What can be done.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Record this machine, seal a first case file of it, and go on recording. Collector and agent in one process.
    Local(LocalArgs),
    /// Run the collector of a cluster.
    #[command(after_help = KEYS)]
    Serve {
        /// Its configuration, in TOML; the keys are listed below.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        config: PathBuf,
    },
    /// Print the key that signs case files, as a line of an allowed-signers file.
    Key {
        /// The collector's data directory.
        #[arg(long, env = "CASEFILE_DATA", value_name = "DIR", default_value = "casefile-data", value_hint = ValueHint::DirPath)]
        data: PathBuf,
    },
    /// Make, list and revoke tokens: with them nodes join, and people use the API.
    Token {
        /// What to do.
        #[command(subcommand)]
        verb: TokenVerb,
    },
    /// Revoke what a node has to show.
    Node {
        /// What to do.
        #[command(subcommand)]
        verb: NodeVerb,
    },
    /// Print the audit log, and check that nothing of it was changed.
    Audit(AuditArgs),
    /// Print a completion script for a shell.
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory.
    #[command(hide = true)]
    Man {
        /// The directory, which must exist.
        dir: PathBuf,
    },
}

/// How an admin reaches a collector that runs.
#[derive(clap::Args, Debug, Clone)]
pub struct AdminArgs {
    /// The data directory of a collector on this machine; its files say where it listens and that you are its owner.
    #[arg(long, env = "CASEFILE_DATA", value_name = "DIR", default_value = "casefile-data", value_hint = ValueHint::DirPath)]
    pub data: PathBuf,
    /// A collector elsewhere.
    #[arg(long, env = "CASEFILE_COLLECTOR", value_name = "URL", requires = "token_file", value_parser = address)]
    pub collector: Option<Address>,
    /// A token of an admin, in a file; without it, that of the owner of --data.
    #[arg(long, env = "CASEFILE_TOKEN_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub token_file: Option<PathBuf>,
}

fn address(text: &str) -> Result<Address, String> {
    text.parse().map_err(|e: casefile_identity::dial::NoAddress| e.to_string())
}

const TOKENS: &str = "\
Examples:
  casefile-collector token create --node web-1 | ssh web-1 casefile-agent join --config /etc/casefile/agent.toml
  casefile-collector token create --user kim --role requester --role exporter --ttl 30d > kim.token
  casefile --collector https://HOST:7443 --token-file kim.token nodes";

/// What to do with tokens.
#[derive(Subcommand, Debug)]
pub enum TokenVerb {
    /// Make a token and print it.
    #[command(after_help = TOKENS)]
    Create(CreateArgs),
    /// List the tokens that are of use, without their secrets.
    List {
        /// Which collector.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Revoke a token: whoever has it is refused from now on.
    Revoke {
        /// Its id, as list shows it.
        id: TokenId,
        /// Which collector.
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// What to do with nodes.
#[derive(Subcommand, Debug)]
pub enum NodeVerb {
    /// Revoke the certificates and join tokens of a node: its key was stolen, or it is gone for good. Its session ends within
    /// seconds, and it must join with a new token. What it has told stays.
    Revoke {
        /// Its name.
        node: NodeName,
        /// Which collector.
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// For whom a token is made.
#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("whom").required(true).args(["node", "user"]))]
pub struct CreateArgs {
    /// For this node, to join with: it can be used once.
    #[arg(long, value_name = "NAME")]
    pub node: Option<NodeName>,
    /// For this person or program, to use the API with.
    #[arg(long, value_name = "NAME", requires = "role")]
    pub user: Option<PersonName>,
    /// What it may do: viewer, requester, exporter, admin; may be given again.
    #[arg(long, value_name = "ROLE", conflicts_with = "node")]
    pub role: Vec<Role>,
    /// How long it is taken: 10m, 24h, 30d; for a node at most 24h.
    #[arg(long, value_name = "LENGTH", default_value = "10m", value_parser = ttl)]
    pub ttl: Duration,
    /// Which collector.
    #[command(flatten)]
    pub admin: AdminArgs,
}

fn ttl(text: &str) -> Result<Duration, String> {
    let length = casefile_review::when::length(text).map_err(|e| e.to_string())?;
    if length.is_zero() || length > MAX_LIFE { Err("must be 1s to 366d".to_owned()) } else { Ok(length) }
}

/// Which audit log.
#[derive(clap::Args, Debug)]
pub struct AuditArgs {
    /// The collector's data directory.
    #[arg(long, env = "CASEFILE_DATA", value_name = "DIR", default_value = "casefile-data", value_hint = ValueHint::DirPath)]
    pub data: PathBuf,
    /// Print the lines as they lie there, in JSON.
    #[arg(long)]
    pub json: bool,
}

/// What `local` is told.
#[derive(clap::Args, Debug, Clone)]
pub struct LocalArgs {
    /// Where everything is kept; made if need be, for this user alone.
    #[arg(long, env = "CASEFILE_DATA", value_name = "DIR", default_value = "casefile-data", value_hint = ValueHint::DirPath)]
    pub data: PathBuf,
    /// How long to record before the first case file is sealed.
    #[arg(long, value_name = "LENGTH", default_value = "10s", value_parser = warm_up)]
    pub warm_up: Duration,
    /// Exit when the first case file is sealed.
    #[arg(long)]
    pub once: bool,
    /// Where the casefile command reaches it; another free port of that address when this one is taken.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7443", value_parser = loopback)]
    pub listen: SocketAddr,
    /// Where the API (/api/v1) and the page answer over HTTP, or `off`; another free port when this one is taken.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7070", value_parser = http)]
    pub http: HttpAt,
}

/// Where HTTP answers; `None`: nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpAt(pub Option<SocketAddr>);

fn http(text: &str) -> Result<HttpAt, String> {
    if text == "off" { Ok(HttpAt(None)) } else { loopback(text).map(|addr| HttpAt(Some(addr))) }
}

/// The shortest warm-up: a window needs a tick in it. The longest: what the ring certainly holds.
const WARM_UP: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60 * 60);

fn warm_up(text: &str) -> Result<Duration, String> {
    let length = casefile_review::when::length(text).map_err(|e| e.to_string())?;
    if WARM_UP.contains(&length) { Ok(length) } else { Err("must be 1s to 1h".to_owned()) }
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let addr: SocketAddr = text.parse().map_err(|_| "say ADDR:PORT, such as 127.0.0.1:7443".to_owned())?;
    if addr.ip().is_loopback() {
        Ok(addr)
    } else {
        Err("must be a loopback address: local is for this machine alone (serve is for others)".to_owned())
    }
}

/// The definitions, for completions and man pages.
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn local_needs_nothing_and_refuses_an_open_port() {
        let local = |args: &[&str]| {
            let all = ["casefile-collector", "local"].iter().chain(args);
            Cli::try_parse_from(all).map(|cli| match cli.verb {
                Verb::Local(args) => args,
                other => panic!("{other:?}"),
            })
        };
        let args = local(&["--data", "d"]).unwrap();
        assert_eq!((args.warm_up, args.once, args.listen.port()), (Duration::from_secs(10), false, 7443));
        assert_eq!(args.http, HttpAt(Some(([127, 0, 0, 1], 7070).into())));
        assert_eq!(local(&["--http", "off"]).unwrap().http, HttpAt(None));
        assert!(local(&["--http", "0.0.0.0:7070"]).is_err());
        assert_eq!(local(&["--warm-up", "2m", "--once"]).unwrap().warm_up, Duration::from_secs(120));
        for bad in [["--warm-up", "0s"], ["--warm-up", "2h"], ["--warm-up", "soon"], ["--listen", "0.0.0.0:1"]] {
            assert!(local(&bad).is_err(), "{bad:?}");
        }
    }
}
