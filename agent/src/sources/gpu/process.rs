//! The child as the agent has it: a process with two pipes. Nothing here waits longer than it is told to.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::child::{REQUEST, UNCONFINED};
use super::said::{MAX_LINE, Said};

/// How often, and how long in between, it is looked whether a child that was killed is gone.
const GONE_LOOKS: u32 = 20;
const GONE_LOOK: Duration = Duration::from_millis(5);

/// What was heard of a child.
#[derive(Debug)]
pub(super) enum Heard {
    Said(Said),
    /// Nothing yet.
    Nothing,
    /// It has ended, or what it says makes no sense: why.
    Ended(String),
}

/// A child, real or not.
pub(super) trait Process: Send {
    /// Asks for a snapshot.
    fn ask(&mut self) -> std::io::Result<()>;
    /// What it says next, until then.
    fn hear(&mut self, until: Instant) -> Heard;
    /// Has it ended by the kernel, as far as that can.
    fn kill(&mut self);
    /// Whether it is gone.
    fn has_ended(&mut self) -> bool;
}

/// Starts children.
pub(super) trait Start: Send {
    /// Starts one, which begins to open NVML.
    fn start(&self) -> std::io::Result<Box<dyn Process>>;
}

/// Starts the real ones.
pub(super) struct Program {
    /// The agent's own program.
    pub(super) path: PathBuf,
    /// Whether it goes into a sandbox of its own.
    pub(super) confined: bool,
    /// Where the library may be, best first.
    pub(super) libraries: Vec<PathBuf>,
}

/// The program of this process, also when its file was replaced meanwhile.
pub(super) fn own() -> &'static Path {
    Path::new("/proc/self/exe")
}

impl Start for Program {
    #[expect(clippy::disallowed_methods, reason = "not a command of the host: this very program, once more")]
    fn start(&self) -> std::io::Result<Box<dyn Process>> {
        let mut command = std::process::Command::new(&self.path);
        command
            .arg(if self.confined { REQUEST } else { UNCONFINED })
            .args(&self.libraries)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        // Nothing of ours is its business but where libraries are.
        command.env_clear();
        if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
            command.env("LD_LIBRARY_PATH", path);
        }
        let child = command.spawn()?;
        if let Some(out) = &child.stdout {
            let flags = rustix::fs::fcntl_getfl(out)?;
            rustix::fs::fcntl_setfl(out, flags | OFlags::NONBLOCK)?;
        }
        Ok(Box::new(Spawned { child, heard: Vec::new() }))
    }
}

struct Spawned {
    child: Child,
    /// What came and was not looked at yet: the beginning of a line.
    heard: Vec<u8>,
}

impl Spawned {
    /// The next whole line that has come.
    fn line(&mut self) -> Option<Heard> {
        let end = self.heard.iter().position(|b| *b == b'\n')?;
        let line: Vec<u8> = self.heard.drain(..=end).collect();
        Some(match serde_json::from_slice(&line) {
            Ok(said) => Heard::Said(said),
            Err(error) => Heard::Ended(format!("what it says makes no sense: {error}")),
        })
    }

    /// Takes what has come; `Some` where nothing more will.
    fn take(&mut self) -> Option<Heard> {
        let Some(out) = &mut self.child.stdout else { return Some(Heard::Ended("it has no output".to_owned())) };
        let mut piece = [0; 16 << 10];
        match out.read(&mut piece) {
            Ok(0) => Some(Heard::Ended(self.ending())),
            Ok(got) => {
                self.heard.extend_from_slice(&piece[..got]);
                (self.heard.len() > MAX_LINE).then(|| Heard::Ended("it says more than can be".to_owned()))
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => None,
            Err(error) => Some(Heard::Ended(format!("read from it: {error}"))),
        }
    }

    fn ending(&mut self) -> String {
        match self.child.try_wait() {
            Ok(Some(status)) => format!("the process that reads NVML ended: {status}"),
            _ => "the process that reads NVML closed its output".to_owned(),
        }
    }
}

impl Process for Spawned {
    fn ask(&mut self) -> std::io::Result<()> {
        // One byte into an empty pipe: there is room.
        self.child.stdin.as_mut().map_or(Err(ErrorKind::BrokenPipe.into()), |pipe| pipe.write_all(b"?"))
    }

    fn hear(&mut self, until: Instant) -> Heard {
        loop {
            if let Some(heard) = self.line().or_else(|| self.take()).or_else(|| self.line()) {
                return heard;
            }
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Heard::Nothing;
            }
            let Some(out) = &self.child.stdout else { return Heard::Ended("it has no output".to_owned()) };
            let timeout = Timespec { tv_sec: rest.as_secs().cast_signed(), tv_nsec: rest.subsec_nanos().into() };
            match poll(&mut [PollFd::from_borrowed_fd(out.as_fd(), PollFlags::IN)], Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Heard::Ended(format!("wait for it: {error}")),
            }
        }
    }

    fn kill(&mut self) {
        // It may be gone already; whether it is shows when it is waited for.
        self.child.kill().ok();
    }

    fn has_ended(&mut self) -> bool {
        // An error would mean that there is no such child any more.
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Spawned {
    /// No child outlives its use. It ends within moments; one that cannot be ended is left to the kernel.
    fn drop(&mut self) {
        self.kill();
        for _ in 0..GONE_LOOKS {
            if self.has_ended() {
                return;
            }
            std::thread::park_timeout(GONE_LOOK);
        }
    }
}
