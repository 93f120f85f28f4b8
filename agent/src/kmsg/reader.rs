//! Where the records of the kernel log come from: `/dev/kmsg`, which gives one record a read and says when it had to
//! drop some, or a regular file with the same text in a fixture tree.
//!
//! Reading by `syslog(2)` has no position to keep and is in [`crate::calls::kernel_log`].

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

use crate::host::{Host, HostError};

/// The longest record that the kernel gives out: `CONSOLE_EXT_LOG_MAX`, 8 KiB; later kernels need less. To a shorter
/// buffer the kernel answers `EINVAL`, for ever.
const MAX_RECORD: usize = 8 * 1024;

/// Reads records one after another, from the oldest that the kernel still has; never blocks.
#[derive(Debug)]
pub struct KmsgReader {
    from: From,
}

#[derive(Debug)]
enum From {
    Device { fd: OwnedFd, buf: Box<[u8; MAX_RECORD]> },
    Text { fd: OwnedFd, at: u64, held: Vec<u8>, taken: usize },
}

/// What one read gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// One record, for [`super::parse_record`].
    Record(&'a [u8]),
    /// The kernel dropped records before they were read; the next one is the oldest that is left, and its sequence
    /// number says how many are missing.
    Overrun,
    /// There is no more for now.
    End,
}

impl KmsgReader {
    /// Opens `dev/kmsg` below the host's root. Not found: a container without the device. Permission: `CAP_SYSLOG` is
    /// missing where `kernel.dmesg_restrict` is set, or the container's device list refuses it.
    pub fn open(host: &Host) -> Result<Self, HostError> {
        let fd = host.kmsg()?;
        let is_text = fstat(&fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        let from = if is_text {
            From::Text { fd, at: 0, held: Vec::new(), taken: 0 }
        } else {
            From::Device { fd, buf: Box::new([0; MAX_RECORD]) }
        };
        Ok(Self { from })
    }

    /// Whether this is the kernel's device, and its times therefore those of the running kernel's clock.
    pub fn is_device(&self) -> bool {
        matches!(self.from, From::Device { .. })
    }

    /// The next record.
    #[expect(clippy::should_implement_trait, reason = "what it gives is borrowed until the next call: no iterator can")]
    pub fn next(&mut self) -> io::Result<Next<'_>> {
        match &mut self.from {
            From::Device { fd, buf } => loop {
                match rustix::io::read(&*fd, &mut buf[..]) {
                    Ok(0) | Err(Errno::AGAIN) => return Ok(Next::End),
                    Ok(got) => return Ok(Next::Record(&buf[..got])),
                    Err(Errno::PIPE) => return Ok(Next::Overrun),
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            },
            From::Text { fd, at, held, taken } => {
                held.drain(..std::mem::take(taken));
                loop {
                    if let Some(end) = record_end(held) {
                        *taken = end;
                        return Ok(Next::Record(&held[..end]));
                    }
                    let mut piece = [0; MAX_RECORD];
                    let got = rustix::io::pread(&*fd, &mut piece[..], *at)?;
                    if got == 0 {
                        // Lines of properties belong to the record only as far as they are there by now.
                        return Ok(match held.iter().rposition(|b| *b == b'\n') {
                            Some(end) => {
                                *taken = end + 1;
                                Next::Record(&held[..=end])
                            }
                            None => Next::End,
                        });
                    }
                    *at += u64::try_from(got).unwrap_or(u64::MAX);
                    held.extend_from_slice(&piece[..got]);
                    if held.len() > 2 * MAX_RECORD && record_end(held).is_none() {
                        // No kernel writes this: it is handed over to be called garbled.
                        *taken = held.len();
                        return Ok(Next::Record(held));
                    }
                }
            }
        }
    }
}

/// Where the first record ends, if the begin of the one after it is there: a line that does not begin with a blank.
fn record_end(text: &[u8]) -> Option<usize> {
    text.windows(2).position(|pair| pair[0] == b'\n' && pair[1] != b' ').map(|end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_file_gives_whole_records_and_goes_on_when_it_grows() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("dev/kmsg");
        std::fs::create_dir(tmp.path().join("dev")).unwrap();
        std::fs::write(&path, "6,1,10,-;one\n SUBSYSTEM=x\n6,2,20,-;two\n").unwrap();
        let mut reader = KmsgReader::open(&Host::new(tmp.path()).unwrap()).unwrap();
        assert!(!reader.is_device());
        let all = |reader: &mut KmsgReader| {
            let mut texts = Vec::new();
            while let Next::Record(record) = reader.next().unwrap() {
                texts.push(String::from_utf8(record.to_vec()).unwrap());
            }
            texts
        };
        assert_eq!(all(&mut reader), ["6,1,10,-;one\n SUBSYSTEM=x\n", "6,2,20,-;two\n"]);
        std::fs::write(&path, "6,1,10,-;one\n SUBSYSTEM=x\n6,2,20,-;two\n6,3,30,-;thr").unwrap();
        assert!(all(&mut reader).is_empty());
        std::fs::write(&path, "6,1,10,-;one\n SUBSYSTEM=x\n6,2,20,-;two\n6,3,30,-;three\n").unwrap();
        assert_eq!(all(&mut reader), ["6,3,30,-;three\n"]);
    }

    #[test]
    fn bytes_without_an_end_are_handed_over_and_do_not_pile_up() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir(tmp.path().join("dev")).unwrap();
        std::fs::write(tmp.path().join("dev/kmsg"), vec![b'x'; 100_000]).unwrap();
        let mut reader = KmsgReader::open(&Host::new(tmp.path()).unwrap()).unwrap();
        let Next::Record(first) = reader.next().unwrap() else { panic!() };
        assert!(first.len() <= 3 * MAX_RECORD);
        assert!(super::super::parse_record(first).is_err());
    }
}
