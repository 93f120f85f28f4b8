//! The kernel log as it happens: each record an event, with sequence number, facility, level and time; and counters of
//! what was seen and what was lost.
//!
//! Read from `/dev/kmsg` where it can be opened, else by `syslog(2)`; what the boot before left, once (`previous.rs`). What the log says is for review; the window of an
//! incident is cut out of the log by the log source of the same name. The text of a record is parsed in [`crate::kmsg`].

mod previous;
mod syslog;
mod times;

use std::sync::atomic::Ordering;
use std::time::Duration;

use casefile_proto::event::{Event, EventKind};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::sample::MetricSpec;
use casefile_proto::time::{BootTime, WallTime};

use super::kept::unreadable;
use super::spec::{count, named};
use super::{Measurement, Opened, Source, SourceError, SourceSpec};
use crate::calls;
use crate::clock;
use crate::host::{Host, HostError};
use crate::kmsg::reader::{KmsgReader, Next};
use crate::kmsg::{Record, parse_record};
use crate::refusals::refusing_device;
use crate::runner::lane::chain;
use crate::text::Unparsed;
use syslog::Syslog;
use times::Times;

/// The source.
pub static SPEC: SourceSpec = SourceSpec {
    name: "kernel",
    about: "the kernel log, each record an event, from /dev/kmsg or syslog(2)",
    every: Duration::from_secs(1),
    deadline: Duration::from_secs(2),
    metrics: &METRICS,
    open,
};

static METRICS: [MetricSpec; 2] = [
    count(
        "casefile_kernel_messages_total",
        "records of the kernel log by level since the agent started; origin is kernel, or user for what a program wrote into it",
        &["level", "origin"],
    ),
    count(
        "casefile_kernel_messages_lost_total",
        "records that were overwritten before they could be read, where the kernel numbers them",
        &[],
    ),
];

const MESSAGES: &MetricSpec = named(&METRICS, "casefile_kernel_messages_total");
const LOST: &MetricSpec = named(&METRICS, "casefile_kernel_messages_lost_total");

const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
const ORIGINS: [&str; 2] = ["kernel", "user"];

/// An agent that was killed by what it should report starts again within this time: what the kernel said just before is
/// taken along, at most so many records of it.
const BACKLOG: Duration = Duration::from_secs(60);
const MAX_BACKLOG: usize = 512;

fn open(host: &Host) -> Result<Opened, SourceError> {
    let from = match KmsgReader::open(host) {
        Ok(reader) => From::Kmsg(reader),
        // No device in this container, or not for us: the system call asks for less.
        Err(error) if host.is_live() && (error.is_not_found() || error.is_permission()) => {
            match calls::kernel_log(&mut [0; 1024]) {
                Ok(_) => From::Syslog(Syslog::default()),
                Err(refused) => From::Refused(refusal(&error, &refused)),
            }
        }
        Err(error) if error.is_not_found() => {
            return Ok(Opened::Absent { why: "no /dev/kmsg below the host root".to_owned() });
        }
        Err(error) if error.is_permission() => From::Refused(unreadable(&error)),
        Err(error) => return Err(error.into()),
    };
    Ok(Opened::Ready(Box::new(Kernel {
        host: host.clone(),
        clock: clock::system(),
        from,
        looked_back: false,
        times: None,
        all_read_at: None,
        last_seq: None,
        counts: [[0; LEVELS.len()]; ORIGINS.len()],
        lost: 0,
    })))
}

fn refusal(device: &HostError, call: &std::io::Error) -> Gap {
    let reason = match call.kind() {
        std::io::ErrorKind::PermissionDenied => GapReason::PermissionDenied,
        _ => GapReason::SourceFailed,
    };
    Gap::new(reason, format!("{}; syslog(2): {call}", chain(device)))
}

struct Kernel {
    host: Host,
    clock: clock::Clock,
    from: From,
    /// Whether it was seen to what the boot before this one left.
    looked_back: bool,
    /// `None` before the first measurement.
    times: Option<Times>,
    /// When the last reading began that reached the end of the log: what is new since is not older.
    all_read_at: Option<BootTime>,
    last_seq: Option<u64>,
    /// By origin and level.
    counts: [[i64; LEVELS.len()]; ORIGINS.len()],
    lost: i64,
}

enum From {
    Kmsg(KmsgReader),
    Syslog(Syslog),
    /// Neither may be read: said at every measurement, because it is missing in every window.
    Refused(Gap),
}

/// One thing that reading gave.
#[derive(Debug)]
enum Heard {
    Record(Record),
    /// The kernel dropped some; how many, the next sequence number says.
    Overrun,
}

impl Heard {
    fn seq(&self) -> Option<u64> {
        match self {
            Self::Record(record) => record.seq,
            Self::Overrun => None,
        }
    }
}

impl Source for Kernel {
    fn measure(&mut self, out: &mut Measurement) -> Result<(), SourceError> {
        if !std::mem::replace(&mut self.looked_back, true) {
            self.look_back(out);
        }
        let room = out.room_for_events();
        let mut bad = Unparsed::default();
        let first = self.times.is_none();
        let began = (self.clock)().boot;
        let (mut heard, whole) = match &mut self.from {
            From::Refused(gap) => {
                out.gap(gap.clone());
                return Ok(());
            }
            From::Kmsg(reader) => hear(reader, first, room, &mut bad)?,
            From::Syslog(syslog) => syslog.hear(room, &mut bad)?,
        };
        let times = match (self.times, &self.from) {
            (Some(fixture @ Times::Fixture { .. }), _) => fixture,
            (None, From::Kmsg(reader)) if !reader.is_device() => Times::fixture(&self.host, &mut bad),
            _ => Times::running((self.clock)(), self.all_read_at),
        };
        if first {
            // What is missing from now on is counted from the newest record, told or not.
            self.last_seq = heard.iter().filter_map(Heard::seq).max();
            heard = backlog(heard, &times);
        }
        self.times = Some(times);
        if whole {
            self.all_read_at = Some(began);
        }
        for heard in heard {
            self.tell(heard, &times, out);
        }
        for (origin, counts) in ORIGINS.iter().zip(&self.counts) {
            for (level, count) in LEVELS.iter().zip(counts) {
                out.reading(MESSAGES, &[level, origin], *count);
            }
        }
        out.reading(LOST, &[], self.lost);
        bad.gap("the kernel log").into_iter().for_each(|gap| out.gap(gap));
        Ok(())
    }
}

/// What the device has, up to `room` records; the first time all, of which only the end is kept. Whether its end was
/// reached: what does not fit stays in the kernel until the next measurement.
fn hear(
    reader: &mut KmsgReader,
    first: bool,
    room: usize,
    bad: &mut Unparsed,
) -> Result<(Vec<Heard>, bool), SourceError> {
    let failed = |source| SourceError::Call { call: "read /dev/kmsg", source };
    let mut heard = Vec::new();
    loop {
        if !first && heard.len() >= room {
            return Ok((heard, false));
        }
        match reader.next().map_err(failed)? {
            Next::Record(bytes) => match parse_record(bytes) {
                Ok(record) => heard.push(Heard::Record(record)),
                Err(why) => bad.add(why),
            },
            Next::Overrun => heard.push(Heard::Overrun),
            Next::End => return Ok((heard, true)),
        }
        if first && heard.len() > 2 * MAX_BACKLOG {
            heard.drain(..MAX_BACKLOG);
        }
    }
}

/// Of all that the kernel still has, what was said shortly before the agent started.
fn backlog(mut heard: Vec<Heard>, times: &Times) -> Vec<Heard> {
    heard.retain(|heard| match heard {
        Heard::Record(record) => record.micros.is_some_and(|micros| times.is_within(micros, BACKLOG)),
        // What was lost before the agent started is not its loss.
        Heard::Overrun => false,
    });
    heard.drain(..heard.len().saturating_sub(MAX_BACKLOG));
    heard
}

impl Kernel {
    /// Tells what the boot before this one left, unless an agent did so since this boot.
    fn look_back(&self, out: &mut Measurement) {
        if self.host.stats().boot_was_recorded.load(Ordering::Relaxed) {
            return;
        }
        let now = if self.host.is_live() {
            (self.clock)()
        } else {
            Times::fixture(&self.host, &mut Unparsed::default()).now()
        };
        let since_boot = i64::try_from(now.boot.nanos()).unwrap_or(i64::MAX);
        let booted = Some(now.wall.offset(-since_boot)).filter(|at| *at > WallTime::from_secs(0));
        previous::tell(&self.host, booted, now, out);
    }

    fn tell(&mut self, heard: Heard, times: &Times, out: &mut Measurement) {
        let record = match heard {
            Heard::Record(record) => record,
            Heard::Overrun => {
                // With numbers the next record says how many; without, nobody knows.
                if !matches!(self.from, From::Kmsg(_)) {
                    self.lose(None, times, out);
                }
                return;
            }
        };
        if let (Some(seq), Some(last)) = (record.seq, self.last_seq) {
            if let Some(missing @ 1..) = seq.checked_sub(last.saturating_add(1)) {
                self.lose(Some(missing), times, out);
            }
            self.last_seq = Some(last.max(seq));
        } else {
            self.last_seq = record.seq;
        }
        let level = record.level.min(7);
        let origin = usize::from(record.facility != 0);
        // Only the kernel's own word: a program that writes such lines must not blind `hardware`.
        if record.facility == 0
            && let Some(device) = refusing_device(&record.text)
        {
            self.host.stats().refusals.add(device);
        }
        self.counts[origin][usize::from(level)] += 1;
        let Some(micros) = record.micros else {
            // printk.time is off: it was said since the reading before, which is all that is known.
            out.gap(Gap::new(GapReason::ClockUncertain, "the kernel log has no times (printk.time=0)").counting(1));
            out.event(Event { at: times.now(), kind: kernel(&record), text: record.text });
            return;
        };
        out.event(Event { at: times.of(micros), kind: kernel(&record), text: record.text });
    }

    fn lose(&mut self, count: Option<u64>, times: &Times, out: &mut Measurement) {
        let known = count.map_or("records".to_owned(), |count| format!("{count} records"));
        let text = format!("{known} of the kernel log were overwritten before they could be read");
        self.lost = self.lost.saturating_add(count.and_then(|count| i64::try_from(count).ok()).unwrap_or(0));
        let gap = Gap::new(GapReason::RotatedAway, text.clone());
        out.gap(match count {
            Some(count) => gap.counting(count),
            None => gap,
        });
        out.event(Event { at: times.now(), kind: EventKind::Lost { count }, text });
    }
}

fn kernel(record: &Record) -> EventKind {
    EventKind::Kernel { seq: record.seq, facility: record.facility, level: record.level.min(7) }
}

#[cfg(test)]
mod tests;
