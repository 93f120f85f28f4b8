//! What nothing safe wraps: the system calls `syslog(2)` for the kernel log and `adjtimex(2)` for the state of the clock,
//! which only read, and the C library's `mallopt(3)`. Only this file, `sources/gpu/raw.rs` and
//! `sandbox/check/raw.rs` of the agent may be unsafe.
#![expect(unsafe_code, reason = "no crate that we use wraps these; each call has its safety argument")]

use std::io;

/// `SYSLOG_ACTION_READ_ALL` of `syslog(2)`: reads the last records and removes nothing.
const READ_ALL: libc::c_int = 3;

/// The newest records of the kernel log that fit into `buf`, as `syslog(2)` gives them; returns how many bytes they are.
///
/// Errors: `EPERM` without `CAP_SYSLOG` where `kernel.dmesg_restrict` is set; `ENOSYS` under some system call filters.
pub fn kernel_log(buf: &mut [u8]) -> io::Result<usize> {
    let len = libc::c_int::try_from(buf.len()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the kernel writes at most `len` bytes to the pointer, and `buf` is at least that long, writable and
    // borrowed by us alone until the call returns. READ_ALL takes no other pointer and keeps none.
    let got = unsafe { libc::klogctl(READ_ALL, buf.as_mut_ptr().cast(), len) };
    // Negative means an error, and errno says which.
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

/// What `adjtimex(2)` says of the clock, in the kernel's own units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockState {
    /// What the call returned: `TIME_OK` 0, a leap second 1 to 4, `TIME_ERROR` 5: not synchronised.
    pub state: i64,
    /// `STA_*` bits of `linux/timex.h`.
    pub status: i64,
    /// Offset that is still to be corrected; nanoseconds with `STA_NANO`, else microseconds.
    pub offset: i64,
    /// Frequency correction, parts per million times 65536.
    pub frequency: i64,
    /// Largest error that the clock may have, microseconds.
    pub max_error: i64,
    /// Estimated error, microseconds.
    pub estimated_error: i64,
    /// Time constant of the phase-locked loop.
    pub time_constant: i64,
    /// Microseconds between two ticks.
    pub tick: i64,
    /// Seconds by which TAI is ahead of UTC; 0 where nobody told the kernel.
    pub tai: i64,
}

impl ClockState {
    /// `STA_UNSYNC`: the clock is not kept in step.
    pub const UNSYNCHRONISED: i64 = 0x0040;
    /// `STA_NANO`: offsets are nanoseconds.
    pub const NANOSECONDS: i64 = 0x2000;
    /// `TIME_ERROR`.
    pub const ERROR: i64 = 5;

    /// The offset in nanoseconds, whatever unit the kernel has it in.
    pub fn offset_nanos(&self) -> i64 {
        if self.status & Self::NANOSECONDS != 0 { self.offset } else { self.offset.saturating_mul(1000) }
    }

    /// Whether something keeps the clock in step.
    pub fn is_synchronised(&self) -> bool {
        self.state != Self::ERROR && self.status & Self::UNSYNCHRONISED == 0
    }
}

/// Reads the state of the clock; changes nothing and needs no privilege.
///
/// Errors: `EPERM` or `ENOSYS` under some system call filters of containers.
pub fn clock_state() -> io::Result<ClockState> {
    // SAFETY: `timex` is a C struct of integers only, for which all bits zero is a value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // With no mode bit set the call is a read.
    timex.modes = 0;
    // SAFETY: the pointer is to a whole `timex` that we alone hold; the kernel fills it and keeps no pointer.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ClockState {
        state: i64::from(state),
        status: i64::from(timex.status),
        offset: timex.offset,
        frequency: timex.freq,
        max_error: timex.maxerror,
        estimated_error: timex.esterror,
        time_constant: timex.constant,
        tick: timex.tick,
        tai: i64::from(timex.tai),
    })
}

/// Tells the C library's allocator to give memory back: one arena instead of one for each thread, and what is large to
/// the kernel as soon as it is freed. By its own choice it keeps, for ever, several times what a recorder needs at once.
///
/// For a whole process, at its start, before there are threads. Without effect where the library is not glibc.
pub fn keep_the_heap_small() {
    #[cfg(target_env = "gnu")]
    {
        /// Above what a tick needs; the buffers of a block that is rewritten once a minute are larger.
        const LARGE: libc::c_int = 64 << 10;
        /// Free memory at the end of the heap that is kept.
        const SPARE: libc::c_int = 256 << 10;
        for (option, value) in
            [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, SPARE)]
        {
            // SAFETY: takes two integers and no pointer, and may be called at any time. An option that it does not know
            // it refuses, which costs memory and nothing else.
            unsafe { libc::mallopt(option, value) };
        }
    }
}

/// Has the C library's allocator use two heaps instead of one for each thread that ever allocated: what one thread frees
/// another can use, and a program with thousands of small states stays as large as they are.
///
/// For a whole process, at its start, before there are threads. Without effect where the library is not glibc.
pub fn share_heaps() {
    #[cfg(target_env = "gnu")]
    {
        /// Free memory at the end of a heap that is kept.
        const SPARE: libc::c_int = 8 << 20;
        for (option, value) in [(libc::M_ARENA_MAX, 2), (libc::M_TRIM_THRESHOLD, SPARE)] {
            // SAFETY: takes two integers and no pointer, and may be called at any time. An option that it does not know
            // it refuses, which costs memory and nothing else.
            unsafe { libc::mallopt(option, value) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_says_its_state_or_why_not() {
        match clock_state() {
            Ok(state) => assert!((0..=ClockState::ERROR).contains(&state.state) && state.tick > 0, "{state:?}"),
            Err(error) => assert!(error.raw_os_error().is_some(), "{error}"),
        }
    }

    #[test]
    fn the_kernel_log_fits_into_what_was_offered_or_is_refused() {
        let mut buf = [0xaa_u8; 4096];
        match kernel_log(&mut buf[..4000]) {
            Ok(got) => assert!(got <= 4000),
            Err(error) => assert!(error.raw_os_error().is_some(), "{error}"),
        }
        assert!(buf[4000..].iter().all(|b| *b == 0xaa));
    }

    #[test]
    fn an_offset_is_nanoseconds_whatever_the_kernel_counts_in() {
        let state = ClockState {
            state: 0,
            status: 0,
            offset: -3,
            frequency: 0,
            max_error: 0,
            estimated_error: 0,
            time_constant: 0,
            tick: 0,
            tai: 0,
        };
        assert_eq!(state.offset_nanos(), -3000);
        assert!(state.is_synchronised());
        let nano = ClockState { status: ClockState::NANOSECONDS | ClockState::UNSYNCHRONISED, ..state };
        assert_eq!(nano.offset_nanos(), -3);
        assert!(!nano.is_synchronised());
    }
}
