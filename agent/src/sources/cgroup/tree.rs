//! Which cgroups there are: the tree of directories, looked through once and then watched by what is cheap to ask.
//!
//! A kernel directory's link count is two more than the number of directories in it, so a kept handle and one call a
//! tick tell of a pod that came or went; every directory is looked at anew with the sweep all the same, because where a
//! count is not kept (a fixture's file system) or a cgroup took the place of another it tells nothing. What is read of a
//! cgroup is in `group`.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags, statx};

use crate::host::{Dir, EntryKind, Host, HostError};

use super::group::Group;

/// A cgroup at rest is read at every tenth tick, and its directory is looked at then.
pub(super) const SWEEP: u64 = 10;

/// Cgroups that are followed: a node with 250 pods has about 900. Their series just fit into one source.
pub(super) const MAX_GROUPS: usize = 1_000;

/// How deep. A container of a pod is the fourth below the root, or the seventh on a cluster inside containers; what a
/// container makes below itself comes after.
pub(super) const MAX_DEPTH: usize = 10;

/// The longest path that is followed: ten components of the longest name would be longer.
const MAX_PATH: usize = 2_048;

/// The link count of a kernel directory with nothing in it but files.
const LEAF_LINKS: u32 = 2;

/// All cgroups that are followed, in order of path.
pub(super) struct Tree {
    host: Host,
    root: PathBuf,
    top: Inner,
    groups: Vec<Group>,
    /// [`MAX_GROUPS`].
    max_groups: usize,
    /// How many cgroups have each place in the sweep: a new one takes the emptiest.
    slots: [u32; SWEEP as usize],
    /// The last tick at which something was too many or too deep.
    beyond: Option<u64>,
}

/// A directory with directories in it.
#[derive(Debug)]
pub(super) struct Inner {
    dir: Dir,
    links: u32,
}

impl Inner {
    fn open(host: &Host, path: &Path) -> Result<Self, HostError> {
        let dir = host.dir(path)?;
        let links = links(&dir);
        Ok(Self { dir, links })
    }
}

/// The link count, or zero where it cannot be told: then the sweep alone finds what is new.
fn links(dir: &Dir) -> u32 {
    statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::NLINK).map_or(0, |stat| stat.stx_nlink)
}

impl Tree {
    /// The tree below `root`; looked through at the first tick.
    pub(super) fn open(host: &Host, root: &Path, max_groups: usize) -> Result<Self, HostError> {
        let top = Inner { links: 0, ..Inner::open(host, root)? };
        let (groups, slots) = (Vec::new(), [0; SWEEP as usize]);
        Ok(Self { host: host.clone(), root: root.to_owned(), top, groups, max_groups, slots, beyond: None })
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    pub(super) fn groups_mut(&mut self) -> &mut [Group] {
        &mut self.groups
    }

    /// The position of the first cgroup with at least this path.
    pub(super) fn position(&self, path: &str) -> usize {
        self.groups.partition_point(|group| group.path.as_str() < path)
    }

    /// Whether something is not followed because there is too much of it.
    pub(super) fn is_cut(&self, tick: u64) -> bool {
        // Every directory is listed once a sweep: what was found longer ago no longer holds.
        self.beyond.is_some_and(|at| tick - at <= SWEEP)
    }

    /// Finds what came and drops what went; gives back why a directory could not be listed.
    pub(super) fn look(&mut self, tick: u64) -> Vec<HostError> {
        let (mut fresh, mut failed) = (Vec::new(), Vec::new());
        let mut walk = Walk { host: &self.host, root: &self.root, fresh: &mut fresh, beyond: &mut self.beyond, tick };
        let now = links(&self.top.dir);
        if now != self.top.links || tick % SWEEP == 1 {
            self.top.links = now;
            failed.extend(walk.list(&mut self.top.dir, "").err());
        }
        let slots = &mut self.slots;
        self.groups.retain_mut(|group| {
            let due = if group.is_swept(tick) || group.suspect { Due::Now } else { Due::IfMoved };
            group.suspect = false;
            let found = walk.look_at(group, due).unwrap_or_else(|error| {
                failed.push(error);
                Found::Here
            });
            if found == Found::Gone {
                slots[usize::from(group.slot)] -= 1;
            }
            found == Found::Here
        });
        self.take_up(fresh, tick, &mut failed);
        failed
    }

    /// Takes up new cgroups, and what is below them.
    fn take_up(&mut self, mut fresh: Vec<String>, tick: u64, failed: &mut Vec<HostError>) {
        let known = self.groups.len();
        while let Some(path) = fresh.pop() {
            if self.groups[..known].binary_search_by(|group| group.path.cmp(&path)).is_ok() {
                continue;
            }
            if self.groups.len() == self.max_groups {
                self.beyond = Some(tick);
                break;
            }
            let slot = (0u8..).zip(self.slots).min_by_key(|(_, load)| *load).map_or(0, |(slot, _)| slot);
            let mut group = Group::new(path, slot);
            let beyond = &mut self.beyond;
            let mut walk = Walk { host: &self.host, root: &self.root, fresh: &mut fresh, beyond, tick };
            match walk.look_at(&mut group, Due::Now) {
                // It went as it came.
                Ok(Found::Gone) => continue,
                Ok(Found::Here) => {}
                Err(error) => failed.push(error),
            }
            self.slots[usize::from(slot)] += 1;
            self.groups.push(group);
        }
        if self.groups.len() > known {
            self.groups.sort_by(|a, b| a.path.cmp(&b.path));
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Now,
    IfMoved,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Here,
    Gone,
}

/// One tick's look at directories.
struct Walk<'a> {
    host: &'a Host,
    root: &'a Path,
    /// Paths that were found, known ones among them.
    fresh: &'a mut Vec<String>,
    beyond: &'a mut Option<u64>,
    tick: u64,
}

impl Walk<'_> {
    /// Whether a cgroup is still there; what is in it, if that is due or its link count moved.
    fn look_at(&mut self, group: &mut Group, due: Due) -> Result<Found, HostError> {
        let mut inner = match (due, group.inner.take()) {
            // The path is asked, not the handle: the handle of a cgroup that was removed still opens.
            (Due::Now, _) => match Inner::open(self.host, &self.root.join(&group.path)) {
                Ok(inner) if inner.links == LEAF_LINKS => return Ok(Found::Here),
                Ok(inner) => inner,
                Err(error) if error.is_not_found() => return Ok(Found::Gone),
                Err(error) => return Err(error),
            },
            (Due::IfMoved, None) => return Ok(Found::Here),
            (Due::IfMoved, Some(mut inner)) => {
                let now = links(&inner.dir);
                if now == inner.links {
                    group.inner = Some(inner);
                    return Ok(Found::Here);
                }
                inner.links = now;
                inner
            }
        };
        let listed = self.list(&mut inner.dir, &group.path);
        group.inner = Some(inner);
        match listed {
            Err(error) if error.is_not_found() => Ok(Found::Gone),
            Err(error) => Err(error),
            Ok(()) => Ok(Found::Here),
        }
    }

    /// Finds the directories in `dir`, which lies at `path` below the tree's root.
    fn list(&mut self, dir: &mut Dir, path: &str) -> Result<(), HostError> {
        let depth = if path.is_empty() { 0 } else { path.split('/').count() };
        let mut count = 0;
        dir.each(&mut |name, kind| {
            if kind != EntryKind::Dir {
                return;
            }
            // A name that is no UTF-8 makes no path as text, and runtimes make none: it is left out and told.
            match name.to_str() {
                Some(name) if depth < MAX_DEPTH && count < MAX_GROUPS && path.len() + name.len() < MAX_PATH => {
                    count += 1;
                    self.fresh.push(if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") });
                }
                _ => *self.beyond = Some(self.tick),
            }
        })
    }
}
