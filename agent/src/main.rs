//! `casefile-agent`: records one machine, or cuts a window of it by hand.

use std::io::{BufWriter, IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use casefile_agent::args::{self, Extract, LogFormat, Verb};
use casefile_agent::config::{Config, Places, Surroundings};
use casefile_agent::extract::console::{self, Form};
use casefile_agent::extract::{self, ExtractError, Plan};
use casefile_agent::ready::{self, Readiness};
use casefile_agent::sandbox::{self, check};
use casefile_agent::sources::gpu;
use casefile_agent::uplink::identity::Join;
use casefile_agent::{Agent, Setup, clock, details};
use casefile_identity::token::{self, Kind, Token};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// It is not recorded.
const NOT_READY: u8 = 3;

/// What was asked for cannot be.
const USAGE: u8 = 2;

/// A token and spaces around it.
const MAX_TOKEN: u64 = 1 << 10;

/// Done, but the archive says that something is missing.
const PARTIAL: u8 = 5;

fn main() -> ExitCode {
    casefile_agent::calls::keep_the_heap_small();
    if let Some(ended) = gpu::child::run_if_asked().or_else(details::child::run_if_asked) {
        return ended;
    }
    let cli = args::parse();
    log_to_stderr(cli.log_format);
    let ended = match cli.verb {
        Verb::Run { config } => Config::load(&config, &Surroundings::of_process()).map_err(Into::into).and_then(run),
        Verb::Join { config } => {
            Config::load(&config, &Surroundings::of_process()).map_err(Into::into).and_then(|config| join(&config))
        }
        Verb::Ready { config } => is_ready(config.as_deref()),
        Verb::Extract(args) => extract_by_hand(&args),
        Verb::SandboxCheck(args) => check::run(&args).map_err(Into::into),
        Verb::Completions { shell } => completions(shell),
        Verb::Man { dir } => clap_mangen::generate_to(args::command(), &dir)
            .with_context(|| format!("write manual pages into {}", dir.display()))
            .map(|()| ExitCode::SUCCESS),
    };
    ended.unwrap_or_else(|error| {
        match cli.log_format {
            LogFormat::Text => say(format_args!("casefile-agent: {error:#}")),
            LogFormat::Json => tracing::error!(error = format!("{error:#}"), "ended"),
        }
        let usage = error.downcast_ref::<ExtractError>().is_some_and(ExtractError::is_usage);
        if usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
    })
}

/// That standard error is gone or full is no reason to stop recording: `eprintln!` would panic.
fn say(text: std::fmt::Arguments<'_>) {
    let _unheard = writeln!(anstream::stderr(), "{text}");
}

fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_env("CASEFILE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A line that cannot be written is lost; told with `eprintln!`, as is the default, it would take its thread along.
    let log = log.with_ansi(colour).log_internal_errors(false);
    match format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => {
            log.json().init();
            // Otherwise a panic is the one thing that is no JSON.
            std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "panicked: this is a bug")));
        }
    }
}

/// Into a buffer first: a pipe that closes early is no error of ours.
fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "casefile-agent", &mut text);
    match std::io::stdout().write_all(&text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// One thread for the uplink and the signals; what blocks has threads of its own.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_stack_size(1 << 20)
        .build()
        .context("start the runtime")
}

/// Enters the sandbox while there is only this thread, and says what of it there is not.
fn confined(config: &Config) -> anyhow::Result<Setup> {
    let (details, standing) = sandbox::enter_as_recorder(config)?;
    for (piece, why) in standing.missing() {
        tracing::warn!(piece = piece.name(), why, "the sandbox lacks a piece");
    }
    Ok(Setup { details, sandbox: Some(standing), ..Setup::default() })
}

fn run(config: Config) -> anyhow::Result<ExitCode> {
    let setup = confined(&config)?;
    runtime()?.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut agent = Agent::start(&config, setup)?;
        tracing::info!(
            node = %config.node,
            boot = %agent.header().boot,
            collector = config.collector.as_ref().map_or("none".to_owned(), |c| c.address.to_string()),
            data_dir = %config.data_dir.display(),
            "recording"
        );
        tokio::select! {
            // Each of the three is safe to drop: nothing was taken from it.
            _ = terminate.recv() => tracing::info!("told to stop"),
            _ = interrupt.recv() => tracing::info!("interrupted"),
            () = agent.failed() => anyhow::bail!("the recorder has stopped by itself: this is a bug, and nothing is recorded any more"),
        }
        agent.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// One line: this is asked by machines, every few seconds.
fn is_ready(config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let places = config.map(Places::load).transpose()?.unwrap_or_default();
    let found = ready::look(&places, clock::system()())?;
    writeln!(std::io::stdout(), "{found}").context("say it")?;
    Ok(if found == Readiness::Ready { ExitCode::SUCCESS } else { ExitCode::from(NOT_READY) })
}

/// Puts the token on standard input where the agent, which may be running, looks for it.
fn join(config: &Config) -> anyhow::Result<ExitCode> {
    let Some(collector) = &config.collector else { anyhow::bail!("the configuration names no collector to join") };
    let Join::File(path) = &collector.join else { anyhow::bail!("this agent needs no join token") };
    let mut text = String::new();
    std::io::stdin().lock().take(MAX_TOKEN).read_to_string(&mut text).context("read the token from standard input")?;
    let token: Token = text.trim().parse().map_err(|e| anyhow::anyhow!("what is on standard input {e}"))?;
    anyhow::ensure!(token.kind() == Kind::Join, "this is a token for people; make one with --node {}", config.node);
    casefile_agent::data_dir::DataDir::open(&config.data_dir)?;
    token::save(&token, path).with_context(|| format!("write {}", path.display()))?;
    say(format_args!("{} joins {} as soon as it runs, or at its next attempt", config.node, collector.address));
    Ok(ExitCode::SUCCESS)
}

fn extract_by_hand(args: &Extract) -> anyhow::Result<ExitCode> {
    let plan = extract::plan(args, &Surroundings::of_process())?;
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    runtime()?.block_on(async move {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut work = tokio::task::spawn_blocking(move || {
            if plan.is_for_a_console() { Ok(show(&plan, &told)) } else { to_archive(&plan, &told) }
        });
        loop {
            tokio::select! {
                // What was found so far is sealed, with what is missing.
                _ = interrupt.recv() => stop.store(true, Ordering::Relaxed),
                // Safe to drop: the work goes on, and is looked at again.
                done = &mut work => break done.context("the extraction failed")?,
            }
        }
    })
}

fn to_archive(plan: &Plan, stop: &AtomicBool) -> anyhow::Result<ExitCode> {
    let done = extract::run(plan, stop)?;
    say(format_args!("{done}"));
    Ok(if done.is_whole() { ExitCode::SUCCESS } else { ExitCode::from(PARTIAL) })
}

/// Text on standard output; a reader that had enough, as `head` has, is no failure.
fn show(plan: &Plan, stop: &AtomicBool) -> ExitCode {
    let stdout = std::io::stdout();
    let form = if stdout.is_terminal() { Form::Harmless } else { Form::Plain };
    let mut talk = anstream::stderr();
    let shown = console::show(plan, form, stop, &mut BufWriter::new(stdout.lock()), &mut talk);
    if shown.reader_left || shown.coverage.is_whole() { ExitCode::SUCCESS } else { ExitCode::from(PARTIAL) }
}
