//! What is missing, and why: the closed list of reasons, and a gap that carries one.
//!
//! How to add a reason: it must be one that a reader would act on differently. Add the variant, its line in
//! [`GapReason::ALL`] and its text, and the value in `common.proto`; `tests/schema.rs` then shows the change.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::Window;

/// Why evidence that was asked for is not there. Closed: a new reason is a change of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapReason {
    /// Nobody recorded then: the agent was not running yet, or the interval lies before the first record.
    NotRecorded,
    /// The log that held it was rotated away before it was read.
    RotatedAway,
    /// The ring had already reused its space.
    RingOverwritten,
    /// The producer dropped it (journald's and the kernel's own limits).
    RateLimited,
    /// The node did not answer and nothing of it had arrived.
    NodeSilent,
    /// The machine was down or booting.
    NodeRebooted,
    /// This machine has no such thing: no PSI in the kernel, no GPU.
    SourceAbsent,
    /// Reading failed with an error.
    SourceFailed,
    /// Reading took longer than its deadline.
    TimedOut,
    /// A budget of bytes was used up.
    Budget,
    /// The agent may not read it.
    PermissionDenied,
    /// The path led through a link, a mount or something that is no regular file.
    RefusedUnsafePath,
    /// What was read did not parse.
    ParseFailed,
    /// The node's clock is not known well enough to say whether it lies inside.
    ClockUncertain,
    /// The collector could not be reached, and it has not been fetched since.
    CollectorAway,
    /// Somebody stopped the collection.
    Cancelled,
}

impl GapReason {
    /// Every reason; the position plus one is its number on the wire and at rest.
    pub const ALL: [Self; 16] = [
        Self::NotRecorded,
        Self::RotatedAway,
        Self::RingOverwritten,
        Self::RateLimited,
        Self::NodeSilent,
        Self::NodeRebooted,
        Self::SourceAbsent,
        Self::SourceFailed,
        Self::TimedOut,
        Self::Budget,
        Self::PermissionDenied,
        Self::RefusedUnsafePath,
        Self::ParseFailed,
        Self::ClockUncertain,
        Self::CollectorAway,
        Self::Cancelled,
    ];

    /// The name in archives and on screens: `node-silent`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotRecorded => "not-recorded",
            Self::RotatedAway => "rotated-away",
            Self::RingOverwritten => "ring-overwritten",
            Self::RateLimited => "rate-limited",
            Self::NodeSilent => "node-silent",
            Self::NodeRebooted => "node-rebooted",
            Self::SourceAbsent => "source-absent",
            Self::SourceFailed => "source-failed",
            Self::TimedOut => "timed-out",
            Self::Budget => "budget",
            Self::PermissionDenied => "permission-denied",
            Self::RefusedUnsafePath => "refused-unsafe-path",
            Self::ParseFailed => "parse-failed",
            Self::ClockUncertain => "clock-uncertain",
            Self::CollectorAway => "collector-away",
            Self::Cancelled => "cancelled",
        }
    }

    /// The number on the wire and at rest: 1 to 16; 0 is never written.
    pub fn number(self) -> u8 {
        // ALL has 16 entries, so the position always fits and is always found.
        Self::ALL.iter().position(|r| *r == self).and_then(|i| u8::try_from(i + 1).ok()).unwrap_or(0)
    }

    /// The reason with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }
}

impl fmt::Display for GapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for GapReason {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|r| r.name() == s).ok_or_else(|| format!("{s:?} is no gap reason"))
    }
}

/// A known hole in the evidence of one source. Which node and source it belongs to, its holder says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gap {
    /// Why it is missing.
    pub reason: GapReason,
    /// When: `None` means that it concerns the instant or the window of whoever carries the gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Window>,
    /// How many records or readings are missing, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// What exactly, for a person: a path, an error, the mount that hangs. May hold text from the node: escape it.
    pub detail: String,
}

impl Gap {
    /// The longest detail that is kept, in bytes; a longer one is cut at a character.
    pub const MAX_DETAIL: usize = 1024;

    /// A gap over whatever interval its holder has.
    pub fn new(reason: GapReason, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if detail.len() > Self::MAX_DETAIL {
            detail.truncate(detail.floor_char_boundary(Self::MAX_DETAIL));
        }
        Self { reason, interval: None, count: None, detail }
    }

    /// The same over this interval.
    #[must_use]
    pub fn over(mut self, interval: Window) -> Self {
        self.interval = Some(interval);
        self
    }

    /// The same with a known number of missing things.
    #[must_use]
    pub fn counting(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_one_name_and_one_number() {
        for (i, reason) in GapReason::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(reason.number()), i + 1);
            assert_eq!(GapReason::from_number(reason.number()), Some(reason));
            assert_eq!(reason.name().parse(), Ok(reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
        }
        assert_eq!(GapReason::from_number(0), None);
        assert_eq!(GapReason::from_number(17), None);
    }
}
