//! Disks and the file systems on them: sources `disk` and `filesystem`.

use super::Now;
use super::load::{Io, Load};
use crate::DemoError;
use crate::board::{Board, Count, Series, Still, whole};
use crate::node::{Node, Role};
use crate::random::Random;
use crate::story;

pub(super) struct Disks {
    disks: Vec<Disk>,
    mounts: Vec<Mount>,
    stuck: Series,
}

struct Disk {
    /// Whether it holds the data of the machine, or the system beside them.
    data: bool,
    reads: Count,
    reads_merged: Count,
    read_sectors: Count,
    read_time: Count,
    writes: Count,
    writes_merged: Count,
    written_sectors: Count,
    write_time: Count,
    busy: Count,
    weighted: Count,
    flushes: Count,
    flush_time: Count,
    in_flight: Series,
    readonly: Series,
    size: Series,
    sectors: i64,
    goes: &'static str,
    still: Still,
}

struct Mount {
    node: &'static str,
    device: &'static str,
    used: f64,
    bytes: i64,
    size: Series,
    free: Series,
    available: Series,
    files: Series,
    files_free: Series,
    readonly: Series,
    error: Series,
}

impl Disks {
    pub(super) fn of(node: &Node, board: &mut Board) -> Result<Self, DemoError> {
        let mut disks = Vec::new();
        #[expect(clippy::cast_precision_loss, reason = "seconds of some weeks")]
        let up = node.up as f64;
        for (at, disk) in node.disks.iter().enumerate() {
            let d = &[disk.name][..];
            let mut count = |name: &str, rate: f64| board.count(name, d, (up * rate).floor());
            let reads = count("node_disk_reads_completed_total", 9.0)?;
            let reads_merged = count("node_disk_reads_merged_total", 0.4)?;
            let read_sectors = count("node_disk_read_bytes_total", 700.0)?;
            let read_time = count("node_disk_read_time_seconds_total", 1.4)?;
            let writes = count("node_disk_writes_completed_total", 44.0)?;
            let writes_merged = count("node_disk_writes_merged_total", 12.0)?;
            let written_sectors = count("node_disk_written_bytes_total", 1_900.0)?;
            let write_time = count("node_disk_write_time_seconds_total", 9.0)?;
            let busy = count("node_disk_io_time_seconds_total", 6.0)?;
            let weighted = count("node_disk_io_time_weighted_seconds_total", 10.0)?;
            let flushes = count("node_disk_flush_requests_total", 3.0)?;
            let flush_time = count("node_disk_flush_requests_time_seconds_total", 1.0)?;
            let mut still = Still::default();
            for name in ["node_disk_discards_completed_total", "node_disk_discarded_sectors_total"] {
                still.put(board, name, d, 0)?;
            }
            disks.push(Disk {
                data: at == 0,
                reads,
                reads_merged,
                read_sectors,
                read_time,
                writes,
                writes_merged,
                written_sectors,
                write_time,
                busy,
                weighted,
                flushes,
                flush_time,
                in_flight: board.series("node_disk_io_now", d)?,
                readonly: board.series("casefile_disk_readonly", d)?,
                size: board.series("casefile_disk_size_bytes", d)?,
                sectors: disk.bytes / 512,
                goes: if at == 0 { node.name } else { "" },
                still,
            });
        }
        let mut mounts = Vec::new();
        for mount in &node.mounts {
            let labels = &[mount.device, mount.point, mount.fstype][..];
            mounts.push(Mount {
                node: if mount.point == "/" && node.role == Role::Database { "" } else { node.name },
                device: mount.device,
                used: mount.used,
                bytes: mount.bytes,
                size: board.series("node_filesystem_size_bytes", labels)?,
                free: board.series("node_filesystem_free_bytes", labels)?,
                available: board.series("node_filesystem_avail_bytes", labels)?,
                files: board.series("node_filesystem_files", labels)?,
                files_free: board.series("node_filesystem_files_free", labels)?,
                readonly: board.series("node_filesystem_readonly", labels)?,
                error: board.series("node_filesystem_device_error", labels)?,
            });
        }
        Ok(Self { disks, mounts, stuck: board.series("casefile_filesystem_stuck_mounts", &[])? })
    }

    pub(super) fn tick(&mut self, board: &mut Board, now: Now, load: &Load, random: &mut Random) {
        for disk in &mut self.disks {
            disk.tick(board, now, if disk.data { load.data } else { load.system_disk }, random);
        }
        if now.slow {
            for mount in &mut self.mounts {
                mount.tick(board, now, load);
            }
            board.say(self.stuck, 0);
        }
    }
}

impl Disk {
    fn tick(&mut self, board: &mut Board, now: Now, io: Io, random: &mut Random) {
        // Milliseconds and sectors.
        self.reads.add(board, io.reads);
        self.reads_merged.add(board, io.reads * 0.04);
        self.read_sectors.add(board, io.read_bytes / 512.0);
        self.read_time.add(board, io.reads * io.latency * 1_000.0);
        self.writes.add(board, io.writes);
        self.writes_merged.add(board, io.writes * random.between(0.2, 0.4));
        self.written_sectors.add(board, io.written_bytes / 512.0);
        self.write_time.add(board, io.writes * io.latency * 1_400.0);
        self.busy.add(board, io.busy * 1_000.0);
        self.weighted.add(board, (io.in_flight * io.busy).max((io.reads + io.writes) * io.latency) * 1_000.0);
        self.flushes.add(board, io.writes * 0.06);
        self.flush_time.add(board, io.writes * 0.06 * io.latency * 900.0);
        board.say(self.in_flight, whole(io.in_flight));
        board.say(self.readonly, 0);
        let gone = story::disk(self.goes, now.t) == story::Disk::Gone;
        // The driver sets the size of a disk that it gives up to nothing.
        board.say(self.size, if gone { 0 } else { self.sectors });
        self.still.say(board);
    }
}

impl Mount {
    fn tick(&mut self, board: &mut Board, now: Now, load: &Load) {
        let disk = story::disk(self.node, now.t);
        #[expect(clippy::cast_precision_loss, reason = "bytes of a disk")]
        let bytes = self.bytes as f64;
        self.used += load.data.written_bytes * 0.4 / bytes;
        let free = whole(bytes * (1.0 - self.used) / 4_096.0) * 4_096;
        board.say(self.size, self.bytes / 4_096 * 4_096);
        board.say(self.free, free);
        board.say(self.available, free - self.bytes / 20 / 4_096 * 4_096);
        board.say(self.files, self.bytes / 16_384);
        board.say(self.files_free, self.bytes / 16_384 - 410_233);
        let readonly = disk == story::Disk::Gone && self.device.starts_with("/dev/nvme");
        board.say(self.readonly, i64::from(readonly));
        board.say(self.error, 0);
    }
}
