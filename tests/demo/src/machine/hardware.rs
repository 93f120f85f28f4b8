//! NVMe controllers, PCIe errors and memory errors: source `hardware`.

use super::Now;
use crate::DemoError;
use crate::board::{Board, Series, Still};
use crate::node::{Node, Role};
use crate::random::Random;
use crate::story;

/// The port above the GPU that goes.
pub(crate) const PORT: &str = "0000:80:01.0";

pub(super) struct Hardware {
    nvme: Series,
    /// Of the port above the third GPU: corrected and fatal errors, its own and those that it was told of.
    aer: Option<[Series; 4]>,
    temperature: Series,
    still: Still,
}

impl Hardware {
    pub(super) fn of(node: &Node, board: &mut Board) -> Result<Self, DemoError> {
        let mut still = Still::default();
        still.put(board, "casefile_hardware_devices", &["pci"], if node.role == Role::Gpu { 94 } else { 41 })?;
        still.put(board, "casefile_hardware_devices", &["nvme"], 1)?;
        still.put(board, "node_edac_correctable_errors_total", &["0"], 0)?;
        still.put(board, "node_edac_uncorrectable_errors_total", &["0"], 0)?;
        if let Some(disk) = node.disks.iter().find(|disk| disk.name.starts_with("nvme")) {
            let labels = ["nvme0", disk.firmware, disk.model, &disk.serial, "live", "1"];
            if node.name != story::DISK_GONE {
                still.put(board, "node_nvme_info", &labels, 1)?;
            }
        }
        let mut aer = None;
        if node.role == Role::Gpu {
            let mut series = |name, severity| board.series(name, &[PORT, severity]);
            aer = Some([
                series("casefile_pcie_aer_errors_total", "correctable")?,
                series("casefile_pcie_aer_errors_total", "fatal")?,
                series("casefile_pcie_aer_root_port_errors_total", "correctable")?,
                series("casefile_pcie_aer_root_port_errors_total", "fatal")?,
            ]);
        }
        Ok(Self {
            nvme: board.series("casefile_nvme_state", &["nvme0"])?,
            aer,
            temperature: board.series("node_hwmon_temp_celsius", &["nvme_nvme0", "temp1"])?,
            still,
        })
    }

    pub(super) fn tick(&mut self, node: &Node, board: &mut Board, now: Now, random: &mut Random) {
        if !now.slow {
            return;
        }
        self.still.say(board);
        let gone = story::disk(node.name, now.t) == story::Disk::Gone;
        let resets = node.name == story::DISK_GONE && now.t >= story::NVME_RESET;
        // 1 live, 2 resetting, 6 dead.
        board.say(self.nvme, if gone { 6 } else { 1 + i64::from(resets) });
        if !gone {
            // Thousandths of a degree; the controller gives whole ones.
            let degrees = i64::try_from(random.below(3)).unwrap_or(0);
            board.say(self.temperature, (41 + degrees) * 1_000);
        }
        if let Some([corrected, fatal, told, told_fatal]) = self.aer {
            let here = node.name == story::GPU_LOST;
            let errors =
                if here { crate::logs::kernel::CORRECTED.iter().filter(|at| **at <= now.t).count() } else { 0 };
            let errors = i64::try_from(errors).unwrap_or(0);
            let broken = i64::from(here && now.t >= story::FATAL_AER);
            board.say(corrected, errors);
            board.say(told, errors);
            board.say(fatal, broken);
            board.say(told_fatal, broken);
        }
    }
}
