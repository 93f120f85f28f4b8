//! For how long work had to wait for CPU, memory, I/O or interrupts: `/proc/pressure/{cpu,memory,io,irq}`.
//!
//! Only the totals are recorded: the averages follow from them. `full` of the CPU is left out, at the level of the
//! machine the kernel always says 0. Pressure of cgroups is in `cgroup`.

use std::time::Duration;

use casefile_proto::sample::MetricSpec;
use casefile_proto::units::{Scale, Unit};

use super::kept::{Found, Kept, unreadable};
use super::spec::{counter, named};
use super::{Measurement, Opened, Source, SourceError, SourceSpec};
use crate::host::Host;
use crate::text::{self, BadLine, Fields, Unparsed, entries};

/// The source.
pub static SPEC: SourceSpec = SourceSpec {
    name: "pressure",
    about: "time that tasks waited for CPU, memory, I/O and interrupts (PSI), from /proc/pressure",
    every: Duration::from_secs(1),
    deadline: Duration::from_secs(2),
    metrics: &METRICS,
    open,
};

static METRICS: [MetricSpec; 6] = [
    stalled(
        "node_pressure_cpu_waiting_seconds_total",
        "time during which at least one task waited for a CPU (/proc/pressure/cpu some)",
    ),
    stalled(
        "node_pressure_memory_waiting_seconds_total",
        "time during which at least one task waited for memory (/proc/pressure/memory some)",
    ),
    stalled(
        "node_pressure_memory_stalled_seconds_total",
        "time during which no task could go on for want of memory (/proc/pressure/memory full)",
    ),
    stalled(
        "node_pressure_io_waiting_seconds_total",
        "time during which at least one task waited for I/O (/proc/pressure/io some)",
    ),
    stalled(
        "node_pressure_io_stalled_seconds_total",
        "time during which no task could go on for waiting for I/O (/proc/pressure/io full)",
    ),
    stalled(
        "node_pressure_irq_stalled_seconds_total",
        "time that interrupts took from tasks (/proc/pressure/irq full, Linux 6.1)",
    ),
];

const fn stalled(name: &'static str, help: &'static str) -> MetricSpec {
    counter(name, help, Unit::Seconds, Scale::MICRO, &[])
}

/// Which files there are, and the metrics of their `some` and `full` lines. `irq` came with Linux 6.1 and needs
/// `CONFIG_IRQ_TIME_ACCOUNTING`: a kernel without it is whole.
const FILES: [PressureFile; 4] = [
    PressureFile {
        path: "proc/pressure/cpu",
        some: Some(named(&METRICS, "node_pressure_cpu_waiting_seconds_total")),
        full: None,
    },
    PressureFile {
        path: "proc/pressure/memory",
        some: Some(named(&METRICS, "node_pressure_memory_waiting_seconds_total")),
        full: Some(named(&METRICS, "node_pressure_memory_stalled_seconds_total")),
    },
    PressureFile {
        path: "proc/pressure/io",
        some: Some(named(&METRICS, "node_pressure_io_waiting_seconds_total")),
        full: Some(named(&METRICS, "node_pressure_io_stalled_seconds_total")),
    },
    PressureFile {
        path: "proc/pressure/irq",
        some: None,
        full: Some(named(&METRICS, "node_pressure_irq_stalled_seconds_total")),
    },
];

#[derive(Clone, Copy)]
struct PressureFile {
    path: &'static str,
    some: Option<&'static MetricSpec>,
    full: Option<&'static MetricSpec>,
}

/// Two short lines.
const MAX_FILE: usize = 4096;

/// PSI is there from boot or not at all: with `psi=0`, or a kernel built so that it must be asked for, the files are
/// missing, or answer `EOPNOTSUPP`. Then this machine has no such thing.
fn open(host: &Host) -> Result<Opened, SourceError> {
    let mut files = FILES.map(|file| (file, Kept::whole(file.path, MAX_FILE)));
    let mut buf = Vec::new();
    // Something that cannot be read for another reason is there; measuring says what is wrong with it.
    let there = files.iter_mut().any(|(_, kept)| match kept.read(host, &mut buf) {
        Ok(Found::Read) => true,
        Ok(Found::Missing) => false,
        Err(error) => !error.is_unsupported(),
    });
    if there {
        Ok(Opened::Ready(Box::new(Pressure { host: host.clone(), files, buf })))
    } else {
        let why = "no /proc/pressure: the kernel is older than 4.20, built without CONFIG_PSI, or runs with psi=0";
        Ok(Opened::Absent { why: why.to_owned() })
    }
}

struct Pressure {
    host: Host,
    files: [(PressureFile, Kept); 4],
    buf: Vec<u8>,
}

impl Source for Pressure {
    fn measure(&mut self, out: &mut Measurement) -> Result<(), SourceError> {
        for (file, kept) in &mut self.files {
            let text = match kept.read(&self.host, &mut self.buf) {
                Ok(Found::Read) => &self.buf,
                Ok(Found::Missing) => continue,
                Err(error) if error.is_unsupported() => continue,
                Err(error) => {
                    out.gap(unreadable(&error));
                    continue;
                }
            };
            let mut bad = Unparsed::default();
            let (mut some, mut full) = (None, None);
            for total in parse(text).filter_map(|total| bad.keep(total)) {
                match total {
                    Total::Some(micros) => some = Some(micros),
                    Total::Full(micros) => full = Some(micros),
                }
            }
            for (metric, value, line) in [(file.some, some, "line some"), (file.full, full, "line full")] {
                match (metric, value) {
                    (Some(metric), Some(micros)) => out.reading(metric, &[], micros),
                    (Some(_), None) => bad.lacks(line),
                    (None, _) => {}
                }
            }
            bad.gap(file.path).into_iter().for_each(|gap| out.gap(gap));
        }
        Ok(())
    }
}

/// One line: microseconds since boot (or since PSI was switched on).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Total {
    /// At least one task waited.
    Some(i64),
    /// All tasks that could have run waited.
    Full(i64),
}

/// `some avg10=4.03 avg60=4.22 avg300=4.48 total=2307093247` (`Documentation/accounting/psi.rst`).
pub(crate) fn parse(text: &[u8]) -> impl Iterator<Item = Result<Total, BadLine<'_>>> {
    entries(text, |line| {
        let mut fields = Fields::of(line);
        let kind = fields.word()?;
        let total = fields.clone().find_map(|f| f.strip_prefix(b"total=")).ok_or_else(|| fields.bad("no total="))?;
        let micros = text::number(total).map_err(|why| fields.bad(why))?;
        match kind {
            b"some" => Ok(Some(Total::Some(micros))),
            b"full" => Ok(Some(Total::Full(micros))),
            _ => Err(fields.bad("neither some nor full")),
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn totals_are_microseconds() {
        let text = b"some avg10=4.03 avg60=4.22 avg300=4.48 total=2307093247\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let got: Vec<_> = parse(text).map(Result::unwrap).collect();
        assert_eq!(got, [Total::Some(2_307_093_247), Total::Full(7)]);
    }

    #[test]
    fn a_line_without_its_total_is_bad() {
        for bad in [&b"some avg10=0.00\n"[..], b"some avg10=0.00 total=\n", b"half total=1\n", b"some total=1", b"\n"] {
            assert!(parse(bad).all(|total| total.is_err()), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_bad(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            parse(&bytes).for_each(drop);
            parse(&[b"some total=", &bytes[..], b"\n"].concat()).for_each(drop);
        }
    }
}
