//! Fleet: thousands of agents stream a frame a second over mutual TLS to the real collector, and each frame is on its disk
//! before it is acknowledged.
//!
//! The agents are simulated in this process (`casefile_tests::fleet`): their connections, certificates, sessions and bytes
//! are real, and their own cost is told apart. Judged: the collector's CPU and memory, the time from a frame to its ack, and
//! afterwards every frame of every node in the last words.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use casefile_tests::fleet::{Fleet, Plan};

use crate::item::{Ask, Item};
use crate::machine;
use crate::processes::Usage;
use crate::recorded::Recorded;
use crate::report::Findings;
use crate::world::World;

/// Five thousand agents.
pub(crate) const ITEM: Item = Item {
    name: "fleet",
    proves: "Five thousand agents at one frame a second fit one collector, each frame synced before its ack",
    counts: "simulated agents",
    short: 500,
    full: 5_000,
    needs: &[],
    run: run_item,
};

/// Ten thousand, to see where it bends.
pub(crate) const BENDING: Item = Item {
    name: "fleet-bending",
    proves: "What becomes of one collector with ten thousand agents: told, not judged, but for loss",
    counts: "simulated agents",
    short: 0,
    full: 10_000,
    needs: &[],
    run: run_bending,
};

/// Frames of each agent: ten minutes of five thousand, fewer of fewer, but of a thousand enough that every block closes twice.
const FRAMES: u64 = 600;
const FRAMES_OF_A_THOUSAND: u64 = 130;
const FRAMES_OF_FEW: u64 = 20;

/// Below this many agents the figures are told and not judged: they are promised for five thousand.
const MANY: u64 = 5_000;

/// What is promised of the collector, of a core, in MiB, and of an ack at the 99th percentile.
const CORE: f64 = 0.5;
const RESIDENT_MIB: f64 = 400.0;
const ACK: Duration = Duration::from_millis(250);

/// Agents tick together, at the full second; what they measure takes each of them another while.
const SPREAD: Duration = Duration::from_millis(500);

fn run_item(ask: &Ask) -> Result<Findings> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(stream(ask, true))
}

fn run_bending(ask: &Ask) -> Result<Findings> {
    let fit = Ask { times: ask.times.min(fit()), ..*ask };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut findings = runtime.block_on(stream(&fit, false))?;
    findings.figure("agents that fit the descriptors of this machine", fit.times);
    Ok(findings)
}

/// So many agents may have a connection to one collector here: it keeps two thirds of its file descriptors for files, and some
/// for strangers.
fn fit() -> u64 {
    (machine::raise_descriptors() / 3).saturating_sub(600).max(1)
}

async fn stream(ask: &Ask, judged: bool) -> Result<Findings> {
    let mut findings = Findings::of(ask);
    machine::raise_descriptors();
    let mut world = World::new(None).await?;
    world.collector.start()?;
    world.answers().await?;
    let frames = match ask.times {
        MANY.. => FRAMES,
        1_000.. => FRAMES_OF_A_THOUSAND,
        _ => FRAMES_OF_FEW,
    };
    let plan = Plan { to: world.door.address()?, nodes: usize::try_from(ask.times)?, frames, spread: SPREAD };
    let pid = world.collector.pid().context("the collector runs")?;
    let began = (Instant::now(), Usage::of(pid)?);
    let fleet = Fleet::connect(&plan, &world.door.authority()?).await?;
    let stood = (Instant::now(), Usage::of(pid)?, Usage::own()?);
    findings.figure("seconds until every session stood", seconds(stood.0 - began.0));
    findings.figure("milliseconds of the collector's CPU per connection", {
        let cpu = stood.1.cpu - began.1.cpu;
        round(cpu.as_secs_f64() * 1e3 / ask.times.max(1) as f64)
    });
    let seen = fleet.run().await?;
    let ended = (Instant::now(), Usage::of(pid)?, Usage::own()?);
    let took = (ended.0 - stood.0).as_secs_f64();
    let core = (ended.1.cpu - stood.1.cpu).as_secs_f64() / took;
    let resident = ended.1.peak_resident_mib;
    let (broken, why) = seen.broken();
    let ack = seen.latency(0.99);
    findings.figure("frames sent", seen.sent());
    findings.figure("frames acknowledged", seen.acked());
    findings.figure("the collector, of a core", round(core));
    findings.figure("the collector, MiB resident at most", round(resident));
    findings.figure("the simulated fleet, of a core", round((ended.2.cpu - stood.2.cpu).as_secs_f64() / took));
    for (name, share) in [("50th", 0.5), ("90th", 0.9), ("99th", 0.99), ("99.9th", 0.999)] {
        findings.figure(format!("milliseconds to an ack, {name} percentile"), millis(seen.latency(share)));
    }
    let all = ask.times * frames;
    findings.require(broken == 0, || format!("{broken} sessions broke, the last because: {why}"));
    findings.require(seen.acked() == all, || format!("{} of {all} frames were acknowledged", seen.acked()));
    if judged && ask.times >= MANY {
        findings.in_time(core <= CORE, || format!("the collector used {core:.3} of a core"));
        findings.require(resident <= RESIDENT_MIB, || format!("the collector held {resident:.0} MiB"));
        findings.in_time(ack <= ACK, || format!("an ack took {ack:?} at the 99th percentile"));
    }
    world.collector.stop()?;
    let mut held = 0;
    for entry in std::fs::read_dir(world.door.data.join("last-words")).context("list the last words")? {
        let recorded = Recorded::directory(&entry?.path())?;
        held += recorded.frames.len() as u64;
        for fault in recorded.faults {
            findings.fault(fault);
        }
    }
    findings.figure("frames at the collector", held);
    findings.require(held == all, || format!("{held} of {all} frames are in the last words"));
    Ok(findings)
}

fn seconds(time: Duration) -> f64 {
    round(time.as_secs_f64())
}

pub(crate) fn millis(time: Duration) -> f64 {
    round(time.as_secs_f64() * 1e3)
}

/// Three digits behind the point: more would be noise.
pub(crate) fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
