//! Collection: one incident over a fleet whose nodes bring what nodes bring: recordings of real shape, logs, state.
//!
//! Every node is one of the demonstration's machines, its quarter of an hour moved to the one before now. It streams what it
//! recorded, then answers the incident with its items, as an agent does. Judged: every item arrives, the archive is whole
//! and verifies, what was planted is found, and all of it in time.

mod node;
mod possessions;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use casefile_evidence::archive::layout;
use casefile_proto::coverage::NodeState;
use casefile_proto::time::Window;
use casefile_tests::program;
use tokio::task::JoinSet;

use crate::dial;
use crate::fleet::round;
use crate::item::{Ask, Item};
use crate::machine;
use crate::processes::Usage;
use crate::report::Findings;
use crate::world::World;
use node::Played;
use possessions::{Machine, machines};

/// The item.
pub(crate) const ITEM: Item = Item {
    name: "collection",
    proves: "A collection of a quarter of an hour from a hundred nodes is sealed whole within 15 seconds",
    counts: "simulated nodes",
    short: 12,
    full: 100,
    needs: &[],
    run: run_item,
};

/// What is collected.
const WINDOW: Duration = Duration::from_mins(15);

/// How long the nodes have to answer.
const PATIENCE: Duration = Duration::from_mins(5);

/// What is promised of a hundred nodes, from the call to the sealed archive.
const SEALED: Duration = Duration::from_secs(15);

/// With so many nodes every one of the demonstration's machines is among them.
const MACHINES: u64 = 12;

fn run_item(ask: &Ask) -> Result<Findings> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(collect(ask))
}

async fn collect(ask: &Ask) -> Result<Findings> {
    let mut findings = Findings::of(ask);
    machine::raise_descriptors();
    let until = casefile_tests::now().before(Duration::from_secs(1));
    let window = Window::new(until.before(WINDOW), until)?;
    let machines = machines(window).context("the demonstration's machines")?;
    let mut world = World::new(None).await?;
    world.collector.start()?;
    world.answers().await?;

    let mut standing = JoinSet::new();
    for number in 0..usize::try_from(ask.times)? {
        let node = format!("sim-{number:03}").parse()?;
        let ticket = world.door.ticket(node, world.door.listen)?;
        let machine: Arc<Machine> = Arc::clone(&machines[number % machines.len()]);
        standing.spawn(async move { Played::stand(&ticket, &machine, window).await });
    }
    // Each has streamed its quarter of an hour when it stands, and stays until it has answered.
    let mut answering = JoinSet::new();
    while let Some(stands) = standing.join_next().await {
        answering.spawn(stands??.answer());
    }

    let mut person = dial::person(&world.door).await?;
    let (opened, before) = (Instant::now(), world.collector.cpu()?);
    let incident = person.open(window, &[], PATIENCE).await?;
    let mut brought = 0;
    let mut items = 0;
    while let Some(answered) = answering.join_next().await {
        let answer = answered??;
        brought += answer.bytes;
        items += answer.items;
    }
    let gathered = opened.elapsed();
    let sealed = person.sealed(incident.id).await?;
    let (took, after) = (opened.elapsed(), world.collector.cpu()?);
    findings.figure("seconds until everything was brought", round(gathered.as_secs_f64()));
    findings.figure("seconds until it was sealed", round(took.as_secs_f64()));
    findings.figure("seconds of the collector's CPU in that time", round((after - before).as_secs_f64()));
    findings.figure("items", items);
    findings.figure("MiB of items, plain", brought >> 20);
    findings.in_time(took <= SEALED, || format!("it was sealed after {took:?}"));
    if let Some(pid) = world.collector.pid() {
        findings.figure("the collector, MiB resident at most", round(Usage::of(pid)?.peak_resident_mib));
    }

    let coverage = sealed.coverage.context("the coverage of a sealed incident")?;
    let answered = coverage.nodes.iter().filter(|node| node.state == NodeState::Answered).count();
    findings.require(answered as u64 == ask.times, || format!("{answered} of {} nodes answered", ask.times));
    let short = coverage.nodes.iter().find(|node| {
        let recorded: u64 = node.sources.iter().map(|row| row.outcomes.total()).max().unwrap_or(0);
        recorded < WINDOW.as_secs() - 1
    });
    findings.require(short.is_none(), || {
        format!("of {} there is less than was recorded", short.map_or("", |n| n.node.as_str()))
    });
    let archive = world.path("collection.tar.gz");
    let file = person.download(incident.id, &archive).await?;
    findings.figure("MiB of the archive", std::fs::metadata(&archive)?.len() >> 20);
    let path = archive.to_str().context("a path that is text")?;
    let verified = program::run("casefile", &["verify", path]);
    findings.require(verified.status.success(), || program::said(&verified));
    let below = file.entries.list().iter().filter_map(|entry| layout::split_node_item(&entry.path));
    let held = below.filter(|(_, item)| item.as_str() != layout::ITEMS_ITEM).count() as u64;
    findings.require(held == items, || format!("{items} items were brought, and {held} are in the archive"));
    if ask.times >= MACHINES {
        let found = program::run("casefile", &["findings", path, "--output", "json"]);
        for planted in possessions::PLANTED {
            findings.require(program::stdout(&found).contains(planted), || {
                format!("{planted} was planted and is not found")
            });
        }
    }
    world.collector.stop()?;
    Ok(findings)
}
