//! A disk that can lose power: files and directories in memory, with what is certain apart from what is only written.
//!
//! Certain is what a sync has confirmed: the content of a file by `fsync` of it, the names in a directory by `fsync` of
//! the directory. Everything since then is a list of changes; at a cut each of them is kept, dropped or (a write) torn by
//! the seed, and none waits for the one before it. That is less than any common file system promises. Pure: no clock, no
//! I/O, no FUSE.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use crate::random::Random;

/// What a disk writes as a whole: a write is torn at a multiple of it.
const SECTOR: u64 = 512;

/// The number of the root directory.
pub(crate) const ROOT: u64 = 1;

/// Why something cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No such file or directory.
    NotFound,
    /// There is one of that name.
    Exists,
    /// It is no directory.
    NotADirectory,
    /// It is a directory.
    IsADirectory,
    /// The directory has something in it.
    NotEmpty,
}

/// Files and directories by their numbers.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    /// Syncs of files and directories so far.
    pub(crate) syncs: u64,
}

/// What a number stands for.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Permission bits.
    pub(crate) mode: u32,
    /// What it is.
    pub(crate) kind: Kind,
}

/// File or directory.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// A file.
    File(FileData),
    /// A directory.
    Directory(Names),
}

/// A file's content: as readers see it, as it is certain, and what lies between.
#[derive(Debug, Clone, Default)]
pub(crate) struct FileData {
    /// As readers see it.
    pub(crate) now: Vec<u8>,
    certain: Vec<u8>,
    since: Vec<Change>,
}

/// A change of a file.
#[derive(Debug, Clone)]
enum Change {
    Write { at: u64, bytes: Vec<u8> },
    Length(u64),
}

/// A directory's names: as readers see them, as they are certain, and what lies between.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    /// As readers see them.
    pub(crate) now: BTreeMap<OsString, u64>,
    certain: BTreeMap<OsString, u64>,
    since: Vec<Naming>,
}

/// A change of a directory. A rename within one directory is one change: a journal does it as a whole.
#[derive(Debug, Clone)]
enum Naming {
    Set(OsString, u64),
    Gone(OsString),
    Moved { from: OsString, to: OsString, node: u64 },
}

/// What became of the changes that no sync had confirmed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fate {
    /// Changes that were kept.
    pub(crate) kept: u64,
    /// Changes that were dropped.
    pub(crate) dropped: u64,
    /// Writes of which a part was kept.
    pub(crate) torn: u64,
}

impl Disk {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let root = Node { mode: 0o700, kind: Kind::Directory(Names::default()) };
        Self { nodes: BTreeMap::from([(ROOT, root)]), next: ROOT + 1, syncs: 0 }
    }

    /// What a number stands for.
    pub(crate) fn node(&self, number: u64) -> Result<&Node, Refused> {
        self.nodes.get(&number).ok_or(Refused::NotFound)
    }

    /// The number of a name.
    pub(crate) fn lookup(&self, directory: u64, name: &OsStr) -> Result<u64, Refused> {
        match &self.node(directory)?.kind {
            Kind::Directory(names) => names.now.get(name).copied().ok_or(Refused::NotFound),
            Kind::File(_) => Err(Refused::NotADirectory),
        }
    }

    /// Makes a file or a directory.
    pub(crate) fn make(&mut self, directory: u64, name: &OsStr, mode: u32, kind: Kind) -> Result<u64, Refused> {
        let number = self.next;
        let names = self.names(directory)?;
        if names.now.contains_key(name) {
            return Err(Refused::Exists);
        }
        names.set(name, number);
        self.next += 1;
        self.nodes.insert(number, Node { mode, kind });
        Ok(number)
    }

    /// Gives a file a second name.
    pub(crate) fn link(&mut self, number: u64, directory: u64, name: &OsStr) -> Result<(), Refused> {
        if matches!(self.node(number)?.kind, Kind::Directory(_)) {
            return Err(Refused::IsADirectory);
        }
        let names = self.names(directory)?;
        if names.now.contains_key(name) {
            return Err(Refused::Exists);
        }
        names.set(name, number);
        Ok(())
    }

    /// Removes a name of a file. The file stays for whoever has it open, and for what a cut may bring back.
    pub(crate) fn unlink(&mut self, directory: u64, name: &OsStr) -> Result<(), Refused> {
        let number = self.lookup(directory, name)?;
        if matches!(self.node(number)?.kind, Kind::Directory(_)) {
            return Err(Refused::IsADirectory);
        }
        self.names(directory)?.remove(name);
        Ok(())
    }

    /// Removes an empty directory.
    pub(crate) fn rmdir(&mut self, directory: u64, name: &OsStr) -> Result<(), Refused> {
        let number = self.lookup(directory, name)?;
        match &self.node(number)?.kind {
            Kind::Directory(names) if names.now.is_empty() => {}
            Kind::Directory(_) => return Err(Refused::NotEmpty),
            Kind::File(_) => return Err(Refused::NotADirectory),
        }
        self.names(directory)?.remove(name);
        Ok(())
    }

    /// Gives a file another name, in the place of what had that name.
    pub(crate) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Result<(), Refused> {
        let number = self.lookup(from.0, from.1)?;
        if let Ok(there) = self.lookup(to.0, to.1)
            && let Kind::Directory(names) = &self.node(there)?.kind
            && !names.now.is_empty()
        {
            return Err(Refused::NotEmpty);
        }
        if from.0 == to.0 {
            let names = self.names(from.0)?;
            names.now.remove(from.1);
            names.now.insert(to.1.to_owned(), number);
            names.since.push(Naming::Moved { from: from.1.to_owned(), to: to.1.to_owned(), node: number });
        } else {
            self.names(to.0)?.set(to.1, number);
            self.names(from.0)?.remove(from.1);
        }
        Ok(())
    }

    /// Writes.
    pub(crate) fn write(&mut self, number: u64, at: u64, bytes: &[u8]) -> Result<(), Refused> {
        let file = self.file(number)?;
        put(&mut file.now, at, bytes);
        file.since.push(Change::Write { at, bytes: bytes.to_vec() });
        Ok(())
    }

    /// Cuts or extends.
    pub(crate) fn set_length(&mut self, number: u64, length: u64) -> Result<(), Refused> {
        let file = self.file(number)?;
        resize(&mut file.now, length);
        file.since.push(Change::Length(length));
        Ok(())
    }

    /// Sets the permission bits. They are certain at once: nothing here depends on them.
    pub(crate) fn set_mode(&mut self, number: u64, mode: u32) -> Result<(), Refused> {
        self.nodes.get_mut(&number).ok_or(Refused::NotFound)?.mode = mode;
        Ok(())
    }

    /// Makes everything about a file or a directory certain: its content, or its names. Not the file's own name.
    pub(crate) fn sync(&mut self, number: u64) -> Result<(), Refused> {
        self.syncs += 1;
        match &mut self.nodes.get_mut(&number).ok_or(Refused::NotFound)?.kind {
            Kind::File(file) => {
                file.certain.clone_from(&file.now);
                file.since.clear();
            }
            Kind::Directory(names) => {
                names.certain.clone_from(&names.now);
                names.since.clear();
            }
        }
        Ok(())
    }

    /// The power fails: what is left, as a disk on which all of it is certain.
    pub(crate) fn cut(&self, random: &mut Random) -> (Self, Fate) {
        let mut fate = Fate::default();
        let mut left = self.clone();
        for node in left.nodes.values_mut() {
            // How much of what was not confirmed had been written behind everybody's back: another each time.
            let kept = random.between(0, 100);
            match &mut node.kind {
                Kind::File(file) => file.lose(kept, random, &mut fate),
                Kind::Directory(names) => names.lose(kept, random, &mut fate),
            }
        }
        left.forget_unnamed();
        (left, fate)
    }

    /// What no directory names any more is gone; a name of something that is not there is none.
    fn forget_unnamed(&mut self) {
        let (mut named, mut directories) = (vec![ROOT], vec![ROOT]);
        while let Some(directory) = directories.pop() {
            if let Some(Node { kind: Kind::Directory(names), .. }) = self.nodes.get(&directory) {
                for number in names.now.values() {
                    named.push(*number);
                    directories.push(*number);
                }
            }
        }
        self.nodes.retain(|number, _| named.contains(number));
    }

    fn names(&mut self, directory: u64) -> Result<&mut Names, Refused> {
        match &mut self.nodes.get_mut(&directory).ok_or(Refused::NotFound)?.kind {
            Kind::Directory(names) => Ok(names),
            Kind::File(_) => Err(Refused::NotADirectory),
        }
    }

    fn file(&mut self, number: u64) -> Result<&mut FileData, Refused> {
        match &mut self.nodes.get_mut(&number).ok_or(Refused::NotFound)?.kind {
            Kind::File(file) => Ok(file),
            Kind::Directory(_) => Err(Refused::IsADirectory),
        }
    }
}

impl Names {
    fn set(&mut self, name: &OsStr, number: u64) {
        self.now.insert(name.to_owned(), number);
        self.since.push(Naming::Set(name.to_owned(), number));
    }

    fn remove(&mut self, name: &OsStr) {
        self.now.remove(name);
        self.since.push(Naming::Gone(name.to_owned()));
    }

    fn lose(&mut self, kept: u64, random: &mut Random, fate: &mut Fate) {
        let mut names = std::mem::take(&mut self.certain);
        for naming in self.since.drain(..) {
            if !random.percent(kept) {
                fate.dropped += 1;
                continue;
            }
            fate.kept += 1;
            match naming {
                Naming::Set(name, number) => drop(names.insert(name, number)),
                Naming::Gone(name) => drop(names.remove(&name)),
                Naming::Moved { from, to, node } => {
                    // The creation before it may be among what was dropped; then it was made where it was moved to.
                    names.remove(&from);
                    names.insert(to, node);
                }
            }
        }
        self.now.clone_from(&names);
        self.certain = names;
    }
}

impl FileData {
    fn lose(&mut self, kept: u64, random: &mut Random, fate: &mut Fate) {
        let mut content = std::mem::take(&mut self.certain);
        for change in self.since.drain(..) {
            if !random.percent(kept) {
                fate.dropped += 1;
                continue;
            }
            match change {
                Change::Length(length) => {
                    fate.kept += 1;
                    resize(&mut content, length);
                }
                Change::Write { at, bytes } => {
                    let sectors = (bytes.len() as u64).div_ceil(SECTOR);
                    if sectors > 1 && random.percent(30) {
                        fate.torn += 1;
                        tear(&mut content, at, &bytes, random);
                    } else {
                        fate.kept += 1;
                        put(&mut content, at, &bytes);
                    }
                }
            }
        }
        self.now.clone_from(&content);
        self.certain = content;
    }
}

/// Some of a write's sectors, each for itself.
fn tear(content: &mut Vec<u8>, at: u64, bytes: &[u8], random: &mut Random) {
    let mut begin = at;
    let mut rest = bytes;
    while !rest.is_empty() {
        let to_sector = usize::try_from(SECTOR - begin % SECTOR).unwrap_or(1).min(rest.len());
        let (piece, behind) = rest.split_at(to_sector);
        if random.percent(50) {
            put(content, begin, piece);
        }
        begin += piece.len() as u64;
        rest = behind;
    }
}

fn put(content: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    let end = at.saturating_add(bytes.len());
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(bytes);
}

fn resize(content: &mut Vec<u8>, length: u64) {
    content.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(content: &[u8]) -> (Disk, u64) {
        let mut disk = Disk::new();
        let file = disk.make(ROOT, "a".as_ref(), 0o600, Kind::File(FileData::default())).unwrap();
        disk.write(file, 0, content).unwrap();
        (disk, file)
    }

    fn content(disk: &Disk, name: &str) -> Option<Vec<u8>> {
        let number = disk.lookup(ROOT, name.as_ref()).ok()?;
        match &disk.node(number).unwrap().kind {
            Kind::File(file) => Some(file.now.clone()),
            Kind::Directory(_) => None,
        }
    }

    #[test]
    fn what_was_synced_with_its_name_survives_every_cut() {
        let (mut disk, file) = with_file(&[7; 5_000]);
        disk.sync(file).unwrap();
        disk.sync(ROOT).unwrap();
        for seed in 0..200 {
            assert_eq!(content(&disk.cut(&mut Random::new(seed)).0, "a"), Some(vec![7; 5_000]));
        }
    }

    #[test]
    fn what_was_not_synced_is_sometimes_there_sometimes_gone_and_sometimes_torn() {
        let (mut disk, file) = with_file(&[1; 2_048]);
        disk.sync(file).unwrap();
        disk.sync(ROOT).unwrap();
        disk.write(file, 0, &[2; 2_048]).unwrap();
        let found: Vec<_> = (0..300).map(|seed| content(&disk.cut(&mut Random::new(seed)).0, "a").unwrap()).collect();
        assert!(found.contains(&vec![1; 2_048]) && found.contains(&vec![2; 2_048]));
        assert!(found.iter().any(|bytes| bytes.contains(&1) && bytes.contains(&2)));
    }

    #[test]
    fn a_name_needs_a_sync_of_its_directory() {
        let (mut disk, file) = with_file(b"x");
        disk.sync(file).unwrap();
        assert!((0..200).any(|seed| content(&disk.cut(&mut Random::new(seed)).0, "a").is_none()));
        disk.sync(ROOT).unwrap();
        disk.rename((ROOT, "a".as_ref()), (ROOT, "b".as_ref())).unwrap();
        for seed in 0..200 {
            let left = disk.cut(&mut Random::new(seed)).0;
            let (old, new) = (content(&left, "a"), content(&left, "b"));
            assert!(old.is_some() != new.is_some(), "one name or the other: {old:?} {new:?}");
        }
    }

    #[test]
    fn a_cut_is_the_same_again_with_the_same_seed() {
        let (mut disk, file) = with_file(&[3; 9_000]);
        disk.write(file, 4_000, &[4; 9_000]).unwrap();
        let cut = |seed| content(&disk.cut(&mut Random::new(seed)).0, "a");
        assert!((0..50).all(|seed| cut(seed) == cut(seed)));
    }
}
