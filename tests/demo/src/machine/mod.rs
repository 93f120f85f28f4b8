//! The recording of a machine: a load at each second, and what each source of an agent reads of it.
//!
//! One file for each subject; `load` is what they all read from, so that they agree with each other.

mod agent;
mod cgroup;
mod cpu;
mod disk;
pub(crate) mod gpu;
pub(crate) mod hardware;
mod load;
mod memory;
pub(crate) mod network;
pub(crate) mod process;
pub(crate) mod slow;

use std::sync::Arc;

use casefile_evidence::recording::Header;
use casefile_evidence::recording::delta::Encoder;
use casefile_evidence::recording::reader::{Cut, Recording};
use casefile_proto::event::{Event, EventKind};
use casefile_proto::sample::Schema;
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;

use crate::board::Board;
use crate::logs::kernel::Line;
use crate::node::Node;
use crate::random::Random;
use crate::{DemoError, story};
use load::Loads;

/// The agent that would have recorded it.
pub(crate) const AGENT: &str = "0.1.0";

/// Seconds that are recorded before and after the window: a cut has to have something to cut.
const MARGIN: i64 = 20;

/// More than any of these recordings has.
const MAX_BYTES: Bytes = Bytes::mib(256);

/// One tick.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// Seconds of the window, on the collector's clock.
    pub(crate) t: f64,
    /// The number of the tick since the agent started.
    pub(crate) turn: u64,
    /// Whether sources that measure every ten seconds are due.
    pub(crate) slow: bool,
}

/// The recording of a machine, cut to its window: a segment, and what is in it.
pub(crate) fn recording(
    node: &Node,
    schema: &Arc<Schema>,
    kernel: &[Line],
    asked: Window,
) -> Result<(Vec<u8>, Cut), DemoError> {
    let header = Header {
        node: node.name.parse().map_err(|error| DemoError::Name(format!("{error}")))?,
        boot: node.boot,
        agent_version: AGENT.to_owned(),
        schema: schema.clone(),
    };
    let mut encoder = Encoder::new(header);
    let mut bytes = encoder.header();
    let mut board = Board::new(schema.clone(), node.name);
    let mut random = Random::of(&format!("{} loads", node.name));
    let mut loads = Loads::of(node);
    let mut subjects = Subjects::of(node, &mut board)?;
    let mut kernel = kernel.iter().peekable();
    // The agent has run for a day: whole sweeps and minutes, so that what is slow falls on whole tens of seconds.
    let first = 86_400 / 600 * 600;
    for step in -MARGIN..story::SECONDS + MARGIN {
        let wall = story::FROM.offset(step * 1_000_000_000);
        let now = now(node, wall, first, step);
        if node.name == story::DEAD && now.t >= story::DEATH {
            break;
        }
        let load = loads.next(node, now, &mut random);
        let mut said = [0.0; 8];
        while let Some(line) = kernel.next_if(|line| node.stamp(line.t).wall <= wall) {
            board.event(event(node, line));
            said[usize::from(line.level & 7)] += 1.0;
        }
        subjects.tick(node, &mut board, now, &load, &said, &mut random);
        encoder.frame(&board.frame(node.boot, now.turn, node.stamp_of(wall)), &mut bytes);
    }
    let mut segment = Vec::new();
    let mut recording = Recording::from_segment(&mut bytes.as_slice(), MAX_BYTES).map_err(DemoError::Cut)?;
    let cut = recording.cut(asked, &mut segment).map_err(DemoError::Cut)?;
    Ok((segment, cut))
}

#[expect(clippy::cast_precision_loss, reason = "half an hour of nanoseconds")]
fn now(node: &Node, wall: WallTime, first: i64, step: i64) -> Now {
    let t = wall.offset(-node.clock.ahead_nanos).nanos_since(story::FROM) as f64 / 1e9;
    let turn = u64::try_from(first + step).unwrap_or(0);
    Now { t, turn, slow: turn.is_multiple_of(10) }
}

fn event(node: &Node, line: &Line) -> Event {
    let kind = EventKind::Kernel { seq: Some(line.seq), facility: line.facility, level: line.level };
    Event { at: node.stamp(line.t), kind, text: line.text.clone() }
}

/// What reads the load, in the order of the agent's sources.
struct Subjects {
    cpu: cpu::Cpu,
    memory: memory::Memory,
    disk: disk::Disks,
    network: network::Network,
    cgroup: cgroup::Cgroups,
    process: process::Processes,
    gpu: gpu::Gpus,
    hardware: hardware::Hardware,
    slow: slow::Slow,
    agent: agent::Agent,
}

impl Subjects {
    fn of(node: &Node, board: &mut Board) -> Result<Self, DemoError> {
        Ok(Self {
            cpu: cpu::Cpu::of(node, board)?,
            memory: memory::Memory::of(node, board)?,
            disk: disk::Disks::of(node, board)?,
            network: network::Network::of(node, board)?,
            cgroup: cgroup::Cgroups::of(node, board)?,
            process: process::Processes::of(node, board)?,
            gpu: gpu::Gpus::of(node, board)?,
            hardware: hardware::Hardware::of(node, board)?,
            slow: slow::Slow::of(node, board)?,
            agent: agent::Agent::of(node, board)?,
        })
    }

    fn tick(
        &mut self,
        node: &Node,
        board: &mut Board,
        now: Now,
        load: &load::Load,
        said: &[f64; 8],
        random: &mut Random,
    ) {
        self.cpu.tick(board, load, random);
        self.memory.tick(board, load, random);
        self.disk.tick(board, now, load, random);
        self.network.tick(board, load, random);
        self.cgroup.tick(node, board, now, load, random);
        self.process.tick(node, board, now, load, random);
        self.gpu.tick(node, board, now, random);
        self.hardware.tick(node, board, now, random);
        self.slow.tick(node, board, now, said);
        self.agent.tick(board, now, random);
    }
}
