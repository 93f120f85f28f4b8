//! Who is asked when: the nodes of an incident are asked in waves.
//!
//! A whole fleet that begins to read its logs and to upload in the same moment is a load of its own, on the network, on disks
//! that nodes share, and on the collector.

use std::time::Duration;

use casefile_proto::incident::NodePhase;
use casefile_proto::time::{BootTime, Stamp};

use super::{Incident, Step, later, nanos};

/// Nodes that one incident asks together.
pub const WAVE: usize = 64;

/// Time from one wave to the next.
pub const WAVE_EVERY: Duration = Duration::from_millis(250);

/// The part of an incident's patience within which every node is asked, in waves that are larger if need be.
const ASKED_WITHIN: u32 = 4;

impl Incident {
    /// Asks nodes that are there, no more than a wave of them at a time.
    pub(super) fn ask_those_who_wait(&mut self, now: Stamp, steps: &mut Vec<Step>) {
        if now.boot >= later(self.wave.0, WAVE_EVERY) {
            self.wave = (now.boot, 0);
        }
        let most = self.wave_size();
        for (node, member) in self.members.iter_mut().filter(|(_, member)| member.is_to_be_asked(now.boot)) {
            if self.wave.1 >= most {
                return;
            }
            self.wave.1 += 1;
            member.phase = NodePhase::Asked;
            member.not_before = None;
            steps.push(Step::Ask { node: node.clone(), request: member.request });
        }
    }

    /// So many that all of them are asked early enough to answer.
    fn wave_size(&self) -> usize {
        let waves = self.plan.patience_nanos / u64::from(ASKED_WITHIN) / nanos(WAVE_EVERY);
        let waves = usize::try_from(waves).unwrap_or(usize::MAX).max(1);
        self.members.len().div_ceil(waves).max(WAVE)
    }

    /// When there is room to ask more, if somebody waits for it.
    pub(super) fn next_wave(&self) -> Option<BootTime> {
        let full = self.wave.1 >= self.wave_size();
        let waits = || self.members.values().any(|m| m.is_to_be_asked(self.wave.0));
        (full && waits()).then(|| later(self.wave.0, WAVE_EVERY))
    }
}
