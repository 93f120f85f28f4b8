//! Dead node: an agent is killed at a random instant. How old is then the last evidence of its node at the collector?
//!
//! The age is the instant of the kill less the wall time of the newest frame in the node's last words, once its session
//! has ended. Both are of one machine's clock, so it is exact.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::item::{Ask, Item};
use crate::random::Random;
use crate::report::Findings;
use crate::world::World;

/// The item.
pub(crate) const ITEM: Item = Item {
    name: "dead-node",
    proves: "What a node knew two seconds before it died is at the collector",
    counts: "kills of an agent",
    short: 20,
    full: 200,
    needs: &[],
    run: run_item,
};

/// Agents at a time: as many nodes die one after the other before they are started again.
const AGENTS: u64 = 10;

/// Milliseconds that an agent lives in a round before the first one is killed.
const LIVES: std::ops::RangeInclusive<u64> = 2_000..=3_000;

/// Milliseconds between two kills of a round.
const BETWEEN: std::ops::RangeInclusive<u64> = 20..=250;

/// The age that the 99th percentile must not exceed.
const PROMISED: Duration = Duration::from_secs(2);

fn run_item(ask: &Ask) -> Result<Findings> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(kill_all(ask))
}

async fn kill_all(ask: &Ask) -> Result<Findings> {
    let mut random = Random::new(ask.seed);
    let mut findings = Findings::of(ask);
    let mut world = World::new(None).await?;
    world.collector.start()?;
    world.answers().await?;
    world.add_agents(usize::try_from(AGENTS.min(ask.times))?)?;
    let mut ages = Vec::new();
    let mut left = usize::try_from(ask.times)?;
    while left > 0 {
        world.all_connected().await?;
        pause(&mut random, LIVES).await;
        let this_round = left.min(world.agents.len());
        let mut killed = Vec::new();
        for agent in world.agents.iter_mut().take(this_round) {
            pause(&mut random, BETWEEN).await;
            let at = casefile_tests::now();
            agent.kill()?;
            killed.push(at);
        }
        for (which, at) in killed.into_iter().enumerate() {
            let node = world.agents[which].node.clone();
            world.away(&node).await?;
            let newest = world.newest(&node)?.context("last words of a node that died")?;
            let age = at.nanos_since(newest);
            ensure!(age >= 0, "a frame of {node} was taken after it was killed");
            ages.push(Duration::from_nanos(age.unsigned_abs()));
            world.agents[which].process.start()?;
        }
        left -= this_round;
    }
    ages.sort_unstable();
    let at = |percent: usize| ages[(ages.len() * percent).div_ceil(100).saturating_sub(1)];
    let (p50, p99, max) = (at(50), at(99), at(100));
    for (name, age) in [("p50", p50), ("p99", p99), ("max", max)] {
        findings.figure(format!("age of the last evidence, {name}, s"), (age.as_secs_f64() * 1e3).round() / 1e3);
    }
    findings.figure("kills", ages.len());
    findings.in_time(p99 <= PROMISED, || format!("the 99th percentile is {p99:?}, above {PROMISED:?}"));
    Ok(findings)
}

async fn pause(random: &mut Random, millis: std::ops::RangeInclusive<u64>) {
    tokio::time::sleep(Duration::from_millis(random.between(*millis.start(), *millis.end()))).await;
}
