//! `casefile-collector local`: this machine recorded by an agent in the same process, and a first case file of it.
//!
//! No sandbox is entered here, unlike in `casefile-agent run`: the collector listens and writes where it is told, and what one of
//! the two in a process must be able to do is open to the other. The child that reads GPUs has its own all the same.
//!
//! The one file of the collector that knows the agent. It talks on standard error; what it made goes to standard output.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use casefile_agent::config::{Config as AgentConfig, Surroundings};
use casefile_agent::uplink::Collector as Dialled;
use casefile_agent::uplink::identity::Join;
use casefile_agent::{Agent, Setup};
use casefile_evidence::recording::reader::{Piece, Recording};
use casefile_identity::token::Token;
use casefile_proto::gap::GapReason;
use casefile_proto::ids::NodeName;
use casefile_proto::incident::{
    IncidentAsk, IncidentState, IncidentSummary, IncidentView, OpenAsk, SealedArchive, Severity, Trigger,
};
use casefile_proto::sample::{Outcome, Schema};
use casefile_proto::scope::Scope;
use casefile_proto::time::{NANOS_PER_SEC, WallTime, Window};
use casefile_proto::units::Bytes;
use casefile_review::casefile::CaseFile;
use casefile_review::display::safe;
use casefile_review::review::Review;
use casefile_review::told;
use tokio::time::{Instant, sleep, timeout};

use crate::Collector;
use crate::args::LocalArgs;
use crate::config::{Config, PortTaken};
use crate::signals::Signals;

/// How long the first case file waits for the agent: it is in the same process, so longer means that it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// The first frame is due within a second; a machine that takes longer than this to give one is in trouble, and says so.
const FIRST_FRAME: Duration = Duration::from_secs(5);

/// How often the ring is looked at for its first frame.
const LOOK: Duration = Duration::from_millis(50);

/// Says something to the person at the terminal. That nobody hears it, or that it goes to a file on a full disk, is no
/// reason to stop recording: `eprintln!` would panic.
macro_rules! say {
    ($($text:tt)*) => {{
        let _unheard = writeln!(anstream::stderr(), $($text)*);
    }};
}

/// The agent of `local` reads GPUs in a process of its own, which is this program once more: when this is that process, does
/// its work and gives the exit code. To be called before anything else.
pub fn child_if_asked() -> Option<ExitCode> {
    casefile_agent::sources::gpu::child::run_if_asked()
}

/// For a whole process, before it has threads: memory that one thread freed is there for the others.
pub fn share_heaps() {
    casefile_agent::calls::share_heaps();
}

/// Records this machine until it is told to stop, or with `--once` until its first case file is sealed.
pub async fn run(args: LocalArgs, grace: Duration) -> Result<()> {
    say!("casefile-collector {}: recording this machine into {}", env!("CARGO_PKG_VERSION"), args.data.display());
    let mut signals = Signals::listen().context("listen for signals")?;
    let collector = start(&args).await?;
    let began = crate::clock::now().wall;
    let agent = match start_agent(&collector) {
        Ok(agent) => agent,
        Err(error) => {
            collector.stop(grace).await;
            return Err(error);
        }
    };

    let worked = tokio::select! {
        // The first case file, and then recording for ever.
        worked = work(&args, &collector, &agent, began) => worked,
        // Asked to stop: whatever was going on goes on at the next start.
        () = signals.stop() => stopped_early(&args),
    };
    say!("\nstopping; a second Ctrl-C stops at once");
    tokio::select! {
        // In order: no more ticks, what was recorded is synced, what is being sealed may end.
        () = stop(collector, agent, grace) => worked,
        // What was recorded until a second ago is on the disk.
        () = signals.stop() => bail!("stopped at once, on a second signal"),
    }
}

async fn start(args: &LocalArgs) -> Result<Collector> {
    let mut config = Config::new(args.data.clone());
    config.listen = args.listen;
    config.port_taken = PortTaken::TakeAnother;
    config.http = args.http.0;
    config.http_taken = PortTaken::TakeAnother;
    config.patience = PATIENCE;
    let collector = Collector::start(config).await?;
    let addr = collector.addr();
    if addr.port() != args.listen.port() && args.listen.port() != 0 {
        say!("port {} is taken; listening on {addr} instead (casefile --data finds it)", args.listen.port());
    }
    say_where(args, &collector).await;
    Ok(collector)
}

/// Says where the page is. The token stands behind the `#`: browsers keep that to themselves.
/// It is told to a terminal only: what goes to a file or a log may be read by others than the owner of the data directory.
async fn say_where(args: &LocalArgs, collector: &Collector) {
    let token = crate::data::owner_token_below(&args.data);
    let path = token.clone();
    let shown = if io::stderr().is_terminal() {
        let loaded = tokio::task::spawn_blocking(move || Token::load(&path)).await;
        loaded.ok().and_then(Result::ok).map(|token| token.reveal())
    } else {
        None
    };
    match (collector.page(), shown) {
        (Some(page), Some(token)) => say!("page: {page}#token={token}"),
        (Some(page), None) => say!("page: {page}#token=… with the token in {}", token.display()),
        (None, _) => {}
    }
}

fn start_agent(collector: &Collector) -> Result<Agent> {
    let data_dir = collector.data().root().join("agent");
    let config = agent_config(collector, data_dir)?;
    Agent::start(&config, Setup::default()).context("start the agent")
}

fn agent_config(collector: &Collector, data_dir: PathBuf) -> Result<AgentConfig> {
    let around = Surroundings::of_process();
    let config = AgentConfig::parse("", &around).or_else(|problems| {
        say!("this machine goes by the name localhost: {}", safe(&problems.join("; ")));
        AgentConfig::parse("node = \"localhost\"", &Surroundings::default())
    });
    // A file with a right name in it has no other problem: it says nothing else.
    let mut config = config.unwrap_or_else(|problems| unreachable!("{problems:?}"));
    let address = collector.addr().to_string().parse().context("our own address")?;
    let certificate = collector.identity().agent(&config.node).context("a certificate for this machine's agent")?;
    config.collector = Some(Dialled { address, join: Join::Given(Box::new(certificate)) });
    config.data_dir = data_dir;
    Ok(config)
}

fn stopped_early(args: &LocalArgs) -> Result<()> {
    if args.once {
        bail!("stopped before a case file was sealed; what was recorded is kept in {}", args.data.display());
    }
    Ok(())
}

async fn stop(collector: Collector, agent: Agent, grace: Duration) {
    let began = Instant::now();
    if timeout(grace, agent.stop()).await.is_err() {
        say!("the agent did not stop in time; what it had synced is kept");
    }
    let (root, counts) = (collector.data().root().to_owned(), collector.counts());
    let left = collector.stop(grace.saturating_sub(began.elapsed())).await;
    say!("stopped: {counts}; everything is in {}", root.display());
    for (incident, state) in left.unfinished {
        let then = if state == IncidentState::Failed { "sealing is tried again" } else { "it goes on" };
        say!("{incident} is {}: {then} at the next start", state.name());
    }
}

async fn work(args: &LocalArgs, collector: &Collector, agent: &Agent, began: WallTime) -> Result<()> {
    let node = agent.header().node.clone();
    let ring = agent.context().ring_dir.clone();
    let from = first_frame(ring.as_deref(), &agent.header().schema, began).await;
    say!("\nrecording {} for {} s before the first case file", safe(node.as_str()), args.warm_up.as_secs());
    let from = from.unwrap_or_else(|| crate::clock::now().wall);
    let until = from.after(args.warm_up);
    let rest = until.nanos_since(crate::clock::now().wall);
    sleep(Duration::from_nanos(u64::try_from(rest).unwrap_or(0))).await;

    let window = Window::new(from, until).context("the warm-up is no window")?;
    let opened = collector
        .incidents()
        .open(first_incident(node, window, args.warm_up))
        .await
        .context("open the first incident")?;
    let ended = sealed(collector, &opened).await?;
    match (&ended.archive, &ended.failure) {
        (Some(archive), _) => report(args, collector, archive).await?,
        (None, Some(failure)) if args.once => bail!("{} could not be sealed: {failure}", ended.id),
        (None, failure) => {
            let why = failure.as_deref().unwrap_or("it did not say why");
            say!("{} could not be sealed: {}", ended.id, safe(why));
        }
    }
    if args.once {
        return Ok(());
    }
    say!(
        "\nrecording goes on; seal any window with `casefile collect --since 2m --wait{}`; stop with Ctrl-C",
        data_flag(args)
    );
    std::future::pending().await
}

fn first_incident(node: NodeName, window: Window, warm_up: Duration) -> OpenAsk {
    let ask = IncidentAsk {
        title: format!("first case file of {node}"),
        reason: format!("what this machine gives, shown over the first {} s of recording it", warm_up.as_secs()),
        requested_by: "casefile-collector local".to_owned(),
        severity: Severity::Sev4,
        trigger: Trigger::Local,
        resource: None,
        runbook: None,
        window,
        nodes: vec![node],
        scope: Scope::default(),
    };
    OpenAsk { ask, deadline: None, slack: Duration::ZERO }
}

/// Follows an incident to its end.
async fn sealed(collector: &Collector, opened: &IncidentSummary) -> Result<IncidentSummary> {
    let watched = collector.incidents().watch(opened.id).await.context("watch the first incident")?;
    let mut view = watched.with_context(|| format!("{} is gone", opened.id))?;
    let ended = |view: &IncidentView| matches!(view.incident.state, IncidentState::Sealed | IncidentState::Failed);
    say!("gathering and sealing {}", opened.id);
    let last = view.wait_for(ended).await.context("the collector stopped")?;
    Ok(last.incident.clone())
}

/// Waits for the first frame and says what this machine gives and what it does not, and why. Gives back its time.
async fn first_frame(ring: Option<&Path>, schema: &Schema, began: WallTime) -> Option<WallTime> {
    let ring = ring?.to_owned();
    let deadline = Instant::now() + FIRST_FRAME;
    while Instant::now() < deadline {
        let dir = ring.clone();
        if let Ok(Some((at, outcomes))) = tokio::task::spawn_blocking(move || outcomes(&dir, began)).await {
            say!("{}", what_it_gives(schema, &outcomes));
            return Some(at);
        }
        sleep(LOOK).await;
    }
    say!("no frame was recorded within {} s; the case file will say what is missing", FIRST_FRAME.as_secs());
    None
}

/// The first frame of this run in the ring: when it was, and how each source fared.
fn outcomes(ring: &Path, began: WallTime) -> Option<(WallTime, Vec<Outcome>)> {
    // A frame is dated when its tick was due, which for the first one may be up to a second before the start.
    let second = began.offset(-began.nanos().rem_euclid(NANOS_PER_SEC));
    let since = Window::new(second, WallTime::MAX).ok();
    let mut first = None;
    let mut each = |piece| match piece {
        Piece::Frame(frame) => {
            first = Some((frame.at.wall, frame.samples.into_iter().map(|s| s.outcome).collect()));
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    };
    // Not there yet, or nothing in it yet: looked at again in a moment.
    Recording::open_dir(ring).ok()?.pieces(since, &mut each).ok()?;
    first
}

/// What can and cannot be read, in plain words.
fn what_it_gives(schema: &Schema, outcomes: &[Outcome]) -> String {
    let named = || schema.sources.iter().map(|s| s.name.as_str()).zip(outcomes);
    let whole: Vec<_> =
        named().filter(|(_, o)| matches!(o, Outcome::Complete) || o.is_not_due()).map(|(name, _)| name).collect();
    let mut text = format!("  reads      {}", whole.join(", "));
    for (name, outcome) in named() {
        if let Some((word, why)) = trouble(outcome) {
            text.push_str(&format!("\n  {word:<10} {name}: {}", safe(&why)));
        }
    }
    let logs = casefile_agent::logs::ALL.iter().map(|l| l.name).collect::<Vec<_>>().join(", ");
    let state = casefile_agent::state::ALL.iter().map(|s| s.name).collect::<Vec<_>>().join(", ");
    text.push_str(&format!("\n  when asked logs: {logs}; state: {state}"));
    text
}

/// What is wrong with a source, in a word and in words; nothing when it gives everything.
fn trouble(outcome: &Outcome) -> Option<(&'static str, String)> {
    match outcome {
        Outcome::Complete => None,
        _ if outcome.is_not_due() => None,
        Outcome::Partial { gaps } => {
            let may_not = gaps.iter().any(|g| g.reason == GapReason::PermissionDenied);
            let first = gaps.first().map_or_else(String::new, |g| format!("{}: {}", g.reason, g.detail));
            let more = if gaps.len() > 1 { format!(" (and {} more)", gaps.len() - 1) } else { String::new() };
            Some((if may_not { "may not" } else { "in part" }, format!("{first}{more}")))
        }
        Outcome::Absent { why } => Some(("has no", why.clone())),
        Outcome::Failed { error } => Some(("cannot", error.clone())),
        Outcome::TimedOut { after_nanos } => {
            Some(("too slow", format!("no answer within {:?}", Duration::from_nanos(*after_nanos))))
        }
        Outcome::Skipped { why } => Some(("skipped", why.clone())),
    }
}

/// Says what was made: where it lies and what it covers on standard output, what to do with it on standard error.
async fn report(args: &LocalArgs, collector: &Collector, archive: &SealedArchive) -> Result<()> {
    let path = collector.incidents().archive(archive);
    let (shown, size) = (path.clone(), archive.size);
    let summary = tokio::task::spawn_blocking(move || summary(&shown)).await.context("summarise")??;
    let text = format!("{}\n{}, {}\n\n{summary}", path.display(), Bytes(size), whole(archive));
    io::stdout().lock().write_all(text.as_bytes()).context("print the summary")?;
    let file = path.display();
    say!("\nnext:");
    say!("  casefile check {file}");
    say!("  casefile show {file}");
    say!("  casefile logs {file}");
    say!("  casefile-collector key{} > allowed && casefile verify {file} --signers allowed", data_flag(args));
    say!("  tar tzf {file}");
    Ok(())
}

const fn whole(archive: &SealedArchive) -> &'static str {
    if archive.whole { "nothing is missing" } else { "something is missing: it says what, and why" }
}

fn data_flag(args: &LocalArgs) -> String {
    if args.data.as_os_str() == "casefile-data" { String::new() } else { format!(" --data {}", args.data.display()) }
}

/// The summary of the archive as it lies there: read back, not remembered.
fn summary(path: &Path) -> Result<String> {
    let doing = || format!("read {} back", path.display());
    let mut file = CaseFile::open(path).with_context(doing)?;
    let review = Review::sealed(&mut file, &mut Vec::new());
    let on_top = review.map(|review| told::on_top(&review) + "\n").unwrap_or_default();
    Ok(on_top + &casefile_review::summary::render(&file.incident, &file.coverage))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::test_nodes::{START, last_words};
    use casefile_proto::gap::Gap;
    use casefile_proto::sample::SourceDef;

    #[test]
    fn what_cannot_be_read_is_said_with_its_reason_in_plain_words() {
        let source = |name: &str| SourceDef {
            name: name.to_owned(),
            about: String::new(),
            every_nanos: 1,
            deadline_nanos: 1,
            metrics: vec![],
        };
        let names = ["cpu", "pressure", "kernel", "disk", "slow", "clock"];
        let schema = Schema { sources: names.into_iter().map(source).collect() };
        let gap = |n: u32| Gap::new(GapReason::PermissionDenied, format!("kmsg\u{1b}[31m {n}"));
        let outcomes = [
            Outcome::Complete,
            Outcome::Absent { why: "no /proc/pressure".to_owned() },
            Outcome::Partial { gaps: vec![gap(1), gap(2)] },
            Outcome::Failed { error: "read /proc/diskstats: it broke".to_owned() },
            Outcome::TimedOut { after_nanos: 500_000_000 },
            Outcome::not_due(),
        ];
        let text = what_it_gives(&schema, &outcomes);
        let lines: Vec<_> = text.lines().take(5).collect();
        let expected = [
            "  reads      cpu, clock",
            "  has no     pressure: no /proc/pressure",
            "  may not    kernel: permission-denied: kmsg\\u{1b}[31m 1 (and 1 more)",
            "  cannot     disk: read /proc/diskstats: it broke",
            "  too slow   slow: no answer within 500ms",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn the_first_frame_is_one_of_this_run() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(outcomes(&dir.path().join("not-there"), WallTime::from_secs(START)), None);
        last_words(dir.path(), "a", 0..10);
        let began = WallTime::from_secs(START + 4).offset(500);
        assert_eq!(outcomes(dir.path(), began), Some((WallTime::from_secs(START + 4), vec![Outcome::Complete])));
        assert_eq!(outcomes(dir.path(), WallTime::from_secs(START + 10)), None);
    }
}
