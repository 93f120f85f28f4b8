//! What this machine is: as info metrics, so that every recording says which machine it is of, and as one document for
//! `node.json` ([`describe`]).
//!
//! What changes from second to second is in the other sources. `sysinfo` is used here only, and only for what it knows
//! better than the kernel's text: the names of ARM processors.

mod devices;
mod document;
mod os;
mod processor;
mod settings;

use std::collections::BTreeMap;
use std::time::Duration;

use casefile_proto::gap::Gap;
use casefile_proto::sample::MetricSpec;
use casefile_proto::units::{Scale, Unit};

use super::spec::{gauge, info, named};
use super::{Measurement, Opened, Source, SourceError, SourceSpec};
use crate::host::Host;

pub(super) use devices::{names, target};
pub use document::Inventory;

/// The source.
pub static SPEC: SourceSpec = SourceSpec {
    name: "inventory",
    about: "what this machine is: kernel, distribution, maker and model, processor, from /proc, /sys and /etc/os-release",
    every: Duration::from_secs(10),
    deadline: Duration::from_secs(5),
    metrics: &METRICS,
    open,
};

static METRICS: [MetricSpec; 6] = [
    info(
        "node_uname_info",
        "the kernel as uname gives it (/proc/sys/kernel; the machine from the system call)",
        &["sysname", "release", "version", "machine", "nodename", "domainname"],
    ),
    info(
        "node_os_info",
        "the distribution (/etc/os-release)",
        &[
            "id",
            "id_like",
            "name",
            "pretty_name",
            "version",
            "version_codename",
            "version_id",
            "variant_id",
            "build_id",
        ],
    ),
    info(
        "node_dmi_info",
        "maker and model of the machine and its firmware (/sys/class/dmi/id)",
        &[
            "system_vendor",
            "product_name",
            "product_version",
            "board_vendor",
            "board_name",
            "bios_vendor",
            "bios_version",
            "bios_date",
        ],
    ),
    info(
        "casefile_processor_info",
        "the processor (/proc/cpuinfo)",
        &["vendor", "model_name", "microcode", "packages", "cores", "cpus"],
    ),
    info(
        "casefile_boot_info",
        "what the kernel was started with (/proc/sys/kernel/random/boot_id, /proc/cmdline)",
        &["boot_id", "command_line"],
    ),
    gauge(
        "casefile_kernel_tainted",
        "bits of what has tainted the kernel (/proc/sys/kernel/tainted)",
        Unit::Code,
        Scale::ONE,
        &[],
    ),
];

const UNAME: &MetricSpec = named(&METRICS, "node_uname_info");
const OS: &MetricSpec = named(&METRICS, "node_os_info");
const DMI: &MetricSpec = named(&METRICS, "node_dmi_info");
const PROCESSOR: &MetricSpec = named(&METRICS, "casefile_processor_info");
const BOOT: &MetricSpec = named(&METRICS, "casefile_boot_info");
const TAINTED: &MetricSpec = named(&METRICS, "casefile_kernel_tainted");

/// All that can be found out, as an object for `node.json`, and what could not be read.
pub fn describe(host: &Host) -> (serde_json::Value, Vec<Gap>) {
    let mut gaps = Vec::new();
    let inventory = document::read(host, &mut gaps);
    match serde_json::to_value(inventory) {
        Ok(value) => (value, gaps),
        Err(error) => {
            // The types have string keys and no floats: there is nothing that JSON cannot say.
            gaps.push(Gap::new(casefile_proto::gap::GapReason::SourceFailed, format!("write the inventory: {error}")));
            (serde_json::Value::Object(serde_json::Map::new()), gaps)
        }
    }
}

fn open(host: &Host) -> Result<Opened, SourceError> {
    // The processor does not change while the machine runs, and reading cpuinfo of many CPUs takes milliseconds.
    Ok(Opened::Ready(Box::new(Machine { host: host.clone(), processor: None, buf: Vec::new() })))
}

struct Machine {
    host: Host,
    processor: Option<processor::Processor>,
    buf: Vec<u8>,
}

impl Source for Machine {
    fn measure(&mut self, out: &mut Measurement) -> Result<(), SourceError> {
        let mut gaps = Vec::new();
        let (host, buf) = (&self.host, &mut self.buf);
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let kernel = os::kernel(host, buf, &mut gaps);
        let uname =
            [&kernel.sysname, &kernel.release, &kernel.version, &kernel.machine, &kernel.hostname, &kernel.domainname]
                .map(text);
        if kernel.release.is_some() {
            out.reading(UNAME, &uname.each_ref().map(String::as_str), 1);
        }
        emit(OS, &os::distribution(host, buf, &mut gaps), out);
        emit(DMI, &devices::dmi(host, buf, &mut gaps), out);
        let processor = self.processor.get_or_insert_with(|| processor::read(host, buf, &mut gaps));
        let count = |count: Option<usize>| count.map(|n| n.to_string()).unwrap_or_default();
        let labels = [
            text(&processor.vendor),
            text(&processor.model),
            text(&processor.microcode),
            count(processor.packages),
            count(processor.cores),
            count(processor.cpus),
        ];
        if labels.iter().any(|label| !label.is_empty()) {
            out.reading(PROCESSOR, &labels.each_ref().map(String::as_str), 1);
        }
        if kernel.boot_id.is_some() || kernel.command_line.is_some() {
            out.reading(BOOT, &[&text(&kernel.boot_id), &text(&kernel.command_line)], 1);
        }
        if let Some(tainted) = kernel.tainted {
            out.reading(TAINTED, &[], tainted);
        }
        gaps.into_iter().for_each(|gap| out.gap(gap));
        Ok(())
    }
}

/// One reading with a label for each name that the metric has; nothing where the machine says nothing at all.
fn emit(metric: &'static MetricSpec, values: &BTreeMap<String, String>, out: &mut Measurement) {
    if values.is_empty() {
        return;
    }
    let labels: Vec<&str> = metric.labels.iter().map(|label| values.get(*label).map_or("", String::as_str)).collect();
    out.reading(metric, &labels, 1);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn this_machine_is_described() {
        let (value, gaps) = describe(&Host::new(Path::new("/")).unwrap());
        assert!(value["kernel"]["release"].is_string(), "{value}");
        assert!(value["memory"]["total_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{value}");
        assert!(value["processor"]["cpus"].as_u64().is_some_and(|cpus| cpus > 0), "{value}");
        assert!(gaps.iter().all(|gap| gap.reason != casefile_proto::gap::GapReason::ParseFailed), "{gaps:?}");
    }

    #[test]
    fn an_empty_tree_is_described_as_empty() {
        let dir = tempfile::tempdir().unwrap();
        let (value, _) = describe(&Host::new(dir.path()).unwrap());
        assert!(value["kernel"]["release"].is_null() && value["disks"].as_array().is_some_and(Vec::is_empty));
    }
}
