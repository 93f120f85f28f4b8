//! The logs of a machine, in the forms in which an agent brings them: kernel, journal, pods.

pub(crate) mod journal;
pub(crate) mod kernel;
pub(crate) mod pods;

use casefile_proto::time::{NANOS_PER_SEC, WallTime};

/// A log as it goes into the archive.
pub(crate) struct Log {
    /// Below the node's directory.
    pub(crate) path: String,
    /// The log source.
    pub(crate) source: &'static str,
    /// What was read and how.
    pub(crate) method: String,
    /// How its lines bear their times, where that is not by beginning with them.
    pub(crate) times: Option<&'static str>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: u64,
    pub(crate) gaps: Vec<casefile_proto::gap::Gap>,
}

/// `2026-11-23T02:44:10.123456Z`.
pub(crate) fn micros(at: WallTime) -> String {
    let seconds = at.to_seconds_text();
    let micros = at.nanos().rem_euclid(NANOS_PER_SEC) / 1_000;
    format!("{}.{micros:06}Z", seconds.trim_end_matches('Z'))
}

/// The same with all nine digits, as container runtimes write it.
pub(crate) fn nanos(at: WallTime) -> String {
    let seconds = at.to_seconds_text();
    format!("{}.{:09}Z", seconds.trim_end_matches('Z'), at.nanos().rem_euclid(NANOS_PER_SEC))
}
