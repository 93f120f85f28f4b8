//! Kills: agents and collector are killed at random instants, again and again, while the network fails and incidents are
//! opened. Nothing that was acknowledged is lost, nothing is there twice, no hole is undeclared, and afterwards it works.

use std::time::Duration;

use anyhow::Result;

use crate::incidents::the_last;
use crate::item::{Ask, Item};
use crate::proxy::{Ending, Weather};
use crate::random::Random;
use crate::report::Findings;
use crate::world::World;

/// The item.
pub(crate) const ITEM: Item = Item {
    name: "kills",
    proves: "Nothing acknowledged is lost, doubled or undeclared over SIGKILLs of both sides with network faults",
    counts: "kills of an agent and as many of the collector",
    short: 30,
    full: 1_000,
    needs: &[],
    run: run_item,
};

/// Real agents.
const AGENTS: usize = 4;

/// Played nodes, which are the only ones that know what was acknowledged.
const PEERS: usize = 3;

/// A played node records this often.
const EVERY: Duration = Duration::from_millis(25);

/// Milliseconds between two kills.
const PAUSE: std::ops::RangeInclusive<u64> = 150..=550;

/// Milliseconds that the collector stays away, sometimes.
const AWAY: std::ops::RangeInclusive<u64> = 0..=400;

/// How long an incident waits for its nodes here.
const PATIENCE: Duration = Duration::from_secs(4);

/// Who is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Agent,
    Collector,
}

fn run_item(ask: &Ask) -> Result<Findings> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(kill_all(ask))
}

async fn kill_all(ask: &Ask) -> Result<Findings> {
    let mut random = Random::new(ask.seed);
    let mut findings = Findings::default();
    let mut world = World::new(None).await?;
    world.collector.start()?;
    world.answers().await?;
    world.add_agents(AGENTS)?;
    world.add_peers(PEERS, EVERY, &mut random)?;
    world.all_connected().await?;

    let times = usize::try_from(ask.times)?;
    let mut plan = [vec![Victim::Agent; times], vec![Victim::Collector; times]].concat();
    for at in (1..plan.len()).rev() {
        plan.swap(at, random.index(at + 1));
    }
    let mut faults = [0u64; 4];
    for (step, victim) in plan.into_iter().enumerate() {
        pause(&mut random, PAUSE).await;
        if random.percent(60) {
            let (kind, weather) = weather(&mut random);
            faults[kind] += 1;
            world.proxy.set(weather);
        }
        match victim {
            Victim::Agent => {
                let which = random.index(world.agents.len());
                let agent = &mut world.agents[which];
                agent.kill()?;
                agent.process.start()?;
            }
            Victim::Collector => {
                world.collector.kill();
                if random.percent(30) {
                    pause(&mut random, AWAY).await;
                }
                world.collector.start()?;
            }
        }
        if step % 6 == 3 {
            let door = world.door.clone();
            let window = the_last(Duration::from_secs(10))?;
            world.incidents.open(&door, window, &[], PATIENCE).await;
        }
        if step % 10 == 9 {
            let door = world.door.clone();
            world.incidents.look(&door).await;
        }
    }
    let before = world.drain().await?;
    world.fresh_incident(before, &mut findings).await?;
    findings.figure("kills of an agent", ask.times);
    findings.figure("kills of the collector", ask.times);
    for (name, n) in ["cuts and resets", "stalls", "delays", "fair spells"].into_iter().zip(faults) {
        findings.figure(format!("network: {name}"), n);
    }
    world.judge(before, &mut findings)?;
    Ok(findings)
}

async fn pause(random: &mut Random, millis: std::ops::RangeInclusive<u64>) {
    tokio::time::sleep(Duration::from_millis(random.between(*millis.start(), *millis.end()))).await;
}

/// What the network does next, with its place in the figures.
fn weather(random: &mut Random) -> (usize, Weather) {
    match random.below(10) {
        0 | 1 => (0, Weather::Down(if random.percent(50) { Ending::Closed } else { Ending::Reset })),
        2 => (1, Weather::Stalled),
        3 | 4 => (2, Weather::Slow(Duration::from_millis(random.between(1, 120)))),
        _ => (3, Weather::Fair),
    }
}
