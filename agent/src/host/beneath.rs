//! Opening a path below a directory handle so that it cannot lead out of it: by `openat2(2)` where the kernel has it,
//! else by walking the components one by one, never letting the kernel follow a link.
//!
//! What is opened is decided here; what may be read from it (regular files, caps) is the caller's business.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat};
use rustix::io::Errno;

/// What a path may go through on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Kernel trees: relative links inside of the tree (`/sys/class/net/eth0`, `/proc/self`) and mounts below it
    /// (`/sys/fs/cgroup`) are followed, magic links (`/proc/1/cwd`) are not.
    Kernel,
    /// Trees that others write to: no link at all, and no mount below the handle.
    Strict,
}

/// How paths are resolved: found out once, when the root is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolver {
    /// The kernel holds the rules: `openat2` (Linux 5.6).
    Openat2,
    /// We walk. Slower, and a bind mount of the same file system is not noticed by [`Rule::Strict`].
    Walk,
}

/// As many links as the kernel itself follows (`MAXSYMLINKS`).
const MAX_LINKS: u32 = 40;

/// `openat2` says EAGAIN when anything was renamed or mounted while it passed a `..`; it succeeds the next time.
const MAX_AGAIN: u32 = 64;

impl Resolver {
    /// `openat2` if this kernel and this container's system call filter have it. Filters older than the call answer EPERM.
    pub(super) fn probe(root: BorrowedFd<'_>) -> Self {
        match openat2(root, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::BENEATH) {
            Err(Errno::NOSYS | Errno::PERM) => Self::Walk,
            _ => Self::Openat2,
        }
    }

    /// Opens `path` below `dir`. A leading `/` means `dir`. [`Errno::LOOP`]: a link was in the way; [`Errno::XDEV`]: it leads out.
    pub(super) fn open(self, dir: BorrowedFd<'_>, path: &Path, rule: Rule, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = path.strip_prefix("/").unwrap_or(path);
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        // openat2 refuses a flag that has no meaning, and nothing but a link's own flags has one for a mere handle.
        let flags =
            flags | if flags.contains(OFlags::PATH) { OFlags::CLOEXEC } else { OFlags::CLOEXEC | OFlags::NOCTTY };
        match self {
            Self::Openat2 => by_kernel(dir, path, rule, flags),
            Self::Walk => by_walking(dir, path, rule, flags),
        }
    }
}

fn by_kernel(dir: BorrowedFd<'_>, path: &Path, rule: Rule, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    if rule == Rule::Strict {
        resolve |= ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    }
    for _ in 0..MAX_AGAIN {
        match openat2(dir, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

/// Every component is opened without following it, looked at, and only then entered; `..` goes back to the handle that
/// we came from. The kernel never follows a link for us, so a magic link is just a text that leads nowhere.
fn by_walking(dir: BorrowedFd<'_>, path: &Path, rule: Rule, flags: OFlags) -> Result<OwnedFd, Errno> {
    let device = fstat(dir)?.st_dev;
    let mut entered: Vec<OwnedFd> = Vec::new();
    let mut left: Vec<OsString> = Vec::new();
    let mut links = 0;
    push_components(&mut left, path)?;
    while let Some(name) = left.pop() {
        if name == OsStr::new("..") {
            entered.pop().ok_or(Errno::XDEV)?;
            continue;
        }
        let here = entered.last().map_or(dir, AsFd::as_fd);
        let step = openat(here, &name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let stat = fstat(&step)?;
        if rule == Rule::Strict && stat.st_dev != device {
            return Err(Errno::XDEV);
        }
        let last = left.is_empty();
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink if last && flags.contains(OFlags::NOFOLLOW) => {
                return if flags.contains(OFlags::PATH) { Ok(step) } else { Err(Errno::LOOP) };
            }
            FileType::Symlink => {
                links += 1;
                if rule == Rule::Strict || links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                let target = readlinkat(&step, "", Vec::new())?.into_bytes();
                push_components(&mut left, Path::new(OsStr::from_bytes(&target)))?;
            }
            _ if last && flags.contains(OFlags::PATH) => return Ok(step),
            _ if last => {
                // The name may be another thing by now: what is opened must be what was looked at.
                let opened = openat(here, &name, flags | OFlags::NOFOLLOW, Mode::empty())?;
                let again = fstat(&opened)?;
                return if (again.st_dev, again.st_ino) == (stat.st_dev, stat.st_ino) {
                    Ok(opened)
                } else {
                    Err(Errno::LOOP)
                };
            }
            FileType::Directory => entered.push(step),
            _ => return Err(Errno::NOTDIR),
        }
    }
    openat(entered.last().map_or(dir, AsFd::as_fd), ".", flags, Mode::empty())
}

/// Pushes the components so that the first is popped first. An absolute path leads out of any tree.
fn push_components(left: &mut Vec<OsString>, path: &Path) -> Result<(), Errno> {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => left.push(OsString::from_vec(name.as_bytes().to_vec())),
            Component::ParentDir => left.push(OsString::from("..")),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return Err(Errno::XDEV),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> (tempfile::TempDir, OwnedFd) {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("a/b/file"), "in").unwrap();
        std::fs::write(tmp.path().join("secret"), "out").unwrap();
        symlink("../a/b", root.join("a/inside")).unwrap();
        symlink("../../secret", root.join("a/up")).unwrap();
        symlink(tmp.path().join("secret"), root.join("a/absolute")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let fd = rustix::fs::open(&root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (tmp, fd)
    }

    #[test]
    fn both_resolvers_follow_inner_links_and_refuse_every_way_out() {
        let (_tmp, root) = tree();
        for resolver in [Resolver::Openat2, Resolver::Walk] {
            let open = |path: &str, rule| resolver.open(root.as_fd(), Path::new(path), rule, OFlags::RDONLY);
            let kernel = |path| open(path, Rule::Kernel).map(drop);
            let strict = |path| open(path, Rule::Strict).map(drop);
            for good in ["a/b/file", "/a/b/file", "a/./b/../b/file", "", ".", "a/.."] {
                assert_eq!((kernel(good), strict(good)), (Ok(()), Ok(())), "{resolver:?} {good:?}");
            }
            assert_eq!((kernel("a/inside/file"), strict("a/inside/file")), (Ok(()), Err(Errno::LOOP)), "{resolver:?}");
            for out in ["a/up", "a/absolute", "..", "a/../../secret"] {
                assert_eq!(kernel(out), Err(Errno::XDEV), "{resolver:?} {out}");
                assert!(matches!(strict(out), Err(Errno::XDEV | Errno::LOOP)), "{resolver:?} {out}");
            }
            assert_eq!(kernel("loop"), Err(Errno::LOOP), "{resolver:?}");
            assert_eq!(kernel("a/none"), Err(Errno::NOENT), "{resolver:?}");
            assert_eq!(kernel("a/b/file/x"), Err(Errno::NOTDIR), "{resolver:?}");
        }
    }

    #[test]
    fn both_resolvers_read_a_link_without_following_it() {
        let (_tmp, root) = tree();
        for resolver in [Resolver::Openat2, Resolver::Walk] {
            let flags = OFlags::PATH | OFlags::NOFOLLOW;
            let fd = resolver.open(root.as_fd(), Path::new("a/up"), Rule::Kernel, flags).unwrap();
            assert_eq!(readlinkat(&fd, "", Vec::new()).unwrap().to_bytes(), b"../../secret", "{resolver:?}");
        }
    }

    #[test]
    fn both_resolvers_enter_proc_and_sys_but_no_magic_link() {
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for resolver in [Resolver::Openat2, Resolver::Walk] {
            let kernel =
                |path: &str| resolver.open(root.as_fd(), Path::new(path), Rule::Kernel, OFlags::RDONLY).map(drop);
            assert_eq!(kernel("proc/self/stat"), Ok(()), "{resolver:?}");
            assert!(kernel("proc/self/exe").is_err() && kernel("proc/self/root/proc").is_err(), "{resolver:?}");
            if Path::new("/sys/class/net/lo/mtu").exists() {
                assert_eq!(kernel("sys/class/net/lo/mtu"), Ok(()), "{resolver:?}");
            }
        }
    }
}
