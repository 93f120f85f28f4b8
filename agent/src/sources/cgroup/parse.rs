//! The forms in which cgroup files say things (cgroups(7), Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/): pure.
//!
//! What the keys mean, and which metric they become, is in `files`.

use crate::text::{self, Fields};

/// A limit that v1 shows as the largest number of whole pages stands for no limit. The page size differs between
/// machines, so anything from here up is taken for it: no machine has 4 EiB of memory.
const V1_UNLIMITED: i64 = 1 << 62;

/// One number in a file: `memory.current`, `cpuacct.usage`, `pids.max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Single {
    /// The number.
    Number(i64),
    /// `max`, `-1`, or what v1 writes for it: there is no limit, which is no number.
    Unlimited,
}

/// Parses a file of one number.
pub(super) fn single(file: &[u8]) -> Result<Single, &'static str> {
    match file.trim_ascii() {
        b"max" | b"-1" => Ok(Single::Unlimited),
        digits => text::number(digits).map(|n| if n >= V1_UNLIMITED { Single::Unlimited } else { Single::Number(n) }),
    }
}

/// `cpu.max` of v2: `quota period` in microseconds; the quota may be `max`.
pub(super) fn cpu_max(file: &[u8]) -> Result<(Single, i64), &'static str> {
    let mut words = Fields::of(file.trim_ascii());
    let (Some(quota), Some(period)) = (words.next(), words.next()) else { return Err("has no two words") };
    Ok((single(quota)?, text::number(period)?))
}

/// One line of a pressure file; totals in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Pressure {
    /// Time in which at least one task waited.
    pub(super) some: Option<i64>,
    /// Time in which all non-idle tasks waited at once.
    pub(super) full: Option<i64>,
}

/// Parses a pressure file (Documentation/accounting/psi.rst). The averages are derived from the totals, so only those are kept.
pub(super) fn pressure(file: &[u8]) -> Result<Pressure, &'static str> {
    let mut found = Pressure::default();
    for line in text::lines(file).map_while(Result::ok) {
        let mut words = Fields::of(line);
        let field = match words.next() {
            Some(b"some") => &mut found.some,
            Some(b"full") => &mut found.full,
            _ => continue,
        };
        let total = words.find_map(|w| w.strip_prefix(b"total=")).ok_or("a line has no total=")?;
        *field = Some(text::number(total)?);
    }
    if found == Pressure::default() { Err("has neither a some nor a full line") } else { Ok(found) }
}

/// What one block device did for a cgroup, on v2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct DeviceIo<'a> {
    /// `major:minor`.
    pub(super) device: &'a [u8],
    /// Bytes read.
    pub(super) read_bytes: Option<i64>,
    /// Bytes written.
    pub(super) written_bytes: Option<i64>,
    /// Read operations.
    pub(super) reads: Option<i64>,
    /// Write operations.
    pub(super) writes: Option<i64>,
}

/// `io.stat` of v2: `major:minor key=value …`, a line for each device; a line without any of the keys is left out.
pub(super) fn io_stat(file: &[u8]) -> impl Iterator<Item = Result<DeviceIo<'_>, &'static str>> {
    text::lines(file).map_while(Result::ok).filter_map(|line| io_line(line).transpose())
}

fn io_line(line: &[u8]) -> Result<Option<DeviceIo<'_>>, &'static str> {
    let mut words = Fields::of(line);
    let Some(first) = words.next() else { return Ok(None) };
    let mut io = DeviceIo { device: device(first)?, ..DeviceIo::default() };
    for word in words {
        let Some(equals) = word.iter().position(|b| *b == b'=') else { continue };
        let field = match &word[..equals] {
            b"rbytes" => &mut io.read_bytes,
            b"wbytes" => &mut io.written_bytes,
            b"rios" => &mut io.reads,
            b"wios" => &mut io.writes,
            _ => continue,
        };
        *field = Some(text::number(&word[equals + 1..])?);
    }
    Ok((io.read_bytes.is_some() || io.written_bytes.is_some()).then_some(io))
}

/// `blkio.throttle.*` of v1: `major:minor Read n`, `major:minor Write n`, …, `Total n`; the lines of a device follow each other.
pub(super) fn blkio(file: &[u8]) -> impl Iterator<Item = Result<Transfer<'_>, &'static str>> {
    text::lines(file).map_while(Result::ok).filter_map(|line| blkio_line(line).transpose())
}

fn blkio_line(line: &[u8]) -> Result<Option<Transfer<'_>>, &'static str> {
    let mut words = Fields::of(line);
    let (Some(first), Some(second)) = (words.next(), words.next()) else { return Ok(None) };
    let direction = match second {
        b"Read" => Direction::Read,
        b"Write" => Direction::Write,
        // The sum over all devices, and operations by another order (Sync, Async, Discard, Total).
        _ => return Ok(None),
    };
    let value = text::number(words.next().ok_or("a line has no number")?)?;
    Ok(Some(Transfer { device: device(first)?, direction, value }))
}

/// What went one way between a cgroup and a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transfer<'a> {
    /// `major:minor`.
    pub(super) device: &'a [u8],
    /// Which way.
    pub(super) direction: Direction,
    /// Bytes or operations, as the file counts.
    pub(super) value: i64,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the device.
    Read,
    /// To the device.
    Write,
}

/// `major:minor`, both numbers; nothing else names a device.
fn device(word: &[u8]) -> Result<&[u8], &'static str> {
    let colon = word.iter().position(|b| *b == b':').ok_or("a line begins with no device")?;
    text::number(&word[..colon]).and(text::number(&word[colon + 1..])).map_err(|_| "a line begins with no device")?;
    Ok(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_limit_is_no_number() {
        assert_eq!(single(b"max\n"), Ok(Single::Unlimited));
        assert_eq!(single(b"-1\n"), Ok(Single::Unlimited));
        assert_eq!(single(b"9223372036854771712\n"), Ok(Single::Unlimited), "pages of 4 KiB");
        assert_eq!(single(b"9223372036854710272\n"), Ok(Single::Unlimited), "pages of 64 KiB");
        assert_eq!(single(b"0\n"), Ok(Single::Number(0)));
        assert_eq!(single(b"25276502016\n"), Ok(Single::Number(25_276_502_016)));
        assert!(single(b"\n").is_err() && single(b"12x").is_err());
    }

    #[test]
    fn a_quota_comes_with_its_period() {
        assert_eq!(cpu_max(b"max 100000\n"), Ok((Single::Unlimited, 100_000)));
        assert_eq!(cpu_max(b"50000 100000\n"), Ok((Single::Number(50_000), 100_000)));
        assert!(cpu_max(b"max\n").is_err() && cpu_max(b"").is_err());
    }

    #[test]
    fn pressure_is_read_by_its_totals() {
        let file =
            b"some avg10=0.00 avg60=0.12 avg300=0.00 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";
        assert_eq!(pressure(file), Ok(Pressure { some: Some(1234), full: Some(5) }));
        assert_eq!(pressure(b"some avg10=0.00 total=7\n"), Ok(Pressure { some: Some(7), full: None }));
        assert!(pressure(b"").is_err() && pressure(b"some avg10=0.00\n").is_err());
    }

    #[test]
    fn a_device_without_figures_has_no_reading() {
        let file = b"8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n253:0 \n8:16 rbytes=9\n";
        let io: Vec<_> = io_stat(file).map(Result::unwrap).collect();
        assert_eq!(io.len(), 2);
        assert_eq!((io[0].device, io[0].read_bytes, io[0].writes), (&b"8:0"[..], Some(1), Some(4)));
        assert_eq!((io[1].device, io[1].written_bytes), (&b"8:16"[..], None));
        let v1: Vec<_> = blkio(b"8:0 Read 10\n8:0 Write 20\n8:0 Sync 5\n8:0 Total 30\nTotal 30\n").collect();
        let transfer = |direction, value| Ok(Transfer { device: b"8:0", direction, value });
        assert_eq!(v1, [transfer(Direction::Read, 10), transfer(Direction::Write, 20)]);
    }

    #[test]
    fn a_figure_of_a_device_that_is_none_is_an_error_and_not_left_out() {
        for bad in [&b"8:0 rbytes=x\n"[..], b"8:0 rbytes=1 wios=-1\n", b"sda rbytes=1\n", b"8:x rbytes=1\n"] {
            assert!(io_stat(bad).all(|io| io.is_err()) && io_stat(bad).count() == 1, "{bad:?}");
        }
        for bad in [&b"8:0 Read\n"[..], b"8:0 Write x\n", b"sda Read 1\n"] {
            assert!(blkio(bad).all(|io| io.is_err()) && blkio(bad).count() == 1, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(bytes: Vec<u8>) {
            let _ = single(&bytes);
            let _ = cpu_max(&bytes);
            let _ = pressure(&bytes);
            let _ = io_stat(&bytes).count();
            let _ = blkio(&bytes).count();
        }
    }
}
