//! System calls that no safe crate makes, because nobody should: made here to see them refused. Every argument is such that
//! the kernel turns the call down, or that nothing changes, should it be let through.
#![expect(unsafe_code, reason = "calls that are wrapped nowhere; the safety argument is at the one that makes them")]

use std::io;

use libc::{c_int, c_long};

/// A call by its number with three integers; pointers are null, descriptors -1, lengths 0: see the table of tries.
pub(super) fn call(number: c_long, arguments: [c_long; 3]) -> io::Result<c_long> {
    let [first, second, third] = arguments;
    // SAFETY: no argument is a pointer to memory of ours: the kernel finds null or a small number where it would read or
    // write and answers EFAULT, so no memory changes. Calls that act on the process itself (unshare, setuid) are given what
    // changes nothing.
    let said = unsafe { libc::syscall(number, first, second, third, 0 as c_long, 0 as c_long, 0 as c_long) };
    if said == -1 { Err(io::Error::last_os_error()) } else { Ok(said) }
}

/// Writes the status of the clock as it is; changes nothing.
pub(super) fn set_clock_status() -> io::Result<()> {
    // SAFETY: `timex` is a C struct of integers only, for which all bits zero is a value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole `timex` that we alone hold; with no mode bit set the call is a read.
    if unsafe { libc::adjtimex(&raw mut timex) } < 0 {
        return Err(io::Error::last_os_error());
    }
    timex.modes = libc::ADJ_STATUS;
    // SAFETY: as above; the status that is written is the one that was read.
    if unsafe { libc::adjtimex(&raw mut timex) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes a socket and closes it.
pub(super) fn socket(family: c_int, kind: c_int, protocol: c_int) -> io::Result<()> {
    let fd = call(libc::SYS_socket, [family.into(), kind.into(), protocol.into()])?;
    call(libc::SYS_close, [fd, 0, 0]).map(drop)
}
