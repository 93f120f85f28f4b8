//! Rotation while it is read, over and over: every line of the window that lay on the disk when a reading began is given
//! exactly once and in order, or a gap says where it is missing. The writer knows every line that it wrote.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::ops::ControlFlow::Continue;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use casefile_proto::time::{NANOS_PER_SEC, WallTime};

use crate::tree::{Reading, Tree, at, gzip, whole_day};

/// So many readings of each kind of rotation.
const READINGS: u64 = 60;

/// The writer rotates at most so often while one reading is under way, which takes milliseconds: many times faster than
/// ten times a second.
const ROTATIONS_A_READING: u64 = 2;

/// Lines between two rotations.
const LINES: u64 = 40;

/// Files that are kept.
const KEPT: u64 = 12;

/// A log being written and rotated.
struct Writer {
    tree: Tree,
    dir: PathBuf,
    /// Lines that are on the disk whole.
    written: AtomicU64,
    /// Lines before this one are gone, or are about to be.
    gone: AtomicU64,
    readings: AtomicU64,
    rotations: AtomicU64,
    done: AtomicBool,
    /// Whether there may be no file at all for a moment: then nobody can say what was in it.
    vanishes: bool,
}

/// The time of a line says which one it is.
fn time(line: u64) -> WallTime {
    at("2026-11-23T00:00:00Z").offset(i64::try_from(line).unwrap() * NANOS_PER_SEC / 100)
}

fn line(line: u64) -> String {
    format!("{} stdout F line {line} {}\n", time(line), "x".repeat(usize::try_from(line % 90).unwrap()))
}

/// Whether a gap says that the line of this time had no end.
fn cut_short(reading: &Reading, at: WallTime) -> bool {
    let gaps = reading.items.iter().flat_map(|item| &item.gaps);
    gaps.filter(|gap| gap.detail.ends_with("had no end yet when it was read"))
        .any(|gap| gap.interval.is_none_or(|interval| interval.contains(at)))
}

impl Writer {
    fn new(dir: &str) -> Self {
        let tree = Tree::new();
        let dir = tree.path(&format!("{dir}/app.log")).parent().unwrap().to_owned();
        let zero = || AtomicU64::new(0);
        let (written, gone, readings, rotations) = (zero(), zero(), zero(), zero());
        Self { tree, dir, written, gone, readings, rotations, done: AtomicBool::new(false), vanishes: false }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes the next lines, in pieces that end within lines.
    fn lines(&self, file: &mut File) {
        let begin = self.written.load(SeqCst);
        for n in begin..begin + LINES {
            let text = line(n);
            let (one, other) = text.as_bytes().split_at(text.len() / 2);
            file.write_all(one).unwrap();
            file.write_all(other).unwrap();
            self.written.store(n + 1, SeqCst);
        }
    }

    /// Whether to rotate once more; waits until the reader has come so far.
    fn go_on(&self) -> bool {
        let rotations = self.rotations.fetch_add(1, SeqCst);
        while rotations >= (self.readings.load(SeqCst) + 1) * ROTATIONS_A_READING && !self.done.load(SeqCst) {
            std::thread::yield_now();
        }
        !self.done.load(SeqCst)
    }

    /// Says that the oldest files are about to go.
    fn forget(&self, rotation: u64) -> Option<u64> {
        let oldest = rotation.checked_sub(KEPT)?;
        self.gone.store((oldest + 1) * LINES, SeqCst);
        Some(oldest)
    }

    /// As kubelet does it: rename, a new file, compress the one before, remove the oldest.
    fn like_kubelet(&self) {
        let name = |n: u64| format!("0.log.20261123-{n:06}");
        let mut rotation = 0;
        while self.go_on() {
            let mut file = OpenOptions::new().append(true).create(true).open(self.path("0.log")).unwrap();
            self.lines(&mut file);
            fs::rename(self.path("0.log"), self.path(&name(rotation))).unwrap();
            File::create(self.path("0.log")).unwrap();
            if let Some(before) = rotation.checked_sub(1) {
                let plain = self.path(&name(before));
                let packed = self.path(&format!("{}.gz", name(before)));
                let part = self.path(&format!("{}.tmp", name(before)));
                fs::write(&part, gzip(&fs::read(&plain).unwrap())).unwrap();
                fs::rename(part, packed).unwrap();
                fs::remove_file(plain).unwrap();
            }
            if let Some(oldest) = self.forget(rotation) {
                fs::remove_file(self.path(&format!("{}.gz", name(oldest)))).unwrap();
            }
            rotation += 1;
        }
    }

    /// As logrotate does it: every file moves on by one; the oldest goes.
    fn like_logrotate(&self) {
        let mut rotation = 0;
        while self.go_on() {
            self.lines(&mut OpenOptions::new().append(true).create(true).open(self.path("app.log")).unwrap());
            self.forget(rotation + 1);
            for n in (1..KEPT).rev() {
                // As long as there are so many.
                let _ = fs::rename(self.path(&format!("app.log.{n}")), self.path(&format!("app.log.{}", n + 1)));
            }
            fs::rename(self.path("app.log"), self.path("app.log.1")).unwrap();
            rotation += 1;
        }
    }

    /// With `copytruncate`: the writer keeps its file, whose content is copied and then cut off.
    fn by_copying(&self) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path("app.log")).unwrap();
        let mut rotation = 0;
        while self.go_on() {
            self.lines(&mut file);
            self.forget(rotation + 1);
            for n in (1..KEPT).rev() {
                let _ = fs::rename(self.path(&format!("app.log.{n}")), self.path(&format!("app.log.{}", n + 1)));
            }
            fs::copy(self.path("app.log"), self.path("app.log.1")).unwrap();
            file.set_len(0).unwrap();
            rotation += 1;
        }
    }

    /// Deleted and made anew, so that the number of the inode comes back; nothing is kept.
    fn by_deleting(&self) {
        while self.go_on() {
            self.gone.store(self.written.load(SeqCst), SeqCst);
            let _ = fs::remove_file(self.path("app.log"));
            self.lines(&mut File::create(self.path("app.log")).unwrap());
        }
    }

    /// Reads while `rotate` is at work.
    fn run(&self, source: &str, rotate: impl Fn(&Self) + Sync) {
        let (mut declared, mut given) = (0, 0);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| rotate(self));
            let mut wrong = None;
            while wrong.is_none() && self.readings.load(SeqCst) < READINGS {
                // On a busy machine the other thread gets less done: each reading waits for one rotation at least.
                while self.rotations.load(SeqCst) <= self.readings.load(SeqCst) && !writer.is_finished() {
                    std::thread::yield_now();
                }
                let (gone, written) = (self.gone.load(SeqCst), self.written.load(SeqCst));
                let reading = self.tree.read_with(source, &whole_day(), &mut |_, _| Continue(()));
                given += reading.covered.records;
                match self.compare(&reading, gone, written) {
                    Ok(missing) => declared += u64::from(missing > 0),
                    Err(what) => wrong = Some(what),
                }
                self.readings.fetch_add(1, SeqCst);
            }
            // Panicking with the other thread still at work would wait for it for ever.
            self.done.store(true, SeqCst);
            assert_eq!(wrong, None);
        });
        let (rotations, written) = (self.rotations.load(SeqCst), self.written.load(SeqCst));
        eprintln!(
            "{rotations} rotations and {written} lines; {given} given in {READINGS} readings, {declared} of them with a gap"
        );
        assert!(rotations >= READINGS && given >= READINGS * LINES / 2, "{rotations} rotations, {given} lines given");
    }

    /// What is wrong with a reading that began when these lines were on the disk; or how many of them it says are missing.
    fn compare(&self, reading: &Reading, gone: u64, written: u64) -> Result<usize, String> {
        let mut given = BTreeSet::new();
        let mut last = None;
        for (at, bytes) in reading.records() {
            let number = u64::try_from((at.nanos() - time(0).nanos()) / (NANOS_PER_SEC / 100)).unwrap();
            let text = line(number);
            let (stamp, rest) = text.split_once(" stdout F ").unwrap();
            let right = [format!("{stamp} stdout {rest}"), text.clone()];
            // Where its writer got no further for so long that it was given up, a line has no end, and a gap says so.
            let half =
                |r: &String| r.as_bytes().starts_with(bytes.trim_ascii_end()) && cut_short(reading, time(number));
            if number > self.written.load(SeqCst) || !right.iter().any(|r| r.as_bytes() == bytes || half(r)) {
                return Err(format!("nobody wrote {}", bytes.escape_ascii()));
            }
            if last.is_some_and(|last| last >= number) {
                return Err(format!("line {number} comes after line {last:?}"));
            }
            last = Some(number);
            given.insert(number);
        }
        if self.vanishes && reading.items.is_empty() {
            return Ok(0);
        }
        let missing: Vec<u64> = (gone..written).filter(|n| !given.contains(n)).collect();
        let gaps: Vec<_> = reading.items.iter().flat_map(|i| &i.gaps).chain(&reading.covered.gaps).collect();
        let told = |n: &u64| gaps.iter().any(|g| g.interval.is_none_or(|i| i.contains(time(*n))));
        match missing.iter().find(|n| !told(n)) {
            Some(n) => Err(format!(
                "line {n} of {gone}..{written} is missing (with {} others) and no gap says so: {gaps:?} {:?}",
                missing.len() - 1,
                reading.items.iter().map(|i| (&i.head.path, &i.head.method, i.covered)).collect::<Vec<_>>(),
            )),
            None => Ok(missing.len()),
        }
    }
}

#[test]
fn kubelets_rotation_loses_nothing_that_is_not_said() {
    Writer::new("var/log/pods/shop_api_u/app").run("pods", Writer::like_kubelet);
}

#[test]
fn logrotates_rotation_loses_nothing_that_is_not_said() {
    Writer::new("var/log").run("files", Writer::like_logrotate);
}

#[test]
fn copying_and_truncating_gives_nothing_twice_and_loses_nothing_that_is_not_said() {
    Writer::new("var/log").run("files", Writer::by_copying);
}

#[test]
fn deleting_and_making_anew_mixes_nothing_and_loses_nothing_that_is_not_said() {
    let writer = Writer { vanishes: true, ..Writer::new("var/log") };
    writer.run("files", Writer::by_deleting);
}
