//! A collector, agents and played nodes around it, and a network between them that can be told to misbehave. What every
//! item about conservation starts with, and what judges it in the end.
//!
//! The judge is outside: it knows what the played nodes issued and were acknowledged, what the real agents have in their
//! rings (read at each kill too), and which incidents were answered for. After a last phase without faults all of it must
//! be at the collector once, in order, or be declared missing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use casefile_evidence::archive::sign::AllowedSigners;
use casefile_proto::gap::GapReason;
use casefile_proto::ids::{BootId, FrameSeq, NodeName};
use casefile_proto::node::{Link, NodeStatus};
use casefile_proto::sample::Frame;
use casefile_proto::time::{WallTime, Window};
use casefile_tests::address::free_address;
use casefile_tests::host::FakeHost;
use casefile_tests::program::{run, said};

use crate::dial::{self, Door};
use crate::frames;
use crate::incidents::Incidents;
use crate::peer::Peer;
use crate::processes::Process;
use crate::proxy::{Proxy, Weather};
use crate::random::Random;
use crate::recorded::{Held, Recorded};
use crate::report::Findings;

/// The last phase, in which nothing is broken any more, may take this long. Agents back off up to half a minute.
const DRAIN: Duration = Duration::from_secs(180);

/// After the last fault agents have started again within this.
const SETTLED: Duration = Duration::from_secs(2);

/// A little more than the slowest source's cadence: a shorter window has nothing of it.
const SLOWEST: Duration = Duration::from_secs(11);

/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// A real agent, and everything that it was ever seen to have recorded.
pub(crate) struct AgentUnder {
    /// Its node.
    pub(crate) node: NodeName,
    /// The program.
    pub(crate) process: Process,
    ring: PathBuf,
    seen: BTreeMap<(BootId, FrameSeq), Held>,
}

impl AgentUnder {
    /// SIGKILL; then what it had recorded is noted, and must never be lost.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill();
        self.note()
    }

    /// Notes what is in its ring now.
    pub(crate) fn note(&mut self) -> Result<()> {
        // One that was killed in its first moments has no ring yet, or an empty one.
        let has_ring = std::fs::read_dir(&self.ring).is_ok_and(|mut dir| {
            dir.any(|entry| entry.is_ok_and(|e| e.file_name() == "tail" && e.metadata().is_ok_and(|m| m.len() > 0)))
        });
        let newest = self.seen.keys().next_back().copied();
        let read = match newest {
            Some((boot, seq)) => Recorded::since(&self.ring, boot, seq)?,
            None if has_ring => Recorded::directory(&self.ring)?,
            None => return Ok(()),
        };
        self.seen.extend(read.frames);
        Ok(())
    }
}

/// All of it. Dropping it kills what still runs.
pub(crate) struct World {
    dir: tempfile::TempDir,
    /// The way in.
    pub(crate) door: Door,
    /// The collector.
    pub(crate) collector: Process,
    /// The network.
    pub(crate) proxy: Proxy,
    /// The real agents.
    pub(crate) agents: Vec<AgentUnder>,
    /// The played nodes.
    pub(crate) peers: Vec<Peer>,
    /// The incidents.
    pub(crate) incidents: Incidents,
}

impl World {
    /// Makes it; nothing runs yet but the network. `data` is where the collector keeps everything; by default below a
    /// directory that goes away.
    pub(crate) async fn new(data: Option<PathBuf>) -> Result<Self> {
        let dir = tempfile::tempdir().context("make a directory")?;
        let data = data.unwrap_or_else(|| dir.path().join("collector"));
        let door = Door::new(free_address()?, data)?;
        let collector = Process::collector(dir.path(), &door)?;
        let proxy = Proxy::to(door.listen).await?;
        let (agents, peers, incidents) = (Vec::new(), Vec::new(), Incidents::default());
        Ok(Self { dir, door, collector, proxy, agents, peers, incidents })
    }

    /// A path that goes away with it.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Adds so many real agents, each over a machine made of files, and starts them.
    pub(crate) fn add_agents(&mut self, count: usize) -> Result<()> {
        for number in 1..=count {
            let node: NodeName = format!("agent-{number}").parse()?;
            let host = FakeHost::new(self.path(&format!("host-{number}")))?;
            let data = self.path(&format!("agent-{node}"));
            self.door.enlist(&node, &data)?;
            let config = dial::agent_config(self.proxy.address(), &node, &data, host.root());
            let mut process = Process::agent(self.dir.path(), &node, &config)?;
            process.start()?;
            let ring = data.join("ring");
            self.agents.push(AgentUnder { node, process, ring, seen: BTreeMap::new() });
        }
        Ok(())
    }

    /// Adds so many played nodes, which record this often.
    pub(crate) fn add_peers(&mut self, count: usize, every: Duration, random: &mut Random) -> Result<()> {
        for number in 1..=count {
            let ticket = self.door.ticket(format!("peer-{number}").parse()?, self.proxy.address())?;
            self.peers.push(Peer::start(ticket, every, random.fork()));
        }
        Ok(())
    }

    /// Waits until the collector answers; an error when it ends instead.
    pub(crate) async fn answers(&mut self) -> Result<()> {
        let (door, mut ended) = (self.door.clone(), false);
        self.until("an answer of the collector", async |world: &mut Self| {
            ended = !world.collector.runs().unwrap_or(false);
            match dial::person(&door).await {
                Ok(mut client) => client.nodes().await.is_ok() || ended,
                Err(_) => ended,
            }
        })
        .await?;
        anyhow::ensure!(!ended, "the collector ended; it said last:\n{}", self.collector.tail());
        Ok(())
    }

    /// Waits until every node is connected and has frames at the collector.
    pub(crate) async fn all_connected(&mut self) -> Result<()> {
        let (door, names) = (self.door.clone(), self.names());
        self.until("every node to be connected", async |_| {
            let Ok(mut client) = dial::person(&door).await else { return false };
            let Ok(nodes) = client.nodes().await else { return false };
            names.iter().all(|name| {
                nodes.iter().any(|n| n.node == *name && n.link == Link::Connected && n.last_words.is_some())
            })
        })
        .await
    }

    /// Waits until the session of a node has ended: what was on its way has arrived or is lost.
    pub(crate) async fn away(&mut self, node: &NodeName) -> Result<()> {
        let door = self.door.clone();
        self.until("the end of a session", async |_| {
            let Ok(mut client) = dial::person(&door).await else { return false };
            let Ok(nodes) = client.nodes().await else { return false };
            nodes.iter().any(|n| n.node == *node && n.link == Link::Away)
        })
        .await
    }

    /// When the newest frame of a node at the collector was taken.
    pub(crate) fn newest(&self, node: &NodeName) -> Result<Option<WallTime>> {
        for entry in std::fs::read_dir(self.door.data.join("last-words")).context("list the last words")? {
            let recorded = Recorded::directory(&entry?.path())?;
            if recorded.node.as_ref() == Some(node) {
                return Ok(recorded.frames.values().map(|held| held.wall).max());
            }
        }
        Ok(None)
    }

    fn names(&self) -> Vec<NodeName> {
        let peers = self.peers.iter().map(|peer| peer.ledger().node.clone());
        self.agents.iter().map(|agent| agent.node.clone()).chain(peers).collect()
    }

    async fn until(&mut self, what: &str, mut look: impl AsyncFnMut(&mut Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + DRAIN;
        while !look(self).await {
            if Instant::now() > deadline {
                bail!(
                    "{what} did not come within {} s; the collector said last:\n{}",
                    DRAIN.as_secs(),
                    self.collector.tail()
                );
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// The last phase: nothing is broken any more, everything runs. Waits until everything that was issued before it has
    /// arrived and every incident is sealed. Gives the instant before which everything must be there.
    pub(crate) async fn drain(&mut self) -> Result<WallTime> {
        self.proxy.set(Weather::Fair);
        if !self.collector.runs()? {
            self.collector.start()?;
        }
        for agent in &mut self.agents {
            if !agent.process.runs()? {
                agent.process.start()?;
            }
        }
        let (since, door, names) = (casefile_tests::now(), self.door.clone(), self.names());
        self.until("what was issued before the last phase", async |_| {
            let Ok(mut client) = dial::person(&door).await else { return false };
            let Ok(nodes) = client.nodes().await else { return false };
            names.iter().all(|name| {
                nodes.iter().any(|n| n.node == *name && n.last_words.is_some_and(|held| held.until() > since))
            })
        })
        .await?;
        self.until("every incident to be sealed", async |world: &mut Self| {
            world.incidents.look(&door).await;
            world.incidents.all_sealed() && world.incidents.at_rest(&door).await
        })
        .await?;
        Ok(since)
    }

    /// A new incident about the real agents, over an interval in which nothing was broken, must be sealed whole.
    pub(crate) async fn fresh_incident(&mut self, before: WallTime, findings: &mut Findings) -> Result<()> {
        let names: Vec<NodeName> = self.agents.iter().map(|agent| agent.node.clone()).collect();
        let door = self.door.clone();
        let window = Window::new(before.after(SETTLED), before.after(SETTLED + SLOWEST))?;
        self.until("frames of the whole window of a new incident", async |_| {
            let Ok(mut client) = dial::person(&door).await else { return false };
            let Ok(nodes) = client.nodes().await else { return false };
            let reaches = |n: &NodeStatus| n.last_words.is_some_and(|held| held.until() > window.until());
            names.iter().all(|name| nodes.iter().any(|n| n.node == *name && reaches(n)))
        })
        .await?;
        let opened = self.incidents.open(&door, window, &names, Duration::from_secs(60)).await;
        let id = opened.context("a new incident is not opened")?;
        self.until("a new incident to be sealed", async |world: &mut Self| {
            world.incidents.look(&door).await;
            world.incidents.archive(id).is_some() || !world.incidents.faults.is_empty()
        })
        .await?;
        let Some(archive) = self.incidents.archive(id) else {
            // What is wrong with it is told with the other incidents.
            return Ok(());
        };
        let whole = archive.whole;
        let coverage = dial::person(&door).await?.get(id).await?.coverage.context("a coverage")?;
        let mut gaps = Vec::new();
        for node in &coverage.nodes {
            let rows = node.sources.iter().flat_map(|row| row.gaps.iter().map(|gap| (row.source.as_str(), gap)));
            for (source, gap) in rows.chain(node.gaps.iter().map(|gap| ("all sources", gap))) {
                if gap.reason != GapReason::SourceAbsent {
                    gaps.push(format!("{} {source}: {}: {}", node.node, gap.reason, gap.detail));
                }
            }
        }
        findings.require(whole, || format!("a new incident is not sealed whole: {}", gaps.join("; ")));
        Ok(())
    }

    /// Ends everything in an orderly way, then judges what is on the disks.
    pub(crate) fn judge(mut self, before: WallTime, findings: &mut Findings) -> Result<()> {
        for agent in &mut self.agents {
            agent.process.stop().with_context(|| format!("stop the agent of {}", agent.node))?;
            agent.note()?;
        }
        let peers = std::mem::take(&mut self.peers);
        self.collector.stop()?;
        let mut words = BTreeMap::new();
        for entry in std::fs::read_dir(self.door.data.join("last-words")).context("list the last words")? {
            let played = |frame: &Frame| peers.iter().any(|peer| peer.ledger().boot == frame.boot);
            let recorded = Recorded::checked(&entry?.path(), &mut |frame| {
                // What real agents say is compared with their rings.
                if played(frame) { frames::check(frame) } else { Ok(()) }
            })?;
            if let Some(node) = recorded.node.clone() {
                words.insert(node, recorded);
            }
        }
        let (mut issued, mut acked, mut sessions) = (0, 0, 0);
        for peer in &peers {
            let ledger = peer.ledger();
            issued += ledger.issued.len() as u64;
            acked += ledger.acked;
            sessions += ledger.sessions;
            for fault in ledger.faults.iter().take(3) {
                findings.fault(fault.clone());
            }
            let nothing = Recorded::default();
            let recorded = words.get(&ledger.node).unwrap_or(&nothing);
            for (number, at) in (1..).zip(&ledger.issued) {
                let seq = FrameSeq(number);
                let must = number <= ledger.acked || at.wall < before;
                match recorded.frames.get(&(ledger.boot, seq)) {
                    Some(held) if held.wall == at.wall => {}
                    Some(_) => findings.fault(format!("{}: frame {seq} is not what was issued", ledger.node)),
                    None if must => findings.fault(format!(
                        "{}: frame {seq} of {} is not there, {} were acknowledged",
                        ledger.node,
                        ledger.issued.len(),
                        ledger.acked
                    )),
                    None => {}
                }
            }
        }
        let mut in_rings = 0;
        let mut declared = 0;
        for agent in &self.agents {
            let ring = Recorded::directory(&agent.ring)?;
            let nothing = Recorded::default();
            let there = words.get(&agent.node).unwrap_or(&nothing);
            for fault in &ring.faults {
                findings.fault(format!("the ring of {}: {fault}", agent.node));
            }
            for ((boot, seq), held) in &agent.seen {
                in_rings += 1;
                if ring.frames.get(&(*boot, *seq)) != Some(held) {
                    findings.fault(format!("{}: frame {seq} was in its ring, and is not any more", agent.node));
                }
                match there.frames.get(&(*boot, *seq)) {
                    Some(found) if found == held => {}
                    Some(_) => findings.fault(format!("{}: frame {seq} is another one at the collector", agent.node)),
                    None if there.declares(*boot, *seq) => declared += 1,
                    None if held.wall < before => {
                        findings.fault(format!("{}: frame {seq} is neither at the collector nor declared", agent.node));
                    }
                    None => {}
                }
            }
        }
        for (node, recorded) in &words {
            for fault in &recorded.faults {
                findings.fault(format!("last words of {node}: {fault}"));
            }
        }
        self.judge_archives(&peers, findings)?;
        findings.figure("frames that played nodes issued", issued);
        findings.figure("frames that were acknowledged to them", acked);
        findings.figure("sessions that stood", sessions);
        findings.figure("frames of real agents", in_rings);
        findings.figure("of those declared missing at the collector", declared);
        findings.figure("frames at the collector", words.values().map(|w| w.frames.len()).sum::<usize>());
        findings.figure("incidents opened and answered for", self.incidents.opened());
        findings.figure("incidents announced as sealed", self.incidents.announced());
        findings.figure("archives of others, opened without an answer, and of amendments", self.incidents.further());
        Ok(())
    }

    fn judge_archives(&mut self, peers: &[Peer], findings: &mut Findings) -> Result<()> {
        let data = self.door.data.to_str().context("a path that is text")?;
        let key = run("casefile-collector", &["key", "--data", data]);
        anyhow::ensure!(key.status.success(), "casefile-collector key: {}", said(&key));
        let signers = AllowedSigners::parse(&String::from_utf8_lossy(&key.stdout));
        let archives = self.door.data.join("archives");
        self.incidents.check_files(&archives);
        let items = self.incidents.read(&archives, &signers);
        let mut whole = 0;
        for peer in peers {
            let ledger = peer.ledger();
            for (path, sha256) in &ledger.whole {
                whole += 1;
                match items.get(&(ledger.node.clone(), path.clone())) {
                    Some(found) if found == sha256 => {}
                    Some(_) => findings.fault(format!("{}: {path} is not what was uploaded", ledger.node)),
                    None => findings.fault(format!("{}: {path} was taken as whole, and is in no archive", ledger.node)),
                }
            }
        }
        for fault in &self.incidents.faults {
            findings.fault(fault.clone());
        }
        findings.figure("items that were acknowledged as whole", whole);
        Ok(())
    }
}
