//! What happens when: the window, the four planted causes, and how each goes on. Pure functions of time.
//!
//! Times are seconds since the begin of the window, on the collector's clock; each node tells them on its own.

use casefile_proto::time::{WallTime, Window};

/// The begin of the window: 2026-11-23T02:44:00Z.
pub const FROM: WallTime = WallTime::from_secs(1_795_401_840);
/// Its length in seconds: until 03:14:00Z.
pub const SECONDS: i64 = 1_800;

/// On [`LEAKING`], the process of pod `shop/api-…` begins to keep what it should give back: 02:44:20.
pub const LEAK_BEGINS: f64 = 20.0;
/// It is at its limit of memory and is killed: 03:09:20.418.
pub const FIRST_OOM: f64 = 1_520.418;
/// The next one is at the limit: 03:12:47.206.
pub const SECOND_OOM: f64 = 1_727.206;
/// When the killed process runs again, and when the second one does, after a back-off of ten seconds.
pub const RESTARTS: [f64; 2] = [1_522.911, 1_739.340];

/// On [`DISK_GONE`], the disk `nvme0n1` answers no request any more: 02:58:11.
pub const DISK_STALLS: f64 = 851.0;
/// The driver gives up the first request: 02:58:41.312.
pub const NVME_TIMEOUT: f64 = 881.312;
/// It resets the controller: 02:59:11.840.
pub const NVME_RESET: f64 = 911.840;
/// It gives the disk up; every request fails from here, and its file system goes read-only: 02:59:53.905.
pub const NVME_DISABLED: f64 = 953.905;

/// On [`GPU_LOST`], the first corrected PCIe error of the port above the GPU: 03:00:52.310.
pub const FIRST_AER: f64 = 1_012.310;
/// The PCIe error that the link does not survive: 03:01:16.884.
pub const FATAL_AER: f64 = 1_036.884;
/// The GPU is off the bus (Xid 79): 03:01:17.118.
pub const XID_79: f64 = 1_037.118;

/// [`DEAD`] takes its last breath: its last frame is that of 03:06:12.
pub const DEATH: f64 = 1_332.6;

/// journald drops what one unit of [`RATE_LIMITED`] says: from 02:51:03 to 02:51:33.
pub const SUPPRESSED: (f64, f64) = (423.000_117, 453.204_881);
/// So many of its messages.
pub const SUPPRESSED_MESSAGES: u64 = 1_843;

/// The node whose pod leaks.
pub const LEAKING: &str = "web-02";
/// The node whose disk goes.
pub const DISK_GONE: &str = "db-01";
/// The node whose GPU goes.
pub const GPU_LOST: &str = "gpu-03";
/// The node that waits for the other one of its job: a consequence, not a fault.
pub const GPU_WAITING: &str = "gpu-04";
/// The node that dies without a word.
pub const DEAD: &str = "batch-02";
/// A well node of which something is not there, and is said not to be.
pub const RATE_LIMITED: &str = "web-04";

/// A planted cause.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Planted {
    /// The node on which it is.
    pub node: &'static str,
    /// What it is, in a few words.
    pub what: &'static str,
    /// Seconds after [`FROM`] at which the first thing that shows it can be seen.
    pub begins: f64,
    /// Seconds after [`FROM`] at which it is beyond doubt.
    pub certain: f64,
    /// Ids of the signatures whose records the node's kernel log has because of it; none for a node that just stops.
    pub signatures: &'static [&'static str],
}

impl Planted {
    /// [`Planted::certain`] as a time of the collector's clock.
    pub fn at(&self) -> WallTime {
        at(self.certain)
    }
}

/// The causes, and there are no others.
pub const PLANTED: [Planted; 4] = [
    Planted {
        node: LEAKING,
        what: "a memory leak in pod shop/api: two kills at its limit of 2 GiB",
        begins: LEAK_BEGINS,
        certain: FIRST_OOM,
        signatures: &["mem.oom.invoked", "mem.oom.memcg", "mem.oom.reaped"],
    },
    Planted {
        node: DISK_GONE,
        what: "an NVMe disk that times out and is given up: /var/lib/postgresql is read-only",
        begins: DISK_STALLS,
        certain: NVME_DISABLED,
        signatures: &[
            "disk.nvme.timeout",
            "disk.nvme.controller_down",
            "disk.nvme.disabled",
            "disk.io_error",
            "fs.ext4.error",
            "fs.readonly",
            "fs.superblock",
        ],
    },
    Planted {
        node: GPU_LOST,
        what: "a GPU off the bus (Xid 79) at 0000:84:00.0",
        begins: FIRST_AER,
        certain: XID_79,
        signatures: &[
            "pcie.aer.corrected",
            "pcie.aer.fatal",
            "gpu.xid.79.fallen_off_bus",
            "gpu.xid.154.recovery_action",
        ],
    },
    Planted {
        node: DEAD,
        what: "the node is dead: nothing of it after its last frame",
        begins: DEATH,
        certain: DEATH,
        signatures: &[],
    },
];

/// A time of the collector's clock; to the microsecond, as logs have it.
#[expect(clippy::cast_possible_truncation, reason = "half an hour of microseconds")]
pub(crate) fn at(seconds: f64) -> WallTime {
    FROM.offset((seconds * 1e6).round() as i64 * 1_000)
}

/// The window of the incident; an error only if its length were nothing.
pub fn window() -> Result<Window, casefile_proto::time::InvalidWindow> {
    Window::new(FROM, FROM.offset(SECONDS * 1_000_000_000))
}

/// From 0 at the first time to 1 at the second, and no further.
pub(crate) fn ramp(t: f64, from: f64, until: f64) -> f64 {
    ((t - from) / (until - from)).clamp(0.0, 1.0)
}

/// How the leaking process stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Leak {
    /// Which run of the container, from 0.
    pub(crate) run: usize,
    /// Whether it runs; between a kill and the restart nothing does.
    pub(crate) runs: bool,
    /// Bytes that its cgroup has.
    pub(crate) bytes: f64,
    /// The part of the time in which it waits for memory to be reclaimed.
    pub(crate) stall: f64,
    /// Kills so far.
    pub(crate) kills: i64,
}

/// The limit of memory of the container that leaks, and of its pod.
pub(crate) const LIMIT: i64 = 2 << 30;
const MIB: f64 = 1_048_576.0;
/// What a run has when it has just begun, and what the first one has at the begin of the window.
const FRESH: f64 = 420.0 * MIB;
const BEFORE: f64 = 512.0 * MIB;

pub(crate) fn leak(t: f64) -> Leak {
    #[expect(clippy::cast_precision_loss, reason = "2 GiB")]
    let limit = LIMIT as f64;
    let full = [FIRST_OOM - 4.0, SECOND_OOM - 3.0];
    let grow = |from, bytes: f64, until| bytes + (limit - bytes) * ramp(t, from, until);
    let [first, second] = RESTARTS;
    let (run, kills, bytes, stall) = if t < FIRST_OOM {
        (0, 0, grow(LEAK_BEGINS, BEFORE, full[0]), ramp(t, full[0] - 76.0, full[0]))
    } else if t < SECOND_OOM {
        (1, 1, grow(first, FRESH, full[1]), ramp(t, full[1] - 20.0, full[1]))
    } else {
        // It grows on as the run before did.
        (2, 2, grow(second, FRESH, second + full[1] - first), 0.0)
    };
    let runs = [f64::MIN, first, second][run] <= t;
    Leak { run, runs, bytes: if runs { bytes } else { 0.0 }, stall: if runs { stall } else { 0.0 }, kills }
}

/// How the disk that goes stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    Well,
    /// It takes requests and answers none.
    Stalled,
    /// The driver has given it up: everything fails at once.
    Gone,
}

pub(crate) fn disk(node: &str, t: f64) -> Disk {
    match t {
        _ if node != DISK_GONE || t < DISK_STALLS => Disk::Well,
        _ if t < NVME_DISABLED => Disk::Stalled,
        _ => Disk::Gone,
    }
}

/// Whether the training job of the last two GPU nodes gets on.
pub(crate) fn trains(node: &str, t: f64) -> bool {
    let stops = if node == GPU_LOST { XID_79 } else { XID_79 + 1.2 };
    !(node == GPU_LOST || node == GPU_WAITING) || t < stops
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_those_of_the_documents() {
        assert_eq!(window().unwrap().to_string(), "[2026-11-23T02:44:00Z, 2026-11-23T03:14:00Z)");
        let times: Vec<String> = PLANTED.iter().map(|cause| cause.at().to_string()).collect();
        assert_eq!(
            times,
            [
                "2026-11-23T03:09:20.418Z",
                "2026-11-23T02:59:53.905Z",
                "2026-11-23T03:01:17.118Z",
                "2026-11-23T03:06:12.6Z"
            ]
        );
    }

    #[test]
    fn the_leak_is_a_line_up_to_the_limit_and_then_two_kills() {
        let at = |t: f64| leak(t).bytes / MIB;
        let (quarter, half, three) = (at(400.0), at(800.0), at(1_200.0));
        assert!(((half - quarter) - (three - half)).abs() < 0.01, "{quarter} {half} {three}");
        assert!((at(1_519.0) - 2_048.0).abs() < 0.01);
        assert_eq!(
            (leak(1_521.0).runs, leak(1_600.0).runs, leak(1_730.0).runs, leak(1_790.0).runs),
            (false, true, false, true)
        );
        assert_eq!((leak(1_520.0).kills, leak(1_521.0).kills, leak(1_799.0).kills), (0, 1, 2));
        assert!(at(1_799.0) < 1_024.0, "the third run is still well when the window ends");
    }
}
