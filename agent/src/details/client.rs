//! The recorder's side of the child that reads details: asks one question at a time and waits no longer than it may.
//!
//! A question that the child is stuck on is given up, and until it has answered no other is asked: then what it says late is
//! dropped. A child that has ended is not started again: from within the sandbox none could be that reads as much.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::child::REQUEST;
use super::{HEAD, MAX_DESCRIPTORS, Question};
use crate::host::HostError;

/// How long an answer is waited for. A file of `/proc` takes microseconds; the sockets of a process with as many
/// descriptors as are looked at, a quarter of a second.
const PATIENCE: Duration = Duration::from_secs(1);

/// Longer than any answer.
const MAX_ANSWER: usize = (MAX_DESCRIPTORS as usize + 2) * 8;

#[derive(Debug)]
pub(super) struct Client {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    child: Child,
    socket: UnixStream,
    /// What came and was not looked at yet.
    heard: Vec<u8>,
    /// An answer that nobody waits for any more is still to come.
    owed: bool,
}

impl Client {
    #[expect(clippy::disallowed_methods, reason = "not a command of the host: this very program, once more")]
    pub(super) fn start(host_root: &Path) -> std::io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = std::process::Command::new("/proc/self/exe")
            .arg(REQUEST)
            .arg(host_root)
            .env_clear()
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()?;
        Ok(Self { inner: Mutex::new(Inner { child, socket: ours, heard: Vec::new(), owed: false }) })
    }

    /// Asks, and has the answer in `buf` (cleared first).
    pub(super) fn ask(&self, question: Question, buf: &mut Vec<u8>) -> Result<(), HostError> {
        buf.clear();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error| HostError::at("read", PathBuf::from("proc").join(question.path()), error);
        inner.ask(question, buf).map_err(failed)
    }
}

impl Inner {
    fn ask(&mut self, question: Question, buf: &mut Vec<u8>) -> std::io::Result<()> {
        if self.owed {
            self.hear(Instant::now(), &mut Vec::new())?.ok_or_else(late)?;
            self.owed = false;
        }
        // There is nothing in the socket but this.
        (&self.socket).write_all(&question.encode()).map_err(|_| ended())?;
        self.owed = true;
        let errno = self.hear(Instant::now() + PATIENCE, buf)?.ok_or_else(late)?;
        self.owed = false;
        match i32::try_from(errno).unwrap_or(i32::MAX) {
            0 => Ok(()),
            errno => Err(std::io::Error::from_raw_os_error(errno)),
        }
    }

    /// The next answer: its error number, and what came with it; `None` when there was none until then.
    fn hear(&mut self, until: Instant, buf: &mut Vec<u8>) -> std::io::Result<Option<u32>> {
        loop {
            if let Some(errno) = self.answer(buf)? {
                return Ok(Some(errno));
            }
            let mut piece = [0; 8 << 10];
            match (&self.socket).read(&mut piece) {
                Ok(0) => return Err(ended()),
                Ok(got) => {
                    self.heard.extend_from_slice(&piece[..got]);
                    continue;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => return Err(ended()),
            }
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(None);
            }
            let timeout = Timespec { tv_sec: rest.as_secs().cast_signed(), tv_nsec: rest.subsec_nanos().into() };
            match poll(&mut [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)], Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// A whole answer out of what was heard.
    fn answer(&mut self, buf: &mut Vec<u8>) -> std::io::Result<Option<u32>> {
        let Some((head, rest)) = self.heard.split_first_chunk::<HEAD>() else { return Ok(None) };
        let [a, b, c, d, e, f, g, h] = *head;
        let len = usize::try_from(u32::from_le_bytes([e, f, g, h])).unwrap_or(usize::MAX);
        if len > MAX_ANSWER {
            return Err(std::io::Error::new(ErrorKind::InvalidData, "the process that reads it says more than can be"));
        }
        let Some(content) = rest.get(..len) else { return Ok(None) };
        buf.extend_from_slice(content);
        self.heard.drain(..HEAD + len);
        Ok(Some(u32::from_le_bytes([a, b, c, d])))
    }
}

impl Drop for Inner {
    /// It ends when the socket does. From within the sandbox it cannot be signalled, and nobody waits for it: it may be
    /// stuck in the kernel.
    fn drop(&mut self) {
        // Gone or going: whatever it is, there is nothing more to be done about it.
        let _ = self.child.try_wait();
    }
}

fn late() -> std::io::Error {
    std::io::Error::new(ErrorKind::TimedOut, "the process that reads it has not answered in time")
}

fn ended() -> std::io::Error {
    std::io::Error::new(ErrorKind::BrokenPipe, "the process that reads it has ended: not before a restart of the agent")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client whose other end is in our hands, with a child that ends by itself.
    #[expect(clippy::disallowed_methods, reason = "this very test, asked to list nothing")]
    fn pair() -> (Client, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let child = std::process::Command::new("/proc/self/exe").arg("--list").stdout(Stdio::null()).spawn().unwrap();
        (Client { inner: Mutex::new(Inner { child, socket: ours, heard: Vec::new(), owed: false }) }, theirs)
    }

    fn message(errno: u32, content: &[u8]) -> Vec<u8> {
        [&errno.to_le_bytes()[..], &u32::try_from(content.len()).unwrap().to_le_bytes(), content].concat()
    }

    #[test]
    fn an_answer_that_comes_too_late_is_not_taken_for_that_of_the_next_question() {
        let (client, mut child) = pair();
        let mut buf = Vec::new();
        let late = client.ask(Question::Io { pid: 1 }, &mut buf).unwrap_err();
        assert!(late.to_string().contains("proc/1/io"), "{late}");
        let began = Instant::now();
        assert!(client.ask(Question::Io { pid: 2 }, &mut buf).is_err());
        assert!(began.elapsed() < PATIENCE, "nobody waits for it again");
        child.write_all(&[message(0, b"of 1"), message(0, b"of 3")].concat()).unwrap();
        client.ask(Question::Io { pid: 3 }, &mut buf).unwrap();
        assert_eq!(buf, b"of 3");
    }

    #[test]
    fn what_the_child_was_refused_is_refused_and_its_end_is_no_refusal() {
        let (client, mut child) = pair();
        let mut buf = Vec::new();
        child.write_all(&message(13, b"")).unwrap();
        assert!(client.ask(Question::Io { pid: 1 }, &mut buf).unwrap_err().is_permission());
        child.write_all(&message(3, b"")).unwrap();
        assert!(client.ask(Question::Waits { pid: 1 }, &mut buf).unwrap_err().is_not_found());
        drop(child);
        let error = client.ask(Question::Io { pid: 1 }, &mut buf).unwrap_err();
        assert!(!error.is_permission() && !error.is_not_found(), "{error:?}");
    }

    #[test]
    fn an_answer_longer_than_any_is_not_waited_for() {
        let (client, mut child) = pair();
        child.write_all(&[0, 0, 0, 0, 255, 255, 255, 255]).unwrap();
        assert!(client.ask(Question::Io { pid: 1 }, &mut Vec::new()).is_err());
    }
}
