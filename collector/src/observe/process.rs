//! The figures that every exporter gives of its own process, under the names that they have everywhere.

use std::fs::File;
use std::io::Read;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::ingest::Clock;
use crate::stats::text::Exposition;

/// One line.
const MAX_STAT: u64 = 4096;

/// What of `/proc/self/stat` is told.
#[derive(Debug, PartialEq, Eq)]
struct Own {
    threads: u64,
    /// In clock ticks since the machine was started.
    started: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

/// When this process was started, in seconds of the wall clock. To be asked once: the clock may be stepped later.
pub(super) fn started(clock: &Clock) -> Option<f64> {
    let (own, now) = (own()?, clock());
    let age = nanos_to_seconds(now.boot.nanos()) - ticks_to_seconds(own.started);
    #[expect(clippy::cast_precision_loss, reason = "a time in seconds, to the microsecond")]
    let wall = now.wall.nanos() as f64 / 1e9;
    Some(wall - age)
}

/// Writes them down. What the system does not tell is left out.
pub(super) fn write(started: Option<f64>, to: &mut Exposition) {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let nanos = u64::try_from(cpu.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000);
    let nanos = nanos.saturating_add(u64::try_from(cpu.tv_nsec).unwrap_or(0));
    let cpu = Some(nanos_to_seconds(nanos));
    to.counter("process_cpu_seconds_total", "CPU time of this process in user and kernel mode.", cpu);
    let own = own();
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let resident = own.as_ref().map(|own| own.resident_pages.saturating_mul(page));
    to.gauge("process_resident_memory_bytes", "Memory of this process that is resident.", resident);
    let size = own.as_ref().map(|own| own.virtual_bytes);
    to.gauge("process_virtual_memory_bytes", "Address space of this process.", size);
    to.gauge("process_threads", "Threads of this process.", own.as_ref().map(|own| own.threads));
    to.gauge("process_open_fds", "Files that this process has open.", open_files());
    let most = getrlimit(Resource::Nofile).current;
    to.gauge("process_max_fds", "Files that this process may have open.", most);
    let help = "When this process was started, in seconds since 1970 began.";
    to.gauge("process_start_time_seconds", help, started);
}

fn open_files() -> Option<usize> {
    // The directory itself was open for listing.
    std::fs::read_dir("/proc/self/fd").ok().map(|all| all.count().saturating_sub(1))
}

fn own() -> Option<Own> {
    let mut text = Vec::new();
    File::open("/proc/self/stat").ok()?.take(MAX_STAT).read_to_end(&mut text).ok()?;
    parse(&text)
}

/// `pid (name) state …`: the name may have anything in it, and so the fields are counted from the last `)`
/// (`proc_pid_stat(5)`: num_threads 20, starttime 22, vsize 23, rss 24).
fn parse(text: &[u8]) -> Option<Own> {
    let end = text.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
    let field = |number: usize| rest.split_ascii_whitespace().nth(number - 3)?.parse().ok();
    Some(Own { threads: field(20)?, started: field(22)?, virtual_bytes: field(23)?, resident_pages: field(24)? })
}

#[expect(clippy::cast_precision_loss, reason = "a time in seconds, to the microsecond")]
fn nanos_to_seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "ticks since the machine was started")]
fn ticks_to_seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_name_with_brackets_and_blanks_is_read_right() {
        let text = b"7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 55 0 1 2 0 0 20 0 9 0 100 123456 789 1 1 1\n";
        let expected = Own { threads: 9, started: 100, virtual_bytes: 123_456, resident_pages: 789 };
        assert_eq!(parse(text), Some(expected));
        assert_eq!((parse(b"7 (a) S 1\n"), parse(b"")), (None, None));
    }

    #[test]
    fn this_process_was_started_a_short_while_ago() {
        let clock: Clock = Arc::new(crate::clock::now);
        #[expect(clippy::cast_precision_loss, reason = "a test")]
        let now = clock().wall.nanos() as f64 / 1e9;
        let started = started(&clock).unwrap();
        assert!((now - 86_400.0..=now + 1.0).contains(&started), "{started} of {now}");
    }
}
