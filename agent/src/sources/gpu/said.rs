//! What the child says to the agent: one JSON object a line, each a [`Said`]. Both ends are the same program, so that a
//! metric is named by its place in the table; what comes in is checked all the same.

use serde::{Deserialize, Serialize};

use super::metrics::METRICS;

/// The longest line: 16 GPUs with a thousand processes each are a quarter of it.
pub(super) const MAX_LINE: usize = 4 << 20;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Said {
    /// NVML is open.
    Ready(Versions),
    /// It cannot be opened: why, and whether that is because this machine has no driver that runs.
    NotReady { why: String, no_driver: bool },
    /// What it said of all GPUs.
    Snapshot(Box<Snapshot>),
    /// NVML as a whole does not answer any more, as after a driver was loaded anew. The child ends.
    Broken { why: String },
    /// This call has not returned; the thread that made it is still in it.
    Stalled { call: String },
}

/// Versions as NVML gives them; `None` where it did not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Versions {
    pub(super) driver: Option<String>,
    pub(super) nvml: Option<String>,
    /// `12.4`.
    pub(super) cuda: Option<String>,
    /// The library that was loaded.
    pub(super) library: String,
}

/// All GPUs at one pass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Snapshot {
    pub(super) gpus: Vec<Gpu>,
    /// Since the pass before, in the order in which they came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) events: Vec<NvmlEvent>,
    /// Events that were not kept: the agent did not ask for too long.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) events_lost: u64,
    /// Why there are no events of NVML's own, where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) no_events: Option<String>,
    /// What changes seldom was read too.
    #[serde(default)]
    pub(super) slow: bool,
    /// Functions that this driver does not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) not_offered: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Whether a GPU answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    #[default]
    Answers,
    /// `NVML_ERROR_GPU_IS_LOST`.
    Lost,
    /// `NVML_ERROR_RESET_REQUIRED`.
    NeedsReset,
    /// NVML counts it and gives no handle to it, for another reason: nothing is known of it.
    NoHandle,
}

/// What tells one GPU from others. Texts are empty where NVML did not say them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Identity {
    /// NVML's number of it, which changes when another GPU goes.
    pub(super) index: u32,
    pub(super) uuid: String,
    /// As NVML writes it: `00000000:84:00.0`.
    pub(super) pci: String,
    /// The number of its device node: `/dev/nvidia3`.
    pub(super) minor: Option<u32>,
    /// `NVIDIA H100 80GB HBM3`.
    pub(super) name: String,
}

/// What does not change while the driver runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Description {
    pub(super) vbios: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) part_number: Option<String>,
    pub(super) architecture: Option<String>,
    pub(super) gsp_firmware: Option<String>,
}

/// One GPU at one pass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gpu {
    pub(super) id: Identity,
    pub(super) state: State,
    pub(super) about: Description,
    /// Places in the table of metrics, with values.
    pub(super) values: Vec<(u16, i64)>,
    /// The same of one NVLink each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) links: Vec<(u8, u16, i64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) processes: Vec<Process>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) mig: Vec<Mig>,
    /// What could not be read, by reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) failed: Vec<Failed>,
}

/// A process with a context on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// `C` compute, `G` graphics, `M` compute through MPS.
    pub(super) kind: char,
    /// Bytes; `None` where the driver does not say.
    pub(super) memory: Option<u64>,
}

/// A part of a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mig {
    pub(super) uuid: String,
    pub(super) name: String,
    pub(super) memory_total: Option<u64>,
    pub(super) memory_used: Option<u64>,
}

/// Calls that failed for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failed {
    pub(super) why: Why,
    /// NVML's words.
    pub(super) text: String,
    /// The first of them, and how many more there are.
    pub(super) call: String,
    pub(super) more: u32,
}

/// What kind of reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Why {
    Failed,
    Denied,
    TimedOut,
    /// The answer is none: all ones, not a number, a text that is none.
    Absurd,
}

/// Something that NVML reported by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NvmlEvent {
    /// Both clocks when it came, in nanoseconds.
    pub(super) wall: i64,
    pub(super) boot: u64,
    /// Where the GPU is, as NVML writes it; empty where NVML would not say.
    pub(super) pci: String,
    /// `Xid 79`, `double bit ECC error`, ….
    pub(super) what: String,
    pub(super) xid: Option<u64>,
}

/// The place of a metric in the table. For constants: a name that the table does not have stops the compiler.
#[expect(clippy::panic, reason = "evaluated by the compiler, which is where the panic ends")]
pub(super) const fn place(name: &str) -> u16 {
    let mut at = 0;
    while at < METRICS.len() {
        let (a, b) = (METRICS[at].name.as_bytes(), name.as_bytes());
        let mut same = a.len() == b.len();
        let mut i = 0;
        while same && i < a.len() {
            same = a[i] == b[i];
            i += 1;
        }
        if same {
            return at as u16;
        }
        at += 1;
    }
    panic!("the table has no metric of this name")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Labels, Measurement, values};
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let gpu = Gpu {
            id: Identity { index: 3, uuid: "GPU-3".to_owned(), ..Identity::default() },
            state: State::NeedsReset,
            values: vec![(place("DCGM_FI_DEV_GPU_UTIL"), -1)],
            links: vec![(2, place("casefile_gpu_nvlink_up"), 1)],
            processes: vec![Process { pid: 7, kind: 'G', memory: None }],
            mig: vec![Mig { uuid: "MIG-1".to_owned(), name: "x".to_owned(), memory_total: Some(1), memory_used: None }],
            failed: vec![Failed { why: Why::Absurd, text: "x".to_owned(), call: "y".to_owned(), more: 2 }],
            ..Gpu::default()
        };
        let event = NvmlEvent { wall: 1, boot: 2, pci: String::new(), what: "Xid 79".to_owned(), xid: Some(79) };
        let snapshot =
            Snapshot { gpus: vec![gpu], events: vec![event], events_lost: 3, slow: true, ..Snapshot::default() };
        for said in [
            Said::Ready(Versions { driver: Some("1".to_owned()), ..Versions::default() }),
            Said::NotReady { why: "x".to_owned(), no_driver: true },
            Said::Snapshot(Box::new(snapshot)),
            Said::Broken { why: "x".to_owned() },
            Said::Stalled { call: "x".to_owned() },
        ] {
            assert_eq!(serde_json::from_slice::<Said>(&serde_json::to_vec(&said).unwrap()).unwrap(), said);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = serde_json::from_slice::<Said>(&bytes);
        }

        #[test]
        fn places_that_the_table_does_not_have_are_gaps_and_no_readings(at in any::<u16>(), link in any::<u8>(), value in any::<i64>()) {
            let gpu = Gpu { values: vec![(at, value)], links: vec![(link, at, value)], ..Gpu::default() };
            let mut out = Measurement::new(&METRICS);
            values(&gpu, &Labels::of(&gpu.id), &mut out);
            let mut readings = 0;
            out.each(&mut |_, _, _| readings += 1);
            prop_assert!(readings + out.gaps().len() >= 1 && readings <= 1);
        }
    }
}
