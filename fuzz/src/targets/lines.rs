//! Cutting lines: whatever the pieces in which bytes arrive, the same lines come out, and every byte is in one of them.

use casefile_agent::logs::fuzzing::{CutLine, lines};

use crate::input::Input;
use crate::{Target, none};

pub(crate) const TARGET: Target =
    Target { name: "lines", about: "Lines out of bytes that arrive in pieces of any size", run, seeds: none };

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let size = usize::from(input.short());
    let bytes = input.rest;
    let given = lines(bytes, size);
    assert_eq!(given, lines(bytes, usize::MAX));
    let mut at = 0;
    for CutLine { offset, bytes: line, left_out, zeros } in &given {
        let begin = usize::try_from(*offset).unwrap();
        assert_eq!((begin, *left_out), (at, 0));
        let (passed, rest) = bytes[begin..].split_at(usize::try_from(*zeros).unwrap());
        assert!(passed.iter().all(|b| *b == 0) && rest.starts_with(line));
        assert!(!line.contains(&b'\n') && line.first() != Some(&0));
        at = begin + passed.len() + line.len();
        if at < bytes.len() {
            assert_eq!(bytes[at], b'\n');
            at += 1;
        }
    }
    assert_eq!(at, bytes.len());
}
