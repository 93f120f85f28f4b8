//! The devices on PCI: which there are, and which of them have something to say (errors that AER counts, a link of
//! their own). What they say is parsed in `aer.rs` and `link.rs`.
//!
//! The list is read at every measurement, so that a device that falls off the bus is missing at once; a device is
//! looked at once, when it appears.

use std::collections::BTreeMap;

use casefile_proto::gap::{Gap, GapReason};

use super::metrics::DEVICES;
use super::place::{Hold, Place, Reader};
use super::{Round, aer, link};
use crate::pci::PciAddress;
use crate::text;

pub(super) const DIR: &str = "sys/bus/pci/devices";

/// Devices that are listed. A machine with all virtual functions of ten network cards has some thousands.
const MAX_LISTED: usize = 4096;
/// Devices that are read.
pub(super) const MAX_READ: usize = 512;
/// Of these, with a directory kept open.
pub(super) const MAX_KEPT: usize = 160;

/// Devices that are read at every measurement, whatever they are. Where there are more, those that only lie between
/// others (bridges, ports of switches) take turns: half of them at each measurement. Root ports tell in their totals at once
/// that something below them had an error. 200 devices with all files of each would cost 2.5 ms.
pub(super) const MAX_EACH_TIME: usize = 96;

/// Base classes of which links are read: mass storage, network, display and 3D, processing accelerators. They are what
/// suffers from a bad link; of what lies between, AER tells.
const LINK_CLASSES: [i64; 4] = [0x01, 0x02, 0x03, 0x12];

#[derive(Debug, Default)]
pub(super) struct Pci {
    devices: BTreeMap<PciAddress, Known>,
    /// 0 and 1 by turns: which half of what lies between others is left for another time.
    turn: usize,
}

/// What is known of a device that is listed.
#[derive(Debug)]
enum Known {
    /// It has nothing to say: bridges without AER, devices that are part of the processor.
    Silent,
    /// It is read.
    Read(Device),
    /// It would be, if there were not so many.
    LeftOut,
}

#[derive(Debug)]
struct Device {
    place: Place,
    address: String,
    /// As node_exporter has it.
    parts: [String; 4],
    counts_errors: bool,
    is_root_port: bool,
    has_link: bool,
}

impl Pci {
    pub(super) fn measure(&mut self, round: Round, reader: &mut Reader<'_>) {
        let Some(names) = reader.names(DIR, |name| PciAddress::parse(name).is_some()) else {
            self.devices.clear();
            return;
        };
        reader.out.reading(DEVICES, &["pci"], i64::try_from(names.len()).unwrap_or(i64::MAX));
        let mut listed: Vec<_> = names.iter().filter_map(|name| PciAddress::parse(name)).collect();
        listed.sort_unstable();
        let not_listed = listed.split_off(listed.len().min(MAX_LISTED)).len();
        self.take_in(&listed, reader);
        let left_out = self.devices.values().filter(|known| matches!(known, Known::LeftOut)).count() + not_listed;
        if left_out > 0 {
            let why = format!("more than {MAX_READ} devices on PCI have something to say: the others are not read");
            reader.out.gap(Gap::new(GapReason::Budget, why).counting(left_out as u64));
        }
        let crowded = self.devices.values().filter_map(Known::device).count() > MAX_EACH_TIME;
        self.turn = 1 - self.turn;
        for (i, device) in self.devices.values_mut().filter_map(Known::device_mut).enumerate() {
            let errors = if crowded && round == Round::Quick && !device.has_link && (i + self.turn).is_multiple_of(2) {
                Errors::AnotherTime
            } else {
                Errors::Now
            };
            device.measure(errors, round, reader);
        }
    }

    /// Forgets those that went and looks at those that came.
    fn take_in(&mut self, listed: &[PciAddress], reader: &mut Reader<'_>) {
        self.devices.retain(|address, _| listed.binary_search(address).is_ok());
        let read = || self.devices.values().filter_map(Known::device);
        let (mut all, mut kept) = (read().count(), read().filter(|device| device.place.is_kept()).count());
        for address in listed {
            if self.devices.contains_key(address) {
                continue;
            }
            let Some(mut known) = look(*address, Hold::of(kept, MAX_KEPT), reader) else { continue };
            if let Known::Read(device) = &known {
                if all >= MAX_READ {
                    known = Known::LeftOut;
                } else {
                    all += 1;
                    kept += usize::from(device.place.is_kept());
                }
            }
            self.devices.insert(*address, known);
        }
    }
}

impl Known {
    fn device(&self) -> Option<&Device> {
        match self {
            Self::Read(device) => Some(device),
            Self::Silent | Self::LeftOut => None,
        }
    }

    fn device_mut(&mut self) -> Option<&mut Device> {
        match self {
            Self::Read(device) => Some(device),
            Self::Silent | Self::LeftOut => None,
        }
    }
}

/// What a device has to say; `None` where that could not be found out: it is looked at again.
fn look(address: PciAddress, hold: Hold, reader: &mut Reader<'_>) -> Option<Known> {
    let name = address.to_string();
    let path = format!("{DIR}/{name}");
    let mut place = Place::new(reader.host, path.clone(), Hold::Open);
    if !place.is_kept() {
        return None;
    }
    // What is there and cannot be read says so when it is read.
    let mut has = |file| !place.read(reader.host, file, reader.buf).is_err_and(|error| error.is_not_found());
    let (counts_errors, is_root_port, link) = (has(aer::OF_DEVICE), has(aer::OF_ROOT_PORT), has(link::OF_LINK));
    // A virtual function has no link of its own.
    let has_link = link
        && reader.host.link(format!("{path}/physfn")).is_err()
        && LINK_CLASSES.contains(&reader.parsed(&mut place, "class", parse_class)?);
    if !(counts_errors || is_root_port || has_link) {
        return Some(Known::Silent);
    }
    let place = if hold == Hold::Open { place } else { Place::new(reader.host, path, hold) };
    Some(Known::Read(Device { place, address: name, parts: address.parts(), counts_errors, is_root_port, has_link }))
}

/// `0x030200`: the base class.
pub(crate) fn parse_class(text: &[u8]) -> Result<i64, text::BadLine<'_>> {
    let line = text::single(text)?;
    let bad = |why| text::BadLine { line, why };
    let class = text::hex(line.trim_ascii()).map_err(bad)?;
    if class > 0xff_ffff { Err(bad("a class beyond 24 bits")) } else { Ok(class >> 16) }
}

/// When the errors of a device are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errors {
    Now,
    AnotherTime,
}

impl Device {
    fn measure(&mut self, errors: Errors, round: Round, reader: &mut Reader<'_>) {
        if self.counts_errors && errors == Errors::Now {
            aer::device(&mut self.place, &self.address, reader);
        }
        if self.is_root_port {
            aer::root_port(&mut self.place, &self.address, reader);
        }
        if self.has_link {
            let labels = self.parts.each_ref().map(String::as_str);
            link::current(&mut self.place, &labels, reader);
            if round == Round::Full {
                link::best(&mut self.place, &labels, reader);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_base_class_is_the_first_of_three_bytes() {
        assert_eq!((parse_class(b"0x030200\n"), parse_class(b"0x120000\n")), (Ok(0x03), Ok(0x12)));
        assert!(parse_class(b"0x1030200\n").is_err() && parse_class(b"0x0302").is_err() && parse_class(b"").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_class_or_bad(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let _ = parse_class(&bytes);
            let _ = parse_class(&[b"0x", &bytes[..], b"\n"].concat());
        }
    }
}
