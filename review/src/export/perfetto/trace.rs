//! The packets of a trace, by the numbers of Perfetto's own schema (`protos/perfetto/trace/trace.proto` and what it imports).

use std::io::{self, Write};

use casefile_proto::time::WallTime;

use super::super::wire::Message;

/// `BUILTIN_CLOCK_REALTIME`.
const REALTIME: u64 = 1;

/// All packets are of one sequence.
const SEQUENCE: u64 = 1;

/// `SEQ_INCREMENTAL_STATE_CLEARED`.
const STATE_CLEARED: u64 = 1;

/// `TrackEvent.Type`.
const SLICE_BEGIN: u64 = 1;
const SLICE_END: u64 = 2;
const INSTANT: u64 = 3;
const COUNTER: u64 = 4;

/// A track; its uuid in the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Track(u64);

/// What a counter counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Amount {
    /// `UNIT_COUNT`.
    Count,
    /// `UNIT_SIZE_BYTES`.
    Bytes,
    /// A unit by its name.
    Of(String),
}

/// A trace that is being written.
pub(super) struct Trace<W> {
    out: W,
    tracks: u64,
    processes: u64,
    points: u64,
}

impl<W: Write> Trace<W> {
    /// Begins: the clock of the trace is the real one.
    pub(super) fn begin(out: W, at: WallTime) -> io::Result<Self> {
        let mut trace = Self { out, tracks: 0, processes: 0, points: 0 };
        let clock = Message::default().number(1, REALTIME).number(2, nanos(at));
        let snapshot = Message::default().message(1, &clock).number(2, REALTIME);
        let packet = stamped(at).message(6, &snapshot).number(10, SEQUENCE).number(13, STATE_CLEARED).number(87, 1);
        trace.packet(&packet)?;
        Ok(trace)
    }

    /// A group of tracks of its own, shown as a process.
    pub(super) fn process(&mut self, name: &str) -> io::Result<Track> {
        self.processes += 1;
        let process = Message::default().number(1, self.processes).text(6, name);
        self.describe(|track| track.message(3, &process))
    }

    /// A track below another.
    pub(super) fn track(&mut self, parent: Track, name: &str) -> io::Result<Track> {
        self.describe(|track| track.text(2, name).number(5, parent.0))
    }

    /// A counter below another track.
    pub(super) fn counter(&mut self, parent: Track, name: &str, amount: &Amount) -> io::Result<Track> {
        let counter = match amount {
            Amount::Count => Message::default().number(3, 2),
            Amount::Bytes => Message::default().number(3, 3),
            Amount::Of(unit) => Message::default().text(6, unit),
        };
        self.describe(|track| track.text(2, name).number(5, parent.0).message(8, &counter))
    }

    fn describe(&mut self, more: impl FnOnce(Message) -> Message) -> io::Result<Track> {
        self.tracks += 1;
        let track = Track(self.tracks);
        let described = more(Message::default().number(1, track.0));
        self.packet(&Message::default().number(10, SEQUENCE).message(60, &described))?;
        Ok(track)
    }

    /// A value of a counter.
    pub(super) fn value(&mut self, track: Track, at: WallTime, value: f64) -> io::Result<()> {
        self.event(at, &Message::default().number(9, COUNTER).number(11, track.0).double(44, value))
    }

    /// Something that happened.
    pub(super) fn instant(
        &mut self,
        track: Track,
        at: WallTime,
        category: &str,
        name: &str,
        said: &[(&str, String)],
    ) -> io::Result<()> {
        self.event(at, &named(INSTANT, track, category, name, said))
    }

    /// Something that lasted.
    pub(super) fn slice(
        &mut self,
        track: Track,
        (from, until): (WallTime, WallTime),
        category: &str,
        name: &str,
        said: &[(&str, String)],
    ) -> io::Result<()> {
        self.event(from, &named(SLICE_BEGIN, track, category, name, said))?;
        let end = Message::default().number(9, SLICE_END).number(11, track.0);
        self.packet(&stamped(until).number(10, SEQUENCE).message(11, &end))
    }

    fn event(&mut self, at: WallTime, event: &Message) -> io::Result<()> {
        self.points += 1;
        self.packet(&stamped(at).number(10, SEQUENCE).message(11, event))
    }

    fn packet(&mut self, packet: &Message) -> io::Result<()> {
        self.out.write_all(Message::default().message(1, packet).bytes())
    }

    /// Ends: where it was written to, and how many values, instants and slices it has.
    pub(super) fn end(self) -> (W, u64) {
        (self.out, self.points)
    }
}

fn stamped(at: WallTime) -> Message {
    Message::default().number(8, nanos(at)).number(58, REALTIME)
}

/// A trace has no time before 1970.
fn nanos(at: WallTime) -> u64 {
    u64::try_from(at.nanos()).unwrap_or(0)
}

fn named(kind: u64, track: Track, category: &str, name: &str, said: &[(&str, String)]) -> Message {
    let mut event = Message::default().number(9, kind).number(11, track.0).text(22, category).text(23, name);
    for (what, text) in said {
        let note = Message::default().text(10, what).text(6, text);
        event = event.message(4, &note);
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packets_have_the_numbers_of_the_schema() {
        let at = WallTime::from_nanos(5);
        let mut trace = Trace::begin(Vec::new(), at).unwrap();
        let head = trace.out.len();
        let process = trace.process("n1").unwrap();
        let counter = trace.counter(process, "c", &Amount::Bytes).unwrap();
        trace.value(counter, at, 1.0).unwrap();
        let (bytes, points) = trace.end();
        assert_eq!(points, 1);
        let expected = [
            // packet { sequence 1, track_descriptor { uuid 1, process { pid 1, process_name "n1" } } }
            &b"\x0a\x0f\x50\x01\xe2\x03\x0a\x08\x01\x1a\x06\x08\x01\x32\x02n1"[..],
            // packet { sequence 1, track_descriptor { uuid 2, name "c", parent_uuid 1, counter { unit SIZE_BYTES } } }
            b"\x0a\x10\x50\x01\xe2\x03\x0b\x08\x02\x12\x01c\x28\x01\x42\x02\x18\x03",
            // packet { timestamp 5, clock REALTIME, sequence 1, track_event { COUNTER, track 2, double 1.0 } }
            b"\x0a\x17\x40\x05\xd0\x03\x01\x50\x01\x5a\x0e\x48\x04\x58\x02\xe1\x02\x00\x00\x00\x00\x00\x00\xf0\x3f",
        ]
        .concat();
        assert_eq!(bytes[head..], expected, "{:02x?}", &bytes[head..]);
    }
}
