//! How much wants to run, and how near the machine is to its limits of threads and open files: `/proc/loadavg`,
//! `/proc/sys/fs/file-nr`, `pid_max`, `threads-max`, and the kernel's own count of hung tasks.
//!
//! The run queue and forks are in `cpu`, which reads the file that has them.

use std::time::Duration;

use casefile_proto::sample::MetricSpec;
use casefile_proto::units::{Scale, Unit};

use super::kept::Kept;
use super::spec::{count, gauge, level, named};
use super::{Measurement, Opened, Source, SourceError, SourceSpec};
use crate::host::Host;
use crate::text::{self, BadLine, Fields, Unparsed};

/// The source.
pub static SPEC: SourceSpec = SourceSpec {
    name: "load",
    about: "load averages, number of threads and open files beside their limits, hung tasks, from /proc/loadavg and /proc/sys",
    every: Duration::from_secs(1),
    deadline: Duration::from_secs(2),
    metrics: &METRICS,
    open,
};

static METRICS: [MetricSpec; 9] = [
    gauge("node_load1", "load average over one minute (/proc/loadavg)", Unit::Count, Scale::CENTI, &[]),
    gauge("node_load5", "load average over five minutes (/proc/loadavg)", Unit::Count, Scale::CENTI, &[]),
    gauge("node_load15", "load average over fifteen minutes (/proc/loadavg)", Unit::Count, Scale::CENTI, &[]),
    level("node_processes_threads", "threads of all processes (/proc/loadavg)", &[]),
    level("node_filefd_allocated", "open files of the whole machine (/proc/sys/fs/file-nr)", &[]),
    level("node_filefd_maximum", "limit of open files of the whole machine (/proc/sys/fs/file-nr)", &[]),
    level("node_processes_max_processes", "limit of process ids (/proc/sys/kernel/pid_max)", &[]),
    level("node_processes_max_threads", "limit of threads (/proc/sys/kernel/threads-max)", &[]),
    count(
        "casefile_hung_tasks_detected_total",
        "tasks that the kernel found blocked for too long since boot (/proc/sys/kernel/hung_task_detect_count, on kernels that count them)",
        &[],
    ),
];

const LOADS: [&MetricSpec; 3] =
    [named(&METRICS, "node_load1"), named(&METRICS, "node_load5"), named(&METRICS, "node_load15")];
const THREADS: &MetricSpec = named(&METRICS, "node_processes_threads");
const FILES: &MetricSpec = named(&METRICS, "node_filefd_allocated");
const MAX_FILES: &MetricSpec = named(&METRICS, "node_filefd_maximum");
const MAX_PROCESSES: &MetricSpec = named(&METRICS, "node_processes_max_processes");
const MAX_THREADS: &MetricSpec = named(&METRICS, "node_processes_max_threads");
const HUNG_TASKS: &MetricSpec = named(&METRICS, "casefile_hung_tasks_detected_total");

/// Each of these files is one short line.
const MAX_FILE: usize = 4096;

/// Limits are read at every tenth measurement.
const SLOW: u32 = 10;

fn open(host: &Host) -> Result<Opened, SourceError> {
    Ok(Opened::Ready(Box::new(Load {
        host: host.clone(),
        loadavg: Kept::whole("proc/loadavg", MAX_FILE),
        file_nr: Kept::whole("proc/sys/fs/file-nr", MAX_FILE),
        slow: [
            (MAX_PROCESSES, Kept::whole("proc/sys/kernel/pid_max", MAX_FILE)),
            (MAX_THREADS, Kept::whole("proc/sys/kernel/threads-max", MAX_FILE)),
            (HUNG_TASKS, Kept::whole("proc/sys/kernel/hung_task_detect_count", MAX_FILE)),
        ],
        tick: 0,
        buf: Vec::new(),
    })))
}

struct Load {
    host: Host,
    loadavg: Kept,
    file_nr: Kept,
    slow: [(&'static MetricSpec, Kept); 3],
    tick: u32,
    buf: Vec<u8>,
}

impl Source for Load {
    fn measure(&mut self, out: &mut Measurement) -> Result<(), SourceError> {
        let slow = self.tick.is_multiple_of(SLOW);
        self.tick = self.tick.wrapping_add(1);
        if let Some(text) = self.loadavg.read_expected(&self.host, &mut self.buf, out) {
            let mut bad = Unparsed::default();
            if let Some(now) = bad.keep(parse_loadavg(text)) {
                LOADS.iter().zip(now.averages).for_each(|(metric, value)| out.reading(metric, &[], value));
                out.reading(THREADS, &[], now.threads);
            }
            bad.gap(self.loadavg.path()).into_iter().for_each(|gap| out.gap(gap));
        }
        if let Some(text) = self.file_nr.read_if_there(&self.host, &mut self.buf, out) {
            let mut bad = Unparsed::default();
            if let Some(files) = bad.keep(parse_file_nr(text)) {
                out.reading(FILES, &[], files.allocated);
                // systemd sets the limit to the largest number there is, which means: none.
                if let Some(maximum) = files.maximum {
                    out.reading(MAX_FILES, &[], maximum);
                }
            }
            bad.gap(self.file_nr.path()).into_iter().for_each(|gap| out.gap(gap));
        }
        if slow {
            for (metric, kept) in &mut self.slow {
                let Some(text) = kept.read_if_there(&self.host, &mut self.buf, out) else { continue };
                let mut bad = Unparsed::default();
                if let Some(value) = bad.keep(text::single_number(text)) {
                    out.reading(metric, &[], value);
                }
                bad.gap(kept.path()).into_iter().for_each(|gap| out.gap(gap));
            }
        }
        Ok(())
    }
}

/// `/proc/loadavg`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LoadAvg {
    /// Over 1, 5 and 15 minutes, in hundredths.
    averages: [i64; 3],
    /// Threads of all processes.
    threads: i64,
}

/// `1.16 0.46 1.02 9/232 24164` (`proc(5)`).
pub(crate) fn parse_loadavg(text: &[u8]) -> Result<LoadAvg, BadLine<'_>> {
    let line = text::single(text)?;
    let mut fields = Fields::of(line);
    let mut averages = [0; 3];
    for average in &mut averages {
        *average = text::hundredths(fields.word()?).map_err(|why| fields.bad(why))?;
    }
    let tasks = fields.word()?;
    let slash = tasks.iter().position(|b| *b == b'/').ok_or_else(|| fields.bad("no running/total"))?;
    let threads = text::number(&tasks[slash + 1..]).map_err(|why| fields.bad(why))?;
    Ok(LoadAvg { averages, threads })
}

/// `/proc/sys/fs/file-nr`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileNr {
    allocated: i64,
    /// `None` when it is beyond 63 bits: the kernel's way to say that there is no limit.
    maximum: Option<i64>,
}

/// `1952 0 9223372036854775807`: allocated, always 0 since Linux 2.6, limit (`Documentation/admin-guide/sysctl/fs.rst`).
pub(crate) fn parse_file_nr(text: &[u8]) -> Result<FileNr, BadLine<'_>> {
    let mut fields = Fields::of(text::single(text)?);
    let allocated = fields.number()?;
    let _unused = fields.number()?;
    let limit = fields.word()?;
    let maximum = match text::number(limit) {
        Ok(i64::MAX) => None,
        Ok(limit) => Some(limit),
        Err(_) if limit == b"18446744073709551615" => None,
        Err(why) => return Err(fields.bad(why)),
    };
    Ok(FileNr { allocated, maximum })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn load_averages_are_hundredths() {
        let got = parse_loadavg(b"1.16 0.46 11.02 9/232 24164\n").unwrap();
        assert_eq!(got, LoadAvg { averages: [116, 46, 1102], threads: 232 });
        for bad in
            [&b""[..], b"1.16 0.46 11.02 9/232 24164", b"1.16 0.46 x 9/232 1\n", b"1.16 0.46 1.02 9 1\n", b"1.16\n"]
        {
            assert!(parse_loadavg(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_largest_number_means_no_limit_of_open_files() {
        assert_eq!(parse_file_nr(b"7\t0\t100\n").unwrap(), FileNr { allocated: 7, maximum: Some(100) });
        assert_eq!(parse_file_nr(b"7\t0\t9223372036854775807\n").unwrap().maximum, None);
        assert!(parse_file_nr(b"7\t0\n").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_bad(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (parse_loadavg(&bytes), parse_file_nr(&bytes));
        }
    }
}
