//! The processor: `/proc/cpuinfo`, which every architecture writes in its own way, and the list of known weaknesses.

use std::collections::{BTreeMap, BTreeSet};

use casefile_proto::gap::Gap;
use serde::Serialize;

use crate::host::Host;
use crate::sources::cpu::parse_cpu_list;
use crate::sources::kept::unreadable;
use crate::text::{BadLine, Unparsed, lines};

use super::os::line;

/// The processor.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Processor {
    /// `AuthenticAMD`.
    pub vendor: Option<String>,
    /// `AMD EPYC 9B14`; of ARM processors the name belonging to their number, on a machine that runs.
    pub model: Option<String>,
    /// The version of the microcode.
    pub microcode: Option<String>,
    /// Sockets; not said on ARM.
    pub packages: Option<usize>,
    /// Cores of all sockets; not said on ARM.
    pub cores: Option<usize>,
    /// CPUs that are online: threads of cores.
    pub cpus: Option<usize>,
    /// CPUs that are present, online or not.
    pub cpus_present: Option<usize>,
    /// Whether it runs under a hypervisor: not said on ARM.
    pub virtual_machine: Option<bool>,
    /// Weaknesses that the kernel knows, and what it does about them.
    pub vulnerabilities: BTreeMap<String, String>,
}

/// About 1.5 KiB a CPU on x86; Linux can be built for 8,192 of them.
const MAX_CPUINFO: usize = 16 << 20;

/// Reads it.
pub(super) fn read(host: &Host, buf: &mut Vec<u8>, gaps: &mut Vec<Gap>) -> Processor {
    let mut processor = match host.read("proc/cpuinfo", buf, MAX_CPUINFO) {
        Ok(()) => {
            let mut bad = Unparsed::default();
            let processor = parse(buf, &mut bad);
            bad.gap("proc/cpuinfo").into_iter().for_each(|gap| gaps.push(gap));
            processor
        }
        Err(error) => {
            gaps.push(unreadable(&error));
            Processor::default()
        }
    };
    // The buffer became large for this once.
    *buf = Vec::new();
    if processor.model.is_none() && host.is_live() {
        processor.model = model_by_sysinfo();
    }
    let mut count = |file: &str| {
        let list = line(host, &format!("sys/devices/system/cpu/{file}"), buf, gaps)?;
        parse_cpu_list(list.as_bytes()).ok().map(|cpus| cpus.len())
    };
    processor.cpus = count("online").or(processor.cpus);
    processor.cpus_present = count("present");
    let vulnerabilities = "sys/devices/system/cpu/vulnerabilities";
    // Kernels before 4.15 have no such list.
    for name in host.list(vulnerabilities).unwrap_or_default() {
        let Some(name) = name.to_str() else { continue };
        if let Some(says) = line(host, &format!("{vulnerabilities}/{name}"), buf, gaps)
            && says != "Not affected"
        {
            processor.vulnerabilities.insert(name.to_owned(), says);
        }
    }
    processor
}

/// `key : value` lines, a paragraph for each CPU.
fn parse(text: &[u8], bad: &mut Unparsed) -> Processor {
    let mut processor = Processor::default();
    let (mut cpus, mut package) = (0, None);
    let (mut packages, mut cores) = (BTreeSet::new(), BTreeSet::new());
    let mut whole = true;
    for line in lines(text) {
        let line = line.and_then(|line| std::str::from_utf8(line).map_err(|_| BadLine { line, why: "not text" }));
        let Some(line) = bad.keep(line) else {
            whole = false;
            continue;
        };
        let Some((key, value)) = line.split_once(':').map(|(key, value)| (key.trim(), value.trim())) else { continue };
        let first = |place: &mut Option<String>| {
            if place.is_none() && !value.is_empty() {
                *place = Some(value.chars().filter(|c| !c.is_control()).collect());
            }
        };
        match key {
            "processor" if value.parse::<u32>().is_ok() => cpus += 1,
            "vendor_id" => first(&mut processor.vendor),
            "model name" | "cpu" => first(&mut processor.model),
            "microcode" => first(&mut processor.microcode),
            "flags" => processor.virtual_machine = Some(value.split(' ').any(|flag| flag == "hypervisor")),
            "physical id" => {
                package = Some(value.to_owned());
                packages.insert(value.to_owned());
            }
            "core id" => {
                cores.insert((package.clone(), value.to_owned()));
            }
            _ => {}
        }
    }
    // Counts of a file that is not whole would be too small.
    let some = |n: usize| (n > 0 && whole).then_some(n);
    (processor.cpus, processor.packages, processor.cores) = (some(cpus), some(packages.len()), some(cores.len()));
    processor
}

/// ARM's cpuinfo has numbers for names; sysinfo has the table.
fn model_by_sysinfo() -> Option<String> {
    use sysinfo::{CpuRefreshKind, RefreshKind, System};
    let system = System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing())).ok()?;
    let brand = system.cpus().first()?.brand().trim();
    (!brand.is_empty()).then(|| brand.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn threads_of_one_core_are_one_core() {
        let cpu = |n: u32, package: u32, core: u32| {
            format!(
                "processor\t: {n}\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\nphysical id\t: {package}\ncore id\t\t: {core}\nflags\t\t: fpu hypervisor\n\n"
            )
        };
        let text = [cpu(0, 0, 0), cpu(1, 0, 0), cpu(2, 0, 1), cpu(3, 1, 0)].concat();
        let got = parse(text.as_bytes(), &mut Unparsed::default());
        assert_eq!((got.cpus, got.packages, got.cores, got.virtual_machine), (Some(4), Some(2), Some(3), Some(true)));
        assert_eq!((got.vendor.as_deref(), got.model.as_deref()), (Some("AuthenticAMD"), Some("AMD EPYC")));
    }

    #[test]
    fn arm_does_not_say_how_many_cores_there_are() {
        let text = b"processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n\n";
        let got = parse(text, &mut Unparsed::default());
        assert_eq!((got.cpus, got.packages, got.cores, got.model), (Some(1), None, None, None));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_bad(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes, &mut Unparsed::default());
        }
    }
}
