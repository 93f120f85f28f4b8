//! Recordings that somebody made to hurt: right checksums over wrong bodies, bombs, lies about lengths.

#![expect(clippy::unwrap_used, reason = "what helps a test may panic as the test does")]

#[expect(dead_code, reason = "other test crates use the rest")]
mod recording;

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use casefile_evidence::recording::delta::{DecodeError, Decoder, Encoder};
use casefile_evidence::recording::reader::{ReadError, Recording};
use casefile_evidence::recording::segment::{Retention, Store, StoreError};
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;
use proptest::prelude::*;
use recording::{Dice, Machine};

fn all() -> Window {
    Window::new(WallTime::MIN, WallTime::MAX).unwrap()
}

/// A header and one block.
fn segment(seed: u64) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let keep = Retention { bytes: Bytes::mib(8), age: Duration::from_secs(86_400) };
    let mut machine = Machine::new(1, seed);
    let mut encoder = Encoder::new(machine.header.clone());
    let mut records = encoder.header();
    machine.frames(20).iter().for_each(|f| encoder.frame(f, &mut records));
    Store::open(dir.path(), keep).unwrap().append(&records).unwrap();
    let mut out = Vec::new();
    let inside = Window::new(machine.at.wall.offset(-18_500_000_000), machine.at.wall).unwrap();
    Recording::open_dir(dir.path()).unwrap().cut(inside, &mut out).unwrap();
    out
}

/// The records of a stream: type and body.
fn records(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
        records.push((bytes[4], bytes[9..9 + length].to_vec()));
        bytes = &bytes[9 + length..];
    }
    records
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[kind]);
    crc.update(body);
    let length = u32::try_from(body.len()).unwrap();
    [&length.to_le_bytes()[..], &[kind], &crc.finalize().to_le_bytes(), body].concat()
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A block's body with other columns under right checksums.
fn with_columns(body: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let skip = body[68..].iter().take_while(|b| **b >= 0x80).count() + 1;
    let mut plain = Vec::new();
    flate2::read::DeflateDecoder::new(&body[68 + skip..]).read_to_end(&mut plain).unwrap();
    change(&mut plain);
    let mut out = body[..68].to_vec();
    varint(&mut out, plain.len() as u64);
    let mut deflate = flate2::write::DeflateEncoder::new(&mut out, flate2::Compression::new(1));
    deflate.write_all(&plain).unwrap();
    deflate.finish().unwrap();
    out
}

/// Reads it in every way there is. Whatever it says, it must come back.
fn read(bytes: &[u8]) {
    let (mut decoder, mut rest) = (Decoder::new(), bytes);
    while let Ok(Some((_, taken))) = decoder.next(rest) {
        rest = &rest[taken..];
    }
    let Ok(mut recording) = Recording::from_segment(&mut &bytes[..], Bytes::mib(16)) else { return };
    recording.pieces(None, &mut |_| ControlFlow::Continue(())).unwrap();
    recording.pieces(Some(all()), &mut |_| ControlFlow::Continue(())).unwrap();
    recording.cut(all(), &mut std::io::sink()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn columns_that_were_changed_are_an_error_or_other_frames(seed in 0u64..4, dice: u64, changes in 1usize..8) {
        let mut dice = Dice::new(dice);
        let bytes: Vec<u8> = records(&segment(seed)).iter().flat_map(|(kind, body)| match kind {
            4 => record(4, &with_columns(body, |plain| {
                for _ in 0..changes {
                    let at = dice.below(plain.len() as u64) as usize;
                    match dice.below(3) {
                        0 => plain[at] ^= 1 << dice.below(8),
                        1 => plain[at] = dice.next() as u8,
                        _ => drop(plain.remove(at)),
                    }
                }
            })),
            _ => record(*kind, body),
        }).collect();
        read(&bytes);
    }

    #[test]
    fn a_summary_that_was_changed_is_an_error_or_other_frames(seed in 0u64..4, at in 0usize..64, value: u8) {
        let bytes: Vec<u8> = records(&segment(seed)).iter().flat_map(|(kind, body)| {
            let mut body = body.clone();
            if *kind == 4 {
                body[at] = value;
                let crc = crc32fast::hash(&body[..64]);
                body[64..68].copy_from_slice(&crc.to_le_bytes());
            }
            record(*kind, &body)
        }).collect();
        read(&bytes);
    }

    #[test]
    fn bytes_behind_a_header_are_read_to_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..500), kind in 0u8..8) {
        let header = Encoder::new(recording::header(1)).header();
        read(&[header.clone(), bytes.clone()].concat());
        read(&[header, record(kind, &bytes)].concat());
        read(&bytes);
    }
}

#[test]
fn a_block_that_inflates_to_more_than_it_says_is_refused() {
    let bytes = segment(1);
    let (header, block) = (&records(&bytes)[0], records(&bytes).into_iter().find(|r| r.0 == 4).unwrap());
    let mut bomb = block.1[..68].to_vec();
    varint(&mut bomb, 1000);
    let mut deflate = flate2::write::DeflateEncoder::new(&mut bomb, flate2::Compression::new(9));
    let zeros = vec![0; 1 << 20];
    (0..256).for_each(|_| deflate.write_all(&zeros).unwrap());
    deflate.finish().unwrap();
    assert!(bomb.len() < 1 << 20);
    let stream = [record(1, &header.1), record(4, &bomb)].concat();
    let mut decoder = Decoder::new();
    let (_, taken) = decoder.next(&stream).unwrap().unwrap();
    assert!(matches!(decoder.next(&stream[taken..]), Err(DecodeError::Malformed(_))));
    read(&stream);
}

#[test]
fn a_block_that_says_it_is_larger_than_the_limit_is_refused() {
    let bytes = segment(1);
    let block = records(&bytes).into_iter().find(|r| r.0 == 4).unwrap();
    let mut lie = block.1[..68].to_vec();
    varint(&mut lie, (64 << 20) + 1);
    lie.extend_from_slice(&[3, 0]);
    let stream = [record(1, &records(&bytes)[0].1), record(4, &lie)].concat();
    let mut decoder = Decoder::new();
    let (_, taken) = decoder.next(&stream).unwrap().unwrap();
    assert!(matches!(decoder.next(&stream[taken..]), Err(DecodeError::Malformed("a block above 64 MiB"))));
}

#[test]
fn a_length_without_the_bytes_is_torn_and_one_above_the_limit_is_refused() {
    let mut decoder = Decoder::new();
    let head = |length: u32| [&length.to_le_bytes()[..], &[1, 0, 0, 0, 0]].concat();
    assert!(matches!(decoder.next(&head(8 << 20)), Err(DecodeError::Torn)));
    assert!(matches!(decoder.next(&head((8 << 20) + 1)), Err(DecodeError::Malformed(_))));
    assert!(matches!(decoder.next(&[1, 2, 3]), Err(DecodeError::Torn)));
    assert!(decoder.next(&[]).unwrap().is_none());
}

#[test]
fn what_is_no_segment_says_so() {
    let not = |bytes: &[u8]| match Recording::from_segment(&mut &bytes[..], Bytes::kib(64)) {
        Err(ReadError::NotARecording { why, .. }) => why,
        other => panic!("{:?}", other.map(|_| ())),
    };
    assert_eq!(not(b"hello, world"), "the record is malformed: a record of an unknown type");
    assert_eq!(not(&[0; 70_000]), "it is above the limit of 64.0 KiB");
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Recording::open_dir(dir.path()), Err(ReadError::NotARecording { .. })));
    assert!(matches!(Recording::open_dir(&dir.path().join("none")), Err(ReadError::Io { .. })));
}

#[test]
fn a_store_takes_no_block_and_no_frame_without_its_header() {
    let dir = tempfile::tempdir().unwrap();
    let keep = Retention { bytes: Bytes::mib(8), age: Duration::from_secs(86_400) };
    let mut store = Store::open(dir.path(), keep).unwrap();
    assert!(matches!(store.append(&segment(2)), Err(StoreError::Record(DecodeError::Malformed(_)))));
    let mut machine = Machine::new(1, 3);
    let mut encoder = Encoder::new(machine.header.clone());
    let mut records = Vec::new();
    encoder.frame(&machine.frame(), &mut records);
    assert!(matches!(store.append(&records), Err(StoreError::Record(DecodeError::Malformed(_)))));
    assert_eq!((store.last(), store.held().0), (None, Bytes(0)));
}

#[test]
fn a_link_in_the_place_of_a_segment_is_not_followed() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(elsewhere.path().join("secret"), "x").unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("secret"), dir.path().join("00000001.seg")).unwrap();
    let mut recording = Recording::open_dir(dir.path()).unwrap();
    assert!(recording.pieces(None, &mut |_| ControlFlow::Continue(())).is_err());
    let keep = Retention { bytes: Bytes::mib(8), age: Duration::from_secs(86_400) };
    assert!(Store::open(dir.path(), keep).is_err());
}
