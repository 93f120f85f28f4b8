//! The agent about itself: what it costs the node, how its sources do, and what it lost. The first thing to look at
//! when evidence is missing or the agent is suspected.
//!
//! The numbers of the recorder come from [`crate::stats`]; those of the process from its own `/proc`, which is not below
//! the host root when that is a fixture tree.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::sample::MetricSpec;
use casefile_proto::units::{Scale, Unit};
use rustix::time::{ClockId, clock_gettime};

use super::kept::Kept;
use super::spec::{count, counter, gauge, level, named};
use super::{Measurement, Opened, Source, SourceError, SourceSpec};
use crate::host::Host;
use crate::sandbox::standing::{Standing, State};
use crate::stats::{Figure, SourceStats, Stats};
use crate::text::{self, BadLine, Fields, Unparsed};

/// The source.
pub static SPEC: SourceSpec = SourceSpec {
    name: "agent",
    about: "the agent itself: CPU, memory, files, threads, bytes written, frames lost, and each source's cost and outcomes",
    every: Duration::from_secs(1),
    deadline: Duration::from_secs(2),
    metrics: &METRICS,
    open,
};

static METRICS: [MetricSpec; 35] = [
    counter(
        "process_cpu_seconds_total",
        "CPU time of the agent's process (CLOCK_PROCESS_CPUTIME_ID)",
        Unit::Seconds,
        Scale::NANO,
        &[],
    ),
    gauge(
        "process_resident_memory_bytes",
        "memory of the agent that is resident (/proc/self/stat)",
        Unit::Bytes,
        Scale::ONE,
        &[],
    ),
    gauge("process_virtual_memory_bytes", "address space of the agent (/proc/self/stat)", Unit::Bytes, Scale::ONE, &[]),
    level("process_threads", "threads of the agent (/proc/self/stat)", &[]),
    count(
        "process_major_page_faults_total",
        "page faults of the agent that had to read from disk (/proc/self/stat)",
        &[],
    ),
    level("process_open_fds", "files that the agent has open, every ten seconds (/proc/self/fd)", &[]),
    counter(
        "casefile_agent_source_took_seconds_total",
        "wall time of all measurements of a source",
        Unit::Seconds,
        Scale::NANO,
        SOURCE,
    ),
    counter(
        "casefile_agent_source_cpu_seconds_total",
        "CPU time of all measurements of a source",
        Unit::Seconds,
        Scale::NANO,
        SOURCE,
    ),
    count("casefile_agent_source_measurements_total", "measurements of a source that ended, in time or late", SOURCE),
    count("casefile_agent_source_readings_total", "readings that a source gave", SOURCE),
    count("casefile_agent_source_failures_total", "measurements of a source that ended in an error or a panic", SOURCE),
    count("casefile_agent_source_panics_total", "measurements of a source that ended in a panic", SOURCE),
    count("casefile_agent_source_timeouts_total", "ticks at which a source had not answered by its deadline", SOURCE),
    level("casefile_agent_source_series", "series that are known of a source", SOURCE),
    count("casefile_agent_frames_total", "frames taken", &[]),
    count(
        "casefile_agent_ticks_missed_total",
        "ticks that were due and not taken: the machine slept or was overloaded",
        &[],
    ),
    gauge("casefile_agent_tick_late_seconds", "by how much the last tick began late", Unit::Seconds, Scale::NANO, &[]),
    level("casefile_agent_threads_abandoned", "threads that a source blocks and that were given up", &[]),
    level("casefile_agent_sources_off", "sources that are switched off because too many threads are blocked", &[]),
    level(
        "casefile_agent_sources_slowed",
        "sources that are measured less often because measuring takes more of the CPU than it may",
        &[],
    ),
    counter(
        "casefile_agent_ring_written_bytes_total",
        "bytes written into the ring, before blocks are rewritten as columns",
        Unit::Bytes,
        Scale::ONE,
        &[],
    ),
    gauge("casefile_agent_ring_held_bytes", "bytes that the ring has on disk", Unit::Bytes, Scale::ONE, &[]),
    gauge(
        "casefile_agent_ring_limit_bytes",
        "what the ring may hold at the moment: less than configured while its disk is nearly full",
        Unit::Bytes,
        Scale::ONE,
        &[],
    ),
    count(
        "casefile_agent_ring_frames_lost_total",
        "frames that could not be kept in the ring: failed, writing it failed; slow, its disk did not keep up",
        &["reason"],
    ),
    count("casefile_agent_ring_errors_total", "times that writing the ring failed", &[]),
    counter(
        "casefile_agent_ring_cpu_seconds_total",
        "CPU time of the thread that writes the ring",
        Unit::Seconds,
        Scale::NANO,
        &[],
    ),
    counter(
        "casefile_agent_recorder_cpu_seconds_total",
        "CPU time of the thread that takes the ticks",
        Unit::Seconds,
        Scale::NANO,
        &[],
    ),
    level(
        "casefile_agent_session_stands",
        "1 while a session with the collector stands, else 0; none where no collector is configured",
        &[],
    ),
    level(
        "casefile_agent_frames_unacknowledged",
        "frames after the newest that the collector has on its disk; none as long as it has not said which that is",
        &[],
    ),
    gauge(
        "casefile_agent_spool_bytes",
        "bytes of evidence items that wait on the node's disk until the collector has them",
        Unit::Bytes,
        Scale::ONE,
        &[],
    ),
    count("casefile_agent_live_frames_dropped_total", "frames that the live stream was too slow for", &[]),
    count("casefile_agent_events_dropped_total", "events that did not fit into their frame", &[]),
    counter(
        "process_written_bytes_total",
        "bytes that the agent caused to be written to disks (/proc/self/io)",
        Unit::Bytes,
        Scale::ONE,
        &[],
    ),
    counter(
        "process_read_bytes_total",
        "bytes that the agent caused to be read from disks (/proc/self/io)",
        Unit::Bytes,
        Scale::ONE,
        &[],
    ),
    level(
        "casefile_agent_sandbox",
        "pieces of the agent's sandbox, every ten seconds: 1 one that stands, 0 one that does not, and why; none where the agent was not told",
        &["piece", "state", "why"],
    ),
];

const SOURCE: &[&str] = &["source"];

const CPU: &MetricSpec = named(&METRICS, "process_cpu_seconds_total");
const RESIDENT: &MetricSpec = named(&METRICS, "process_resident_memory_bytes");
const VIRTUAL: &MetricSpec = named(&METRICS, "process_virtual_memory_bytes");
const THREADS: &MetricSpec = named(&METRICS, "process_threads");
const FAULTS: &MetricSpec = named(&METRICS, "process_major_page_faults_total");
const FILES: &MetricSpec = named(&METRICS, "process_open_fds");
const WRITTEN: &MetricSpec = named(&METRICS, "process_written_bytes_total");
const READ: &MetricSpec = named(&METRICS, "process_read_bytes_total");
const LOST: &MetricSpec = named(&METRICS, "casefile_agent_ring_frames_lost_total");
const SESSION: &MetricSpec = named(&METRICS, "casefile_agent_session_stands");
const UNACKNOWLEDGED: &MetricSpec = named(&METRICS, "casefile_agent_frames_unacknowledged");
const SANDBOX: &MetricSpec = named(&METRICS, "casefile_agent_sandbox");

/// A metric, and the figure of a source or of the recorder that it tells.
type Told<T> = (&'static MetricSpec, fn(&T) -> &Figure);

/// What is told of each source.
const OF_SOURCE: [Told<SourceStats>; 8] = [
    (named(&METRICS, "casefile_agent_source_took_seconds_total"), |s| &s.took_nanos),
    (named(&METRICS, "casefile_agent_source_cpu_seconds_total"), |s| &s.cpu_nanos),
    (named(&METRICS, "casefile_agent_source_measurements_total"), |s| &s.measured),
    (named(&METRICS, "casefile_agent_source_readings_total"), |s| &s.readings),
    (named(&METRICS, "casefile_agent_source_failures_total"), |s| &s.failed),
    (named(&METRICS, "casefile_agent_source_panics_total"), |s| &s.panicked),
    (named(&METRICS, "casefile_agent_source_timeouts_total"), |s| &s.timed_out),
    (named(&METRICS, "casefile_agent_source_series"), |s| &s.series),
];

/// What is told of the recorder.
const OF_RECORDER: [Told<Stats>; 15] = [
    (named(&METRICS, "casefile_agent_frames_total"), |s| &s.frames),
    (named(&METRICS, "casefile_agent_ticks_missed_total"), |s| &s.ticks_missed),
    (named(&METRICS, "casefile_agent_tick_late_seconds"), |s| &s.tick_late_nanos),
    (named(&METRICS, "casefile_agent_threads_abandoned"), |s| &s.threads_abandoned),
    (named(&METRICS, "casefile_agent_sources_off"), |s| &s.sources_off),
    (named(&METRICS, "casefile_agent_ring_written_bytes_total"), |s| &s.ring_written_bytes),
    (named(&METRICS, "casefile_agent_ring_held_bytes"), |s| &s.ring_held_bytes),
    (named(&METRICS, "casefile_agent_ring_limit_bytes"), |s| &s.ring_limit_bytes),
    (named(&METRICS, "casefile_agent_sources_slowed"), |s| &s.sources_slowed),
    (named(&METRICS, "casefile_agent_spool_bytes"), |s| &s.spool_bytes),
    (named(&METRICS, "casefile_agent_ring_errors_total"), |s| &s.ring_errors),
    (named(&METRICS, "casefile_agent_ring_cpu_seconds_total"), |s| &s.ring_cpu_nanos),
    (named(&METRICS, "casefile_agent_recorder_cpu_seconds_total"), |s| &s.recorder_cpu_nanos),
    (named(&METRICS, "casefile_agent_live_frames_dropped_total"), |s| &s.live_frames_dropped),
    (named(&METRICS, "casefile_agent_events_dropped_total"), |s| &s.events_dropped),
];

/// One line; seven lines.
const MAX_FILE: usize = 4096;
/// Files are counted at every tenth measurement: counting lists a directory.
const SLOW: u32 = 10;
const SLOW_AT: u32 = 7;

fn open(host: &Host) -> Result<Opened, SourceError> {
    // By number and not by `self`: a host's /proc mounted into a container has another `self`, or none.
    let own = if host.is_live() { host.clone() } else { Host::new(Path::new("/"))? };
    let pid = own.link("proc/self").ok().and_then(|pid| pid.into_os_string().into_string().ok());
    Ok(Opened::Ready(Box::new(Agent {
        own_files: pid.map(|pid| OwnFiles {
            stat: Kept::whole(format!("proc/{pid}/stat"), MAX_FILE),
            io: Kept::whole(format!("proc/{pid}/io"), MAX_FILE),
            fd: format!("proc/{pid}/fd"),
        }),
        stats: host.stats().clone(),
        own,
        page: i64::try_from(rustix::param::page_size()).unwrap_or(4096),
        tick: 0,
        buf: Vec::new(),
    })))
}

struct Agent {
    stats: std::sync::Arc<Stats>,
    /// Where the agent's own process is to be found.
    own: Host,
    own_files: Option<OwnFiles>,
    page: i64,
    tick: u32,
    buf: Vec<u8>,
}

struct OwnFiles {
    stat: Kept,
    io: Kept,
    fd: String,
}

impl Source for Agent {
    fn measure(&mut self, out: &mut Measurement) -> Result<(), SourceError> {
        let slow = self.tick == 0 || self.tick % SLOW == SLOW_AT;
        self.tick = self.tick.wrapping_add(1);
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        out.reading(CPU, &[], cpu.tv_sec.saturating_mul(1_000_000_000).saturating_add(cpu.tv_nsec));
        self.process(out);
        for (metric, figure) in OF_RECORDER {
            emit(metric, &[], figure(&self.stats), out);
        }
        let lost = &self.stats.ring_frames_lost;
        emit(LOST, &["failed"], &lost.failed, out);
        emit(LOST, &["slow"], &lost.slow, out);
        if self.stats.has_collector.load(Ordering::Relaxed) {
            emit(SESSION, &[], &self.stats.session_stands, out);
            if let Some(frames) = self.stats.unacknowledged() {
                out.reading(UNACKNOWLEDGED, &[], i64::try_from(frames).unwrap_or(i64::MAX));
            }
        }
        for (name, stats) in self.stats.sources() {
            for (metric, figure) in OF_SOURCE {
                emit(metric, &[name], figure(stats), out);
            }
        }
        if slow {
            self.files(out);
            for (piece, state) in self.stats.sandbox().into_iter().flat_map(Standing::pieces) {
                let stands = i64::from(matches!(state, State::Stands | State::NotMeant));
                out.reading(SANDBOX, &[piece.name(), state.word(), state.why()], stands);
            }
        }
        Ok(())
    }
}

fn emit(metric: &'static MetricSpec, labels: &[&str], figure: &Figure, out: &mut Measurement) {
    // None of these reaches 2^63 in the life of a machine.
    out.reading(metric, labels, i64::try_from(figure.get()).unwrap_or(i64::MAX));
}

impl Agent {
    fn process(&mut self, out: &mut Measurement) {
        let Some(files) = &mut self.own_files else {
            out.gap(Gap::new(GapReason::SourceFailed, "/proc does not say which process the agent is"));
            return;
        };
        if let Some(text) = files.stat.read_expected(&self.own, &mut self.buf, out) {
            let mut bad = Unparsed::default();
            if let Some(own) = bad.keep(parse_stat(text)) {
                out.reading(RESIDENT, &[], own.resident_pages.saturating_mul(self.page));
                out.reading(VIRTUAL, &[], own.virtual_bytes);
                out.reading(THREADS, &[], own.threads);
                out.reading(FAULTS, &[], own.major_faults);
            }
            bad.gap(files.stat.path()).into_iter().for_each(|gap| out.gap(gap));
        }
        // A kernel without CONFIG_TASK_IO_ACCOUNTING has no such file.
        if let Some(text) = files.io.read_if_there(&self.own, &mut self.buf, out) {
            let mut bad = Unparsed::default();
            for line in text::lines(text) {
                let value = line.and_then(|line| {
                    let mut fields = Fields::of(line);
                    let metric = match fields.word()? {
                        b"read_bytes:" => READ,
                        b"write_bytes:" => WRITTEN,
                        _ => return Ok(None),
                    };
                    Ok(Some((metric, fields.number()?)))
                });
                if let Some((metric, value)) = bad.keep(value).flatten() {
                    out.reading(metric, &[], value);
                }
            }
            bad.gap(files.io.path()).into_iter().for_each(|gap| out.gap(gap));
        }
    }

    fn files(&mut self, out: &mut Measurement) {
        let Some(files) = &self.own_files else { return };
        match self.own.list(&files.fd) {
            // The directory itself was open for listing.
            Ok(names) => out.reading(FILES, &[], i64::try_from(names.len().saturating_sub(1)).unwrap_or(i64::MAX)),
            Err(error) => out.gap(super::kept::unreadable(&error)),
        }
    }
}

/// What of `/proc/self/stat` is told.
#[derive(Debug, PartialEq, Eq)]
struct Own {
    major_faults: i64,
    threads: i64,
    virtual_bytes: i64,
    resident_pages: i64,
}

/// `pid (name) state …`: the name may have anything in it, and so the fields are counted from the last `)`
/// (`proc_pid_stat(5)`: majflt 12, num_threads 20, vsize 23, rss 24).
fn parse_stat(text: &[u8]) -> Result<Own, BadLine<'_>> {
    let line = text::single(text)?;
    let bad = |why| BadLine { line, why };
    let end = line.iter().rposition(|b| *b == b')').ok_or(bad("no `)` after the name"))?;
    let field = |number: usize| {
        let field = Fields::of(&line[end + 1..]).nth(number - 3).ok_or(bad("too few fields"))?;
        text::signed(field).map_err(bad)
    };
    Ok(Own { major_faults: field(12)?, threads: field(20)?, virtual_bytes: field(23)?, resident_pages: field(24)? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_process_whose_name_has_brackets_and_blanks_is_read_right() {
        let text =
            b"7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 55 0 1 2 0 0 20 0 9 0 100 123456 789 18446744073709551615 1 1\n";
        let expected = Own { major_faults: 55, threads: 9, virtual_bytes: 123_456, resident_pages: 789 };
        assert_eq!(parse_stat(text), Ok(expected));
        assert!(parse_stat(b"7 (a) S 1\n").is_err() && parse_stat(b"7 a S\n").is_err());
    }

    #[test]
    fn the_agent_sees_itself_even_over_a_fixture_tree() {
        let dir = tempfile::tempdir().unwrap();
        for root in [Path::new("/"), dir.path()] {
            let host = Host::new(root).unwrap();
            let Ok(Opened::Ready(mut source)) = open(&host) else { panic!() };
            let mut out = Measurement::new(&METRICS);
            out.begin();
            source.measure(&mut out).unwrap();
            let value = |name| out.find(name, &[]).unwrap_or_default();
            assert!(value("process_resident_memory_bytes") > 1 << 16 && value("process_cpu_seconds_total") > 0);
            assert!(value("process_open_fds") > 2 && value("process_threads") > 0);
            assert!(out.gaps().is_empty(), "{:?}", out.gaps());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_bad(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse_stat(&bytes);
            let _ = parse_stat(&[b"1 (x) S ", &bytes[..], b"\n"].concat());
        }
    }
}
