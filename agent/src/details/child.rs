//! The child that reads details: this very program, started once more. It answers on the socket that is its standard input,
//! and ends when that does.
//!
//! It stays out of Landlock, and so the rest of its sandbox is the narrower: it opens files for reading only, has no
//! network, starts nothing, and keeps the two capabilities that looking at other processes takes.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::io::Errno;

use super::{FILE_CAP, Question, sockets};
use crate::host::{Dir, Host, HostError};
use crate::sandbox;

/// The first argument of a process that is to be such a child.
pub(super) const REQUEST: &str = "detail-reader";

/// Does the work of a child when this process was started as one, and gives the exit code; `None` otherwise. To be called
/// before anything else in `main`.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != REQUEST {
        return None;
    }
    let root = PathBuf::from(args.next().unwrap_or_else(|| "/".into()));
    sandbox::enter_as_detail_reader();
    Some(match run(&root) {
        Ok(()) => ExitCode::SUCCESS,
        // The recorder sees the socket close, and says so.
        Err(_) => ExitCode::FAILURE,
    })
}

fn run(root: &Path) -> std::io::Result<()> {
    let host = Host::new(root).map_err(std::io::Error::other)?;
    let proc = host.dir("proc");
    let mut socket = std::fs::File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let (mut request, mut buf) = ([0; Question::LEN], Vec::new());
    loop {
        match socket.read_exact(&mut request) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let question = Question::decode(request).ok_or(ErrorKind::InvalidData)?;
        let errno = match &proc {
            Ok(proc) => answer(proc, question, &mut buf).err().map_or(0, |error| code(&error)),
            Err(error) => code(error),
        };
        if errno != 0 {
            buf.clear();
        }
        let mut message = Vec::with_capacity(super::HEAD + buf.len());
        message.extend_from_slice(&errno.to_le_bytes());
        message.extend_from_slice(&u32::try_from(buf.len()).map_err(std::io::Error::other)?.to_le_bytes());
        message.extend_from_slice(&buf);
        socket.write_all(&message)?;
    }
}

fn answer(proc: &Dir, question: Question, buf: &mut Vec<u8>) -> Result<(), HostError> {
    match question {
        Question::Io { .. } => proc.read_record(question.path(), buf, FILE_CAP),
        Question::Waits { .. } | Question::ThreadWaits { .. } => proc.read(question.path(), buf, FILE_CAP),
        Question::Sockets { pid, limit } => {
            *buf = sockets(proc, pid, limit)?.encode();
            Ok(())
        }
    }
}

/// The number that stands for an error on the way back.
fn code(error: &HostError) -> u32 {
    let errno = error.errno().unwrap_or(Errno::IO);
    u32::try_from(errno.raw_os_error()).unwrap_or(1)
}
