//! Rotated logs that were compressed: beside another reader, and what they begin with.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::ops::ControlFlow::{Break, Continue};

use casefile_agent::logs::fuzzing::{inflate, inflated_head};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::Target;
use crate::input::Input;
use crate::scratch::Scratch;

pub(crate) const TARGET: Target = Target {
    name: "gzip",
    about: "Compressed logs: truncated, damaged, of many members, inflating to very much",
    run,
    seeds,
};

/// More than this of a bomb is not looked at.
const ENOUGH: usize = 4 << 20;

/// These bytes as one member.
pub(crate) fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(1));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn seeds() -> Vec<Vec<u8>> {
    let text = b"2026-11-23T00:00:01Z stdout F one\n".repeat(4);
    let (one, zeros) = (packed(&text), packed(&vec![0; 200_000]));
    vec![
        [&[0], &one[..]].concat(),
        [&[0], &one[..one.len() - 3]].concat(),
        [&[0], &one[..], &one[..], &packed(b"")[..]].concat(),
        [&[0], &zeros[..]].concat(),
        [&[0], &one[..], &b"trailing"[..]].concat(),
        [&[1], &text[..]].concat(),
    ]
}

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    // Half of the inputs are content, so that a mutation is not always one of the compression only.
    let packed = if input.byte() & 1 == 0 { input.rest.to_vec() } else { packed(input.rest) };
    let scratch = Scratch::new();
    let file = File::open(scratch.write("x.gz", &packed)).unwrap();
    let mut given = Vec::new();
    let ended = inflate(&file, &mut |piece| {
        given.extend_from_slice(piece);
        if given.len() < ENOUGH { Continue(()) } else { Break(()) }
    });
    let mut head = [0; 1000];
    let len = inflated_head(&file, &mut head);
    assert!(given.starts_with(&head[..len]) || (ended.is_err() && head[..len].starts_with(&given)));
    if given.len() < ENOUGH {
        let mut expected = Vec::new();
        let theirs = MultiGzDecoder::new(&packed[..]).read_to_end(&mut expected);
        assert_eq!(ended.is_ok(), theirs.is_ok(), "{ended:?} {theirs:?}");
        if ended.is_ok() {
            assert_eq!((&given, len), (&expected, head.len().min(given.len())));
        } else {
            // How much comes out before damage is met depends on how much is asked for at once.
            let (short, long) = if given.len() < expected.len() { (&given, &expected) } else { (&expected, &given) };
            assert!(long.starts_with(short) && given.len() + 4096 >= expected.len());
        }
    }
}
