//! A machine of the synthetic incident: its hardware, its clock, its pods. What it does is in `machine`.

use casefile_proto::ids::BootId;
use casefile_proto::time::{BootTime, ClockOffset, Stamp, WallTime};

use crate::story;

/// What a machine is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Web,
    Batch,
    Database,
    Gpu,
}

/// One machine.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) clock: ClockOffset,
    pub(crate) boot: BootId,
    /// Seconds that it had been up when the window began.
    pub(crate) up: i64,
    pub(crate) cpus: usize,
    pub(crate) memory: i64,
    pub(crate) address: String,
    pub(crate) mac: String,
    pub(crate) disks: Vec<Disk>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) gpus: Vec<Gpu>,
}

/// A whole disk.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) name: &'static str,
    pub(crate) bytes: i64,
    pub(crate) model: &'static str,
    pub(crate) serial: String,
    pub(crate) firmware: &'static str,
}

/// A file system that holds data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mount {
    pub(crate) device: &'static str,
    pub(crate) point: &'static str,
    pub(crate) fstype: &'static str,
    pub(crate) bytes: i64,
    /// The part of it that is used.
    pub(crate) used: f64,
}

/// A pod with one container.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) namespace: &'static str,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) container: &'static str,
    pub(crate) kind: Kind,
    /// The limit of memory in bytes.
    pub(crate) limit: i64,
    /// The limit of CPU in thousandths.
    pub(crate) millicores: i64,
    /// The runs of its container, oldest first.
    pub(crate) runs: Vec<Run>,
}

/// What a pod does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Frontend,
    Api,
    Settlement,
    Reports,
    Postgres,
    Trainer,
    KubeProxy,
    NodeExporter,
}

/// One run of a container.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) pid: u32,
    /// When it began and ended, in seconds of the window; infinite where that lies outside.
    pub(crate) from: f64,
    pub(crate) until: f64,
}

/// A GPU.
#[derive(Debug, Clone)]
pub(crate) struct Gpu {
    pub(crate) index: usize,
    pub(crate) uuid: String,
    /// `84:00.0`.
    pub(crate) slot: &'static str,
    pub(crate) serial: String,
}

impl Node {
    /// Both of its clocks at so many seconds of the window.
    pub(crate) fn stamp(&self, seconds: f64) -> Stamp {
        self.stamp_of(story::at(seconds).offset(self.clock.ahead_nanos))
    }

    /// Both of its clocks when its wall clock says this.
    pub(crate) fn stamp_of(&self, wall: WallTime) -> Stamp {
        let since = wall.nanos_since(story::FROM) + self.up * 1_000_000_000;
        Stamp { wall, boot: BootTime::from_nanos(u64::try_from(since).unwrap_or(0)) }
    }

    /// Its wall clock when it was booted.
    pub(crate) fn booted(&self) -> WallTime {
        story::FROM.offset(-self.up * 1_000_000_000)
    }

    pub(crate) fn pod(&self, kind: Kind) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.kind == kind)
    }
}

impl Kind {
    /// The name of its process, as the kernel has it.
    pub(crate) fn comm(self) -> &'static str {
        match self {
            Self::Frontend => "node",
            Self::Api => "api-server",
            Self::Settlement => "settlement",
            Self::Reports => "report-worker",
            Self::Postgres => "postgres",
            Self::Trainer => "python3",
            Self::KubeProxy => "kube-proxy",
            Self::NodeExporter => "node_exporter",
        }
    }

    pub(crate) fn uid(self) -> i64 {
        match self {
            Self::Frontend | Self::Api | Self::Settlement | Self::Reports => 1_000,
            Self::Postgres => 999,
            Self::NodeExporter => 65_534,
            Self::Trainer | Self::KubeProxy => 0,
        }
    }
}

impl Pod {
    /// The cgroup of the pod, as the kubelet makes it with systemd.
    pub(crate) fn slice(&self) -> String {
        let uid = self.uid.replace('-', "_");
        format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice")
    }

    /// The cgroup of a run of its container.
    pub(crate) fn scope(&self, run: &Run) -> String {
        format!("{}/cri-containerd-{}.scope", self.slice(), run.id)
    }

    /// The run of this moment.
    pub(crate) fn run(&self, t: f64) -> Option<&Run> {
        self.runs.iter().find(|run| run.from <= t && t < run.until)
    }

    /// The directory of its logs below `/var/log/pods`.
    pub(crate) fn directory(&self) -> String {
        format!("{}_{}_{}", self.namespace, self.name, self.uid)
    }
}

impl Run {
    /// Clock ticks between boot and its begin: with the pid, what tells a process from all others.
    #[expect(clippy::cast_possible_truncation, reason = "ticks of a few days")]
    pub(crate) fn start(&self, node: &Node) -> i64 {
        let before = if self.from.is_finite() { self.from } else { -86_400.0 - f64::from(self.pid % 40_000) };
        (node.up * 100) + (before * 100.0) as i64
    }
}

impl Gpu {
    pub(crate) const MODEL: &'static str = "NVIDIA H100 80GB HBM3";

    /// As NVML writes it.
    pub(crate) fn nvml(&self) -> String {
        format!("00000000:{}", self.slot)
    }

    /// As the kernel writes it.
    pub(crate) fn kernel(&self) -> String {
        format!("0000:{}", self.slot)
    }

    /// How the agent calls it in texts.
    pub(crate) fn called(&self) -> String {
        format!("GPU {} at {} ({})", self.index, self.kernel(), self.uuid)
    }
}
