//! What a crash left in persistent storage: the dumps that the kernel shows below `sys/fs/pstore`, and those that
//! systemd-pstore moved below `var/lib/systemd/pstore`. Which there are, when they were written, and their text.
//!
//! # What is known of their times
//!
//! The lines of a dump bear seconds since a boot whose date nobody wrote down, so they are never given a wall time. Of a
//! dump as a whole more is known, the first of these that there is:
//! 1. its own header, `====SECONDS.MICROS-D`, in dumps saved without the kernel's pstore file system;
//! 2. its name, where it comes from EFI variables: `dmesg-efi-ID`, ID being the second, two digits of part, three of count;
//! 3. its file's time, which the kernel sets to that of the record: a time before this boot;
//! 4. else only that it was there by some time: the file is as old as the mount (a kernel log kept in RAM has no time of
//!    its own), or as its copy.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;
use flate2::{Decompress, FlushDecompress, Status};

use super::open::{Dir, gap, too_many};
use super::window::read_up_to;
use crate::host::{EntryKind, Host};

/// Where the kernel shows them.
const SHOWN: &str = "sys/fs/pstore";

/// Where systemd-pstore keeps them, in directories by time and count.
const ARCHIVED: &str = "var/lib/systemd/pstore";

/// So deep are directories looked into; systemd-pstore makes two levels.
const DEPTH: usize = 3;

/// Dumps that are looked at. An EFI dump of a whole log has about thirty parts.
const MAX_DUMPS: usize = 256;

/// The most that is read of one dump: a RAM console is as large as somebody made it; its last part counts.
const DUMP_CAP: u64 = 4 << 20;

/// The most that a compressed dump may inflate to; the kernel compresses less than 64 KiB at once.
const INFLATED_CAP: usize = 1 << 20;

/// Enough for a dump's first line.
const HEAD: usize = 128;

/// Dumps that lie this close together are of one crash: an oops, and the panic that followed.
const ONE_CRASH_NANOS: i64 = 600 * casefile_proto::time::NANOS_PER_SEC;

/// When a dump was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// Then.
    At(WallTime),
    /// Not later than then.
    By(WallTime),
}

impl Written {
    /// It, or the latest that it can be.
    pub(crate) fn latest(self) -> WallTime {
        match self {
            Self::At(at) | Self::By(at) => at,
        }
    }

    /// For people.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::At(at) => format!("written at {at}"),
            Self::By(at) => format!("written at an unknown time, {at} at the latest"),
        }
    }
}

/// One dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dump {
    dir: PathBuf,
    name: OsString,
    /// Below `archived`, or shown by the kernel.
    archived: bool,
    /// On disk.
    pub(crate) size: u64,
    /// When.
    pub(crate) written: Written,
    /// Which part of a dump it is: 1 is the end of the log.
    part: u32,
}

impl Dump {
    /// Where it lies, relative to the host root.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// Whether it is the kernel's own dump of its log, or a part of one, and not what was made of it.
    pub(crate) fn is_part(&self) -> bool {
        self.name.as_encoded_bytes().starts_with(b"dmesg-")
    }

    /// The components of its name in an archive, below a place for all of them.
    pub(crate) fn place(&self) -> impl Iterator<Item = &OsStr> {
        let base = if self.archived { ARCHIVED } else { SHOWN };
        let inner = self.dir.strip_prefix(base).unwrap_or(Path::new(""));
        self.archived.then_some(OsStr::new("archived")).into_iter().chain(inner.iter()).chain([self.name.as_os_str()])
    }

    /// Its text, inflated; and what is missing from it.
    pub(crate) fn read(&self, host: &Host) -> Result<(Vec<u8>, Option<Gap>), Gap> {
        let path = self.path();
        let log = Dir::base(host, &self.dir).and_then(|dir| dir.file(&self.name)).map_err(|e| gap(&e))?;
        let failed = |e: std::io::Error| Gap::new(GapReason::SourceFailed, format!("read /{}: {e}", path.display()));
        let size = log.size_now().map_err(failed)?;
        let skipped = size.saturating_sub(DUMP_CAP);
        let mut bytes = vec![0; usize::try_from(size.min(DUMP_CAP)).unwrap_or(0)];
        let read = read_up_to(&log.file, &mut bytes, skipped).map_err(failed)?;
        bytes.truncate(read);
        let mut missing = (skipped > 0).then(|| {
            let why =
                format!("the first {} of /{} were left out: only its end is read", Bytes(skipped), path.display());
            Gap::new(GapReason::Budget, why)
        });
        let header = Header::of(&bytes);
        let begin = if header.packed { header.len } else { 0 };
        if header.packed || is_packed(&self.name) {
            let (text, whole) = inflate(&bytes[begin..]).ok_or_else(|| {
                let why = format!("/{} is compressed in a way that is not understood", path.display());
                Gap::new(GapReason::ParseFailed, why)
            })?;
            let cut = || {
                let why =
                    format!("/{} is damaged, or inflates to more than {}", path.display(), Bytes(INFLATED_CAP as u64));
                Gap::new(GapReason::ParseFailed, why)
            };
            missing = missing.or_else(|| (!whole).then(cut));
            bytes = [&bytes[..begin], &text].concat();
        }
        Ok((bytes, missing))
    }
}

/// Every dump that there is, oldest first and in the order of the log that each was part of; and what could not be
/// looked at. `booted`: when the running kernel started.
pub(crate) fn find(host: &Host, booted: Option<WallTime>) -> (Vec<Dump>, Vec<Gap>) {
    let mut search = Search { booted, dumps: Vec::new(), gaps: Vec::new(), left_out: 0 };
    let mut absent = 0;
    for (base, archived) in [(SHOWN, false), (ARCHIVED, true)] {
        match Dir::base(host, base) {
            Ok(mut dir) => search.walk(&mut dir, archived, DEPTH),
            Err(e) if e.is_not_found() => absent += 1,
            Err(e) => search.gaps.push(gap(&e)),
        }
    }
    let Search { mut dumps, mut gaps, left_out, .. } = search;
    if absent == 2 {
        gaps.push(Gap::new(GapReason::SourceAbsent, format!("neither /{SHOWN} nor /{ARCHIVED} is there")));
    }
    if left_out > 0 {
        gaps.push(Gap::new(GapReason::Budget, format!("more than {MAX_DUMPS} dumps: {left_out} were not looked at")));
    }
    dumps.sort_by(|a, b| {
        let key = |d: &Dump| (d.written.latest(), std::cmp::Reverse(d.part));
        key(a).cmp(&key(b)).then_with(|| a.path().cmp(&b.path()))
    });
    (dumps, gaps)
}

/// Which of them tell of a window: those written in it; and, when it reaches back before this boot, those of the last
/// crash before it, unless they are older than the window. They may hold its minutes, and are small.
pub(crate) fn of_window(dumps: Vec<Dump>, window: Window, booted: Option<WallTime>) -> Vec<Dump> {
    let booted = booted.unwrap_or(WallTime::MAX);
    let last = last_crash(&dumps, booted);
    let reaches_back = window.from() < booted;
    let belongs = |d: &Dump| {
        let at = d.written.latest();
        window.contains(at) || reaches_back && at >= window.from() && is_of(d, last, booted)
    };
    dumps.into_iter().filter(belongs).collect()
}

/// Those of the last crash before this boot, as far as their times say which that was.
pub(crate) fn of_previous_boot(dumps: Vec<Dump>, booted: Option<WallTime>) -> Vec<Dump> {
    let booted = booted.unwrap_or(WallTime::MAX);
    let last = last_crash(&dumps, booted);
    dumps.into_iter().filter(|d| is_of(d, last, booted)).collect()
}

/// The latest time before this boot at which a dump is known to have been written.
fn last_crash(dumps: &[Dump], booted: WallTime) -> Option<WallTime> {
    let known = dumps.iter().filter_map(|d| match d.written {
        Written::At(at) if at < booted => Some(at),
        _ => None,
    });
    known.max()
}

fn is_of(dump: &Dump, crash: Option<WallTime>, booted: WallTime) -> bool {
    match dump.written {
        Written::At(at) => at < booted && crash.is_some_and(|last| at >= last.offset(-ONE_CRASH_NANOS)),
        // Still where the kernel shows it, or copied by this boot: the boot before left it, or it would have been
        // overwritten or copied before.
        Written::By(at) => !dump.archived || at >= booted,
    }
}

struct Search {
    booted: Option<WallTime>,
    dumps: Vec<Dump>,
    gaps: Vec<Gap>,
    left_out: u64,
}

impl Search {
    fn walk(&mut self, dir: &mut Dir, archived: bool, depth: usize) {
        let names = match dir.names(|_| true) {
            Ok(names) => names,
            Err(e) => return self.gaps.push(gap(&e)),
        };
        if names.more {
            self.gaps.push(too_many(dir.path()));
        }
        for (name, kind) in names.entries {
            if self.dumps.len() == MAX_DUMPS {
                self.left_out += 1;
                continue;
            }
            if kind == EntryKind::Dir {
                match dir.dir(&name) {
                    Ok(mut inner) if depth > 1 => self.walk(&mut inner, archived, depth - 1),
                    Ok(_) => self.left_out += 1,
                    Err(e) if e.is_not_found() => {}
                    Err(e) => self.gaps.push(gap(&e)),
                }
                continue;
            }
            match dir.file(&name) {
                Ok(log) => {
                    let mut head = [0; HEAD];
                    // An error is met again, and told, when the dump is read.
                    let read = read_up_to(&log.file, &mut head, 0).unwrap_or(0);
                    let header = Header::of(&head[..read]);
                    let written = self.written(dir.path(), &name, &header, log.facts.modified, archived);
                    let (dir, size) = (dir.path().to_owned(), log.facts.size);
                    self.dumps.push(Dump { dir, name, archived, size, written, part: header.part });
                }
                Err(e) if e.is_not_found() => {}
                Err(e) => self.gaps.push(gap(&e)),
            }
        }
    }

    fn written(&self, dir: &Path, name: &OsStr, header: &Header, modified: WallTime, archived: bool) -> Written {
        let named = name.to_str().and_then(named_time);
        // The text that systemd-pstore put together out of the parts lies with them, in a directory named by their time.
        let of_dir = || dir.strip_prefix(ARCHIVED).ok()?.iter().next()?.to_str().and_then(seconds);
        if let Some(at) = header.at.or(named).or_else(of_dir) {
            return Written::At(at);
        }
        // Consoles and messages of programs have no time: their files are as old as the mount.
        let timed = !archived && name.as_encoded_bytes().starts_with(b"dmesg-");
        match self.booted {
            Some(booted) if timed && modified < booted => Written::At(modified),
            _ => Written::By(modified),
        }
    }
}

/// What a dump says of itself in its first line or two.
#[derive(Debug, Default, PartialEq, Eq)]
struct Header {
    at: Option<WallTime>,
    /// Bytes before what is compressed.
    len: usize,
    packed: bool,
    part: u32,
}

impl Header {
    /// `====1795401850.123456-C` where the kernel has not taken it away, then `Panic#1 Part3`.
    fn of(bytes: &[u8]) -> Self {
        let mut header = Self::default();
        let mut rest = bytes;
        if let Some((line, after)) = first_line(rest)
            && let Some(time) = line.strip_prefix(b"====")
        {
            let (time, packed) = match time {
                [time @ .., b'-', b'C'] => (time, true),
                [time @ .., b'-', b'D'] => (time, false),
                time => (time, false),
            };
            if let Some(at) = seconds_and_micros(time) {
                (header.at, header.packed, header.len) = (Some(at), packed, bytes.len() - after.len());
                rest = after;
            }
        }
        if let Some((line, _)) = first_line(rest)
            && let Some(at) = line.windows(5).position(|w| w == b" Part")
            && line[..at].contains(&b'#')
        {
            header.part = std::str::from_utf8(&line[at + 5..]).ok().and_then(|n| n.trim().parse().ok()).unwrap_or(0);
        }
        header
    }
}

fn first_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().take(HEAD).position(|b| *b == b'\n')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// `1795401850`: ten digits are a time from 2001 to 2286.
fn seconds(text: &str) -> Option<WallTime> {
    let digits = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    digits.then(|| text.parse().ok().map(WallTime::from_secs)).flatten()
}

/// `1795401850.123456`: the kernel prints the micros without leading zeros.
fn seconds_and_micros(text: &[u8]) -> Option<WallTime> {
    let (secs, micros) = std::str::from_utf8(text).ok()?.split_once('.')?;
    let micros: i64 = micros.parse().ok().filter(|m| (0..1_000_000).contains(m))?;
    Some(seconds(secs)?.offset(micros * 1000))
}

/// The time in the name of a dump from EFI variables: `dmesg-efi-179540185001001`, `dmesg-efi_pstore-…`.
fn named_time(name: &str) -> Option<WallTime> {
    let id = name.strip_prefix("dmesg-efi-").or_else(|| name.strip_prefix("dmesg-efi_pstore-"))?;
    let id = id.split_once('.').map_or(id, |(id, _)| id);
    let (secs, rest) = id.split_at_checked(10)?;
    (rest.len() == 5 && rest.bytes().all(|b| b.is_ascii_digit())).then(|| seconds(secs)).flatten()
}

/// A dump that this kernel could not inflate: `dmesg-ramoops-0.enc.z`.
fn is_packed(name: &OsStr) -> bool {
    name.as_encoded_bytes().ends_with(b".z")
}

/// Inflated up to [`INFLATED_CAP`], and whether that is all. Kernels have used zlib's form and raw deflate. `None`: it is
/// neither, or its first block is broken.
fn inflate(bytes: &[u8]) -> Option<(Vec<u8>, bool)> {
    for zlib in [true, false] {
        let mut out = Vec::with_capacity(INFLATED_CAP);
        let ended = Decompress::new(zlib).decompress_vec(bytes, &mut out, FlushDecompress::Finish);
        let whole = matches!(ended, Ok(Status::StreamEnd));
        if whole || !out.is_empty() && (zlib || ended.is_ok()) {
            return Some((out, whole));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::{any, proptest};

    use super::*;

    fn at(text: &str) -> WallTime {
        text.parse().unwrap()
    }

    fn dump(name: &str, written: Written) -> Dump {
        Dump { dir: SHOWN.into(), name: name.into(), archived: false, size: 1, written, part: 0 }
    }

    #[test]
    fn a_dump_says_when_it_was_written_or_that_it_does_not() {
        let header = Header::of(b"====1795401850.5-D\nPanic#2 Part12\n<6>[  1.0] x\n");
        assert_eq!(header, Header { at: Some(at("2026-11-23T02:44:10.000005Z")), len: 19, packed: false, part: 12 });
        assert!(Header::of(b"====1795401850.123456-C\n\x78").packed);
        assert_eq!(Header::of(b"Oops#1 Part1\n").part, 1);
        for none in [
            &b""[..],
            b"====",
            b"====x.y-D\n",
            b"====1795401850-D\n",
            b"<6>[ 1.0] Part1\n",
            b"====1795401850.1000000\n",
        ] {
            assert_eq!(Header::of(none), Header::default(), "{}", none.escape_ascii());
        }
        assert_eq!(named_time("dmesg-efi-179540185001001"), Some(at("2026-11-23T02:44:10Z")));
        assert_eq!(named_time("dmesg-efi_pstore-179540185012001.enc.z"), Some(at("2026-11-23T02:44:10Z")));
        for none in
            ["dmesg-efi-1", "dmesg-efi-17954018500100x", "dmesg-ramoops-0", "dmesg-erst-7709423840", "dmesg-efi-"]
        {
            assert_eq!(named_time(none), None, "{none}");
        }
    }

    #[test]
    fn a_window_that_reaches_before_this_boot_gets_the_last_crash_and_no_older_one() {
        let booted = at("2026-11-23T03:00:00Z");
        let dumps = || {
            vec![
                dump("last-year", Written::At(at("2025-11-23T03:00:00Z"))),
                dump("oops", Written::At(at("2026-11-23T02:40:00Z"))),
                dump("panic", Written::At(at("2026-11-23T02:44:10Z"))),
                dump("console", Written::By(at("2026-11-23T03:00:05Z"))),
                Dump { archived: true, ..dump("copied-last-week", Written::By(at("2026-11-16T00:00:00Z"))) },
            ]
        };
        let names = |from: &str, until: &str| {
            let window = Window::new(at(from), at(until)).unwrap();
            let of = of_window(dumps(), window, Some(booted));
            of.into_iter().map(|d| d.name.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names("2026-11-23T02:30:00Z", "2026-11-23T02:35:00Z"), "oops panic console");
        assert_eq!(names("2026-11-23T02:42:00Z", "2026-11-23T04:00:00Z"), "panic console");
        assert_eq!(names("2026-11-23T02:50:00Z", "2026-11-23T02:51:00Z"), "console");
        assert_eq!(names("2026-11-23T03:10:00Z", "2026-11-23T03:20:00Z"), "");
        assert_eq!(names("2025-11-23T00:00:00Z", "2025-11-24T00:00:00Z"), "last-year oops panic console");
        assert_eq!(of_previous_boot(dumps(), Some(booted)).len(), 3);
    }

    #[test]
    fn both_forms_of_compression_are_inflated_and_a_bomb_is_cut() {
        let text = b"<0>[ 12.345678] Kernel panic - not syncing".repeat(100);
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(6));
        let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(6));
        zlib.write_all(&text).unwrap();
        raw.write_all(&text).unwrap();
        assert_eq!(inflate(&zlib.finish().unwrap()), Some((text.clone(), true)));
        assert_eq!(inflate(&raw.finish().unwrap()), Some((text, true)));
        let mut bomb = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(9));
        bomb.write_all(&vec![0; 8 << 20]).unwrap();
        let (cut, whole) = inflate(&bomb.finish().unwrap()).unwrap();
        assert!(!whole && cut.len() >= INFLATED_CAP && cut.len() < 2 * INFLATED_CAP);
        assert_eq!(inflate(b"\xff\xff\xff no deflate"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_or_not_and_inflate_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..200), name in ".{0,40}") {
            let header = Header::of(&bytes);
            assert!(header.len <= bytes.len());
            let _ = (Header::of(&[b"====1795401850.1-C\n", &bytes[..]].concat()), named_time(&name));
            assert!(inflate(&bytes).is_none_or(|(text, _)| text.len() <= 2 * INFLATED_CAP));
        }
    }
}
