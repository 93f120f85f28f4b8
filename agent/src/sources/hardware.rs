//! What the machine's hardware says of itself: memory errors (EDAC), PCIe errors (AER) and links, sensors (hwmon), NVMe
//! controllers, InfiniBand ports. One file below for each, with what is not read and why.
//!
//! Throttling of processors for heat is in `cpu`; GPUs have a source of their own, except for how they sit on PCIe.

mod aer;
mod breaker;
mod edac;
mod hwmon;
mod infiniband;
mod link;
mod metrics;
mod nvme;
mod pci;
mod place;
mod port_counters;

use std::time::Duration;

use super::{Measurement, Opened, Source, SourceError, SourceSpec};
use crate::clock;
use crate::host::Host;
use crate::text;
use metrics::METRICS;
use place::Reader;

/// The source.
pub static SPEC: SourceSpec = SourceSpec {
    name: "hardware",
    about: "memory errors, PCIe errors and links, sensors, NVMe controllers and InfiniBand ports, from /sys/devices/system/edac, /sys/bus/pci and /sys/class/{hwmon,nvme,infiniband}",
    every: Duration::from_secs(10),
    // A device that does not answer holds up who reads its registers; some sensors measure for a second.
    deadline: Duration::from_secs(5),
    metrics: &METRICS,
    open,
};

/// What hardly changes (names, limits, what a link could do) is read at every sixth measurement: once a minute.
const FULL_EVERY: u32 = 6;

/// Descriptors that the source holds at most. The process has 1,024 where nobody gave it more.
const MAX_DESCRIPTORS: usize = 256;
const _: () = assert!(
    edac::MAX_KEPT + pci::MAX_KEPT + nvme::MAX_KEPT + infiniband::MAX_KEPT + hwmon::MAX_KEPT <= MAX_DESCRIPTORS
);

/// How much is read at a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// What changes.
    Quick,
    /// And what hardly does.
    Full,
}

fn open(host: &Host) -> Result<Opened, SourceError> {
    let dirs = [edac::DIR, pci::DIR, hwmon::DIR, nvme::DIR, infiniband::DIR];
    if dirs.iter().all(|dir| host.dir(dir).is_err_and(|error| error.is_not_found())) {
        return Ok(Opened::Absent { why: format!("none of /{} is there", dirs.join(", /")) });
    }
    Ok(Opened::Ready(Box::new(Hardware {
        host: host.clone(),
        clock: clock::system(),
        edac: edac::Edac::default(),
        pci: pci::Pci::default(),
        hwmon: hwmon::Hwmon::default(),
        nvme: nvme::Nvme::default(),
        infiniband: infiniband::Infiniband::default(),
        tick: 0,
        buf: Vec::new(),
    })))
}

struct Hardware {
    host: Host,
    clock: clock::Clock,
    edac: edac::Edac,
    pci: pci::Pci,
    hwmon: hwmon::Hwmon,
    nvme: nvme::Nvme,
    infiniband: infiniband::Infiniband,
    tick: u32,
    buf: Vec<u8>,
}

impl Source for Hardware {
    fn measure(&mut self, out: &mut Measurement) -> Result<(), SourceError> {
        let round = if self.tick.is_multiple_of(FULL_EVERY) { Round::Full } else { Round::Quick };
        self.tick = self.tick.wrapping_add(1);
        let mut reader = Reader { host: &self.host, buf: &mut self.buf, out };
        self.edac.measure(round, &mut reader);
        self.pci.measure(round, &mut reader);
        self.nvme.measure(round, &mut reader);
        self.infiniband.measure((self.clock)().boot, round, &mut reader);
        // The slowest last: what was read before it is kept when it is late.
        self.hwmon.measure(round, &mut reader);
        Ok(())
    }
}

/// The number in a name such as `mc0` or `hwmon12`, as text.
fn numbered<'a>(name: &'a str, kind: &str) -> Option<&'a str> {
    name.strip_prefix(kind).filter(|number| text::number(number.as_bytes()).is_ok())
}

#[cfg(test)]
mod tests;
