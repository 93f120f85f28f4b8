//! The state of a node's GPUs at an instant: what is shown, and what a program gets.

use std::collections::BTreeMap;

use casefile_proto::ids::NodeName;
use casefile_proto::time::WallTime;
use serde::Serialize;

use super::events::GpuEvent;
use super::pods::Pod;

/// The GPUs of a node at an instant. Times are on the collector's clock; texts are the node's: escape before showing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    /// The node.
    pub node: NodeName,
    /// The instant that was asked for.
    pub asked: WallTime,
    /// The tick of which this is: the last one at or before it that read something. `None`: there is none.
    pub tick: Option<WallTime>,
    /// Why what is shown is not of the instant, or not all of it; `None`: nothing is missing.
    pub trouble: Option<Trouble>,
    /// How many GPUs NVML, the PCI bus, the driver and the last boot had.
    pub seen_by: BTreeMap<String, u64>,
    /// Driver and libraries.
    pub driver: Option<Driver>,
    /// The GPUs, by index.
    pub gpus: Vec<Gpu>,
    /// What happened to them up to the instant, at most [`View::MAX_EVENTS`].
    pub events: Vec<GpuEvent>,
    /// How many of them count: written by a program are those that do not.
    pub counted: u64,
    /// How many more there were than are listed.
    pub more: u64,
    /// How many that count came after the instant.
    pub after: u64,
}

impl View {
    /// A GPU that fails can write for hours; more than these nobody reads.
    pub const MAX_EVENTS: usize = 1000;
}

/// What is missing at the instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// Whether nothing of the instant was read, so that what is shown is older; else a part is missing.
    pub nothing: bool,
    /// The source's outcome in a word, or `not recorded`.
    pub outcome: String,
    /// Since when, where that is known.
    pub since: Option<WallTime>,
    /// What the outcome says.
    pub why: Vec<String>,
}

/// Versions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Driver {
    /// Of the driver.
    pub driver_version: String,
    /// Of NVML.
    pub nvml_version: String,
    /// Of CUDA, as the driver has it.
    pub cuda_version: String,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gpu {
    /// NVML's index; empty where NVML does not list it.
    pub index: String,
    /// Its UUID.
    pub uuid: String,
    /// Its address, as NVML writes it.
    pub pci_bus_id: String,
    /// Its device node.
    pub device: String,
    /// What it is.
    pub model: String,
    /// VBIOS, serial number and part number, where they were read.
    pub info: BTreeMap<String, String>,
    /// Its state at the tick, as `casefile_gpu_state` has it; `None`: the source says nothing of it any more.
    pub state: Option<i64>,
    /// That in words.
    pub state_text: String,
    /// Since when it is so: the first tick that said it.
    pub state_since: WallTime,
    /// Of when the values are: the tick if it answers, else the last tick at which it did. `None`: it never did.
    pub as_of: Option<WallTime>,
    /// What was read then, by the name of the series. What was not read is not there.
    pub values: BTreeMap<String, f64>,
    /// Why its clocks were not as high as they could be, in words, where that was read.
    pub held_back_by: Option<String>,
    /// Who held it then.
    pub processes: Vec<Process>,
}

impl Gpu {
    /// Whether it answered at the tick.
    pub fn answers(&self) -> bool {
        self.state == Some(1)
    }
}

/// A process that holds a GPU.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Process {
    /// Its id.
    pub pid: String,
    /// `C` compute, `G` graphics.
    pub kind: String,
    /// Its name; empty where it is gone.
    pub name: String,
    /// Its cgroup.
    pub cgroup: String,
    /// Its pod; `None`: it is in none, or gone.
    pub pod: Option<Pod>,
    /// Its container's id; empty: none.
    pub container: String,
    /// The bytes of the GPU's memory that it holds, where NVML says so.
    pub memory_bytes: Option<f64>,
}
