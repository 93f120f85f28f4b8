//! Recordings: records of a stream, and a segment as an archive holds it, read, cut and read again.

use std::ops::ControlFlow::Continue;
use std::sync::Arc;

use casefile_evidence::recording::Header;
use casefile_evidence::recording::delta::{Decoder, Encoder};
use casefile_evidence::recording::reader::{Piece, Recording};
use casefile_proto::ids::{BootId, FrameSeq};
use casefile_proto::sample::{
    Frame, MetricDef, MetricIndex, MetricKind, Outcome, Reading, Sample, Schema, SeriesDef, SeriesId, SourceDef,
    SourceIndex,
};
use casefile_proto::time::{BootTime, NANOS_PER_SEC, Stamp, Window};
use casefile_proto::units::{Bytes, Scale, Unit};

use crate::Target;
use crate::input::{BEGIN, Input};

pub(crate) const TARGET: Target = Target {
    name: "recording",
    about: "Records of a recording with right checksums, read, cut, read again",
    run,
    seeds,
};

/// Length, type, checksum.
const HEAD: usize = 9;

/// Makes every record as long as there are bytes for it and its checksum right: a wrong one is found at once, and
/// nothing behind it would ever be tried.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((head, body)) = rest.split_at_checked(HEAD) {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let body = &body[..length.min(body.len())];
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head[4..5]);
        crc.update(body);
        out.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
        out.push(head[4]);
        out.extend_from_slice(&crc.finalize().to_le_bytes());
        out.extend_from_slice(body);
        rest = &rest[HEAD + body.len()..];
    }
    out
}

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let raw = input.byte() & 1 == 1;
    let from = BEGIN.offset(i64::from(input.byte()) * NANOS_PER_SEC);
    let window = Window::new(from, from.offset((i64::from(input.byte()) + 1) * NANOS_PER_SEC)).unwrap();
    let bytes = if raw { input.rest.to_vec() } else { mended(input.rest) };

    let (mut decoder, mut at) = (Decoder::new(), 0);
    while let Ok(Some((_, used))) = decoder.next(&bytes[at..]) {
        assert!(used >= HEAD && at + used <= bytes.len());
        at += used;
    }

    let open = |bytes: &[u8]| Recording::from_segment(&mut &*bytes, Bytes::mib(1));
    let Ok(mut recording) = open(&bytes) else { return };
    let within = frames(&mut recording, Some(window));
    assert!(within.iter().all(|f| window.contains(f.at.wall)));
    let all = frames(&mut recording, None);
    assert!(within.len() <= all.len());
    let mut cut = Vec::new();
    let Ok(made) = recording.cut(window, &mut cut) else { return };
    assert_eq!(made.frames as usize, within.len());
    assert!(made.sources.iter().flat_map(|s| &s.covered).all(|w| window.intersect(w) == Some(*w)));
    let again = frames(&mut open(&cut).unwrap(), None);
    assert_eq!(again.len(), within.len());
    for (a, b) in within.iter().zip(&again) {
        assert_eq!((a.boot, a.seq, a.at), (b.boot, b.seq, b.at));
        let readings =
            |f: &Frame| f.samples.iter().map(|s| (s.source, s.outcome.clone(), s.readings.len())).collect::<Vec<_>>();
        assert_eq!(readings(a), readings(b));
    }
}

fn frames(recording: &mut Recording, window: Option<Window>) -> Vec<Frame> {
    let mut frames = Vec::new();
    // A damaged recording may also end in an error: what came before it counts.
    let _ = recording.pieces(window, &mut |piece| {
        if let Piece::Frame(frame) = piece {
            frames.push(frame);
        }
        Continue(())
    });
    frames
}

fn seeds() -> Vec<Vec<u8>> {
    let metric = |name: &str, labels: &[&str]| MetricDef {
        name: name.to_owned(),
        help: String::new(),
        kind: MetricKind::Gauge,
        unit: Unit::Count,
        scale: Scale::CENTI,
        labels: labels.iter().map(|l| (*l).to_owned()).collect(),
    };
    let metrics = vec![metric("node_load1", &[]), metric("process_threads", &["pid"])];
    let source = SourceDef {
        name: "load".to_owned(),
        about: String::new(),
        every_nanos: 1_000_000_000,
        deadline_nanos: 500_000_000,
        metrics,
    };
    let header = Header {
        node: "n".parse().unwrap(),
        boot: BootId::from_bytes([7; 16]),
        agent_version: "0".to_owned(),
        schema: Arc::new(Schema { sources: vec![source] }),
    };
    let made = |count: u32| {
        let mut encoder = Encoder::new(header.clone());
        let mut out = [&[0, 0, 9], &encoder.header()[..]].concat();
        for n in 0..count {
            let at = Stamp {
                wall: BEGIN.offset(i64::from(n) * NANOS_PER_SEC),
                boot: BootTime::from_nanos(u64::from(n) * 1_000_000_000),
            };
            let series = |id: u32, metric, labels: &[&str]| {
                let labels = labels.iter().map(|l| Box::from(*l)).collect();
                (SeriesId(id), SeriesDef { metric: MetricIndex(metric), labels })
            };
            let defined = if n == 0 { vec![series(0, 0, &[]), series(1, 1, &["1"])] } else { vec![] };
            let reading = |id, value| Reading { series: SeriesId(id), value };
            let sample = Sample {
                source: SourceIndex(0),
                outcome: Outcome::Complete,
                took_nanos: 1000,
                defined,
                readings: vec![reading(0, i64::from(n) * 7), reading(1, -1)],
            };
            let frame =
                Frame { boot: header.boot, seq: FrameSeq(u64::from(n) + 1), at, samples: vec![sample], events: vec![] };
            encoder.frame(&frame, &mut out);
        }
        out
    };
    let stream = made(70);
    // The same as columns: what a cut writes.
    let mut columns = vec![0, 0, 99];
    let whole = Window::new(BEGIN, BEGIN.offset(100 * NANOS_PER_SEC)).unwrap();
    Recording::from_segment(&mut &stream[3..], Bytes::mib(1)).unwrap().cut(whole, &mut columns).unwrap();
    vec![made(0), made(2), stream, columns]
}
