//! Fleet-wide: one incident over every node of a fleet that goes on streaming.
//!
//! The agents are simulated (`casefile_tests::fleet`) and answer that they have nothing to bring, so that what is tried is the
//! collector: whom it asks when, what it keeps of each answer, and the archive of so many nodes. Judged: every node is asked
//! once, not all of them at once and yet early enough; every node stands in the archive; acks do not suffer; no frame is lost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use casefile_collector::incident::machine::{WAVE, WAVE_EVERY};
use casefile_proto::coverage::NodeState;
use casefile_tests::fleet::{Fleet, Plan};
use casefile_tests::program;

use crate::dial;
use crate::fleet::{millis, round};
use crate::incidents::the_last;
use crate::item::{Ask, Item};
use crate::machine;
use crate::processes::Usage;
use crate::report::Findings;
use crate::world::World;

/// The item.
pub(crate) const ITEM: Item = Item {
    name: "fleet-wide",
    proves: "An incident over a whole fleet asks its nodes in waves, seals them all, and delays no ack",
    counts: "simulated agents",
    short: 300,
    full: 5_000,
    needs: &[],
    run: run_item,
};

/// Frames of each agent, and after how long the incident is opened, whose window that is. A thousand agents are many.
const OF_MANY: (u64, Duration) = (120, Duration::from_secs(20));
const OF_FEW: (u64, Duration) = (20, Duration::from_secs(5));
const MANY: u64 = 1_000;

/// How long its nodes have to answer; a quarter of it to be asked.
const PATIENCE: Duration = Duration::from_secs(100);

/// What is promised of an ack at the 99th percentile.
const ACK: Duration = Duration::from_millis(250);

fn run_item(ask: &Ask) -> Result<Findings> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(collect(ask))
}

async fn collect(ask: &Ask) -> Result<Findings> {
    let mut findings = Findings::of(ask);
    machine::raise_descriptors();
    let mut world = World::new(None).await?;
    world.collector.start()?;
    world.answers().await?;
    let nodes = usize::try_from(ask.times)?;
    let (frames, opened_after) = if ask.times < MANY { OF_FEW } else { OF_MANY };
    let plan = Plan { to: world.door.address()?, nodes, frames, spread: Duration::from_millis(500) };
    let fleet = Fleet::connect(&plan, &world.door.authority()?).await?;
    let seen = fleet.seen();
    let streaming = tokio::spawn(fleet.run());
    tokio::time::sleep(opened_after).await;

    let mut person = dial::person(&world.door).await?;
    let (opened, before) = (Instant::now(), world.collector.cpu()?);
    let incident = person.open(the_last(opened_after)?, &[], PATIENCE).await?;
    findings.figure("milliseconds until it was opened", millis(opened.elapsed()));
    let sealed = person.sealed(incident.id).await?;
    let (took, after) = (opened.elapsed(), world.collector.cpu()?);
    let asked = seen.asked();
    findings.figure("seconds until it was sealed", round(took.as_secs_f64()));
    findings.figure("seconds of the collector's CPU in that time", round((after - before).as_secs_f64()));
    let first = asked.iter().min().context("no node was asked")?;
    let spread = asked.iter().max().map_or(Duration::ZERO, |last| *last - *first);
    findings.figure("seconds from the first ask to the last", round(spread.as_secs_f64()));
    findings.figure("nodes asked", asked.len());
    findings.require(asked.len() == nodes, || format!("{} asks for {nodes} nodes", asked.len()));
    // What the last wave is behind the first, less one for those that were under way.
    let waves = u32::try_from(nodes.div_ceil(WAVE))?
        .saturating_sub(1)
        .min(u32::try_from(PATIENCE.as_millis() / 4 / WAVE_EVERY.as_millis())?);
    let least = WAVE_EVERY * waves.saturating_sub(1);
    findings.require(spread >= least, || format!("they were asked within {spread:?}, and not in waves over {least:?}"));
    findings.in_time(spread <= PATIENCE / 4, || format!("the last one was asked {spread:?} after the first"));
    let coverage = sealed.coverage.context("the coverage of a sealed incident")?;
    let answered = coverage.nodes.iter().filter(|node| node.state == NodeState::Answered).count();
    findings.figure("nodes that answered, as the archive says", answered);
    findings.require(answered == nodes, || format!("{answered} of {nodes} nodes answered"));

    let during = |at: Instant| at >= opened && at < opened + took;
    let seen = streaming.await??;
    let (quiet, loaded) = (seen.latency_of(0.99, |at| at < opened), seen.latency_of(0.99, during));
    findings.figure("milliseconds to an ack before it, 99th percentile", millis(quiet));
    findings.figure("milliseconds to an ack during it, 99th percentile", millis(loaded));
    findings.in_time(loaded <= ACK, || format!("an ack took {loaded:?} at the 99th percentile"));
    let (broken, why) = seen.broken();
    findings.require(broken == 0, || format!("{broken} sessions broke, the last because: {why}"));
    let all = ask.times * frames;
    findings.require(seen.acked() == all, || format!("{} of {all} frames were acknowledged", seen.acked()));
    if let Some(pid) = world.collector.pid() {
        findings.figure("the collector, MiB resident at most", round(Usage::of(pid)?.peak_resident_mib));
    }

    let archive = world.path("fleet.tar.gz");
    person.download(incident.id, &archive).await?;
    let verified = program::run("casefile", &["verify", archive.to_str().context("a path that is text")?]);
    findings.require(verified.status.success(), || program::said(&verified));
    world.collector.stop()?;
    Ok(findings)
}
