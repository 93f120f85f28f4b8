//! `/proc/PID/stat` and `/proc/PID/task/TID/stat`, proc_pid_stat(5): one line whose second field may hold any bytes.
//!
//! Only the fields that are recorded are read; all others may be anything.

use crate::text::{self, Fields};

/// The flag of kernel threads in the ninth field (`PF_KTHREAD`, include/linux/sched.h).
const KERNEL_THREAD: i64 = 0x0020_0000;

/// What the line says. `comm` borrows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat<'a> {
    /// The process (or task) itself.
    pub pid: u32,
    /// Its name: whatever bytes it chose, newlines, brackets and escape codes included.
    pub comm: &'a [u8],
    /// The numbers.
    pub numbers: Numbers,
}

/// The numbers of the line that are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// The letter of its state: `R`, `S`, `D`, `T`, `t`, `Z`, `X`, `I`, `P`, ….
    pub state: u8,
    /// Its parent; 0 for none.
    pub ppid: u32,
    /// `PF_*` flags of the kernel.
    pub flags: i64,
    /// Minor faults of the process, without those of its children.
    pub minflt: i64,
    /// Major faults: those that had to wait for storage.
    pub majflt: i64,
    /// Clock ticks (hundredths of a second) in user mode, all threads.
    pub utime: i64,
    /// Clock ticks in the kernel.
    pub stime: i64,
    /// Threads.
    pub threads: i64,
    /// When it started: clock ticks since boot. With the pid it names the process for good.
    pub start: i64,
    /// Bytes of address space; 0 for what has none (kernel threads, zombies).
    pub vsize: i64,
    /// Resident pages; the kernel calls the figure inaccurate (it lags by up to some pages a thread).
    pub rss_pages: i64,
    /// The CPU that it last ran on.
    pub processor: Option<i64>,
    /// Clock ticks spent waiting for block I/O; 0 for ever where delay accounting is off.
    pub blkio_ticks: Option<i64>,
}

impl Numbers {
    /// Whether it is a thread of the kernel: no address space, no files, no user.
    pub fn is_kernel_thread(&self) -> bool {
        self.flags & KERNEL_THREAD != 0
    }

    /// Whether it has an address space, so that its sizes mean something.
    pub fn has_memory(&self) -> bool {
        self.vsize != 0
    }

    /// Whether it did anything between `before` and this: CPU, faults, block I/O; or is about to (running, blocked).
    pub fn is_busy_since(&self, before: &Self) -> bool {
        matches!(self.state, b'R' | b'D')
            || (self.utime, self.stime, self.minflt, self.majflt, self.blkio_ticks)
                != (before.utime, before.stime, before.minflt, before.majflt, before.blkio_ticks)
    }
}

/// Parses the line; says what is wrong with it.
pub fn parse(file: &[u8]) -> Result<Stat<'_>, &'static str> {
    // The last number is not to be believed when the end of the line is missing.
    let line = file.strip_suffix(b"\n").ok_or("is cut off")?;
    // The name ends at the last bracket: all that follows is numbers, and before it may be any number of brackets.
    let open = line.iter().position(|b| *b == b'(').ok_or("has no '('")?;
    let close = line.iter().rposition(|b| *b == b')').filter(|c| *c > open).ok_or("has no ')' after its '('")?;
    let pid = text::number(line[..open].trim_ascii())?;
    let pid = u32::try_from(pid).map_err(|_| "the first number is no pid")?;
    let mut fields = Fields::of(&line[close + 1..]);
    let state = match fields.next() {
        Some(&[letter]) if letter.is_ascii_alphabetic() => letter,
        _ => return Err("has no state letter after the name"),
    };
    // Fields are numbered as in the manual page: the state is field 3, so the next one is field 4.
    let mut at = 4usize;
    let mut field = |number: usize| {
        let value = fields.nth(number - at);
        at = number + 1;
        value
    };
    let need = |value: Option<&[u8]>| value.ok_or("a field is missing").and_then(text::number);
    let numbers = Numbers {
        state,
        ppid: u32::try_from(need(field(4))?).map_err(|_| "the parent is no pid")?,
        flags: need(field(9))?,
        minflt: need(field(10))?,
        majflt: need(field(12))?,
        utime: need(field(14))?,
        stime: need(field(15))?,
        threads: need(field(20))?,
        start: need(field(22))?,
        vsize: need(field(23))?,
        rss_pages: need(field(24))?,
        processor: field(39).and_then(|f| text::number(f).ok()),
        blkio_ticks: field(42).and_then(|f| text::number(f).ok()),
    };
    Ok(Stat { pid, comm: &line[open + 1..close], numbers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REST: &str = "S 1 9 9 0 -1 4194560 812 9000 3 7 120 45 1 2 20 0 4 0 162468 3133440 388 18446744073709551615 1 2 3 0 0 0 0 0 0 0 0 0 17 1 0 0 26 0 0 1 2 3 4 5 6 7 0";

    fn with_comm(comm: &[u8]) -> Vec<u8> {
        [b"77 (", comm, b") ", REST.as_bytes(), b"\n"].concat()
    }

    #[test]
    fn the_numbers_come_from_the_fields_that_the_manual_names() {
        let line = with_comm(b"cat");
        let n = parse(&line).unwrap().numbers;
        assert_eq!((n.state, n.ppid, n.minflt, n.majflt, n.utime, n.stime), (b'S', 1, 812, 3, 120, 45));
        assert_eq!((n.threads, n.start, n.vsize, n.rss_pages), (4, 162_468, 3_133_440, 388));
        assert_eq!((n.processor, n.blkio_ticks), (Some(1), Some(26)));
        assert!(!n.is_kernel_thread() && n.has_memory());
    }

    #[test]
    fn a_name_may_hold_any_bytes() {
        for comm in
            [&b") R 2 ("[..], b"((((", b"))))", b"a\nb", b"\x1b[31mred\x1b[0m", b"\xff\xfe", b"", b"a) Z 0 0 (b", b"\0"]
        {
            let line = with_comm(comm);
            let stat = parse(&line).unwrap();
            assert_eq!((stat.pid, stat.comm, stat.numbers.state, stat.numbers.ppid), (77, comm, b'S', 1));
        }
    }

    #[test]
    fn an_old_kernel_without_the_last_fields_is_read_without_them() {
        let line = with_comm(b"init");
        let mut short: Vec<u8> = line.split(|b| *b == b' ').take(24).collect::<Vec<_>>().join(&b' ');
        short.push(b'\n');
        let n = parse(&short).unwrap().numbers;
        assert_eq!((n.rss_pages, n.processor, n.blkio_ticks), (388, None, None));
    }

    #[test]
    fn a_line_cut_anywhere_is_refused() {
        let line = with_comm(b"a b");
        for cut in 0..line.len() {
            assert!(parse(&line[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn running_and_blocked_are_busy_and_so_is_any_progress() {
        let line = with_comm(b"x");
        let quiet = parse(&line).unwrap().numbers;
        assert!(!quiet.is_busy_since(&quiet));
        assert!(Numbers { state: b'D', ..quiet }.is_busy_since(&quiet));
        assert!(Numbers { minflt: quiet.minflt + 1, ..quiet }.is_busy_since(&quiet));
        assert!(!Numbers { processor: Some(0), rss_pages: 1, ..quiet }.is_busy_since(&quiet));
    }

    proptest! {
        #[test]
        fn any_name_leaves_the_numbers_alone(comm in proptest::collection::vec(any::<u8>(), 0..70)) {
            let line = with_comm(&comm);
            let stat = parse(&line).unwrap();
            prop_assert_eq!(stat.comm, &comm[..]);
            prop_assert_eq!(stat.numbers.start, 162_468);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
