//! System calls: the collector's writes, syncs and renames fail, one after the other, or it is killed in them. It stays,
//! what it acknowledged is there, and what it could not do it does when it can.
//!
//! strace stands in for the disk. A first run without a fault tells which calls there are and to which files; each case
//! is then one call, its number within its thread, and what becomes of it. Sockets and the like are left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use casefile_proto::time::Window;
use casefile_tests::program::tool;

use crate::item::{Ask, Item, Need};
use crate::random::Random;
use crate::report::Findings;
use crate::world::World;

/// The item.
pub(crate) const ITEM: Item = Item {
    name: "system-calls",
    proves: "A write, sync or rename that fails, or in which it is killed, costs the collector nothing it acknowledged",
    counts: "runs of a collector, each with one call injected",
    short: 8,
    full: 400,
    needs: &[Need::Tool("strace")],
    run: run_item,
};

/// The calls by which the collector changes its disk.
const CALLS: [&str; 10] =
    ["pwrite64", "write", "fsync", "fdatasync", "ftruncate", "rename", "unlink", "unlinkat", "mkdir", "linkat"];

/// What becomes of a call.
const FATES: [Fate; 5] = [
    Fate { inject: "error=EIO", from: "", name: "EIO once" },
    Fate { inject: "error=EIO", from: "+", name: "EIO from then on" },
    Fate { inject: "error=ENOSPC", from: "", name: "ENOSPC once" },
    Fate { inject: "error=ENOSPC", from: "+", name: "ENOSPC from then on" },
    Fate { inject: "signal=KILL", from: "", name: "KILL" },
];

/// The first so many of a call in one thread are tried.
const DEEP: u64 = 30;

/// Played nodes around the collector.
const PEERS: usize = 2;

/// A played node records this often.
const EVERY: Duration = Duration::from_millis(25);

/// How long a collector runs with a fault before it is killed.
const RUNS: Duration = Duration::from_millis(2_500);

/// How long an incident waits for its nodes here: it is sealed while the fault is there.
const PATIENCE: Duration = Duration::from_millis(1_000);

/// How long it may take to answer under strace.
const STARTS: Duration = Duration::from_secs(20);

/// What becomes of a call, in strace's words.
struct Fate {
    inject: &'static str,
    /// `+`: of all from there on.
    from: &'static str,
    name: &'static str,
}

/// One call that is injected.
struct Case {
    call: &'static str,
    number: u64,
    fate: &'static Fate,
}

fn run_item(ask: &Ask) -> Result<Findings> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(all(ask))
}

async fn all(ask: &Ask) -> Result<Findings> {
    let mut random = Random::new(ask.seed);
    let mut findings = Findings::default();
    let dir = tempfile::tempdir()?;
    let stage = Stage {
        data: dir.path().join("collector"),
        trace: dir.path().join("trace"),
        // The same in every run, so that the names of archives are too.
        window: Window::new(
            casefile_tests::now().before(Duration::from_secs(60)),
            casefile_tests::now().before(Duration::from_secs(1)),
        )?,
    };
    let (calls, paths) = stage.survey(&mut random, &mut findings).await.context("a run without a fault")?;
    let mut cases = Vec::new();
    for (call, count) in &calls {
        for number in 1..=(*count).min(DEEP) {
            cases.extend(FATES.iter().map(|fate| Case { call, number, fate }));
        }
    }
    ensure!(!cases.is_empty(), "the survey saw no call: is strace allowed here?");
    findings.figure("cases that there are", cases.len());
    let (mut hit, mut refused, mut by_fate) = (0, 0, BTreeMap::<&str, u64>::new());
    for _ in 0..ask.times {
        let case = cases.swap_remove(random.index(cases.len()));
        let what = format!("{} at {} {}", case.fate.name, case.call, case.number);
        let went = stage.run(&case, &paths, &mut random, &mut findings, &what).await.with_context(|| what.clone())?;
        hit += u64::from(went.injected);
        refused += u64::from(went.did_not_start);
        *by_fate.entry(case.fate.name).or_default() += 1;
        if cases.is_empty() {
            break;
        }
    }
    findings.figure("runs in which the call came and was injected", hit);
    findings.figure("runs in which the collector did not start, and said why", refused);
    for (name, n) in by_fate {
        findings.figure(format!("  {name}"), n);
    }
    findings.require(hit * 2 >= ask.times.min(2), || "hardly any call was injected".to_owned());
    Ok(findings)
}

/// What is the same for all runs.
struct Stage {
    data: PathBuf,
    trace: PathBuf,
    window: Window,
}

/// How a run went.
struct Went {
    injected: bool,
    did_not_start: bool,
}

impl Stage {
    fn strace(&self) -> Result<Command> {
        let mut strace = tool("strace").context("strace")?;
        // The tracer is the collector's grandchild: killing the child kills the collector.
        strace.args(["-D", "-f", "-qq", "-y", "--seccomp-bpf", "-o"]).arg(&self.trace);
        Ok(strace)
    }

    async fn world(&self, random: &mut Random) -> Result<World> {
        if self.data.exists() {
            std::fs::remove_dir_all(&self.data)?;
        }
        let mut world = World::new(Some(self.data.clone())).await?;
        world.add_peers(PEERS, EVERY, random)?;
        Ok(world)
    }

    /// A run without a fault: how often each call came in the thread that made it most often, and to which files.
    async fn survey(
        &self,
        random: &mut Random,
        findings: &mut Findings,
    ) -> Result<(BTreeMap<&'static str, u64>, BTreeSet<String>)> {
        let mut world = self.world(random).await?;
        let mut strace = self.strace()?;
        strace.arg("-e").arg(format!("trace={}", CALLS.join(",")));
        world.collector.start_under(strace)?;
        world.answers().await?;
        world.all_connected().await?;
        world.incidents.open(&world.door.clone(), self.window, &[], PATIENCE).await;
        tokio::time::sleep(RUNS).await;
        world.collector.kill();
        let traced = std::fs::read(&self.trace)?;
        let (mut counts, mut paths) = (BTreeMap::<(u64, &str), u64>::new(), BTreeSet::new());
        let below = self.data.to_str().context("a path that is text")?;
        for line in String::from_utf8_lossy(&traced).lines() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            let Some((name, arguments)) = rest.trim_start().split_once('(') else { continue };
            let Some(call) = CALLS.iter().find(|call| **call == name) else { continue };
            let Some(at) = arguments.find(below) else { continue };
            let path: String = arguments[at..].chars().take_while(|c| !matches!(c, '>' | '"' | ',')).collect();
            paths.insert(path);
            *counts.entry((thread.parse()?, call)).or_default() += 1;
        }
        let mut most = BTreeMap::new();
        for ((_, call), count) in counts {
            let known = most.entry(call).or_insert(0);
            *known = count.max(*known);
        }
        world.collector.start()?;
        let before = world.drain().await?;
        let mut apart = Findings::default();
        world.judge(before, &mut apart)?;
        findings.take_faults("without a fault", apart);
        Ok((most, paths))
    }

    async fn run(
        &self,
        case: &Case,
        paths: &BTreeSet<String>,
        random: &mut Random,
        findings: &mut Findings,
        what: &str,
    ) -> Result<Went> {
        let mut world = self.world(random).await?;
        let mut strace = self.strace()?;
        strace.arg("-e").arg(format!("trace={}", case.call));
        strace
            .arg("-e")
            .arg(format!("inject={}:{}:when={}{}", case.call, case.fate.inject, case.number, case.fate.from));
        for path in paths {
            strace.arg("-P").arg(path);
        }
        world.collector.start_under(strace)?;
        let answered = answers(&mut world).await?;
        if answered {
            world.incidents.open(&world.door.clone(), self.window, &[], PATIENCE).await;
            tokio::time::sleep(RUNS).await;
            let stays = world.collector.runs()? || case.fate.inject.starts_with("signal");
            findings.require(stays, || format!("{what}: it ended; it said last:\n{}", world.collector.tail()));
        }
        let killed = case.fate.inject.starts_with("signal");
        let did_not_start = !answered && !killed;
        if did_not_start {
            let said = world.collector.tail();
            findings.require(said.contains("casefile-collector: "), || format!("{what}: it did not say why:\n{said}"));
        }
        let ended = !world.collector.runs()?;
        world.collector.kill();
        let injected = if killed { ended } else { injected(&self.trace) };
        world.collector.start()?;
        let before = world.drain().await?;
        let mut apart = Findings::default();
        world.judge(before, &mut apart)?;
        findings.take_faults(what, apart);
        Ok(Went { injected, did_not_start })
    }
}

fn injected(trace: &Path) -> bool {
    let traced = std::fs::read(trace).unwrap_or_default();
    String::from_utf8_lossy(&traced).contains("(INJECTED)")
}

/// Whether it answers; it may as well end.
async fn answers(world: &mut World) -> Result<bool> {
    let deadline = Instant::now() + STARTS;
    while world.collector.runs()? {
        if let Ok(mut client) = crate::dial::person(&world.door).await
            && client.nodes().await.is_ok()
        {
            return Ok(true);
        }
        ensure!(Instant::now() < deadline, "it neither answers nor ends; it said last:\n{}", world.collector.tail());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(false)
}
