//! PCI addresses as the kernel, the driver and NVML write them, in one form.
//!
//! The driver leaves out the function in an Xid, very old drivers the domain too, and NVML writes the domain with eight digits. What
//! was written is kept beside the one form, because a reader searches for the text that stands in the log.

use std::fmt;

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

/// The address of a device on the PCI bus.
#[derive(Debug, Clone)]
pub struct PciAddress {
    written: String,
    domain: u32,
    bus: u8,
    device: u8,
    function: Option<u8>,
}

impl PciAddress {
    /// `0000:84:00`, `0000:84:00.0`, `00000000:84:00.0`, `84:00.0`, each with or without `PCI:` before it, in either case.
    /// With two parts only they are bus and device, as old drivers wrote them (`0001:00`).
    pub fn parse(text: &str) -> Option<Self> {
        let address = text.strip_prefix("PCI:").unwrap_or(text);
        let (head, last) = address.rsplit_once(':')?;
        let (device, function) = match last.split_once('.') {
            Some((device, function)) => (device, Some(u8::try_from(hex(function, 1)?).ok().filter(|f| *f < 8)?)),
            None => (last, None),
        };
        let (domain, bus) = match head.split_once(':') {
            Some((domain, bus)) => (hex(domain, 8)?, hex(bus, 2)?),
            None => (0, hex(head, 4)?),
        };
        Some(Self {
            written: text.to_owned(),
            domain,
            bus: u8::try_from(bus).ok()?,
            device: u8::try_from(hex(device, 2)?).ok().filter(|d| *d < 32)?,
            function,
        })
    }

    /// As it was written, with `PCI:` where that stood before it.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Whether both are the same device, whatever was said of the function.
    pub fn same_device(&self, other: &Self) -> bool {
        (self.domain, self.bus, self.device) == (other.domain, other.bus, other.device)
    }
}

/// Two texts that mean one address are equal.
impl PartialEq for PciAddress {
    fn eq(&self, other: &Self) -> bool {
        self.same_device(other) && self.function == other.function
    }
}

impl Eq for PciAddress {}

/// `0000:84:00`, or `0000:84:00.0` where the function was given.
impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}", self.domain, self.bus, self.device)?;
        self.function.map_or(Ok(()), |function| write!(f, ".{function:x}"))
    }
}

impl Serialize for PciAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("PciAddress", 2)?;
        out.serialize_field("address", &self.to_string())?;
        out.serialize_field("written", &self.written)?;
        out.end()
    }
}

/// One to `at_most` hexadecimal digits and nothing else.
fn hex(text: &str, at_most: usize) -> Option<u32> {
    let sound = (1..=at_most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    sound.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_in_which_an_address_is_written_has_one_form() {
        for (written, form) in [
            ("0000:84:00", "0000:84:00"),
            ("PCI:0000:84:00", "0000:84:00"),
            ("PCI:0000:C1:1F.7", "0000:c1:1f.7"),
            ("00000000:84:00.0", "0000:84:00.0"),
            ("84:00.0", "0000:84:00.0"),
            ("0001:00", "0000:01:00"),
            ("10000:e1:00.0", "10000:e1:00.0"),
        ] {
            let address = PciAddress::parse(written).unwrap();
            assert_eq!((address.to_string().as_str(), address.written()), (form, written));
            assert_eq!(PciAddress::parse(form).unwrap(), address);
        }
    }

    #[test]
    fn what_is_no_address_is_none() {
        for bad in [
            "",
            ":",
            "PCI:",
            "0000",
            "0000:84",
            "0000:84:20",
            "0000:84:00.8",
            "0000:840:00",
            "g:00",
            "1:2:3:4",
            "0000:84:00.",
        ] {
            assert!(PciAddress::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_device_is_the_same_with_and_without_its_function() {
        let of = |text| PciAddress::parse(text).unwrap();
        assert!(of("PCI:0000:84:00").same_device(&of("00000000:84:00.0")));
        assert!(!of("PCI:0000:84:00").same_device(&of("0001:84:00")));
        assert_ne!(of("0000:84:00"), of("0000:84:00.0"));
    }
}
