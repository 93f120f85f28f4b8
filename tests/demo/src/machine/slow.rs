//! What hardly changes: sources `clock`, `inventory` and `kernel`.

use super::Now;
use crate::DemoError;
use crate::board::{Board, Count, Series, Still};
use crate::node::{Node, Role};

pub(super) struct Slow {
    still: Still,
    time: Series,
    boot_clock: Series,
    error: Series,
    messages: Vec<Count>,
    lost: Series,
}

const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// Maker, model and microcode of the processors of a machine.
pub(crate) fn processor(role: Role) -> (&'static str, &'static str, &'static str) {
    match role {
        Role::Web | Role::Batch => ("AuthenticAMD", "AMD EPYC 9124 16-Core Processor", "0xa101148"),
        Role::Database | Role::Gpu => ("GenuineIntel", "Intel(R) Xeon(R) Platinum 8480C", "0x2b000603"),
    }
}

/// Maker and model of a machine.
pub(crate) fn machine(role: Role) -> (&'static str, &'static str) {
    match role {
        Role::Web | Role::Batch => ("Dell Inc.", "PowerEdge R6615"),
        Role::Database => ("Dell Inc.", "PowerEdge R760"),
        Role::Gpu => ("Supermicro", "SYS-421GU-TNXR"),
    }
}

pub(crate) const KERNEL: &str = "6.18.44";
pub(crate) const KERNEL_VERSION: &str = "#1 SMP PREEMPT_DYNAMIC";
pub(crate) const COMMAND_LINE: &str =
    "BOOT_IMAGE=/boot/vmlinuz-6.18.44 root=UUID=5a1b2c3d-0000-4000-8000-0123456789ab ro quiet";

impl Slow {
    pub(super) fn of(node: &Node, board: &mut Board) -> Result<Self, DemoError> {
        let mut still = Still::default();
        still.put(board, "node_timex_sync_status", &[], 1)?;
        still.put(board, "node_timex_status", &[], 8_193)?;
        still.put(board, "node_timex_offset_seconds", &[], 0)?;
        still.put(board, "node_timex_tai_offset_seconds", &[], 37)?;
        still.put(board, "node_timex_tick_seconds", &[], 10_000)?;
        still.put(board, "node_timex_loop_time_constant", &[], 7)?;
        still.put(board, "node_time_clocksource_current_info", &["0", "tsc"], 1)?;
        let boot = node.boot.to_string();
        let (vendor, model, microcode) = processor(node.role);
        let (cores, cpus) = ((node.cpus / 2).to_string(), node.cpus.to_string());
        still.put(board, "casefile_boot_info", &[&boot, COMMAND_LINE], 1)?;
        still.put(board, "casefile_kernel_tainted", &[], if node.role == Role::Gpu { 4_097 } else { 0 })?;
        still.put(board, "casefile_processor_info", &[vendor, model, microcode, "1", &cores, &cpus], 1)?;
        let (maker, product) = machine(node.role);
        still.put(board, "node_dmi_info", &[maker, product, "", maker, "", maker, "2.4.1", "09/11/2026"], 1)?;
        let name = "Debian GNU/Linux";
        let pretty = "Debian GNU/Linux 13 (trixie)";
        let os = ["debian", "", name, pretty, "13 (trixie)", "trixie", "13", "", ""];
        still.put(board, "node_os_info", &os, 1)?;
        let uname = ["Linux", KERNEL, KERNEL_VERSION, "x86_64", node.name, "(none)"];
        still.put(board, "node_uname_info", &uname, 1)?;
        let mut messages = Vec::new();
        for level in LEVELS {
            messages.push(board.count("casefile_kernel_messages_total", &[level, "kernel"], 0.0)?);
        }
        Ok(Self {
            still,
            time: board.series("node_time_seconds", &[])?,
            boot_clock: board.series("casefile_boot_clock_seconds_total", &[])?,
            error: board.series("node_timex_maxerror_seconds", &[])?,
            messages,
            lost: board.series("casefile_kernel_messages_lost_total", &[])?,
        })
    }

    pub(super) fn tick(&mut self, node: &Node, board: &mut Board, now: Now, said: &[f64; 8]) {
        for (count, more) in self.messages.iter_mut().zip(said) {
            count.add(board, *more);
        }
        board.say(self.lost, 0);
        if now.slow {
            self.still.say(board);
            let at = node.stamp(now.t);
            board.say(self.time, at.wall.nanos());
            board.say(self.boot_clock, i64::try_from(at.boot.nanos()).unwrap_or(0));
            let since = i64::try_from(now.turn % 64).unwrap_or(0);
            // Nanoseconds; the kernel lets it grow by half a millisecond a second until it hears from its server.
            board.say(self.error, 1_000_000 + since * 500_000);
        }
    }
}
