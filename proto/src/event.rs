//! Something that happened at an instant: a kernel line, a source that came or went, a clock that was stepped.

use serde::{Deserialize, Serialize};

use crate::time::Stamp;

/// What kind of event, with what only that kind has.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EventKind {
    /// A record of the kernel log.
    Kernel {
        /// The kernel's own sequence number where it was read from `/dev/kmsg`; `syslog(2)` has none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        /// The syslog facility: 0 is the kernel itself, above 0 a program wrote it: not to be believed as the kernel's word.
        facility: u8,
        /// The syslog level, 0 (emergency) to 7 (debug).
        level: u8,
    },
    /// The agent started, with what it found; begins a hole in time that is not in the sequence numbers.
    AgentStarted,
    /// A source changed its outcome: came, went, failed, recovered.
    Source {
        /// Its name.
        source: String,
    },
    /// The wall clock was stepped by this many nanoseconds against the boot clock.
    ClockStepped {
        /// Positive: forwards.
        by_nanos: i64,
    },
    /// Something that an earlier boot left and this one found when the agent started: a line of the kernel's last words.
    /// The event's time is that of the finding wherever the line has none of its own.
    PreviousBoot {
        /// What it was found in: `/sys/fs/pstore/dmesg-efi-…`.
        found_in: String,
    },
    /// Something that a GPU's driver said through its own library, or that became of a GPU: an Xid, lost, back again. What
    /// the driver writes into the kernel log is a kernel event of its own, whatever the library says.
    Gpu {
        /// Where the GPU is, as the kernel writes it: `0000:84:00.0`. Empty where that is not known.
        pci: String,
        /// The Xid, where it is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        xid: Option<u64>,
    },
    /// Records were lost before they could be read, as the reader noticed (kernel log overrun).
    Lost {
        /// How many; `None` where the kernel does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u64>,
    },
}

/// Something that happened at an instant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Event {
    /// When, on both clocks; the wall time of a kernel record is computed from its boot time.
    pub at: Stamp,
    /// What kind.
    #[serde(flatten)]
    pub kind: EventKind,
    /// What it says. Text from the node: escape before showing.
    pub text: String,
}

impl Event {
    /// The longest text that is kept, in bytes: the kernel's own limit for one record (`PRINTKRB_RECORD_MAX`, 1024)
    /// with room for escapes and properties.
    pub const MAX_TEXT: usize = 8 * 1024;
}
