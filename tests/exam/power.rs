//! Power cuts: everything that was not synced may be gone, in any combination, and then the programs go on with what is
//! left. What the collector acknowledged is there; what an agent's ring had synced is there; both start again.
//!
//! Both work on a disk of ours ([`disk`], mounted by [`mount`]) which knows what was synced. A cut decides the rest by the
//! seed, the program is killed, and started on what remains. SQLite's index lives on that disk too.

mod disk;
mod mount;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use casefile_proto::ids::{BootId, FrameSeq, NodeName};
use casefile_tests::host::FakeHost;
use casefile_tests::wait;

use crate::dial;
use crate::incidents::the_last;
use crate::item::{Ask, Item, Need};
use crate::processes::Process;
use crate::random::Random;
use crate::recorded::{Held, Recorded};
use crate::report::Findings;
use crate::world::World;
use disk::{Disk, Fate};
use mount::Mounted;

/// The item.
pub(crate) const ITEM: Item = Item {
    name: "power",
    proves: "Nothing acknowledged is lost when the power fails, with un-synced writes dropped, kept or torn at random",
    counts: "power cuts of a collector and as many of an agent",
    short: 30,
    full: 1_000,
    needs: &[Need::Root, Need::Fuse],
    run: run_item,
};

/// Played nodes around the collector.
const PEERS: usize = 3;

/// A played node records this often.
const EVERY: Duration = Duration::from_millis(20);

/// Milliseconds that a collector runs before the power fails.
const RUNS: std::ops::RangeInclusive<u64> = 50..=700;

/// How long an incident waits for its nodes here.
const PATIENCE: Duration = Duration::from_secs(2);

/// A collector that is talked to writes within this.
const SOON_CHANGED: Duration = Duration::from_secs(1);

/// Agents on one disk: one cut ends them all, and counts for each.
const AGENTS: u64 = 10;

/// Milliseconds that agents run before the power fails: they sync every ten frames, one a second.
const AGENTS_RUN: std::ops::RangeInclusive<u64> = 200..=13_000;

/// The most frames that a ring may lose: it syncs after so many, and one more may be on its way.
const UNSYNCED: usize = 11;

fn run_item(ask: &Ask) -> Result<Findings> {
    let mut random = Random::new(ask.seed);
    let mut findings = Findings::default();
    let (mut of_collector, mut of_agents) = (random.fork(), random.fork());
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(collector(ask.times, &mut of_collector, &mut findings))
        .context("power cuts of the collector")?;
    agents(ask.times, &mut of_agents, &mut findings).context("power cuts of agents")?;
    Ok(findings)
}

/// What all cuts did together.
#[derive(Default)]
struct Cuts {
    cuts: u64,
    fate: Fate,
    syncs: u64,
}

impl Cuts {
    fn count(&mut self, fate: Fate, syncs: u64) {
        self.cuts += 1;
        self.syncs += syncs;
        self.fate.kept += fate.kept;
        self.fate.dropped += fate.dropped;
        self.fate.torn += fate.torn;
    }

    fn tell(&self, of: &str, findings: &mut Findings) {
        findings.figure(format!("cuts of {of}"), self.cuts);
        findings.figure(format!("{of}: syncs confirmed"), self.syncs);
        findings.figure(format!("{of}: un-synced changes dropped"), self.fate.dropped);
        findings.figure(format!("{of}: un-synced changes kept"), self.fate.kept);
        findings.figure(format!("{of}: un-synced writes torn"), self.fate.torn);
    }
}

async fn collector(times: u64, random: &mut Random, findings: &mut Findings) -> Result<()> {
    let mount_point = tempfile::tempdir()?;
    let at = mount_point.path().join("disk");
    // Before the world: what is dropped last must be what the others use.
    let mut mounted = Mounted::mount(Disk::new(), &at)?;
    let mut world = World::new(Some(at.join("collector"))).await?;
    world.collector.start()?;
    world.add_agents(1)?;
    world.add_peers(PEERS, EVERY, random)?;
    let mut cuts = Cuts::default();
    for number in 0..times {
        // Some fail while it starts.
        if !random.percent(15) {
            world.answers().await?;
        }
        pause(random, RUNS).await;
        let door = world.door.clone();
        if random.percent(40) {
            world.incidents.open(&door, the_last(Duration::from_secs(5))?, &[], PATIENCE).await;
            pause(random, RUNS).await;
        }
        if random.percent(40) {
            world.incidents.look(&door).await;
        }
        let died = !world.collector.runs()?;
        findings.require(!died, || format!("before cut {number} it ended; it said last:\n{}", world.collector.tail()));
        fail(&mounted, random).await;
        let (left, fate) = mounted.cut(random);
        world.collector.kill();
        mounted.unmount()?;
        cuts.count(fate, left.syncs);
        let mut left = left;
        left.syncs = 0;
        mounted = Mounted::mount(left, &at)?;
        world.incidents.check_files(&world.door.data.join("archives"));
        world.collector.start()?;
    }
    let before = world.drain().await?;
    world.fresh_incident(before, findings).await?;
    cuts.tell("the collector", findings);
    let judged = world.judge(before, findings);
    mounted.unmount()?;
    judged
}

/// Lets the power fail: now, or behind one of the next changes, before anybody can sync it.
async fn fail(mounted: &Mounted, random: &mut Random) {
    if random.percent(30) {
        return;
    }
    mounted.fail_after(random.between(1, 40));
    let deadline = Instant::now() + SOON_CHANGED;
    while !mounted.has_failed() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn pause(random: &mut Random, millis: std::ops::RangeInclusive<u64>) {
    tokio::time::sleep(Duration::from_millis(random.between(*millis.start(), *millis.end()))).await;
}

/// An agent whose disk loses power.
struct Recorder {
    node: NodeName,
    host: FakeHost,
    process: Process,
    ring: PathBuf,
    /// What survived the last cut.
    certain: BTreeMap<(BootId, FrameSeq), Held>,
    /// What it was seen to have recorded since.
    seen: BTreeMap<(BootId, FrameSeq), Held>,
}

fn agents(times: u64, random: &mut Random, findings: &mut Findings) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let at = dir.path().join("disk");
    let mut all = (1..=AGENTS.min(times)).map(|n| Recorder::new(dir.path(), &at, n)).collect::<Result<Vec<_>>>()?;
    let (mut disk, mut cuts, mut left_to_cut) = (Disk::new(), Cuts::default(), times);
    let (mut recorded, mut lost, mut most_lost) = (0, 0, 0);
    while left_to_cut > 0 {
        let round = usize::try_from(left_to_cut.min(AGENTS))?;
        all.truncate(round);
        let mounted = Mounted::mount(disk, &at)?;
        for recorder in &mut all {
            recorder.boot(random)?;
        }
        for recorder in &all {
            // One that cannot start on what was left would wait here for ever, and is named.
            wait::until_blocking(&format!("a frame of {} after a cut", recorder.node), || {
                recorder.records_now().then_some(())
            });
        }
        std::thread::park_timeout(Duration::from_millis(random.between(*AGENTS_RUN.start(), *AGENTS_RUN.end())));
        for recorder in &mut all {
            recorder.look()?;
        }
        let (left, fate) = mounted.cut(random);
        for recorder in &mut all {
            recorder.process.kill();
        }
        mounted.unmount()?;
        for _ in &all {
            cuts.cuts += 1;
            left_to_cut -= 1;
        }
        cuts.cuts -= 1;
        cuts.count(fate, left.syncs);
        disk = left;
        disk.syncs = 0;
        let survived = Mounted::mount(disk.clone(), &at)?;
        for recorder in &mut all {
            let one = recorder.judge(findings)?;
            recorded += recorder.certain.len() as u64;
            lost += one as u64;
            most_lost = most_lost.max(one);
        }
        survived.unmount()?;
    }
    cuts.tell("agents", findings);
    findings.figure("agents: frames in rings after the last cut of each round", recorded);
    findings.figure("agents: frames that were written, not synced, and lost", lost);
    findings.figure("agents: most of them of one ring in one cut", most_lost);
    Ok(())
}

impl Recorder {
    fn new(dir: &Path, at: &Path, number: u64) -> Result<Self> {
        let node: NodeName = format!("node-{number}").parse()?;
        let host = FakeHost::new(dir.join(format!("host-{number}")))?;
        let data = at.join(format!("agent-{number}"));
        let process = Process::agent(dir, &node, &dial::lone_agent_config(&node, &data, host.root()))?;
        Ok(Self { node, host, process, ring: data.join("ring"), certain: BTreeMap::new(), seen: BTreeMap::new() })
    }

    /// The machine comes up again: another boot, and the agent with it.
    fn boot(&mut self, random: &mut Random) -> Result<()> {
        let (a, b) = (random.next(), random.next());
        let id = format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}\n",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xffff,
            b >> 48,
            b & 0xffff_ffff_ffff
        );
        std::fs::write(self.host.root().join("proc/sys/kernel/random/boot_id"), id).context("write a boot id")?;
        self.process.start()
    }

    /// Whether there is a frame that was not there after the last cut.
    fn records_now(&self) -> bool {
        Recorded::directory(&self.ring).is_ok_and(|read| read.frames.len() > self.certain.len())
    }

    fn look(&mut self) -> Result<()> {
        self.seen = Recorded::directory(&self.ring)?.frames;
        Ok(())
    }

    /// After a cut: what is in the ring must be what was recorded, in order, and lack the last few at most. How many.
    fn judge(&mut self, findings: &mut Findings) -> Result<usize> {
        let node = &self.node;
        let read = match Recorded::directory(&self.ring) {
            Ok(read) => read,
            // Cut before the first sync of the first frame: there is nothing to read, and nothing was certain.
            Err(_) if self.certain.is_empty() && self.seen.len() <= UNSYNCED => Recorded::default(),
            Err(error) => {
                let (before, since) = (self.certain.len(), self.seen.len());
                findings.fault(format!(
                    "the ring of {node} cannot be read after a cut ({before} frames had survived one before, {since} were \
                     seen): {error:#}"
                ));
                Recorded::default()
            }
        };
        for fault in &read.faults {
            findings.fault(format!("the ring of {node} after a cut: {fault}"));
        }
        for (key, held) in &self.certain {
            findings.require(read.frames.get(key) == Some(held), || {
                format!("{node}: frame {} had survived a cut, and is gone after the next", key.1)
            });
        }
        let mut lost = 0;
        for (key, held) in &self.seen {
            match read.frames.get(key) {
                None => lost += 1,
                Some(found) => findings.require(found == held, || format!("{node}: frame {} is another one", key.1)),
            }
        }
        findings.require(lost <= UNSYNCED, || format!("{node}: {lost} frames were lost in one cut, above {UNSYNCED}"));
        self.certain = read.frames;
        Ok(lost)
    }
}
