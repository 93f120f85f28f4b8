//! Which GPUs there should be: those that NVML listed since this boot or in the boot before, those on the PCI bus, those
//! that the driver has in `/proc/driver/nvidia`. A GPU that is gone stays in the record, as gone.
//!
//! What NVML listed is kept in a small file, so that it is known after a reboot and after a restart of the agent.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use casefile_proto::ids::BootId;
use serde::{Deserialize, Serialize};

use super::said::{Identity, Snapshot};
use crate::host::Host;
use crate::pci::PciAddress;
use crate::sources::inventory::{names, target};

/// NVIDIA's number among the makers of PCI devices.
const NVIDIA: &[u8] = b"0x10de";

/// Classes of GPUs: display and 3D controllers. NVIDIA's bridges and switches are of others.
const GPU_CLASSES: [&[u8]; 2] = [b"0x0300", b"0x0302"];

/// One word of sysfs.
const MAX_WORD: usize = 64;

/// A file that is longer was not written by us: 64 GPUs are some ten kilobytes, twice.
const MAX_REMEMBERED: u64 = 256 << 10;

/// GPUs that are remembered. More than a machine has, also if each was replaced.
const MAX_GPUS: usize = 256;

/// A GPU as the PCI bus has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OnBus {
    /// `0000:84:00.0`.
    pub(super) address: String,
    /// What has it: `nvidia`, `vfio-pci`, nothing.
    pub(super) driver: Option<String>,
}

impl OnBus {
    /// Whether NVML should list it: not where it was given to a virtual machine or to another driver.
    pub(super) fn is_ours(&self) -> bool {
        self.driver.as_deref().is_none_or(|driver| driver == "nvidia")
    }
}

/// The GPUs on the PCI bus, in order of address.
pub(super) fn on_bus(host: &Host) -> Vec<OnBus> {
    let mut found = Vec::new();
    let mut buf = Vec::new();
    for name in names(host, "sys/bus/pci/devices") {
        let base = format!("sys/bus/pci/devices/{name}");
        let mut is = |file: &str, wanted: &[&[u8]]| {
            host.read(format!("{base}/{file}"), &mut buf, MAX_WORD).is_ok() && wanted.iter().any(|w| buf.starts_with(w))
        };
        if is("vendor", &[NVIDIA]) && is("class", &GPU_CLASSES) {
            found.push(OnBus { address: name, driver: target(host, &format!("{base}/driver")) });
        }
    }
    found
}

/// The addresses of the GPUs that the driver has; `None` where there is no driver.
pub(super) fn of_driver(host: &Host) -> Option<Vec<String>> {
    host.dir("proc/driver/nvidia").ok()?;
    Some(names(host, "proc/driver/nvidia/gpus"))
}

/// A PCI address as the kernel writes it, from one as NVML does; what is none stays as it is.
pub(super) fn kernel_address(nvml: &str) -> String {
    PciAddress::parse_nvml(nvml).map_or_else(|| nvml.to_owned(), |address| address.to_string())
}

/// A PCI address as NVML writes it.
pub(super) fn nvml_address(kernel: &str) -> String {
    PciAddress::parse(kernel).map_or_else(|| kernel.to_owned(), PciAddress::to_nvml)
}

/// What is in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    /// The boot in which `gpus` were seen.
    boot: Option<BootId>,
    gpus: Vec<Identity>,
    /// In the boot before that.
    before: Vec<Identity>,
}

/// The GPUs that NVML listed so far.
pub(super) struct Presence {
    file: Option<PathBuf>,
    boot: Option<BootId>,
    /// By UUID: in this boot.
    seen: BTreeMap<String, Identity>,
    last_boot: Vec<Identity>,
}

impl Presence {
    /// What is known of this boot and the one before it. Without a file only what comes is known.
    pub(super) fn load(file: Option<PathBuf>, boot: Option<BootId>) -> Self {
        let known = file.as_deref().and_then(read).unwrap_or_default();
        let (seen, last_boot) = if known.boot.is_some() && known.boot == boot {
            (known.gpus, known.before)
        } else {
            (Vec::new(), known.gpus)
        };
        let seen = seen.into_iter().map(|gpu| (gpu.uuid.clone(), gpu)).collect();
        Self { file, boot, seen, last_boot }
    }

    /// How many there were in the boot before this one; `None` where nobody knows.
    pub(super) fn in_last_boot(&self) -> Option<usize> {
        (!self.last_boot.is_empty()).then_some(self.last_boot.len())
    }

    /// Takes note of what is listed. An error is of the file: what is known in memory is right all the same.
    pub(super) fn note(&mut self, snapshot: &Snapshot) -> std::io::Result<()> {
        let mut news = false;
        for gpu in snapshot.gpus.iter().map(|gpu| &gpu.id).filter(|id| !id.uuid.is_empty()) {
            if self.seen.get(&gpu.uuid) != Some(gpu) && self.seen.len() < MAX_GPUS {
                self.seen.insert(gpu.uuid.clone(), gpu.clone());
                news = true;
            }
        }
        match &self.file {
            Some(file) if news => self.write(file),
            _ => Ok(()),
        }
    }

    /// Of a GPU that is lost NVML may not even say which it is. Where it lists as many as there were, it is the one that had
    /// its number.
    pub(super) fn identify(&self, snapshot: &mut Snapshot) {
        if snapshot.gpus.len() != self.seen.len() {
            return;
        }
        let listed: Vec<String> = snapshot.gpus.iter().map(|gpu| gpu.id.uuid.clone()).collect();
        for gpu in snapshot.gpus.iter_mut().filter(|gpu| gpu.id.uuid.is_empty()) {
            let own = self.seen.values().find(|id| id.index == gpu.id.index && !listed.contains(&id.uuid));
            if let Some(own) = own {
                gpu.id.clone_from(own);
            }
        }
    }

    /// Those that were there and are not listed any more, in the order of their UUIDs, and whether each was there in this
    /// boot.
    pub(super) fn vanished(&self, snapshot: &Snapshot) -> Vec<(&Identity, bool)> {
        let listed = |id: &Identity| snapshot.gpus.iter().any(|gpu| gpu.id.uuid == id.uuid);
        let now = self.seen.values().map(|id| (id, true));
        let before = self.last_boot.iter().filter(|id| !self.seen.contains_key(&id.uuid)).map(|id| (id, false));
        now.chain(before).filter(|(id, _)| !listed(id)).collect()
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        let gpus = self.seen.values().cloned().collect();
        let known = Remembered { boot: self.boot, gpus, before: self.last_boot.clone() };
        let beside = path.with_extension("new");
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(&serde_json::to_vec(&known)?)?;
        file.sync_data()?;
        std::fs::rename(&beside, path)
    }
}

/// What the file says; `None` where it is missing or damaged: then it is begun anew.
fn read(path: &Path) -> Option<Remembered> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MAX_REMEMBERED).read_to_end(&mut bytes).ok()?;
    let mut known: Remembered = serde_json::from_slice(&bytes).ok()?;
    known.gpus.truncate(MAX_GPUS);
    known.before.truncate(MAX_GPUS);
    Some(known)
}

#[cfg(test)]
mod tests {
    use super::super::said::Gpu;
    use super::*;

    fn gpu(index: u32) -> Identity {
        Identity { index, uuid: format!("GPU-{index}"), pci: format!("00000000:8{index}:00.0"), ..Identity::default() }
    }

    fn snapshot(gpus: &[u32]) -> Snapshot {
        let gpus = gpus.iter().map(|index| Gpu { id: gpu(*index), ..Gpu::default() }).collect();
        Snapshot { gpus, ..Snapshot::default() }
    }

    fn vanished(presence: &Presence, listed: &[u32]) -> Vec<(String, bool)> {
        let listed = snapshot(listed);
        presence.vanished(&listed).into_iter().map(|(id, now)| (id.uuid.clone(), now)).collect()
    }

    #[test]
    fn a_gpu_that_goes_is_remembered_over_a_restart_and_over_one_reboot() {
        let dir = tempfile::tempdir().unwrap();
        let (file, boots) = (dir.path().join("gpus.json"), [1, 2, 3].map(|n| Some(BootId::from_bytes([n; 16]))));
        let load = |boot| Presence::load(Some(file.clone()), boot);
        let mut presence = load(boots[0]);
        assert_eq!(presence.in_last_boot(), None);
        presence.note(&snapshot(&[0, 1, 2])).unwrap();
        assert_eq!(vanished(&presence, &[0, 2]), [("GPU-1".to_owned(), true)]);
        presence.note(&snapshot(&[0, 2])).unwrap();
        assert_eq!(vanished(&load(boots[0]), &[0, 2]), [("GPU-1".to_owned(), true)], "the agent was restarted");
        let mut presence = load(boots[1]);
        assert_eq!(presence.in_last_boot(), Some(3));
        presence.note(&snapshot(&[0, 2])).unwrap();
        assert_eq!(vanished(&presence, &[0, 2]), [("GPU-1".to_owned(), false)]);
        let presence = load(boots[2]);
        assert_eq!((presence.in_last_boot(), vanished(&presence, &[0, 2])), (Some(2), Vec::new()));
    }

    #[test]
    fn a_damaged_file_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gpus.json");
        for damage in ["", "{", "[1]", r#"{"boot":null,"gpus":[],"before":[],"more":1}"#] {
            std::fs::write(&file, damage).unwrap();
            let mut presence = Presence::load(Some(file.clone()), None);
            assert_eq!(presence.in_last_boot(), None, "{damage:?}");
            presence.note(&snapshot(&[0])).unwrap();
        }
        let mut nowhere = Presence::load(Some(dir.path().join("missing/gpus.json")), None);
        assert!(nowhere.note(&snapshot(&[0])).is_err());
        assert_eq!(vanished(&nowhere, &[]).len(), 1);
    }
}
