//! One process as `/proc/PID` shows it: pure parsers of `stat`, `status`, `io`, `cgroup` and of the directory's names.
//!
//! The 1 Hz source (`sources::process`) and the state tables read the same files and share these. Nothing here opens a
//! file; `environ` and `cmdline` have no parser, because neither is ever read: both may hold secrets.

pub mod membership;
pub mod stat;
pub mod status;

use crate::text::{self, Fields};

/// The pid that a name in `/proc` or in `/proc/PID/task` stands for; `None` for all that is no process.
pub fn from_name(name: &[u8]) -> Option<u32> {
    // "0" is no process, and the kernel writes no leading zeros: a name with one is none of its own.
    if name.first() == Some(&b'0') {
        return None;
    }
    text::number(name).ok().and_then(|n| u32::try_from(n).ok())
}

/// `/proc/PID/io`: what a process read and wrote so far, all its threads together.
/// Fields as proc(5) names them; a kernel without task I/O accounting has no such file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Io {
    /// Bytes that read-like calls returned, from anywhere (files, pipes, sockets, the page cache).
    pub rchar: i64,
    /// Bytes that write-like calls took.
    pub wchar: i64,
    /// Read-like calls.
    pub syscr: i64,
    /// Write-like calls.
    pub syscw: i64,
    /// Bytes fetched from the storage layer.
    pub read_bytes: i64,
    /// Bytes sent to the storage layer, counted when a page was made dirty.
    pub write_bytes: i64,
    /// Of `write_bytes`, those that never went out because the page was dropped (a deleted file).
    pub cancelled_write_bytes: i64,
}

/// Parses `/proc/PID/io`; says which line is missing or no number.
pub fn parse_io(file: &[u8]) -> Result<Io, &'static str> {
    let mut io = Io::default();
    let mut found = 0u8;
    for line in text::lines(file).map_while(Result::ok) {
        let mut words = Fields::of(line);
        let (Some(key), Some(value)) = (words.next(), words.next()) else { continue };
        let (bit, field) = match key {
            b"rchar:" => (0, &mut io.rchar),
            b"wchar:" => (1, &mut io.wchar),
            b"syscr:" => (2, &mut io.syscr),
            b"syscw:" => (3, &mut io.syscw),
            b"read_bytes:" => (4, &mut io.read_bytes),
            b"write_bytes:" => (5, &mut io.write_bytes),
            b"cancelled_write_bytes:" => (6, &mut io.cancelled_write_bytes),
            _ => continue,
        };
        *field = text::number(value)?;
        found |= 1 << bit;
    }
    if found == 0b111_1111 { Ok(io) } else { Err("one of the seven lines is missing") }
}

/// Where a task waits in the kernel, from `/proc/PID/wchan`; `None` when it does not wait or the kernel does not say
/// (it writes `0` for both, and for a reader without ptrace permission too).
pub fn parse_wchan(file: &[u8]) -> Option<&[u8]> {
    let name = file.trim_ascii();
    (!name.is_empty() && name != b"0").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_numbers_from_one_up_are_pids() {
        assert_eq!(from_name(b"1"), Some(1));
        assert_eq!(from_name(b"4194304"), Some(4_194_304));
        for no in [&b"0"[..], b"", b"01", b"self", b"1a", b"4294967296", b"-1"] {
            assert_eq!(from_name(no), None, "{no:?}");
        }
    }

    #[test]
    fn io_is_all_seven_lines_or_an_error() {
        let file = b"rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 5\nwrite_bytes: 6\ncancelled_write_bytes: 7\n";
        let io = parse_io(file).unwrap();
        assert_eq!((io.rchar, io.syscw, io.cancelled_write_bytes), (1, 4, 7));
        for cut in 0..file.len() {
            assert!(parse_io(&file[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_wait_channel_of_zero_is_not_known() {
        assert_eq!(parse_wchan(b"0"), None);
        assert_eq!(parse_wchan(b""), None);
        assert_eq!(parse_wchan(b"rpc_wait_bit_killable"), Some(&b"rpc_wait_bit_killable"[..]));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(bytes: Vec<u8>) {
            let _ = parse_io(&bytes);
            let _ = parse_wchan(&bytes);
            let _ = from_name(&bytes);
        }
    }
}
