//! Frames of a node that we play: what a frame holds follows from its number, so that whoever reads it back can be checked
//! without anything being kept but the numbers and their times.

use std::sync::Arc;

use casefile_evidence::recording::Header;
use casefile_proto::ids::{BootId, FrameSeq, NodeName};
use casefile_proto::sample::{
    Frame, MetricDef, MetricIndex, MetricKind, Outcome, Reading, Sample, Schema, SeriesDef, SeriesId, SourceDef,
    SourceIndex,
};
use casefile_proto::time::Stamp;
use casefile_proto::units::{Scale, Unit};

/// Series of a played node.
const SERIES: u32 = 12;

/// What its recording says of it.
pub(crate) fn header(node: &NodeName, boot: BootId) -> Header {
    let metric = MetricDef {
        name: "exam_value".to_owned(),
        help: "A number that follows from the frame's.".to_owned(),
        kind: MetricKind::Gauge,
        unit: Unit::Count,
        scale: Scale::ONE,
        labels: vec!["of".to_owned()],
    };
    let source = SourceDef {
        name: "exam".to_owned(),
        about: "A node that the exam plays.".to_owned(),
        every_nanos: 1_000_000_000,
        deadline_nanos: 1_000_000_000,
        metrics: vec![metric],
    };
    let schema = Arc::new(Schema { sources: vec![source] });
    Header { node: node.clone(), boot, agent_version: "0.1.0".to_owned(), schema }
}

/// The frame of this number. Series are defined in the first frame that an encoder sees.
pub(crate) fn frame(boot: BootId, seq: FrameSeq, at: Stamp, series: Series) -> Frame {
    let define =
        |id: u32| (SeriesId(id), SeriesDef { metric: MetricIndex(0), labels: [format!("series {id}").into()].into() });
    let defined = if series == Series::New { (0..SERIES).map(define).collect() } else { Vec::new() };
    let sample = Sample {
        source: SourceIndex(0),
        outcome: Outcome::Complete,
        took_nanos: 1,
        defined,
        readings: (0..SERIES).map(|id| Reading { series: SeriesId(id), value: value(seq, id) }).collect(),
    };
    Frame { boot, seq, at, samples: vec![sample], events: Vec::new() }
}

/// Whether an encoder has seen this run's series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Series {
    /// Not yet.
    New,
    /// In the frame before.
    Known,
}

/// What a frame must hold: nothing is wrong with it, or what is.
pub(crate) fn check(frame: &Frame) -> Result<(), String> {
    let [sample] = frame.samples.as_slice() else {
        return Err(format!("frame {} has {} samples, and 1 was recorded", frame.seq, frame.samples.len()));
    };
    let mut found: Vec<i64> = sample.readings.iter().map(|reading| reading.value).collect();
    let mut expected: Vec<i64> = (0..SERIES).map(|id| value(frame.seq, id)).collect();
    // A block tells the readings in the order of its series.
    found.sort_unstable();
    expected.sort_unstable();
    if found == expected { Ok(()) } else { Err(format!("frame {} does not hold what was recorded", frame.seq)) }
}

fn value(seq: FrameSeq, series: u32) -> i64 {
    // Noise, so that no two frames are the same and blocks do not shrink to nothing.
    let mixed = (seq.0 << 8 | u64::from(series)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    i64::try_from(mixed >> 40).unwrap_or(0)
}
