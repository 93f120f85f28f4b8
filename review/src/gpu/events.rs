//! What happened to GPUs: records of the NVIDIA driver in the kernel log, and what NVML reported by itself. The two are independent of
//! each other, and both are kept: one of them may have missed it.

use casefile_proto::event::{Event, EventKind};
use casefile_proto::time::WallTime;
use serde::Serialize;

use super::pods::Pod;
use crate::signatures::catalogue::catalogue;
use crate::signatures::logged::{Author, Reader, message};
use crate::signatures::pci::PciAddress;
use crate::signatures::xid::{NvidiaKind, NvidiaLine};

/// Where an event comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "from", rename_all = "kebab-case")]
pub enum From {
    /// The kernel log.
    Kernel {
        /// The kernel, or a program that wrote into its log: such a record is shown and proves nothing.
        author: Author,
    },
    /// The kernel log of a boot before, found when the agent started: its time is that of the finding.
    PreviousBoot {
        /// What it was found in.
        found_in: String,
    },
    /// NVML, through the `gpu` source.
    Nvml,
}

/// Something that happened to a GPU or an NVSwitch. Texts are the node's: escape before showing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GpuEvent {
    /// When, on the collector's clock.
    pub time: WallTime,
    /// Who says so.
    #[serde(flatten)]
    pub from: From,
    /// What is numbered: `Xid` or `SXid`.
    pub numbered: Option<&'static str>,
    /// The number.
    pub code: Option<u64>,
    /// What the number is called.
    pub name: Option<String>,
    /// The device.
    pub pci: Option<PciAddress>,
    /// NVML's index of the GPU at that address, as it was last known.
    pub gpu: Option<String>,
    /// The process that the record names.
    pub pid: Option<u32>,
    /// Its name: the record's, which the process chose.
    pub process: Option<String>,
    /// The pod of that process, by the last table of processes before the event.
    pub pod: Option<Pod>,
    /// Where the record names no process that is known: the pods that were on the GPU then.
    pub users: Vec<Pod>,
    /// A further record of one event, which counts with that.
    pub continues: bool,
    /// The record's text.
    pub text: String,
}

impl GpuEvent {
    /// Whether it counts as something that happened: not what a program wrote, nor what only continues another.
    pub fn counts(&self) -> bool {
        !self.is_forged() && !self.continues
    }

    /// Whether a program wrote it into the kernel's log.
    pub fn is_forged(&self) -> bool {
        self.from == From::Kernel { author: Author::Program }
    }
}

/// Recognises the events of GPUs among all.
#[derive(Debug, Default)]
pub(super) struct Recogniser {
    kernel: Reader,
    before: Reader,
}

impl Recogniser {
    /// What an event is, if it is about a GPU; without what the recording knows of GPU, process and pod.
    pub(super) fn of(&mut self, event: &Event) -> Option<GpuEvent> {
        match &event.kind {
            EventKind::Kernel { facility, .. } => {
                let author = Author::of_facility(*facility);
                // What a program writes must not finish a message that the driver began.
                let line = match author {
                    Author::Kernel => self.kernel.record(&event.text),
                    Author::Program | Author::Unknown => Reader::default().record(&event.text),
                };
                Some(of_line(event, From::Kernel { author }, &line?))
            }
            EventKind::PreviousBoot { found_in } => {
                let line = self.before.record(message(&event.text).0)?;
                Some(of_line(event, From::PreviousBoot { found_in: found_in.clone() }, &line))
            }
            EventKind::Gpu { pci, xid } => Some(of_nvml(event, pci, *xid)),
            _ => None,
        }
    }
}

fn of_line(event: &Event, from: From, line: &NvidiaLine<'_>) -> GpuEvent {
    let numbered = match line.kind {
        NvidiaKind::Xid { .. } | NvidiaKind::FallenOffBus => Some("Xid"),
        NvidiaKind::SXid { .. } => Some("SXid"),
        NvidiaKind::ApiMismatch { .. } => None,
    };
    let title = || catalogue().signatures.of_driver(line).map(|s| s.title.as_str());
    GpuEvent {
        numbered,
        code: line.code().map(u64::from),
        name: catalogue().name(&line.kind).or_else(title).map(str::to_owned),
        pci: line.pci.clone(),
        pid: line.pid,
        process: line.process.map(str::to_owned),
        continues: matches!(line.kind, NvidiaKind::SXid { continues: true, .. }),
        ..blank(event, from)
    }
}

/// What NVML reported, or what became of a GPU.
fn of_nvml(event: &Event, pci: &str, xid: Option<u64>) -> GpuEvent {
    let name = xid.and_then(|xid| catalogue().xid_name(u32::try_from(xid).ok()?));
    GpuEvent {
        numbered: xid.map(|_| "Xid"),
        code: xid,
        name: name.map(str::to_owned),
        pci: PciAddress::parse(pci),
        ..blank(event, From::Nvml)
    }
}

fn blank(event: &Event, from: From) -> GpuEvent {
    GpuEvent {
        time: event.at.wall,
        from,
        numbered: None,
        code: None,
        name: None,
        pci: None,
        gpu: None,
        pid: None,
        process: None,
        pod: None,
        users: Vec::new(),
        continues: false,
        text: event.text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use casefile_proto::time::{BootTime, Stamp};

    use super::*;

    fn event(kind: EventKind, text: &str) -> Event {
        let at = Stamp { wall: WallTime::from_secs(7), boot: BootTime::from_nanos(1) };
        Event { at, kind, text: text.to_owned() }
    }

    fn kernel(facility: u8, text: &str) -> Event {
        event(EventKind::Kernel { seq: Some(1), facility, level: 3 }, text)
    }

    #[test]
    fn what_the_kernel_says_counts_and_what_a_program_wrote_does_not() {
        let text = "NVRM: Xid (PCI:0000:84:00): 79, pid=77, name=train, GPU has fallen off the bus.";
        let mut all = Recogniser::default();
        let own = all.of(&kernel(0, text)).unwrap();
        assert_eq!((own.numbered, own.code, own.pid, own.counts()), (Some("Xid"), Some(79), Some(77), true));
        assert_eq!(own.name.as_deref(), Some("ROBUST_CHANNEL_GPU_HAS_FALLEN_OFF_THE_BUS"));
        let forged = all.of(&kernel(1, text)).unwrap();
        assert!(forged.is_forged() && !forged.counts());
        assert!(all.of(&kernel(0, "eth0: link up")).is_none());
        assert!(all.of(&event(EventKind::AgentStarted, text)).is_none());
    }

    #[test]
    fn a_program_cannot_finish_what_the_driver_began() {
        let mut all = Recogniser::default();
        assert!(all.of(&kernel(0, "NVRM: The NVIDIA GPU 0000:84:00.0")).is_none());
        let forged = all.of(&kernel(1, "NVRM: fallen off the bus and is not responding to commands.")).unwrap();
        assert!(forged.pci.is_none() && forged.is_forged());
        let own = all.of(&kernel(0, "NVRM: fallen off the bus and is not responding to commands.")).unwrap();
        assert_eq!((own.pci.unwrap().to_string().as_str(), own.code), ("0000:84:00.0", Some(79)));
    }

    #[test]
    fn the_last_words_of_the_boot_before_are_recognised_behind_their_times() {
        let found_in = "/sys/fs/pstore/dmesg-efi-1".to_owned();
        let event = event(EventKind::PreviousBoot { found_in }, "<3>[   99.5] NVRM: Xid (PCI:0000:84:00): 62, x");
        let found = Recogniser::default().of(&event).unwrap();
        assert_eq!((found.code, found.counts()), (Some(62), true));
    }

    #[test]
    fn what_nvml_reports_is_an_event_of_its_own() {
        let gpu = |pci: &str, xid| event(EventKind::Gpu { pci: pci.to_owned(), xid }, "NVML reports it");
        let found = Recogniser::default().of(&gpu("0000:84:00.0", Some(79))).unwrap();
        assert_eq!((found.from.clone(), found.code, found.counts()), (From::Nvml, Some(79), true));
        assert_eq!(found.name.as_deref(), Some("ROBUST_CHANNEL_GPU_HAS_FALLEN_OFF_THE_BUS"));
        assert_eq!(found.pci.unwrap().to_string(), "0000:84:00.0");
        let lost = Recogniser::default().of(&gpu("", None)).unwrap();
        assert_eq!((lost.code, lost.numbered, lost.pci), (None, None, None));
    }
}
