//! GPUs: source `gpu`, as NVML tells of them. A GPU that is lost has a state and no numbers.

use casefile_proto::event::{Event, EventKind};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::sample::Outcome;

use super::Now;
use crate::DemoError;
use crate::board::{Board, Count, Series, Still, whole};
use crate::node::{Gpu, Kind, Node};
use crate::random::{Random, Wander};
use crate::story;

/// Which GPU of its machine goes.
pub(crate) const LOST: usize = 2;

/// The driver of all machines.
pub(crate) const VERSIONS: [&str; 3] = ["580.95.05", "13.580.95.05", "13.0"];

pub(super) struct Gpus {
    gpus: Vec<Device>,
    devices: Still,
    told: bool,
}

struct Device {
    gpu: Gpu,
    /// Whether it is on the machine whose GPU goes.
    goes: bool,
    state: Series,
    util: Series,
    copy_util: Series,
    used: Series,
    free: Series,
    clock: Series,
    memory_clock: Series,
    power: Series,
    temperature: Series,
    memory_temperature: Series,
    reasons: Series,
    energy: Count,
    replays: Count,
    process: Series,
    process_bytes: Series,
    busy: Wander,
    watts: Wander,
    always: Still,
    seldom: Still,
}

/// Of 80 GiB; the rest is the driver's own. In bytes.
const TOTAL: i64 = 81_559 << 20;
const USED: i64 = 72_114 << 20;
/// What a job that works draws in watts, one that waits, and a GPU that nobody holds.
const WATTS: [f64; 3] = [612.0, 131.0, 71.0];

impl Gpus {
    pub(super) fn of(node: &Node, board: &mut Board) -> Result<Self, DemoError> {
        let mut devices = Still::default();
        let mut gpus = Vec::new();
        for gpu in &node.gpus {
            gpus.push(Device::of(node, gpu, board)?);
        }
        if !gpus.is_empty() {
            devices.put(board, "casefile_gpu_driver_info", &VERSIONS, 1)?;
            for by in ["nvml", "pci", "driver", "last_boot"] {
                devices.put(board, "casefile_gpu_devices", &[by], 4)?;
            }
        }
        Ok(Self { gpus, devices, told: false })
    }

    pub(super) fn tick(&mut self, node: &Node, board: &mut Board, now: Now, random: &mut Random) {
        if self.gpus.is_empty() {
            let why = "no GPU of NVIDIA on the PCI bus, and no driver (/proc/driver/nvidia)".to_owned();
            board.outcome("gpu", Outcome::Absent { why });
            return;
        }
        self.devices.say(board);
        let held = node.pod(Kind::Trainer).is_some_and(|pod| pod.run(now.t).is_some());
        for device in &mut self.gpus {
            let lost = is_lost(node, device.gpu.index, now.t);
            if lost {
                board.say(device.state, 2);
                let why = format!("{} is lost: it fell off the bus", device.gpu.called());
                if !std::mem::replace(&mut self.told, true) {
                    news(node, &device.gpu, &why, board, now);
                }
                board.outcome("gpu", Outcome::Partial { gaps: vec![Gap::new(GapReason::SourceFailed, why)] });
            } else {
                device.tick(board, now, story::trains(node.name, now.t), held, random);
            }
        }
    }
}

/// Whether this GPU is off the bus.
pub(crate) fn is_lost(node: &Node, index: usize, t: f64) -> bool {
    node.name == story::GPU_LOST && index == LOST && t >= story::XID_79
}

/// What the agent tells when a GPU goes: NVML's own event, what became of the GPU, and that its source has a gap.
fn news(node: &Node, gpu: &Gpu, why: &str, board: &mut Board, now: Now) {
    let pci = gpu.kernel();
    let kind = |xid| EventKind::Gpu { pci: pci.clone(), xid };
    let called = gpu.called();
    let xid = format!("NVML reports Xid 79 of {called}");
    board.event(Event { at: node.stamp(story::XID_79 + 0.021), kind: kind(Some(79)), text: xid });
    let lost = format!("{called} is lost: NVML says that it fell off the bus");
    board.event(Event { at: node.stamp(now.t + 0.012), kind: kind(None), text: lost });
    let text = format!("gpu: complete → partial ({}: {why})", GapReason::SourceFailed);
    board.event(Event { at: node.stamp(now.t), kind: EventKind::Source { source: "gpu".to_owned() }, text });
}

impl Device {
    fn of(node: &Node, gpu: &Gpu, board: &mut Board) -> Result<Self, DemoError> {
        let (index, nvml, device) = (gpu.index.to_string(), gpu.nvml(), format!("nvidia{}", gpu.index));
        let labels = [index.as_str(), &gpu.uuid, &nvml, &device, Gpu::MODEL];
        let mut always = Still::default();
        for (name, value) in [
            ("DCGM_FI_DEV_PSTATE", 0),
            ("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", 0),
            ("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", 0),
            ("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", 0),
            ("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", 0),
            ("DCGM_FI_DEV_ROW_REMAP_PENDING", 0),
            ("DCGM_FI_DEV_ROW_REMAP_FAILURE", 0),
            ("casefile_gpu_recovery_action", 0),
            ("DCGM_FI_DEV_FB_TOTAL", TOTAL),
            ("DCGM_FI_DEV_PCIE_LINK_GEN", 5),
            ("DCGM_FI_DEV_PCIE_LINK_WIDTH", 16),
        ] {
            always.put(board, name, &labels, value)?;
        }
        let mut seldom = Still::default();
        for (name, value) in [
            ("DCGM_FI_DEV_PERSISTENCE_MODE", 1),
            ("DCGM_FI_DEV_ECC_CURRENT", 1),
            ("DCGM_FI_DEV_MAX_SM_CLOCK", 1_980),
            ("DCGM_FI_DEV_ENFORCED_POWER_LIMIT", 700_000),
            ("DCGM_FI_DEV_SLOWDOWN_TEMP", 90),
            ("DCGM_FI_DEV_SHUTDOWN_TEMP", 95),
            ("DCGM_FI_DEV_PCIE_MAX_LINK_GEN", 5),
            ("DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH", 16),
        ] {
            seldom.put(board, name, &labels, value)?;
        }
        let [gpu_index, uuid, pci, device_name, model] = labels;
        let about = [gpu_index, uuid, pci, device_name, model, "96.00.A5.00.01", &gpu.serial, "692-2G520-0200-000"];
        always.put(board, "casefile_gpu_info", &about, 1)?;
        for link in 0..18 {
            let link = link.to_string();
            let of_link = [gpu_index, uuid, pci, device_name, model, &link];
            seldom.put(board, "casefile_gpu_nvlink_up", &of_link, 1)?;
        }
        let pod = node.pod(Kind::Trainer).ok_or_else(|| DemoError::Name("a GPU node without a job".to_owned()))?;
        let run = pod.runs.first().ok_or_else(|| DemoError::Name("a job that never ran".to_owned()))?;
        let (pid, scope) = (process(run.pid, gpu.index).to_string(), pod.scope(run));
        let holder = [gpu_index, uuid, &pid, "C", Kind::Trainer.comm(), &scope, &pod.uid, &run.id];
        let mut series = |name| board.series(name, &labels);
        Ok(Self {
            state: series("casefile_gpu_state")?,
            util: series("DCGM_FI_DEV_GPU_UTIL")?,
            copy_util: series("DCGM_FI_DEV_MEM_COPY_UTIL")?,
            used: series("DCGM_FI_DEV_FB_USED")?,
            free: series("DCGM_FI_DEV_FB_FREE")?,
            clock: series("DCGM_FI_DEV_SM_CLOCK")?,
            memory_clock: series("DCGM_FI_DEV_MEM_CLOCK")?,
            power: series("DCGM_FI_DEV_POWER_USAGE")?,
            temperature: series("DCGM_FI_DEV_GPU_TEMP")?,
            memory_temperature: series("DCGM_FI_DEV_MEMORY_TEMP")?,
            reasons: series("DCGM_FI_DEV_CLOCKS_EVENT_REASONS")?,
            energy: board.count("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", &labels, 5.2e11)?,
            replays: board.count("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", &labels, 0.0)?,
            process: board.series("casefile_gpu_process_info", &holder)?,
            process_bytes: board.series("casefile_gpu_process_memory_bytes", &[gpu_index, uuid, &pid, "C"])?,
            busy: Wander::about(95.0, 0.06),
            watts: Wander::about(WATTS[0], 0.07),
            always,
            seldom,
            gpu: gpu.clone(),
            goes: node.name == story::GPU_LOST,
        })
    }

    fn tick(&mut self, board: &mut Board, now: Now, works: bool, held: bool, random: &mut Random) {
        let (busy, drawn) = (self.busy.next(random).min(100.0), self.watts.next(random));
        let watts = match (works, held) {
            (true, _) => drawn,
            (false, true) => WATTS[1] + drawn * 0.01,
            (false, false) => WATTS[2] + drawn * 0.005,
        };
        board.say(self.state, 1);
        board.say(self.util, if works { whole(busy) } else { 0 });
        board.say(self.copy_util, if works { whole(busy * 0.46) } else { 0 });
        let used = if held { USED } else { 4 << 20 };
        board.say(self.used, used);
        board.say(self.free, TOTAL - used - (601 << 20));
        // What waits keeps its clocks; nobody's GPU goes to rest.
        board.say(
            self.clock,
            if works {
                1_755 - whole(random.between(0.0, 3.0)) * 15
            } else if held {
                1_980
            } else {
                345
            },
        );
        board.say(self.memory_clock, 2_619);
        board.say(self.power, whole(watts) * 1_000);
        let degrees = 29.0 + watts * 0.052;
        board.say(self.temperature, whole(degrees));
        board.say(self.memory_temperature, whole(degrees + 9.0));
        board.say(self.reasons, i64::from(!works && !held));
        self.energy.add(board, watts * 1_000.0);
        let errors = self.gpu.index == LOST
            && self.goes
            && crate::logs::kernel::CORRECTED.iter().any(|at| (now.t - at).abs() < 0.5);
        self.replays.add(board, if errors { 3.0 } else { 0.0 });
        self.always.say(board);
        if now.slow {
            self.seldom.say(board);
        }
        if held {
            board.say(self.process, 1);
            board.say(self.process_bytes, used - (420 << 20));
        }
    }
}

/// The process of a job on one GPU: one for each, beside the one that began them.
pub(crate) fn process(main: u32, gpu: usize) -> u32 {
    main + 11 + u32::try_from(gpu).unwrap_or(0)
}
