//! The agent itself: source `agent`.

use super::Now;
use crate::DemoError;
use crate::board::{Board, Count, Series, Still, whole};
use crate::node::Node;
use crate::random::Random;

/// Counters of what an agent that is well never does.
const CALM: [&str; 8] = [
    "casefile_agent_events_dropped_total",
    "casefile_agent_live_frames_dropped_total",
    "casefile_agent_ring_errors_total",
    "casefile_agent_ticks_missed_total",
    "casefile_agent_sources_off",
    "casefile_agent_sources_slowed",
    "casefile_agent_threads_abandoned",
    "process_major_page_faults_total",
];

pub(super) struct Agent {
    frames: Count,
    cpu: Count,
    written: [Count; 2],
    resident: Series,
    late: Series,
    still: Still,
}

impl Agent {
    pub(super) fn of(_node: &Node, board: &mut Board) -> Result<Self, DemoError> {
        let mut still = Still::default();
        for name in CALM {
            still.put(board, name, &[], 0)?;
        }
        still.put(board, "casefile_agent_session_stands", &[], 1)?;
        still.put(board, "casefile_agent_frames_unacknowledged", &[], 1)?;
        still.put(board, "casefile_agent_ring_held_bytes", &[], 533_725_184)?;
        still.put(board, "casefile_agent_ring_limit_bytes", &[], 536_870_912)?;
        still.put(board, "process_open_fds", &[], 214)?;
        still.put(board, "process_threads", &[], 14)?;
        Ok(Self {
            frames: board.count("casefile_agent_frames_total", &[], 86_400.0)?,
            cpu: board.count("process_cpu_seconds_total", &[], 1_036_800_000.0)?,
            written: [
                board.count("process_written_bytes_total", &[], 411_041_792.0)?,
                board.count("casefile_agent_ring_written_bytes_total", &[], 398_458_880.0)?,
            ],
            resident: board.series("process_resident_memory_bytes", &[])?,
            late: board.series("casefile_agent_tick_late_seconds", &[])?,
            still,
        })
    }

    pub(super) fn tick(&mut self, board: &mut Board, now: Now, random: &mut Random) {
        self.frames.add(board, 1.0);
        self.cpu.add(board, random.between(8_000.0, 16_000.0));
        // A block is written once a minute, what leads to it each second.
        let bytes = if now.turn.is_multiple_of(60) { 61_440.0 } else { 4_096.0 };
        for count in &mut self.written {
            count.add(board, bytes);
        }
        board.say(self.resident, whole(8_500.0 + random.between(0.0, 8.0)) * 4_096);
        board.say(self.late, whole(random.between(4.0, 18.0)) * 10_000);
        self.still.say(board);
    }
}
