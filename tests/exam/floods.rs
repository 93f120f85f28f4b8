//! Floods: thousands of connections that say nothing or little, no file descriptors left, and HTTP/2 frames that no library
//! sends. Meanwhile an honest agent must get in, get its acks, and the collector must neither spin nor grow.

mod held;
mod http2;
mod storms;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use casefile_evidence::recording::delta::Encoder;
use casefile_proto::connectivity::Ability;
use casefile_proto::ids::BootId;
use casefile_proto::ids::NodeName;
use casefile_proto::session::{FromAgent, Hello, PROTOCOL, ToAgent};
use tokio_stream::wrappers::ReceiverStream;

use crate::dial::{self, Door};
use crate::frames;
use crate::item::{Ask, Item};
use crate::processes::Usage;
use crate::report::Findings;
use crate::world::World;

/// The item.
pub(crate) const ITEM: Item = Item {
    name: "floods",
    proves: "However many connections say nothing or flood, an honest agent gets in, and the collector neither spins nor grows",
    counts: "silent connections",
    short: 2_000,
    full: 10_000,
    needs: &[],
    run: run_item,
};

/// An honest agent is welcome within this.
const WELCOME: Duration = Duration::from_millis(500);

/// How often that is tried: the worst of them is judged.
const TRIES: usize = 20;

/// While connections are only held the collector uses less than this of a core.
const CORE: f64 = 0.05;

/// How long its CPU is watched.
const WATCHED: Duration = Duration::from_secs(5);

/// It may grow by this much under floods of HTTP/2.
const GROWTH_MIB: f64 = 64.0;

fn run_item(ask: &Ask) -> Result<Findings> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(floods(*ask))
}

async fn floods(ask: Ask) -> Result<Findings> {
    let mut findings = Findings::of(&ask);
    let count = held::most(usize::try_from(ask.times)?, &mut findings);
    let mut world = World::new(None).await?;
    world.collector.start()?;
    world.answers().await?;
    for way in held::ALL {
        let connections = way.open(&world.door, count).await?;
        hold(&mut world, way.name, &mut findings).await?;
        drop(connections);
    }
    storms::all(&mut world, &mut findings).await?;
    world.collector.stop()?;
    drop(world);
    exhausted(&mut findings).await?;
    Ok(findings)
}

/// Few descriptors, and more connections than those.
async fn exhausted(findings: &mut Findings) -> Result<()> {
    let mut world = World::new(None).await?;
    #[expect(clippy::disallowed_methods, reason = "a shell that lowers a limit and becomes the collector")]
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -n 256 && exec \"$0\" \"$@\""]);
    world.collector.start_under(shell)?;
    world.answers().await?;
    let connections = held::SILENT.open(&world.door, 1_000).await?;
    hold(&mut world, "256 descriptors, 1000 connections", findings).await?;
    drop(connections);
    world.collector.stop()
}

/// While they are held: the collector's CPU, and how long an honest agent takes.
async fn hold(world: &mut World, name: &str, findings: &mut Findings) -> Result<()> {
    let pid = world.collector.pid().context("the collector runs")?;
    let (before, began) = (Usage::of(pid)?, Instant::now());
    // Nothing is waited for here but time: how much is used in it is the question.
    tokio::time::sleep(WATCHED).await;
    let used = Usage::of(pid)?.cpu.saturating_sub(before.cpu);
    let core = used.as_secs_f64() / began.elapsed().as_secs_f64();
    findings.figure(format!("{name}: the collector, of a core"), (core * 1e3).round() / 1e3);
    findings.in_time(core < CORE, || format!("{name}: the collector used {core:.3} of a core"));
    let mut slowest = Duration::ZERO;
    for number in 0..TRIES {
        match welcome(&world.door, &format!("honest-{number}").parse()?).await {
            Ok(took) => slowest = slowest.max(took),
            Err(error) => {
                findings.fault(format!("{name}: an honest agent did not get in: {error:#}"));
                break;
            }
        }
    }
    findings.figure(
        format!("{name}: milliseconds until welcome, the slowest of {TRIES}"),
        (slowest.as_secs_f64() * 1e4).round() / 10.0,
    );
    findings.in_time(slowest <= WELCOME, || format!("{name}: an honest agent was welcome after {slowest:?}"));
    findings.require(world.collector.runs()?, || format!("{name}: the collector ended:\n{}", world.collector.tail()));
    Ok(())
}

/// Connects as an agent, and says hello; how long until it is welcome.
async fn welcome(door: &Door, node: &NodeName) -> Result<Duration> {
    let boot = BootId::from_bytes([0x11; 16]);
    let began = Instant::now();
    let mut client = dial::node(&door.ticket(node.clone(), door.listen)?).await?;
    let header = frames::header(node, boot);
    let hello = Hello {
        protocol: PROTOCOL,
        node: node.clone(),
        boot,
        agent_version: header.agent_version.clone(),
        clock: casefile_collector::clock::now(),
        recording_header: Encoder::new(header).header().into(),
        last_seq: None,
        collectable: Vec::new(),
        connectivity: Ability::Unknown,
    };
    let (to, messages) = tokio::sync::mpsc::channel(1);
    to.send(FromAgent::Hello(hello).into()).await?;
    let mut from = client.session(ReceiverStream::new(messages)).await?.into_inner();
    let first = tokio::time::timeout(Duration::from_secs(10), from.message()).await??.context("an answer")?;
    match ToAgent::try_from(first)? {
        ToAgent::Welcome(_) => Ok(began.elapsed()),
        other => bail!("{other:?} came before welcome"),
    }
}
