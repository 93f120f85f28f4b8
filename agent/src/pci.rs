//! The address of a device on PCI, as the kernel writes it in paths and in its log: `0000:84:00.0`.

use std::fmt;

/// Where a device sits: domain (segment), bus, device and function. Domains may have more than four digits: controllers
/// for NVMe RAID make up domains from `10000` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl PciAddress {
    /// `0000:84:00.0`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (domain, rest) = text.split_once(':')?;
        let (bus, rest) = rest.split_once(':')?;
        let (device, function) = rest.split_once('.')?;
        let fits = (4..=8).contains(&domain.len()) && (bus.len(), device.len(), function.len()) == (2, 2, 1);
        let address = Self {
            domain: u32::try_from(crate::text::hex(domain.as_bytes()).ok()?).ok()?,
            bus: u8::try_from(crate::text::hex(bus.as_bytes()).ok()?).ok()?,
            device: u8::try_from(crate::text::hex(device.as_bytes()).ok()?).ok()?,
            function: u8::try_from(crate::text::hex(function.as_bytes()).ok()?).ok()?,
        };
        // Five bits of a device, three of a function; what does not print as it was read (`0x01:…`) is no address.
        let whole = fits && address.device < 32 && address.function < 8;
        (whole && address.to_string().eq_ignore_ascii_case(text)).then_some(address)
    }

    /// `00000000:84:00.0`, as NVML writes it: eight digits of domain, capitals.
    pub fn parse_nvml(text: &str) -> Option<Self> {
        let (domain, rest) = text.split_once(':')?;
        let number = crate::text::hex(domain.as_bytes()).ok().filter(|_| domain.len() == 8)?;
        Self::parse(&format!("{number:04x}:{rest}"))
    }

    /// The same as NVML writes it.
    pub fn to_nvml(self) -> String {
        let Self { domain, bus, device, function } = self;
        format!("{domain:08X}:{bus:02X}:{device:02X}.{function:X}")
    }

    /// Segment, bus, device and function as node_exporter writes them: hexadecimal, each a label of its own.
    pub fn parts(&self) -> [String; 4] {
        let Self { domain, bus, device, function } = self;
        [format!("{domain:04x}"), format!("{bus:02x}"), format!("{device:02x}"), format!("{function:x}")]
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_prints_as_it_was_read() {
        for text in ["0000:84:00.0", "0001:00:1f.7", "10000:e1:00.0"] {
            assert_eq!(PciAddress::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(PciAddress::parse("0000:3B:00.0").unwrap().parts(), ["0000", "3b", "00", "0"]);
    }

    #[test]
    fn what_nvml_writes_is_what_the_kernel_means() {
        for (nvml, kernel) in [
            ("00000000:84:00.0", "0000:84:00.0"),
            ("00000009:0A:00.0", "0009:0a:00.0"),
            ("00010000:E1:1F.7", "10000:e1:1f.7"),
        ] {
            let address = PciAddress::parse_nvml(nvml).unwrap();
            assert_eq!((address.to_string().as_str(), address.to_nvml().as_str()), (kernel, nvml));
        }
        for text in ["", "0000:84:00.0", "000000000:84:00.0", "+0000000:84:00.0", "0000000x:84:00.0", "00000000:84:00"]
        {
            assert_eq!(PciAddress::parse_nvml(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_none() {
        for text in [
            "",
            "84:00.0",
            "0000:84:00",
            "0000:84:00.8",
            "0000:84:20.0",
            "0x00:84:00.0",
            "0000:84:00.0 ",
            "00000:84:00.0",
        ] {
            assert_eq!(PciAddress::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_none(text in "[0-9a-fx:.]{0,14}|.{0,20}") {
            if let Some(address) = PciAddress::parse(&text) {
                prop_assert!(address.to_string().eq_ignore_ascii_case(&text));
            }
        }
    }
}
