//! How the metrics of a source are written down: short constructors for the static tables, and names for their entries
//! that the compiler checks.
//!
//! No metric is declared here; each source declares its own.

use casefile_proto::sample::{MetricKind, MetricSpec};
use casefile_proto::units::{Scale, Unit};

use crate::text::{BadLine, Fields, entries};

/// A metric that only grows until it wraps or begins again at zero.
pub(crate) const fn counter(
    name: &'static str,
    help: &'static str,
    unit: Unit,
    scale: Scale,
    labels: &'static [&'static str],
) -> MetricSpec {
    MetricSpec { name, help, kind: MetricKind::Counter, unit, scale, labels }
}

/// A metric that goes up and down.
pub(crate) const fn gauge(
    name: &'static str,
    help: &'static str,
    unit: Unit,
    scale: Scale,
    labels: &'static [&'static str],
) -> MetricSpec {
    MetricSpec { name, help, kind: MetricKind::Gauge, unit, scale, labels }
}

/// A counter of things: events, packets, errors.
pub(crate) const fn count(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> MetricSpec {
    counter(name, help, Unit::Count, Scale::ONE, labels)
}

/// A number of things that are there now.
pub(crate) const fn level(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> MetricSpec {
    gauge(name, help, Unit::Count, Scale::ONE, labels)
}

/// A metric that is always 1 and says what it has to say in its labels.
pub(crate) const fn info(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> MetricSpec {
    MetricSpec { name, help, kind: MetricKind::Info, unit: Unit::Code, scale: Scale::ONE, labels }
}

/// The entry of a table with this name. For constants: a name that the table does not have stops the compiler.
#[expect(clippy::panic, reason = "evaluated by the compiler, which is where the panic ends")]
pub(crate) const fn named(table: &'static [MetricSpec], name: &str) -> &'static MetricSpec {
    let mut i = 0;
    while i < table.len() {
        if same(table[i].name.as_bytes(), name.as_bytes()) {
            return &table[i];
        }
        i += 1;
    }
    panic!("the table has no metric of this name")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Metrics by the key that the kernel's file has for them, to be looked up for every line of it.
#[derive(Debug)]
pub(crate) struct ByKey {
    /// Sorted by key.
    entries: Vec<(String, &'static MetricSpec)>,
}

impl ByKey {
    /// Every metric of the table that `key` has a key for.
    pub(crate) fn new(table: &'static [MetricSpec], key: impl Fn(&'static str) -> Option<String>) -> Self {
        let mut entries: Vec<_> = table.iter().filter_map(|m| Some((key(m.name)?, m))).collect();
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Self { entries }
    }

    /// The metric of this key, if it is one that is recorded.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&'static MetricSpec> {
        let found = self.entries.binary_search_by(|(k, _)| k.as_bytes().cmp(key)).ok()?;
        Some(self.entries[found].1)
    }

    /// The recorded ones of a file with a key and a number on each line: `oom_kill 5`.
    pub(crate) fn pairs<'a>(
        &self,
        text: &'a [u8],
    ) -> impl Iterator<Item = Result<(&'static MetricSpec, i64), BadLine<'a>>> {
        entries(text, |line| {
            let mut fields = Fields::of(line);
            let key = fields.word()?;
            match self.get(key) {
                Some(metric) => Ok(Some((metric, fields.number()?))),
                // A key that is not recorded, perhaps of a later kernel; bytes that are no key at all are damage.
                None if key.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_') => Ok(None),
                None => Err(fields.bad("no line of this file")),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: [MetricSpec; 2] = [count("node_vmstat_b", "", &[]), count("node_vmstat_a", "", &[])];
    const A: &MetricSpec = named(&TABLE, "node_vmstat_a");

    #[test]
    fn a_metric_is_found_by_its_name_and_by_the_kernels_key() {
        assert!(std::ptr::eq(A, &TABLE[1]));
        let keys = ByKey::new(&TABLE, |name| name.strip_prefix("node_vmstat_").map(str::to_owned));
        assert!(std::ptr::eq(keys.get(b"b").unwrap(), &TABLE[0]));
        assert!(keys.get(b"c").is_none() && keys.get(b"").is_none());
        let pairs: Vec<_> =
            keys.pairs(b"a 1\nc x\nb 2\n\xff 3\n").map(|pair| pair.map(|(m, v)| (m.name, v)).ok()).collect();
        assert_eq!(pairs, [Some(("node_vmstat_a", 1)), Some(("node_vmstat_b", 2)), None]);
    }
}
