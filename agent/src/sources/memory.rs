//! Where the memory is and how hard the kernel works to find some: `/proc/meminfo`, the part of `/proc/vmstat` that
//! tells of reclaim, swapping, compaction, huge pages and OOM kills, and the totals of each NUMA node.
//!
//! Slab caches one by one and buddy lists are not recorded: they cost more than they tell at one hertz.

use std::time::Duration;

use casefile_proto::sample::MetricSpec;
use casefile_proto::units::Unit;

use super::kept::Kept;
use super::memory_metrics::{METRICS, NUMA_PREFIX};
use super::spec::{ByKey, named};
use super::{Measurement, Opened, Source, SourceError, SourceSpec};
use crate::host::Host;
use crate::text::{BadLine, Fields, Unparsed, entries};

/// The source.
pub static SPEC: SourceSpec = SourceSpec {
    name: "memory",
    about: "memory by use, reclaim, swapping, compaction, huge pages and OOM kills, NUMA totals, from /proc/meminfo, /proc/vmstat and /sys/devices/system/node",
    every: Duration::from_secs(1),
    deadline: Duration::from_secs(2),
    metrics: &METRICS,
    open,
};

/// What every kernel since 2.6 has. Without them the file was cut or is none.
const TOTAL: &MetricSpec = named(&METRICS, "node_memory_MemTotal_bytes");
const FREE: &MetricSpec = named(&METRICS, "node_memory_MemFree_bytes");
const FAULTS: &MetricSpec = named(&METRICS, "node_vmstat_pgfault");

/// About 60 lines; about 200 lines.
const MAX_FILE: usize = 64 << 10;
/// Linux cannot be built for more (`MAX_NUMNODES`).
const MAX_NODES: usize = 1024;
/// NUMA nodes are looked at at every tenth measurement.
const SLOW: u32 = 10;

fn open(host: &Host) -> Result<Opened, SourceError> {
    Ok(Opened::Ready(Box::new(Memory {
        host: host.clone(),
        meminfo: Kept::whole("proc/meminfo", MAX_FILE),
        vmstat: Kept::new("proc/vmstat", MAX_FILE),
        meminfo_keys: ByKey::new(&METRICS, meminfo_key),
        vmstat_keys: ByKey::new(&METRICS, |name| name.strip_prefix("node_vmstat_").map(str::to_owned)),
        numa_keys: ByKey::new(&METRICS, numa_key),
        nodes: Vec::new(),
        tick: 0,
        buf: Vec::new(),
    })))
}

/// `node_memory_Active_anon_bytes` is `Active(anon)` in `/proc/meminfo`: node_exporter made the names from the keys.
fn meminfo_key(name: &str) -> Option<String> {
    let key = name.strip_prefix("node_memory_").filter(|_| !name.starts_with(NUMA_PREFIX))?;
    let key = key.strip_suffix("_bytes").unwrap_or(key);
    Some(match key.split_once('_') {
        Some((stem @ ("Active" | "Inactive"), list)) => format!("{stem}({list})"),
        _ => key.to_owned(),
    })
}

fn numa_key(name: &str) -> Option<String> {
    let key = name.strip_prefix(NUMA_PREFIX)?;
    Some(key.strip_suffix("_total").unwrap_or(key).to_owned())
}

struct Memory {
    host: Host,
    meminfo: Kept,
    vmstat: Kept,
    meminfo_keys: ByKey,
    vmstat_keys: ByKey,
    numa_keys: ByKey,
    nodes: Vec<Node>,
    tick: u32,
    buf: Vec<u8>,
}

/// One NUMA node: its number and its two files.
struct Node {
    number: String,
    meminfo: Kept,
    numastat: Kept,
}

impl Source for Memory {
    fn measure(&mut self, out: &mut Measurement) -> Result<(), SourceError> {
        let slow = self.tick.is_multiple_of(SLOW);
        self.tick = self.tick.wrapping_add(1);
        if let Some(text) = self.meminfo.read_expected(&self.host, &mut self.buf, out) {
            let keys = &self.meminfo_keys;
            emit(parse_meminfo(text, keys), self.meminfo.path(), &[], &[TOTAL, FREE], out);
        }
        if let Some(text) = self.vmstat.read_expected(&self.host, &mut self.buf, out) {
            emit(self.vmstat_keys.pairs(text), self.vmstat.path(), &[], &[FAULTS], out);
        }
        if slow {
            self.numa(out);
        }
        Ok(())
    }
}

/// Pushes what parsed; makes one gap of what did not, and of what every such file has and this one has not.
fn emit<'a>(
    readings: impl Iterator<Item = Result<(&'static MetricSpec, i64), BadLine<'a>>>,
    file: &str,
    labels: &[&str],
    expected: &[&'static MetricSpec],
    out: &mut Measurement,
) {
    let mut bad = Unparsed::default();
    let mut found = 0_usize;
    for (metric, value) in readings.filter_map(|reading| bad.keep(reading)) {
        found += usize::from(expected.iter().any(|e| std::ptr::eq(*e, metric)));
        out.reading(metric, labels, value);
    }
    if found < expected.len() {
        bad.lacks("line that every kernel has");
    }
    bad.gap(file).into_iter().for_each(|gap| out.gap(gap));
}

/// `MemTotal:       24684084 kB` (`proc(5)`); the values are in the file's own unit, as the metric's scale says.
pub(crate) fn parse_meminfo<'a>(
    text: &'a [u8],
    keys: &ByKey,
) -> impl Iterator<Item = Result<(&'static MetricSpec, i64), BadLine<'a>>> {
    entries(text, |line| {
        let mut fields = Fields::of(line);
        let key = fields.word()?.strip_suffix(b":").ok_or_else(|| fields.bad("no `:` after the key"))?;
        let Some(metric) = keys.get(key) else { return Ok(None) };
        let value = fields.number()?;
        // A value without its unit, or with another one, is not the number that the scale says it is.
        let expected = (metric.unit == Unit::Bytes).then_some(&b"kB"[..]);
        if fields.next() != expected {
            return Err(fields.bad(if expected.is_some() { "no kB after the number" } else { "a unit after a count" }));
        }
        Ok(Some((metric, value)))
    })
}

/// `Node 0 MemTotal:       12342040 kB`.
pub(crate) fn parse_node_meminfo<'a>(
    text: &'a [u8],
    keys: &ByKey,
) -> impl Iterator<Item = Result<(&'static MetricSpec, i64), BadLine<'a>>> {
    entries(text, |line| {
        let mut fields = Fields::of(line);
        if fields.word()? != b"Node" {
            return Err(fields.bad("does not begin with Node"));
        }
        let _number = fields.number()?;
        let key = fields.word()?.strip_suffix(b":").ok_or_else(|| fields.bad("no `:` after the key"))?;
        let Some(metric) = keys.get(key) else { return Ok(None) };
        let value = fields.number()?;
        if fields.next() != Some(b"kB") {
            return Err(fields.bad("no kB after the number"));
        }
        Ok(Some((metric, value)))
    })
}

impl Memory {
    fn numa(&mut self, out: &mut Measurement) {
        // Memory can be plugged in: the list is looked at each time. A kernel without NUMA has no such directory.
        let names = match self.host.list("sys/devices/system/node") {
            Ok(names) => names,
            Err(error) => {
                if !error.is_not_found() {
                    out.gap(super::kept::unreadable(&error));
                }
                Vec::new()
            }
        };
        let mut numbers: Vec<String> = names
            .iter()
            .filter_map(|name| name.to_str()?.strip_prefix("node"))
            .filter(|digits| crate::text::number(digits.as_bytes()).is_ok())
            .map(str::to_owned)
            .collect();
        numbers.sort_by_key(|digits| (digits.len(), digits.clone()));
        numbers.truncate(MAX_NODES);
        self.nodes.retain(|node| numbers.contains(&node.number));
        for number in numbers {
            if !self.nodes.iter().any(|node| node.number == number) {
                let kept = |file| Kept::whole(format!("sys/devices/system/node/node{number}/{file}"), MAX_FILE);
                self.nodes.push(Node { meminfo: kept("meminfo"), numastat: kept("numastat"), number });
            }
        }
        for node in &mut self.nodes {
            if let Some(text) = node.meminfo.read_if_there(&self.host, &mut self.buf, out) {
                emit(parse_node_meminfo(text, &self.numa_keys), node.meminfo.path(), &[&node.number], &[], out);
            }
            if let Some(text) = node.numastat.read_if_there(&self.host, &mut self.buf, out) {
                emit(self.numa_keys.pairs(text), node.numastat.path(), &[&node.number], &[], out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use casefile_proto::units::Scale;
    use proptest::prelude::*;

    use super::*;

    fn meminfo_keys() -> ByKey {
        ByKey::new(&METRICS, meminfo_key)
    }

    #[test]
    fn meminfo_keys_become_node_exporters_names() {
        let text = b"MemTotal:       24684084 kB\nActive(anon):       1612 kB\nHugePages_Total:       3\nHugepagesize:       2048 kB\nUnheardOf: 1 kB\n";
        let got: Vec<_> = parse_meminfo(text, &meminfo_keys()).map(|r| r.map(|(m, v)| (m.name, v)).unwrap()).collect();
        assert_eq!(
            got,
            [
                ("node_memory_MemTotal_bytes", 24_684_084),
                ("node_memory_Active_anon_bytes", 1612),
                ("node_memory_HugePages_Total", 3),
                ("node_memory_Hugepagesize_bytes", 2048),
            ]
        );
    }

    #[test]
    fn a_value_without_its_unit_is_bad() {
        for bad in [
            &b"MemTotal: 1\n"[..],
            b"MemTotal: 1 MB\n",
            b"HugePages_Free: 1 kB\n",
            b"MemTotal 1 kB\n",
            b"MemFree: kB\n",
        ] {
            assert!(parse_meminfo(bad, &meminfo_keys()).all(|r| r.is_err()), "{bad:?}");
        }
    }

    #[test]
    fn no_two_metrics_of_one_file_share_a_key() {
        for keys in [meminfo_keys(), ByKey::new(&METRICS, numa_key)] {
            for metric in &METRICS {
                if let Some(key) = meminfo_key(metric.name)
                    && let Some(found) = keys.get(key.as_bytes())
                {
                    assert!(std::ptr::eq(found, metric) || found.name.starts_with(NUMA_PREFIX), "{key}");
                }
            }
        }
        assert!(METRICS.iter().all(|m| m.scale == Scale::KIB || m.unit == Unit::Count));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_bad(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let keys = meminfo_keys();
            for text in [&bytes[..], &[b"MemTotal: ", &bytes[..], b"\n"].concat(), &[b"Node 0 MemFree: ", &bytes[..], b"\n"].concat()] {
                parse_meminfo(text, &keys).for_each(drop);
                keys.pairs(text).for_each(drop);
                parse_node_meminfo(text, &keys).for_each(drop);
            }
        }
    }
}
