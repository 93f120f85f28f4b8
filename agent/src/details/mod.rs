//! What the kernel tells of another process only to who may trace it: its I/O, where it waits, which sockets it holds.
//!
//! Under Landlock a process may look at none but its own in this way, whatever capability it has, and where a task waits
//! then reads as if it waited nowhere. So a recorder that goes into its sandbox has these read by a child that stays out of
//! Landlock, and that can do nothing else: it is asked in numbers, out of a closed list ([`Question`]).

pub mod child;
mod client;

use std::path::Path;
use std::sync::Arc;

use crate::host::{Dir, HostError};
use client::Client;

/// How details are read. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Details {
    client: Option<Arc<Client>>,
}

/// What can be asked of a child. Numbers only: no path comes from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    /// `/proc/PID/io`.
    Io { pid: u32 },
    /// `/proc/PID/wchan`.
    Waits { pid: u32 },
    /// `/proc/PID/task/TID/wchan`.
    ThreadWaits { pid: u32, tid: u32 },
    /// The sockets among the first so many descriptors of `/proc/PID/fd`, as inodes of eight bytes, least first.
    Sockets { pid: u32, limit: u32 },
}

impl Question {
    /// A byte for what, and two numbers.
    const LEN: usize = 9;

    fn encode(self) -> [u8; Self::LEN] {
        let (what, first, second) = match self {
            Self::Io { pid } => (0, pid, 0),
            Self::Waits { pid } => (1, pid, 0),
            Self::ThreadWaits { pid, tid } => (2, pid, tid),
            Self::Sockets { pid, limit } => (3, pid, limit),
        };
        let mut bytes = [what; Self::LEN];
        bytes[1..5].copy_from_slice(&first.to_le_bytes());
        bytes[5..].copy_from_slice(&second.to_le_bytes());
        bytes
    }

    fn decode(bytes: [u8; Self::LEN]) -> Option<Self> {
        let [what, a, b, c, d, e, f, g, h] = bytes;
        let (pid, second) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        match what {
            0 => Some(Self::Io { pid }),
            1 => Some(Self::Waits { pid }),
            2 => Some(Self::ThreadWaits { pid, tid: second }),
            3 => Some(Self::Sockets { pid, limit: second }),
            _ => None,
        }
    }

    /// Below `proc`.
    fn path(self) -> String {
        match self {
            Self::Io { pid } => format!("{pid}/io"),
            Self::Waits { pid } => format!("{pid}/wchan"),
            Self::ThreadWaits { pid, tid } => format!("{pid}/task/{tid}/wchan"),
            Self::Sockets { pid, .. } => format!("{pid}/fd"),
        }
    }
}

/// An answer begins with the number of an error (0: none) and how many bytes follow.
const HEAD: usize = 8;

/// No file of a detail is longer; the sockets of one process may be as many as descriptors are looked at.
const FILE_CAP: usize = 64 << 10;

/// Descriptors that are looked at to find who holds a socket, of one process and of all together: about a second.
pub(crate) const MAX_DESCRIPTORS: u32 = 1 << 18;

impl Details {
    /// Has them read by a child from now on, of the machine below this root. To be called before the sandbox is entered:
    /// the child is to stay outside of it.
    ///
    /// Errors: what starting a process says.
    pub fn by_child(host_root: &Path) -> std::io::Result<Self> {
        Ok(Self { client: Some(Arc::new(Client::start(host_root)?)) })
    }

    /// Whether a child reads them.
    pub fn are_read_by_a_child(&self) -> bool {
        self.client.is_some()
    }

    /// `/proc/PID/io` into `buf`, where a child reads it; `None`: it is to be read like any other file.
    pub(crate) fn io(&self, pid: u32, buf: &mut Vec<u8>) -> Option<Result<(), HostError>> {
        self.client.as_ref().map(|client| client.ask(Question::Io { pid }, buf))
    }

    /// Where the task waits, into `buf`; read here where no child does.
    pub(crate) fn waits(&self, proc: &Dir, (pid, tid): (u32, Option<u32>), buf: &mut Vec<u8>) -> Result<(), HostError> {
        let question = match tid {
            None => Question::Waits { pid },
            Some(tid) => Question::ThreadWaits { pid, tid },
        };
        match &self.client {
            Some(client) => client.ask(question, buf),
            None => proc.read(question.path(), buf, FILE_CAP),
        }
    }

    /// The sockets among the first `limit` descriptors of a process; read here where no child does.
    pub(crate) fn sockets(&self, proc: &Dir, pid: u32, limit: u32) -> Result<Sockets, HostError> {
        let Some(client) = &self.client else { return sockets(proc, pid, limit) };
        let mut bytes = Vec::new();
        client.ask(Question::Sockets { pid, limit }, &mut bytes)?;
        let (numbers, _) = bytes.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|n| i64::from_le_bytes(*n));
        match (numbers.next(), numbers.next()) {
            (Some(looked_at), Some(left_out)) => Ok(Sockets { looked_at, left_out, inodes: numbers.collect() }),
            _ => {
                let short = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                Err(HostError::at("list", std::path::PathBuf::from(format!("proc/{pid}/fd")), short))
            }
        }
    }
}

/// The sockets of one process.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sockets {
    /// Descriptors that were looked at.
    pub(crate) looked_at: i64,
    /// Descriptors beyond the limit.
    pub(crate) left_out: i64,
    /// The inodes; one that is held twice is in it twice.
    pub(crate) inodes: Vec<i64>,
}

impl Sockets {
    fn encode(&self) -> Vec<u8> {
        [self.looked_at, self.left_out].iter().chain(&self.inodes).flat_map(|n| n.to_le_bytes()).collect()
    }
}

/// Reads the sockets of a process below `proc`.
fn sockets(proc: &Dir, pid: u32, limit: u32) -> Result<Sockets, HostError> {
    let mut dir = proc.dir(Question::Sockets { pid, limit }.path())?;
    let (mut names, mut left_out) = (Vec::new(), 0);
    let limit = usize::try_from(limit.min(MAX_DESCRIPTORS)).unwrap_or(usize::MAX);
    dir.each(&mut |name, _| {
        if names.len() < limit {
            names.push(name.to_owned());
        } else {
            left_out += 1;
        }
    })?;
    let mut inodes = Vec::new();
    for name in &names {
        match dir.link(name) {
            Ok(target) => inodes.extend(socket_inode(target.as_os_str().as_encoded_bytes())),
            Err(error) if error.is_permission() => return Err(error),
            // A descriptor that was closed meanwhile is not missing.
            Err(_) => {}
        }
    }
    Ok(Sockets { looked_at: i64::try_from(names.len()).unwrap_or(i64::MAX), left_out, inodes })
}

/// `socket:[123]`.
fn socket_inode(target: &[u8]) -> Option<i64> {
    crate::text::number(target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::Host;

    #[test]
    fn a_question_is_understood_as_it_was_meant_and_others_are_none() {
        let all = [
            Question::Io { pid: 1 },
            Question::Waits { pid: u32::MAX },
            Question::ThreadWaits { pid: 7, tid: 9 },
            Question::Sockets { pid: 258, limit: 77 },
        ];
        for question in all {
            assert_eq!(Question::decode(question.encode()), Some(question));
        }
        for what in 4..=255 {
            assert_eq!(Question::decode([what; Question::LEN]), None);
        }
    }

    #[test]
    fn a_link_to_a_socket_tells_its_inode() {
        assert_eq!(socket_inode(b"socket:[1056]"), Some(1056));
        for other in [&b"pipe:[1056]"[..], b"socket:[1056", b"socket:[]", b"", b"socket:[1]\n"] {
            assert_eq!(socket_inode(other), None);
        }
    }

    #[test]
    fn of_many_descriptors_the_sockets_are_told_and_how_many_were_not_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let fds = dir.path().join("proc/7/fd");
        std::fs::create_dir_all(&fds).unwrap();
        for (name, target) in [("0", "/dev/null"), ("1", "socket:[41]"), ("2", "pipe:[9]"), ("3", "socket:[x]")] {
            symlink(target, fds.join(name)).unwrap();
        }
        let host = Host::new(dir.path()).unwrap();
        let proc = host.dir("proc").unwrap();
        let found = sockets(&proc, 7, 4).unwrap();
        assert_eq!(found, Sockets { looked_at: 4, left_out: 0, inodes: vec![41] });
        assert_eq!(found.encode().len(), 24);
        assert_eq!(sockets(&proc, 7, 1).unwrap().left_out, 3);
        assert!(sockets(&proc, 8, 1).unwrap_err().is_not_found());
    }
}
