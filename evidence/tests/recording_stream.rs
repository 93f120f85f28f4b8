//! Frames through an encoder and a decoder: the live stream.

#![expect(clippy::unwrap_used, reason = "what helps a test may panic as the test does")]

#[expect(dead_code, reason = "other test crates use the rest")]
mod recording;

use casefile_evidence::recording::delta::{DecodeError, Decoded, Decoder, Encoder};
use casefile_evidence::recording::{BLOCK_TICKS, Hole};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::FrameSeq;
use casefile_proto::sample::{Frame, Outcome};
use proptest::prelude::*;
use recording::{Dice, Machine, Plain, plain};

fn decode(mut bytes: &[u8]) -> Result<Vec<Frame>, DecodeError> {
    let (mut decoder, mut frames) = (Decoder::new(), Vec::new());
    while let Some((decoded, taken)) = decoder.next(bytes)? {
        bytes = &bytes[taken..];
        match decoded {
            Decoded::Frame(frame) => frames.push(frame),
            Decoded::Block(more) => frames.extend(more),
            Decoded::Header(_) | Decoded::Hole(_) => {}
        }
    }
    Ok(frames)
}

fn encode(machine: &Machine, frames: &[Frame]) -> Vec<u8> {
    let mut encoder = Encoder::new(machine.header.clone());
    let mut out = encoder.header();
    frames.iter().for_each(|frame| encoder.frame(frame, &mut out));
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_goes_in_comes_out(seed: u64, count in 1usize..300) {
        let mut machine = Machine::new(1, seed);
        let frames = machine.frames(count);
        prop_assert_eq!(plain(&decode(&encode(&machine, &frames)).unwrap()), plain(&frames));
    }

    #[test]
    fn a_frame_that_was_lost_is_followed_by_a_keyframe(seed: u64, lost in 1usize..100) {
        let mut machine = Machine::new(1, seed);
        let frames = machine.frames(130);
        let mut encoder = Encoder::new(machine.header.clone());
        let mut out = encoder.header();
        for (i, frame) in frames.iter().enumerate() {
            let before = out.len();
            encoder.frame(frame, &mut out);
            if i == lost {
                out.truncate(before);
                encoder.restart();
            }
        }
        let mut expected: Vec<Plain> = plain(&frames);
        expected.remove(lost);
        prop_assert_eq!(plain(&decode(&out).unwrap()), expected);
    }

    #[test]
    fn random_bytes_are_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn a_body_that_was_changed_under_a_right_checksum_is_an_error_or_other_frames(seed: u64) {
        let mut machine = Machine::new(1, seed);
        let frames = machine.frames(3);
        let mut bytes = encode(&machine, &frames);
        let mut dice = Dice::new(seed);
        let mut at = 0;
        while at < bytes.len() {
            let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
            for _ in 0..2 {
                let i = at + 9 + dice.below(length as u64) as usize;
                bytes[i] ^= 1 << dice.below(8);
            }
            let mut crc = crc32fast::Hasher::new();
            crc.update(&bytes[at + 4..at + 5]);
            crc.update(&bytes[at + 9..at + 9 + length]);
            bytes[at + 5..at + 9].copy_from_slice(&crc.finalize().to_le_bytes());
            at += 9 + length;
        }
        let _ = decode(&bytes);
    }
}

#[test]
fn a_flipped_bit_is_always_noticed() {
    let mut machine = Machine::new(1, 5);
    let frames = machine.frames(4);
    let bytes = encode(&machine, &frames);
    for i in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[i] ^= 1 << (i % 8);
        assert!(decode(&damaged).is_err(), "byte {i}");
    }
}

#[test]
fn a_series_that_comes_back_gets_its_definition_again() {
    let mut machine = Machine::new(1, 9);
    let frames = machine.frames(6 * BLOCK_TICKS);
    let mut encoder = Encoder::new(machine.header.clone());
    let mut out = encoder.header();
    let mut quiet = frames.clone();
    // The load is not read for longer than two blocks, as long as an agent remembers its series, and then again.
    for frame in &mut quiet[10..190] {
        frame.samples[0].readings.clear();
    }
    quiet.iter().for_each(|frame| encoder.frame(frame, &mut out));
    let decoded = decode(&out).unwrap();
    assert!(decoded[190..].iter().any(|frame| !frame.samples[0].readings.is_empty()));
    assert_eq!(plain(&decoded), plain(&quiet));
}

#[test]
fn a_reading_that_was_never_defined_is_left_out_and_the_outcome_says_so() {
    let mut machine = Machine::new(1, 3);
    let mut frame = machine.frame();
    while frame.samples[1].outcome != Outcome::Complete || frame.samples[1].defined.is_empty() {
        frame = machine.frame();
    }
    let first = frame.samples[1].defined.remove(0).0;
    assert!(frame.samples[1].readings.iter().any(|r| r.series == first));
    let decoded = decode(&encode(&machine, std::slice::from_ref(&frame))).unwrap();
    let Outcome::Partial { gaps } = &decoded[0].samples[1].outcome else { panic!("{:?}", decoded[0].samples[1]) };
    assert_eq!(gaps[0].reason, GapReason::ParseFailed);
    let undefined = gaps[0].count.unwrap() as usize;
    assert_eq!(decoded[0].samples[1].readings.len() + undefined, frame.samples[1].readings.len());
}

#[test]
fn a_hole_travels_and_a_keyframe_follows_it() {
    let mut machine = Machine::new(1, 4);
    let frames = machine.frames(2);
    let mut encoder = Encoder::new(machine.header.clone());
    let mut out = encoder.header();
    let gap = Gap::new(GapReason::CollectorAway, "the collector was away").counting(5);
    let hole = Hole { boot: machine.header.boot, seqs: Some((FrameSeq(2), FrameSeq(6))), gap };
    encoder.frame(&frames[0], &mut out);
    encoder.hole(&hole, &mut out);
    encoder.frame(&frames[1], &mut out);
    let mut decoder = Decoder::new();
    let (mut rest, mut found) = (out.as_slice(), None);
    while let Some((decoded, taken)) = decoder.next(rest).unwrap() {
        if let Decoded::Hole(hole) = decoded {
            found = Some(hole);
            // A reader that begins here needs nothing of before but the header.
            assert_eq!(rest[taken + 4], 2, "a keyframe");
        }
        rest = &rest[taken..];
    }
    assert_eq!(found, Some(hole));
    assert_eq!(decoder.header(), Some(&machine.header));
}
