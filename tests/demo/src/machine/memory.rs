//! The machine's memory: source `memory`.

use super::load::Load;
use crate::DemoError;
use crate::board::{Board, Count, Series, Still, rounded, whole};
use crate::node::{Node, Role};
use crate::random::Random;

/// In KiB, as the kernel counts.
const KIB: f64 = 1_024.0;

/// What the machine itself takes.
const OWN: f64 = 1.1 * 1_073_741_824.0;

const LEVELS: [&str; 14] = [
    "node_memory_MemFree_bytes",
    "node_memory_MemAvailable_bytes",
    "node_memory_Buffers_bytes",
    "node_memory_Cached_bytes",
    "node_memory_AnonPages_bytes",
    "node_memory_Active_bytes",
    "node_memory_Inactive_bytes",
    "node_memory_Dirty_bytes",
    "node_memory_Writeback_bytes",
    "node_memory_Mapped_bytes",
    "node_memory_Slab_bytes",
    "node_memory_SReclaimable_bytes",
    "node_memory_SUnreclaim_bytes",
    "node_memory_PageTables_bytes",
];

/// Counters that a machine with memory enough leaves as they are.
const CALM: [&str; 8] = [
    "node_vmstat_pswpin",
    "node_vmstat_pswpout",
    "node_vmstat_allocstall_normal",
    "node_vmstat_allocstall_movable",
    "node_vmstat_pgscan_direct",
    "node_vmstat_pgsteal_direct",
    "node_vmstat_compact_stall",
    "node_vmstat_workingset_refault_anon",
];

pub(super) struct Memory {
    total: f64,
    cached: f64,
    levels: [Series; LEVELS.len()],
    faults: Count,
    major: Count,
    kills: Count,
    killed: i64,
    refaults: Count,
    paged_in: Count,
    paged_out: Count,
    scanned: Count,
    stolen: Count,
    still: Still,
}

impl Memory {
    pub(super) fn of(node: &Node, board: &mut Board) -> Result<Self, DemoError> {
        let mut still = Still::default();
        #[expect(clippy::cast_precision_loss, reason = "bytes of memory, seconds of some weeks")]
        let (total, up) = (node.memory as f64, node.up as f64);
        still.put(board, "node_memory_MemTotal_bytes", &[], node.memory / 1_024)?;
        still.put(board, "node_memory_numa_MemTotal", &["0"], node.memory / 1_024)?;
        for name in ["node_memory_SwapTotal_bytes", "node_memory_SwapFree_bytes", "node_memory_HardwareCorrupted_bytes"]
        {
            still.put(board, name, &[], 0)?;
        }
        still.put(board, "node_memory_HugePages_Total", &[], 0)?;
        still.put(board, "node_memory_CommitLimit_bytes", &[], node.memory / 2_048)?;
        for name in CALM {
            still.put(board, name, &[], 0)?;
        }
        let mut levels = Vec::with_capacity(LEVELS.len());
        for name in LEVELS {
            levels.push(board.series(name, &[])?);
        }
        let levels = levels.try_into().map_err(|_| DemoError::Metric("levels of memory".to_owned()))?;
        let cached = match node.role {
            Role::Web => 3.1,
            Role::Batch => 9.0,
            Role::Database => 31.0,
            Role::Gpu => 88.0,
        } * 1_073_741_824.0;
        Ok(Self {
            total,
            cached,
            levels,
            faults: board.count("node_vmstat_pgfault", &[], up * 9_100.0)?,
            major: board.count("node_vmstat_pgmajfault", &[], up * 0.4)?,
            kills: board.count("node_vmstat_oom_kill", &[], 0.0)?,
            killed: 0,
            refaults: board.count("node_vmstat_workingset_refault_file", &[], up * 1.1)?,
            paged_in: board.count("node_vmstat_pgpgin", &[], up * 310.0)?,
            paged_out: board.count("node_vmstat_pgpgout", &[], up * 540.0)?,
            scanned: board.count("node_vmstat_pgscan_kswapd", &[], up * 3.0)?,
            stolen: board.count("node_vmstat_pgsteal_kswapd", &[], up * 2.9)?,
            still,
        })
    }

    pub(super) fn tick(&mut self, board: &mut Board, load: &Load, random: &mut Random) {
        let anonymous: f64 = OWN * 0.7 + load.pods.iter().map(|pod| pod.anonymous).sum::<f64>();
        let of_pods: f64 = load.pods.iter().map(|pod| pod.cache).sum();
        self.cached += rounded(random.between(-1.0, 1.0) * 900_000.0, 131_072.0);
        let cached = self.cached + of_pods * 0.2;
        let (buffers, reclaimable, slab) = (self.total * 0.011, self.total * 0.017, self.total * 0.008);
        let tables = anonymous * 0.003;
        let free = (self.total - anonymous - cached - buffers - reclaimable - slab - tables - OWN * 0.3).max(0.0);
        let dirty = rounded(load.data.written_bytes * 2.5 + random.between(0.0, 400_000.0), 262_144.0);
        let values = [
            free,
            free + cached * 0.88 + reclaimable * 0.8,
            buffers,
            cached,
            anonymous,
            anonymous * 0.2 + cached * 0.45,
            anonymous * 0.8 + cached * 0.55,
            dirty,
            if random.unit() < 0.1 { 524_288.0 } else { 0.0 },
            self.total * 0.02,
            reclaimable + slab,
            reclaimable,
            slab,
            tables,
        ];
        for (series, value) in self.levels.iter().zip(values) {
            board.say(*series, whole(rounded(value, 131_072.0) / KIB));
        }
        self.still.say(board);
        let stall = load.memory_some;
        self.faults.add(board, random.between(6_000.0, 12_000.0) + stall * 20_000.0);
        self.major.add(board, random.between(0.0, 0.5) + stall * 420.0);
        let killed = load.pods.iter().map(|pod| pod.kills).sum::<i64>();
        self.kills.add(board, if killed > self.killed { 1.0 } else { 0.0 });
        self.killed = killed;
        self.refaults.add(board, random.between(0.0, 2.0) + stall * 900.0);
        let read: f64 = load.pods.iter().map(|pod| pod.read_bytes).sum();
        self.paged_in.add(board, (load.data.read_bytes + read) / KIB);
        self.paged_out.add(board, load.data.written_bytes / KIB);
        let scan = random.between(0.0, 6.0);
        self.scanned.add(board, scan);
        self.stolen.add(board, scan * 0.97);
    }
}
