//! Hostile: everything that must not be accepted is tried on a real collector while honest agents stream to it.
//!
//! Each variant says how it was refused; one that is not is a fault by its name. Afterwards nothing of any of them may be in
//! the last words, among the nodes, in an archive or anywhere else in the data directory, and the audit log must have those
//! that it should. The honest agents must not lose a frame or a session, and wait at most twice as long for an ack.

mod case;
mod certificates;
mod credentials;
mod impersonation;
mod messages;
mod methods;
mod raw;
mod speaker;
mod tls;
mod traces;
mod uploads;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use casefile_tests::fleet::{Fleet, Plan, Seen};
use tokio::task::JoinSet;

use crate::apart::apart;
use crate::item::{Ask, Item};
use crate::processes::Usage;
use crate::random::Random;
use crate::report::Findings;
use crate::world::World;
use case::{Answer, Case, Site, Variant};
use uploads::Shared;

/// The item.
pub(crate) const ITEM: Item = Item {
    name: "hostile",
    proves: "Nothing that a stranger, a thief or another node's agent tries is accepted, and honest agents do not notice",
    counts: "rounds of all variants",
    short: 1,
    full: 10,
    needs: &[],
    run: run_item,
};

/// All variants.
///
/// To add one: a line in the list of its family. It gets a node of its own, and says how it was refused.
const VARIANTS: &[(&str, &[Variant])] = &[
    ("TLS", tls::ALL),
    ("credentials", credentials::ALL),
    ("impersonation", impersonation::ALL),
    ("methods", methods::ALL),
    ("messages", messages::ALL),
    ("uploads", uploads::ALL),
];

/// So many at least: what was promised.
const PROMISED: usize = 60;

/// Honest agents.
const FLEET: usize = 30;

/// How long they are watched before the first attack, and how long each round may take.
const QUIET: Duration = Duration::from_secs(10);
const ROUND: Duration = Duration::from_secs(45);

/// Honest agents send over so much of each second.
const SPREAD: Duration = Duration::from_millis(900);

/// Attacks at a time.
const AT_A_TIME: usize = 8;

/// A variant that takes longer has not been refused.
const LONGEST: Duration = Duration::from_secs(60);

/// Acks may take twice as long while attackers are at it. Below this nothing is judged: it is the disk's own noise.
const FLOOR: Duration = Duration::from_millis(20);

fn run_item(ask: &Ask) -> Result<Findings> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(hostile(*ask))
}

async fn hostile(ask: Ask) -> Result<Findings> {
    let mut findings = Findings::of(&ask);
    let mut world = World::new(None).await?;
    world.collector.start()?;
    world.answers().await?;
    let site = Arc::new(Site::new(&world.door, &world.path("another-collector")).await?);
    let seconds = QUIET.as_secs() + ROUND.as_secs() * ask.times;
    let plan = Plan { to: world.door.address()?, nodes: FLEET, frames: seconds, spread: SPREAD };
    let fleet = Fleet::connect(&plan, &world.door.authority()?).await?;
    let pid = world.collector.pid().context("the collector runs")?;
    let over = Arc::new(AtomicBool::new(false));
    let attacking = tokio::spawn({
        let (site, over) = (Arc::clone(&site), Arc::clone(&over));
        async move {
            tokio::time::sleep(QUIET).await;
            let begun = (Instant::now(), Usage::of(pid)?);
            let answers = apart(move || attack(site, ask, over)).await?;
            Ok::<_, anyhow::Error>((begun, Instant::now(), Usage::of(pid)?, answers))
        }
    });
    let seen = fleet.run().await?;
    over.store(true, Ordering::Relaxed);
    let ((began, before), ended, after, answers) = attacking.await??;
    let took = (ended - began).as_secs_f64();
    let count: usize = VARIANTS.iter().map(|(_, family)| family.len()).sum();
    findings.figure("variants", count);
    findings.require(count >= PROMISED, || format!("{count} variants, and {PROMISED} are promised"));
    judge_answers(&answers, &mut findings);
    findings.figure("seconds of attacks", (took * 10.0).round() / 10.0);
    findings.figure("the collector meanwhile, of a core", {
        let core = (after.cpu.saturating_sub(before.cpu)).as_secs_f64() / took.max(0.001);
        (core * 1e3).round() / 1e3
    });
    findings.figure("the collector, MiB resident at most", after.peak_resident_mib.round());
    judge_fleet(&seen, FLEET as u64 * seconds, began, ended, &mut findings);
    findings.require(world.collector.runs()?, || format!("the collector ended:\n{}", world.collector.tail()));
    traces::judge(world, &site, seconds, &mut findings).await?;
    Ok(findings)
}

/// What became of each, in all rounds.
type Answers = Vec<(&'static str, &'static str, Result<Answer, String>)>;

/// Tries all variants in an order that the seed decides, some at a time: as many rounds as were asked for, and more while
/// the honest agents are watched.
async fn attack(site: Arc<Site>, ask: Ask, over: Arc<AtomicBool>) -> Result<Answers> {
    let mut random = Random::new(ask.seed);
    let mut answers = Vec::new();
    let mut round = 0;
    while round < ask.times || !over.load(Ordering::Relaxed) {
        round += 1;
        let shared = Arc::new(Shared::new(&site, round).await?);
        let mut waiting: Vec<_> = VARIANTS
            .iter()
            .flat_map(|(family, variants)| variants.iter().map(move |variant| (*family, variant)))
            .enumerate()
            .collect();
        let mut running = JoinSet::new();
        while !waiting.is_empty() || !running.is_empty() {
            if round > ask.times && over.load(Ordering::Relaxed) {
                waiting.clear();
            }
            while running.len() < AT_A_TIME && !waiting.is_empty() {
                let (number, (family, variant)) = waiting.swap_remove(random.index(waiting.len()));
                let case = Case { site: Arc::clone(&site), shared: Arc::clone(&shared), round, number };
                let trying = (variant.tried)(case);
                running.spawn(async move {
                    let answer = match tokio::time::timeout(LONGEST, trying).await {
                        Ok(Ok(answer)) => Ok(answer),
                        Ok(Err(error)) => Err(format!("{error:#}")),
                        Err(_) => Ok(Answer::accepted("no end")),
                    };
                    (family, variant.name, answer)
                });
            }
            if let Some(ended) = running.join_next().await {
                answers.push(ended?);
            }
        }
        shared.done().await?;
    }
    Ok(answers)
}

fn judge_answers(answers: &Answers, findings: &mut Findings) {
    let (mut accepted, mut how) = (0, BTreeMap::<&str, BTreeMap<String, u64>>::new());
    // Each fault is told once, however many rounds found it.
    let mut faults = BTreeMap::new();
    for (family, name, answer) in answers {
        match answer {
            Ok(Answer::Refused(said)) => {
                let said: String = said.chars().take(40).collect();
                *how.entry(family).or_default().entry(said).or_default() += 1;
            }
            Ok(Answer::Accepted(what)) => {
                accepted += 1;
                faults.entry(name).or_insert_with(|| format!("accepted: {family}: {name}: {what}"));
            }
            Err(error) => {
                faults.entry(name).or_insert_with(|| format!("could not be tried: {family}: {name}: {error}"));
            }
        }
    }
    findings.figure("tries", answers.len());
    findings.figure("accepted", accepted);
    faults.into_values().for_each(|fault| findings.fault(fault));
    for (family, how) in how {
        let told: Vec<String> = how.into_iter().map(|(how, times)| format!("{times} {how}")).collect();
        findings.figure(format!("{family}, refused how"), told.join("; "));
    }
}

fn judge_fleet(seen: &Seen, all: u64, began: Instant, ended: Instant, findings: &mut Findings) {
    let quiet = seen.latency_of(0.99, |sent| sent < began);
    let under = seen.latency_of(0.99, |sent| sent >= began && sent < ended);
    let millis = |time: Duration| (time.as_secs_f64() * 1e4).round() / 10.0;
    findings.figure("milliseconds to an ack, 99th percentile, quiet", millis(quiet));
    findings.figure("milliseconds to an ack, 99th percentile, attacked", millis(under));
    findings.in_time(under <= (quiet * 2).max(FLOOR), || {
        format!("acks of honest agents took {under:?} at the 99th percentile under attack, and {quiet:?} before")
    });
    let (broken, why) = seen.broken();
    findings.require(broken == 0, || format!("{broken} sessions of honest agents broke, the last because: {why}"));
    let acked = seen.acked();
    findings.figure("frames of honest agents acknowledged", acked);
    findings.require(acked == all, || format!("{acked} of {all} frames of honest agents were acknowledged"));
}
