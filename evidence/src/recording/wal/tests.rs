//! What was committed survives whatever a power cut leaves of the files; what was not is in none of them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::recording::disk::DiskFile;

type Contents = BTreeMap<String, Vec<u8>>;

const NAMES: [&str; 4] = ["1/tail", "1/00000001.seg", "2/tail", "30/tail"];

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    /// Bytes are written to a file, from a place within it on.
    Write {
        file: usize,
        at: usize,
        bytes: Vec<u8>,
    },
    Cut {
        file: usize,
        length: usize,
    },
    Commit,
    /// Commit, and go on in the other half.
    Turn,
    /// Commit, and everything is settled.
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop::collection::vec(any::<u8>(), 1..200);
    prop_oneof![
        6 => (0..NAMES.len(), 0..400usize, bytes).prop_map(|(file, at, bytes)| Step::Write { file, at, bytes }),
        2 => (prop::sample::select(vec![0, 2, 3]), 0..300usize).prop_map(|(file, length)| Step::Cut { file, length }),
        3 => Just(Step::Commit),
        2 => Just(Step::Turn),
        1 => Just(Step::Settle),
    ]
}

struct World {
    dir: TempDir,
    wal: Wal,
    files: Vec<DiskFile>,
    /// What the files are to hold.
    now: Contents,
    /// What they held at the last commit.
    committed: Contents,
    /// What a power cut cannot take away: as of the last turn, when everything before it was synced.
    synced: Contents,
    /// Committed since then, in order.
    since: Vec<Step>,
    /// Not committed.
    waiting: Vec<Step>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for node in ["1", "2", "30"] {
            std::fs::create_dir_all(dir.path().join("stores").join(node)).unwrap();
        }
        let wal = open(dir.path());
        let path = |name: &&str| dir.path().join("stores").join(name);
        let files = NAMES.iter().map(|name| DiskFile::open_logged(path(name), Some(&wal)).unwrap()).collect();
        let empty: Contents = NAMES.iter().map(|name| ((*name).to_owned(), Vec::new())).collect();
        Self {
            wal,
            files,
            now: empty.clone(),
            committed: empty.clone(),
            synced: empty,
            since: Vec::new(),
            waiting: Vec::new(),
            dir,
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Write { file, at, bytes } => {
                let length = self.now[NAMES[*file]].len();
                // Segments only grow.
                let at = if NAMES[*file].ends_with(".seg") { length } else { (*at).min(length) };
                self.files[*file].write(bytes, at as u64).unwrap();
                let step = Step::Write { file: *file, at, bytes: bytes.clone() };
                apply(&mut self.now, &step);
                self.waiting.push(step);
            }
            Step::Cut { file, length } => {
                let length = (*length).min(self.now[NAMES[*file]].len());
                self.files[*file].cut(length as u64).unwrap();
                let step = Step::Cut { file: *file, length };
                apply(&mut self.now, &step);
                self.waiting.push(step);
            }
            Step::Commit => {
                self.wal.commit().unwrap();
                self.committed = self.now.clone();
                self.since.append(&mut self.waiting);
            }
            Step::Turn => {
                self.take(&Step::Commit);
                self.wal.log().turn().unwrap();
                self.wal.log().wait();
                (self.synced, self.since) = (self.committed.clone(), Vec::new());
            }
            Step::Settle => {
                self.take(&Step::Commit);
                self.wal.close().unwrap();
                (self.synced, self.since) = (self.committed.clone(), Vec::new());
            }
        }
        assert_eq!(contents(self.dir.path()), self.committed, "a file holds what was committed and no more");
    }

    /// What a power cut leaves: the logs, and of what was not synced these parts.
    fn cut(&self, kept: &[bool], garbage: &[u8]) -> TempDir {
        let left = tempfile::tempdir().unwrap();
        let mut files = self.synced.clone();
        for (step, kept) in self.since.iter().zip(kept.iter().cycle()) {
            if *kept {
                apply(&mut files, step);
            }
        }
        for (name, bytes) in files {
            let path = left.path().join("stores").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        std::fs::create_dir(left.path().join("wal")).unwrap();
        let log = self.wal.log();
        for half in [&log.active, &log.other] {
            let mut bytes = std::fs::read(&half.path).unwrap();
            if half.path == log.active.path {
                bytes.truncate(usize::try_from(half.end).unwrap());
                bytes.extend_from_slice(garbage);
            }
            std::fs::write(left.path().join("wal").join(half.path.file_name().unwrap()), bytes).unwrap();
        }
        left
    }
}

/// Writes behind the end fill it up, as a file does.
fn apply(contents: &mut Contents, step: &Step) {
    match step {
        Step::Write { file, at, bytes } => {
            let content = contents.get_mut(NAMES[*file]).unwrap();
            let end = at + bytes.len();
            content.resize(content.len().max(end), 0);
            content[*at..end].copy_from_slice(bytes);
        }
        Step::Cut { file, length } => contents.get_mut(NAMES[*file]).unwrap().resize(*length, 0),
        Step::Commit | Step::Turn | Step::Settle => {}
    }
}

fn open(dir: &Path) -> Wal {
    Wal::open(&dir.join("wal"), &dir.join("stores"), 1).unwrap().remove(0)
}

fn contents(dir: &Path) -> Contents {
    let read = |name: &&str| ((*name).to_owned(), std::fs::read(dir.join("stores").join(name)).unwrap_or_default());
    NAMES.iter().map(read).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_was_committed_is_there_after_a_power_cut(
        steps in prop::collection::vec(step(), 1..60),
        kept in prop::collection::vec(any::<bool>(), 1..16),
        garbage in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        let left = world.cut(&kept, &garbage);
        let before: Vec<_> = found(&left.path().join("wal")).unwrap().into_iter().map(|half| half.path).collect();
        let saved: Vec<_> = before.iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
        drop(open(left.path()));
        prop_assert_eq!(&contents(left.path()), &world.committed);
        // Opened again, and cut off again while it was: the older half was begun anew already, the newer was not.
        let newer = world.wal.log().active.path.file_name().unwrap().to_owned();
        for (path, bytes) in saved.iter().filter(|(path, _)| path.file_name() == Some(&newer)) {
            std::fs::write(path, bytes).unwrap();
        }
        drop(open(left.path()));
        prop_assert_eq!(&contents(left.path()), &world.committed);
    }
}

fn bytes(world: &mut World, file: usize, bytes: &[u8]) {
    world.take(&Step::Write { file, at: usize::MAX, bytes: bytes.to_vec() });
}

#[test]
fn a_record_that_is_not_whole_is_not_there_and_nothing_behind_it() {
    let mut world = World::new();
    for text in [b"first", b"secnd", b"third"] {
        bytes(&mut world, 0, text);
        world.take(&Step::Commit);
    }
    let half = world.wal.log().active.path.clone();
    let (whole, end) = (std::fs::read(&half).unwrap(), usize::try_from(world.wal.log().active.end).unwrap());
    let first = usize::try_from(FIRST).unwrap();
    let record = (end - first) / 3;
    for at in first + record..first + 2 * record {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        std::fs::write(&half, &changed).unwrap();
        let found = read(&half).unwrap().unwrap();
        assert_eq!(found.writes.len(), 1, "{at}");
    }
    for at in 0..HEAD {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        std::fs::write(&half, &changed).unwrap();
        assert!(read(&half).unwrap().is_none(), "{at}");
    }
}

#[test]
fn what_an_earlier_generation_left_behind_is_no_record() {
    let mut world = World::new();
    for _ in 0..4 {
        for text in [b"aaaaa", b"bbbbb", b"ccccc"] {
            bytes(&mut world, 0, text);
            world.take(&Step::Commit);
        }
        world.take(&Step::Settle);
        assert!(read(&world.wal.log().active.path).unwrap().unwrap().writes.is_empty());
        bytes(&mut world, 2, b"aaaaa");
        world.take(&Step::Commit);
        assert_eq!(read(&world.wal.log().active.path).unwrap().unwrap().writes.len(), 1);
    }
}

#[test]
fn names_that_lead_elsewhere_and_nodes_that_are_gone_are_left_alone() {
    for name in ["../tail", "1/../../x", "/etc/passwd", "1/2/tail", "tail", "a/tail", "1/lock", ""] {
        assert!(!is_ours(name), "{name}");
    }
    assert!(NAMES.iter().all(|name| is_ours(name)));
    let mut world = World::new();
    bytes(&mut world, 3, b"gone");
    world.take(&Step::Commit);
    let left = world.cut(&[true], &[]);
    std::fs::remove_dir_all(left.path().join("stores/30")).unwrap();
    drop(open(left.path()));
    assert!(!left.path().join("stores/30").exists());
}

#[test]
fn a_cut_that_reached_the_file_before_the_power_failed_does_not_keep_what_follows_from_it() {
    let mut world = World::new();
    bytes(&mut world, 0, &[1; 300]);
    world.take(&Step::Turn);
    bytes(&mut world, 0, &[2; 100]);
    world.take(&Step::Turn);
    world.take(&Step::Cut { file: 0, length: 200 });
    bytes(&mut world, 0, &[3; 10]);
    world.take(&Step::Commit);
    for kept in [[true, false], [false, true], [true, true], [false, false]] {
        let left = world.cut(&kept, &[]);
        drop(open(left.path()));
        assert_eq!(contents(left.path()), world.committed, "{kept:?}");
    }
}

#[test]
fn the_rest_of_a_segment_that_is_gone_is_not_written_behind_a_hole() {
    let mut world = World::new();
    bytes(&mut world, 1, b"before");
    world.take(&Step::Settle);
    bytes(&mut world, 1, b" and after");
    world.take(&Step::Commit);
    let left = world.cut(&[false], &[]);
    std::fs::remove_file(left.path().join("stores/1/00000001.seg")).unwrap();
    drop(open(left.path()));
    assert!(!left.path().join("stores/1/00000001.seg").exists());
}

#[test]
fn what_could_not_be_settled_is_kept_and_settled_later() {
    let mut world = World::new();
    bytes(&mut world, 0, b"one");
    world.take(&Step::Commit);
    let dir = world.dir.path().join("stores/1");
    let away = world.dir.path().join("away");
    // Without syncing as a whole, each file is opened to be synced.
    {
        let mut log = world.wal.log();
        log.files = Arc::new(Files { root: log.files.root.clone(), whole: None });
        std::fs::rename(&dir, &away).unwrap();
        std::fs::write(&dir, "no directory").unwrap();
        log.turn().unwrap();
        log.wait();
        assert!(matches!(log.held, Held::Unsettled));
        assert!(read(&log.other.path).unwrap().unwrap().writes.len() == 1, "it still holds it");
        std::fs::remove_file(&dir).unwrap();
        std::fs::rename(&away, &dir).unwrap();
        // The file lost what it had.
        std::fs::write(dir.join("tail"), "").unwrap();
        log.turn().unwrap();
        assert!(matches!(log.held, Held::Settled));
    }
    assert_eq!(std::fs::read(dir.join("tail")).unwrap(), b"one");
}
