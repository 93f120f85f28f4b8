//! What the NVIDIA driver writes into the kernel log when a GPU or an NVSwitch fails: one record, read into its parts.
//!
//! Pure and total. The record must begin with the driver's own words: a text in which somebody quotes them is none. The forms are those
//! that the driver's source prints (`krcReportXid_IMPL`, `osHandleGpuLost`, `rm_perform_version_check` and `NVSWITCH_PRINT_SXID` of
//! <https://github.com/NVIDIA/open-gpu-kernel-modules>, 595.45.04), and the older ones of NVIDIA's Xid document of 2017.

use serde::Serialize;

use super::pci::PciAddress;

/// A record of the driver, in its parts. Texts are the node's: escape them before showing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NvidiaLine<'a> {
    /// What it reports.
    #[serde(flatten)]
    pub kind: NvidiaKind<'a>,
    /// Which GPU or NVSwitch; `None` where the record does not say.
    pub pci: Option<PciAddress>,
    /// The process in whose channel it happened, where the driver knew it.
    pub pid: Option<u32>,
    /// That process's name up to the first `, `. The process chose it: one with a `, ` in it ends early, and the rest
    /// of it begins `rest`.
    pub process: Option<&'a str>,
    /// The GPU instance (MIG) that it is put down to.
    pub gpu_instance: Option<u32>,
    /// The compute instance (MIG) that it is put down to.
    pub compute_instance: Option<u32>,
    /// What follows: the driver's message.
    pub rest: &'a str,
}

/// What a record of the driver reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum NvidiaKind<'a> {
    /// An Xid: an error of a GPU, by number.
    Xid {
        /// The number.
        code: u32,
        /// What NVLink 5 adds (Xid 144 to 150).
        nvlink: Option<NvLink<'a>>,
    },
    /// An SXid: an error of an NVSwitch, by number.
    #[serde(rename = "sxid")]
    SXid {
        /// The number.
        code: u32,
        /// The switch: `nvswitch3`.
        switch: &'a str,
        /// What the driver thinks of it, where it says so.
        severity: Option<SwitchSeverity>,
        /// Which NVLink of the switch.
        link: Option<u32>,
        /// A further record of an SXid that was reported before (`Data {…}`, `Severity 1 Engine instance …`): no event of its own.
        continues: bool,
    },
    /// The GPU no longer answers on the bus, said without an Xid before it.
    FallenOffBus,
    /// Driver and user-space libraries are of different versions.
    ApiMismatch {
        /// The version of the library.
        client: Option<&'a str>,
        /// The version of the kernel module.
        driver: Option<&'a str>,
    },
}

/// What a record of NVLink 5 says besides the number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NvLink<'a> {
    /// The part of the link that reports: `NETIR_LINK_EVT`.
    pub unit: &'a str,
    /// Whether the driver calls it fatal.
    pub fatal: bool,
    /// The link; `None` where the driver writes -1: all of them.
    pub link: Option<u32>,
    /// The first word in parentheses: what exactly happened, to be decoded with NVIDIA's table.
    pub info: u32,
    /// Bits 20 to 25 of it, by which that table is ordered.
    pub subcode: u32,
    /// The second word: the error status.
    pub status: u32,
}

/// What the switch's driver thinks of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwitchSeverity {
    /// Traffic on the link, or on the whole fabric, cannot go on.
    Fatal,
    /// The switch goes on.
    NonFatal,
}

impl NvidiaLine<'_> {
    /// The number of an Xid or SXid. A GPU that fell off the bus has that of the Xid that newer drivers leave out, 79.
    pub fn code(&self) -> Option<u32> {
        match self.kind {
            NvidiaKind::Xid { code, .. } | NvidiaKind::SXid { code, .. } => Some(code),
            NvidiaKind::FallenOffBus => Some(FALLEN_OFF_BUS),
            NvidiaKind::ApiMismatch { .. } => None,
        }
    }

    /// What the driver now asks for, where this is the Xid that says so (154): `Drain and Reset`.
    pub fn recovery_action(&self) -> Option<&str> {
        let (_, to) =
            matches!(self.kind, NvidiaKind::Xid { code: 154, .. }).then(|| self.rest.rsplit_once(" to 0x"))??;
        to.split_once('(')?.1.strip_suffix(')')
    }

    /// The Xid that this one only cleans up after, where the driver names it (45).
    pub fn previous_xid(&self) -> Option<u32> {
        let (_, previous) = matches!(self.kind, NvidiaKind::Xid { code: 45, .. })
            .then(|| self.rest.rsplit_once("caused by previous Xid "))??;
        number(previous)
    }
}

/// The Xid of a GPU that has fallen off the bus.
pub const FALLEN_OFF_BUS: u32 = 79;

/// Reads the text of one record of the kernel log; `None` when it is no record of the NVIDIA driver that reports an error.
pub fn nvidia_line(text: &str) -> Option<NvidiaLine<'_>> {
    match text.strip_prefix("NVRM:") {
        Some(message) => {
            let message = message.trim_start_matches(' ');
            xid(message)
                .or_else(|| fallen_off_bus(message))
                .or_else(|| fallen_off_bus_in_lines(text))
                .or_else(|| api_mismatch(text, message))
        }
        None => sxid(text),
    }
}

/// The address of the record `NVRM: The NVIDIA GPU 0000:18:00.0`, with which a message over several lines begins. A log that
/// stores its lines apart says only in the last one what it is about.
pub fn first_line_of_several(text: &str) -> Option<PciAddress> {
    let words = text.strip_prefix("NVRM:")?.trim_start_matches(' ').strip_prefix("The NVIDIA GPU ")?;
    PciAddress::parse(words.split_whitespace().next()?)
}

/// `Xid (PCI:0000:84:00 GPU-I:05): 94, pid=7194, name=python, Contained: …`.
fn xid(message: &str) -> Option<NvidiaLine<'_>> {
    let (place, rest) = message.strip_prefix("Xid (")?.split_once("): ")?;
    let mut places = place.split(' ');
    let pci = PciAddress::parse(places.next()?)?;
    let (mut gpu_instance, mut compute_instance) = (None, None);
    for place in places {
        match place.split_once(':')? {
            ("GPU-I", n) => gpu_instance = Some(number(n)?),
            ("GPU-CI", n) => compute_instance = Some(number(n)?),
            _ => return None,
        }
    }
    let (code, rest) = code(rest)?;
    let (pid, rest) = field(rest, "pid=");
    let (process, rest) = field(rest, "name=");
    let rest = rest.trim();
    Some(NvidiaLine {
        kind: NvidiaKind::Xid { code, nvlink: nvlink(rest) },
        pci: Some(pci),
        pid: pid.and_then(number),
        process: process.filter(|name| !name.is_empty() && !UNKNOWN.contains(name)),
        gpu_instance,
        compute_instance,
        rest,
    })
}

/// What drivers write where they do not know a process.
const UNKNOWN: [&str; 3] = ["<unknown>", "'<unknown>'", "'N/A'"];

/// `79`, and what stands behind the comma. The number ends the record or a comma follows it: anything else is another message.
fn code(text: &str) -> Option<(u32, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (code, rest) = text.split_at(digits);
    let rest = match rest.strip_prefix(',') {
        Some(rest) => rest.trim_start_matches(' '),
        None if rest.trim().is_empty() => "",
        None => return None,
    };
    Some((number(code)?, rest))
}

/// The value of a leading `name=value`, and what stands behind its comma.
fn field<'a>(text: &'a str, name: &str) -> (Option<&'a str>, &'a str) {
    match text.strip_prefix(name) {
        Some(text) => {
            let (value, rest) = text.split_once(", ").unwrap_or((text, ""));
            (Some(value.trim_end()), rest)
        }
        None => (None, text),
    }
}

/// Digits and nothing else.
fn number(text: &str) -> Option<u32> {
    let sound = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    sound.then(|| text.parse().ok()).flatten()
}

/// `NETIR_LINK_EVT Fatal XC0 i0 Link 08 (0x004505c6 0x00000000 …)`.
fn nvlink(message: &str) -> Option<NvLink<'_>> {
    let (before, words) = message.split_once('(')?;
    let mut before = before.split_whitespace();
    let unit = before
        .next()
        .filter(|u| u.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"_/".contains(&b)))?;
    let fatal = match before.next()? {
        "Fatal" => true,
        "Nonfatal" => false,
        _ => return None,
    };
    number(before.next()?.strip_prefix("XC")?)?;
    // `i0`, or `i1` where the error was injected to try things out.
    before.next().filter(|word| word.starts_with('i'))?;
    let link = before.next().filter(|word| *word == "Link").and_then(|_| before.next())?;
    let link = if link == "-1" { None } else { Some(number(link)?) };
    let mut words = words.split_once(')')?.0.split_whitespace().map(|word| word.strip_prefix("0x"));
    let mut word = || words.next().flatten().and_then(|w| u32::from_str_radix(w, 16).ok());
    let (info, status) = (word()?, word()?);
    Some(NvLink { unit, fatal, link, info, subcode: (info >> 20) & 0x3f, status })
}

/// `GPU 0000:29:00.0: GPU has fallen off the bus.`, or the last line alone of the message over several lines.
fn fallen_off_bus(message: &str) -> Option<NvidiaLine<'_>> {
    if message.starts_with("fallen off the bus and is not responding to commands") {
        return Some(line(NvidiaKind::FallenOffBus, None, message.trim_end()));
    }
    let (address, rest) = message.strip_prefix("GPU ")?.split_once(": ")?;
    let pci = PciAddress::parse(address)?;
    let rest = rest.trim_end();
    rest.starts_with("GPU has fallen off the bus").then(|| line(NvidiaKind::FallenOffBus, Some(pci), rest))
}

/// `The NVIDIA GPU 0000:18:00.0`, `(PCI ID: 10de:2901) installed in this system has`, `fallen off the bus and …`, as one
/// record; where the lines break differs between drivers.
fn fallen_off_bus_in_lines(text: &str) -> Option<NvidiaLine<'_>> {
    let pci = first_line_of_several(text)?;
    let mut words = text.lines().take(MOST_LINES).flat_map(driver_words);
    let mut sentence = "has fallen off the bus and is not responding to commands".split(' ');
    words.find(|word| *word == "system")?;
    sentence.all(|word| words.next().is_some_and(|w| w.trim_end_matches('.') == word)).then_some(())?;
    let (_, rest) = text.split_once(pci.written())?;
    Some(line(NvidiaKind::FallenOffBus, Some(pci), rest.trim()))
}

/// A message over several lines has no more than this.
const MOST_LINES: usize = 6;

/// The words of one line of several, without the driver's name before them.
fn driver_words(line: &str) -> impl Iterator<Item = &str> {
    let line = line.trim_start();
    line.strip_prefix("NVRM:").unwrap_or(line).split_whitespace()
}

/// `API mismatch: the client 'nvidia-smi' (pid 4321)`, `has the version 550.54.15, but this kernel module has`, `the version …`.
fn api_mismatch<'a>(text: &'a str, message: &'a str) -> Option<NvidiaLine<'a>> {
    let rest = message.strip_prefix("API mismatch: the client")?.strip_prefix(' ')?;
    let mut versions = text.match_indices("the version ").map(|(at, says)| {
        let version = text.get(at + says.len()..).unwrap_or_default();
        let end = version.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(version.len());
        version.get(..end).unwrap_or_default().trim_end_matches('.')
    });
    let (client, driver) = (versions.next(), versions.next());
    let kind =
        NvidiaKind::ApiMismatch { client: client.filter(|v| !v.is_empty()), driver: driver.filter(|v| !v.is_empty()) };
    let first = rest.lines().next().unwrap_or_default();
    let who = first.strip_prefix('\'').and_then(|quoted| quoted.rsplit_once("' (pid "));
    let (process, pid) =
        who.map_or((None, None), |(name, pid)| (Some(name), pid.split_once(')').and_then(|(n, _)| number(n))));
    Some(NvidiaLine { process, pid, ..line(kind, None, rest.trim_end()) })
}

/// `nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up`.
fn sxid(text: &str) -> Option<NvidiaLine<'_>> {
    let (switch, rest) = text.strip_prefix("nvidia-")?.split_once(": SXid (")?;
    number(switch.strip_prefix("nvswitch")?)?;
    let (address, rest) = rest.split_once("): ")?;
    let pci = PciAddress::parse(address)?;
    let (code, rest) = code(rest)?;
    let rest = rest.trim();
    let (severity, message) = match rest.split_once(", ") {
        Some(("Fatal", message)) => (Some(SwitchSeverity::Fatal), message),
        Some(("Non-fatal", message)) => (Some(SwitchSeverity::NonFatal), message),
        _ => (None, rest),
    };
    let link = message.strip_prefix("Link ").and_then(|m| number(m.split_whitespace().next()?));
    let continues = severity.is_none() && (rest.starts_with("Data {") || rest.starts_with("Severity "));
    Some(line(NvidiaKind::SXid { code, switch, severity, link, continues }, Some(pci), rest))
}

fn line<'a>(kind: NvidiaKind<'a>, pci: Option<PciAddress>, rest: &'a str) -> NvidiaLine<'a> {
    NvidiaLine { kind, pci, pid: None, process: None, gpu_instance: None, compute_instance: None, rest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> NvidiaLine<'_> {
        nvidia_line(text).unwrap_or_else(|| panic!("not recognised: {text}"))
    }

    #[test]
    fn the_parts_of_an_xid_are_read_in_the_newer_and_the_older_form() {
        for (text, pci, code, pid, process, rest) in [
            (
                "NVRM: Xid (PCI:0000:84:00): 79, pid=1234, name=python, GPU has fallen off the bus.",
                "0000:84:00",
                79,
                Some(1234),
                Some("python"),
                "GPU has fallen off the bus.",
            ),
            (
                "NVRM: Xid (0000:03:00): 48, An uncorrectable double bit error",
                "0000:03:00",
                48,
                None,
                None,
                "An uncorrectable double bit error",
            ),
            ("NVRM: Xid (0001:00): 13, 0003 00000000", "0000:01:00", 13, None, None, "0003 00000000"),
            (
                "NVRM: Xid (PCI:0000:C4:00): 31, pid=77, Ch 00000008, intr 10000000.",
                "0000:c4:00",
                31,
                Some(77),
                None,
                "Ch 00000008, intr 10000000.",
            ),
            (
                "NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
                "0000:05:00",
                79,
                None,
                None,
                "GPU has fallen off the bus.",
            ),
            (
                "NVRM: Xid (PCI:0000:05:00): 119, pid=0, name=nvc:[driver], Timeout after 45s\n",
                "0000:05:00",
                119,
                Some(0),
                Some("nvc:[driver]"),
                "Timeout after 45s",
            ),
            ("NVRM: Xid (PCI:0000:83:00): 48", "0000:83:00", 48, None, None, ""),
        ] {
            let line = read(text);
            assert_eq!(line.code(), Some(code), "{text}");
            assert!(matches!(line.kind, NvidiaKind::Xid { nvlink: None, .. }), "{text}");
            assert_eq!(line.pci.as_ref().unwrap().to_string(), pci, "{text}");
            assert_eq!((line.pid, line.process, line.rest), (pid, process, rest), "{text}");
        }
    }

    #[test]
    fn the_instances_of_a_partitioned_gpu_are_read() {
        let line = read(
            "NVRM: Xid (PCI:0000:01:00 GPU-I:05 GPU-CI:02): 94, pid=7194, name=train, Contained: CE User Channel (0x9). RST: No, D-RST: No",
        );
        assert_eq!((line.gpu_instance, line.compute_instance, line.pid), (Some(5), Some(2), Some(7194)));
        assert_eq!(line.pci.unwrap().written(), "PCI:0000:01:00");
        assert_eq!(line.rest, "Contained: CE User Channel (0x9). RST: No, D-RST: No");
    }

    #[test]
    fn what_nvlink_5_adds_is_read() {
        let line = read(
            "NVRM: Xid (PCI:0009:01:00): 149, NETIR_LINK_EVT  Fatal   XC0 i0 Link 01 (0x021425c6 0x00000000 0x00000000 0x00000000 0x00000000 0x00000000)",
        );
        let NvidiaKind::Xid { code: 149, nvlink: Some(link) } = line.kind else { panic!("{line:?}") };
        assert_eq!(
            (link.unit, link.fatal, link.link, link.info, link.subcode, link.status),
            ("NETIR_LINK_EVT", true, Some(1), 0x0214_25c6, 33, 0)
        );
        let line = read(
            "NVRM: Xid (PCI:0018:01:00): 145, pid=876, name=ray::WorkerDict, RLW_RXPIPE Nonfatal XC0 i0 Link -1 (0x0409a0c2 0x00000008 0x00000001)",
        );
        let NvidiaKind::Xid { code: 145, nvlink: Some(link) } = line.kind else { panic!("{line:?}") };
        assert_eq!((link.unit, link.fatal, link.link, link.status), ("RLW_RXPIPE", false, None, 8));
        assert_eq!((line.pid, line.process), (Some(876), Some("ray::WorkerDict")));
    }

    #[test]
    fn a_gpu_that_fell_off_the_bus_is_recognised_without_an_xid() {
        let one = read("NVRM: GPU 0000:29:00.0: GPU has fallen off the bus.");
        let several = read(
            "NVRM: The NVIDIA GPU 0000:29:00.0\nNVRM: (PCI ID: 10de:2901) installed in this system has\nNVRM: fallen off the bus and is not responding to commands.\n",
        );
        let older = read(
            "NVRM: The NVIDIA GPU 0000:29:00.0\n               NVRM: (PCI ID: 10de:2901)\n NVRM: installed in this system has fallen off the\nNVRM: bus and is not responding to commands.",
        );
        for line in [one, several, older] {
            assert_eq!(line.kind, NvidiaKind::FallenOffBus);
            assert_eq!((line.code(), line.pci.unwrap().to_string().as_str()), (Some(79), "0000:29:00.0"));
        }
        let last = read("NVRM: fallen off the bus and is not responding to commands.");
        assert_eq!((last.kind, last.pci), (NvidiaKind::FallenOffBus, None));
        let first = "NVRM: The NVIDIA GPU 0000:29:00.0";
        assert!(nvidia_line(first).is_none(), "other messages begin so too");
        assert_eq!(first_line_of_several(first).unwrap().to_string(), "0000:29:00.0");
        assert!(
            nvidia_line("NVRM: The NVIDIA GPU 0000:29:00.0\nNVRM: (PCI ID: 10de:2901) installed in this system has")
                .is_none()
        );
        assert!(
            nvidia_line(
                "NVRM: The NVIDIA GPU 0000:29:00.0\nNVRM: installed in this system is not supported by the driver"
            )
            .is_none()
        );
    }

    #[test]
    fn an_sxid_names_its_switch_its_link_and_what_the_driver_thinks() {
        let line = read("nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up");
        let NvidiaKind::SXid { code, switch, severity, link, continues } = line.kind else { panic!("{line:?}") };
        assert_eq!(
            (code, switch, severity, link, continues),
            (20034, "nvswitch3", Some(SwitchSeverity::Fatal), Some(30), false)
        );
        assert_eq!(line.pci.unwrap().to_string(), "0000:c1:00.0");
        for (text, severity, continues) in [
            (
                "nvidia-nvswitch0: SXid (PCI:0000:06:00.0): 20009, Non-fatal, Link 04 RX Short Error Rate",
                Some(SwitchSeverity::NonFatal),
                false,
            ),
            ("nvidia-nvswitch0: SXid (PCI:0000:a9:00.0): 20034, Data {0x50610002, 0x10100030}", None, true),
            (
                "nvidia-nvswitch0: SXid (PCI:0000:c3:00.0): 12033, Severity 1 Engine instance 00 Sub-engine instance 00",
                None,
                true,
            ),
            ("nvidia-nvswitch0: SXid (PCI:0004:00:00.0): 26006, SOE HALTED", None, false),
        ] {
            assert!(
                matches!(read(text).kind, NvidiaKind::SXid { severity: s, continues: c, .. } if (s, c) == (severity, continues)),
                "{text}"
            );
        }
    }

    #[test]
    fn versions_that_do_not_fit_are_named() {
        let text = "NVRM: API mismatch: the client 'nvidia-smi' (pid 4321)\nNVRM: has the version 550.54.15, but this kernel module has\nNVRM: the version 550.90.07.  Please make sure that this\nNVRM: kernel module and all NVIDIA driver components\nNVRM: have the same version.\n";
        let line = read(text);
        assert_eq!(line.kind, NvidiaKind::ApiMismatch { client: Some("550.54.15"), driver: Some("550.90.07") });
        assert_eq!(
            (line.process, line.pid, line.pci, nvidia_line(text).unwrap().code()),
            (Some("nvidia-smi"), Some(4321), None, None)
        );
        let older = read(
            "NVRM: API mismatch: the client has the version 440.33.01, but\nNVRM: this kernel module has the version 440.64.",
        );
        assert_eq!(older.kind, NvidiaKind::ApiMismatch { client: Some("440.33.01"), driver: Some("440.64") });
        let first = read("NVRM: API mismatch: the client 'nvidia-smi' (pid 4321)");
        assert_eq!(first.kind, NvidiaKind::ApiMismatch { client: None, driver: None });
    }

    #[test]
    fn what_the_driver_says_of_the_xid_itself_is_read() {
        let changed = read(
            "NVRM: Xid (PCI:0019:01:00): 154, GPU recovery action changed from 0x4 (Drain and Reset) to 0x1 (GPU Reset Required)",
        );
        assert_eq!((changed.recovery_action(), changed.previous_xid()), (Some("GPU Reset Required"), None));
        let after = read("NVRM: Xid (PCI:0019:01:00): 45, pid=5, name=a, Ch 00000008 caused by previous Xid 13");
        assert_eq!((after.previous_xid(), after.recovery_action()), (Some(13), None));
        assert_eq!(read("NVRM: Xid (PCI:0019:01:00): 13, x to 0x1 (No)").recovery_action(), None);
    }

    #[test]
    fn who_quotes_the_driver_is_not_the_driver() {
        for text in [
            "train.py: NVRM: Xid (PCI:0000:84:00): 79, pid=1234, name=python, GPU has fallen off the bus.",
            " NVRM: Xid (PCI:0000:84:00): 79, GPU has fallen off the bus.",
            "saw 'NVRM: Xid (PCI:0000:84:00): 79, GPU has fallen off the bus.'",
            "nvrm: xid (PCI:0000:84:00): 79, GPU has fallen off the bus.",
            "NVRM: saw Xid (PCI:0000:84:00): 79, GPU has fallen off the bus.",
            "NVRM: Xid error: xyz, invalid data",
            "NVRM: Xid (invalid): 79, some error",
            "NVRM: Xid (PCI:0000:84:00 by me): 79, some error",
            "NVRM: Xid (PCI:0000:84:00): seventy-nine, some error",
            "NVRM: Xid (PCI:0000:84:00): 79x, some error",
            "NVRM: Xid (PCI:0000:84:00): 99999999999, some error",
            "NVRM: Xid (PCI:0000:84:00): , some error",
            "NVRM: GPU 0000:29:00.0: RmInitAdapter failed! (0x22:0x56:894)",
            "NVRM: GPU at PCI:0000:84:00: GPU-b850f46d-d5ea-c752-ddf3-c4453e44d3f7",
            "my NVRM: GPU 0000:29:00.0: GPU has fallen off the bus.",
            "app nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up",
            "nvidia-nvswitchX: SXid (PCI:0000:c1:00.0): 20034, Fatal",
            "nvidia-smi: SXid (PCI:0000:c1:00.0): 20034, Fatal",
            "nvidia-nvswitch0: SXid (PCI:0000:00:00.0): xyz, Fatal error",
            "client: API mismatch: the client 'nvidia-smi' (pid 4321)",
            "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  550.54.15",
            "NVRM:",
            "",
        ] {
            assert_eq!(nvidia_line(text), None, "{text}");
        }
    }

    #[test]
    fn a_process_whose_name_is_a_message_of_the_driver_makes_no_other_event() {
        let line = read("NVRM: Xid (PCI:0000:84:00): 31, pid=9, name=x): 79, GPU has, Ch 00000008");
        assert_eq!((line.code(), line.process), (Some(31), Some("x): 79")));
        let line = read("NVRM: Xid (PCI:0000:84:00): 31, pid=9, name=a\nNVRM: Xid (PCI:0000:85:00): 79, GPU");
        assert_eq!((line.code(), line.pci.unwrap().to_string().as_str()), (Some(31), "0000:84:00"));
    }

    proptest! {
        #[test]
        fn no_text_ends_it(text in any::<String>()) {
            let _any = nvidia_line(&text);
        }

        #[test]
        fn no_text_that_begins_as_the_driver_does_ends_it(
            start in prop::sample::select(vec![
                "NVRM: Xid (", "NVRM: Xid (PCI:0000:84:00): 149, ", "NVRM: The NVIDIA GPU ", "NVRM: GPU ", "NVRM: API mismatch: the client ",
                "nvidia-nvswitch0: SXid (PCI:0000:84:00.0): ", "NVRM: Xid (PCI:0000:84:00): 154, to 0x",
            ]),
            text in "[ -~\u{e4}\n]{0,120}",
        ) {
            let text = format!("{start}{text}");
            if let Some(line) = nvidia_line(&text) {
                prop_assert!(text.contains(line.rest));
                let _any = (line.code(), line.recovery_action(), line.previous_xid());
            }
        }

        #[test]
        fn what_the_driver_prints_is_read_back(
            domain in 0_u32..0x10000, bus in 0_u32..256, device in 0_u32..32, code in 0_u32..1000, pid in any::<u32>(),
            name in "[a-zA-Z0-9:/_-]{1,15}", message in "[a-zA-Z0-9 :()]{1,60}",
        ) {
            let text = format!("NVRM: Xid (PCI:{domain:04x}:{bus:02x}:{device:02x}): {code}, pid={pid}, name={name}, {message}\n");
            let line = read(&text);
            prop_assert_eq!((line.code(), line.pid, line.process, line.rest), (Some(code), Some(pid), Some(name.as_str()), message.trim()));
            prop_assert_eq!(line.pci.unwrap().to_string(), format!("{domain:04x}:{bus:02x}:{device:02x}"));
        }
    }
}
