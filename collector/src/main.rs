//! `casefile-collector`: picks the verb, sets up logging and the runtime, and says how it ended.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use casefile_collector::args::{Cli, LogFormat, Verb, command};
use casefile_collector::config::Config;
use casefile_collector::signals::Signals;
use casefile_collector::{Collector, admin, data, local};
use casefile_evidence::archive::sign::SigningKey;
use clap::Parser;
use tracing_subscriber::EnvFilter;

/// How long an orderly stop may take: below the 30 s after which Kubernetes kills.
const GRACE: Duration = Duration::from_secs(20);

/// How long threads that hang in a system call may keep the process after everything else has ended.
const LAST_THREADS: Duration = Duration::from_secs(1);

/// Chooses what is logged, as in `CASEFILE_LOG=casefile_collector=debug`.
const LOG: &str = "CASEFILE_LOG";

fn main() -> ExitCode {
    local::share_heaps();
    if let Some(ended) = local::child_if_asked() {
        return ended;
    }
    let cli = Cli::parse();
    // What the others say is for a person; the log only interrupts it.
    let level = if matches!(cli.verb, Verb::Serve { .. }) { "info" } else { "warn" };
    log_to_stderr(level, cli.log_format);
    match run(cli.verb) {
        Ok(ended) => ended,
        Err(error) if reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let chain: Vec<_> = error.chain().map(ToString::to_string).collect();
            if cli.log_format == LogFormat::Json {
                tracing::error!(error = chain.join(": "), "ended");
                return ExitCode::FAILURE;
            }
            // Line by line: a configuration has a problem on each, and a line end of ours is no control character.
            let lines: Vec<_> = chain.join(": ").lines().map(casefile_review::display::safe).collect();
            // `eprintln!` would panic where standard error is gone or full; the exit code says it all the same.
            let _unheard = writeln!(anstream::stderr(), "casefile-collector: {}", lines.join("\n"));
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Token { verb } => return with_runtime(admin::token(verb)),
        Verb::Node { verb } => return with_runtime(admin::node(verb)),
        Verb::Audit(args) => return admin::audit(&args),
        Verb::Local(args) => with_runtime(local::run(args, GRACE)),
        Verb::Serve { config } => with_runtime(serve(Config::load(&config)?)),
        Verb::Key { data } => key(&data),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "casefile-collector", &mut script);
            io::stdout().lock().write_all(&script).context("write the script")
        }
        Verb::Man { dir } => {
            clap_mangen::generate_to(command(), &dir).with_context(|| format!("write man pages into {}", dir.display()))
        }
    }
    .map(|()| ExitCode::SUCCESS)
}

async fn serve(config: Config) -> Result<()> {
    let mut signals = Signals::listen().context("listen for signals")?;
    let collector = Collector::start(config).await?;
    signals.stop().await;
    tracing::info!(grace = ?GRACE, "asked to stop; a second signal stops at once");
    tokio::select! {
        // Everything ended in order.
        left = collector.stop(GRACE) => {
            for (incident, state) in left.unfinished {
                tracing::info!(%incident, state = state.name(), "goes on at the next start");
            }
            Ok(())
        }
        // What was acknowledged is on the disk; what was not is sent again.
        () = signals.stop() => bail!("stopped at once, on a second signal"),
    }
}

fn key(dir: &Path) -> Result<()> {
    let path = data::key_below(dir);
    if !path.try_exists().with_context(|| format!("look for {}", path.display()))? {
        bail!("there is no key in {} yet: a collector makes one when it first starts there", dir.display());
    }
    let line = SigningKey::load_or_create(&path)?.allowed_signer();
    writeln!(io::stdout().lock(), "{}", line.trim_end()).context("print the key")
}

fn log_to_stderr(level: &str, format: LogFormat) {
    // What the clients of the API server and of the archive store fail at is told by whoever asked them, once, in words that say
    // what follows from it.
    let by_default = || EnvFilter::new(format!("{level},kube_client=off,object_store=warn"));
    let filter = EnvFilter::try_from_env(LOG).unwrap_or_else(|_| by_default());
    // In a file or a pipe colours are noise.
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colour);
    // A line that cannot be written is lost; told with `eprintln!`, as is the default, it would take its task along.
    let log = log.log_internal_errors(false);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => {
            log.json().init();
            // Otherwise a panic is the one thing that is no JSON.
            std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "panicked: this is a bug")));
        }
    }
}

fn with_runtime<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(LAST_THREADS);
    done
}

/// Whoever read our standard output has closed it: `casefile-collector key | true`.
fn reader_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
