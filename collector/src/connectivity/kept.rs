//! The results of tests at rest: `connectivity.jsonl` in the data directory, in the form of `data/connectivity.jsonl` of archives
//! (`evidence/FORMAT.md`), and beside it the one before.
//!
//! Bounded in bytes and age by turning over: when the newer file is full, or begins too long ago, it takes the place of the older
//! one. A line that a crash cut is gone with the next start, and never read.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use casefile_evidence::archive::connectivity::{ConnectivityLine, lines};
use casefile_proto::connectivity::ConnectivityTest;
use casefile_proto::ids::NodeName;
use casefile_proto::time::{WallTime, Window};

/// The most bytes of each of the two files: a test of ten thousand nodes fits.
const MAX_BYTES: u64 = 16 << 20;

/// The longest that one file is written to, and that the older one lies beside it: as long as an archive may still be amended.
const MAX_AGE: Duration = Duration::from_hours(31 * 24);

/// The longest line: a node with the longest chain of certificates has some 6 KiB.
const MAX_LINE: u64 = 64 << 10;

/// Results that are kept.
pub struct Kept {
    path: PathBuf,
    most: u64,
    end: Mutex<Option<End>>,
}

/// Where the newer file ends.
struct End {
    file: File,
    len: u64,
    /// When its first test was begun; `None`: it is empty.
    first: Option<WallTime>,
}

impl Kept {
    /// Opens what there is; a piece of a line at its end is cut off. Blocks.
    ///
    /// # Errors
    /// When the file system says no.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_with(path, MAX_BYTES)
    }

    fn open_with(path: &Path, most: u64) -> io::Result<Self> {
        let end = reopen(path)?;
        Ok(Self { path: path.to_owned(), most, end: Mutex::new(Some(end)) })
    }

    /// Adds a test, synced when this returns. Of one that is larger than a file may be, the nodes that fit. Blocks.
    ///
    /// # Errors
    /// When the file system says no; what it took of the test is taken back.
    pub fn append(&self, test: &ConnectivityTest) -> io::Result<()> {
        let mut text = Vec::new();
        for line in lines(test)? {
            if u64::try_from(text.len() + line.len()).is_ok_and(|len| len > self.most) {
                // Each line says of how many it is one: what is missing shows.
                tracing::warn!(target = %test.target, "a test is too large to be kept as a whole");
                break;
            }
            text.extend(line);
        }
        let more = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let mut slot = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        // After a failed write nobody knows what of it is on the disk.
        let mut end = match slot.take() {
            Some(end) => end,
            None => reopen(&self.path)?,
        };
        let is_old = end.first.is_some_and(|first| test.at.nanos_since(first) > age());
        if end.len > 0 && (end.len.saturating_add(more) > self.most || is_old) {
            fs::rename(&self.path, older(&self.path))?;
            end = reopen(&self.path)?;
        }
        self.drop_old(test.at)?;
        let written = end.file.write_all(&text).and_then(|()| end.file.sync_data());
        if let Err(error) = written {
            // Best effort: the next start cuts what is no whole line.
            let _ = end.file.set_len(end.len);
            return Err(error);
        }
        end.len += more;
        end.first = end.first.or(Some(test.at));
        *slot = Some(end);
        Ok(())
    }

    /// The older file goes when its first test is twice as old as a file may be.
    fn drop_old(&self, now: WallTime) -> io::Result<()> {
        let path = older(&self.path);
        match first_of(&path)? {
            Some(first) if now.nanos_since(first) > age().saturating_mul(2) => fs::remove_file(path),
            _ => Ok(()),
        }
    }
}

fn age() -> i64 {
    i64::try_from(MAX_AGE.as_nanos()).unwrap_or(i64::MAX)
}

/// Where the file before lies.
fn older(path: &Path) -> PathBuf {
    path.with_extension("older.jsonl")
}

/// Opens the newer file at the end of its last whole line.
fn reopen(path: &Path) -> io::Result<End> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let len = file.metadata()?.len();
    let mut whole = len;
    let mut chunk = Vec::new();
    // Backwards in pieces: what has no line end within the longest line is none of ours, and goes too.
    while whole > 0 {
        let from = whole.saturating_sub(MAX_LINE);
        chunk.clear();
        file.seek(SeekFrom::Start(from))?;
        (&file).take(whole - from).read_to_end(&mut chunk)?;
        match chunk.iter().rposition(|b| *b == b'\n') {
            Some(at) => {
                whole = from + u64::try_from(at + 1).unwrap_or(0);
                break;
            }
            None => whole = from,
        }
    }
    if whole < len {
        tracing::warn!(path = %path.display(), bytes = len - whole, "the results of tests ended in a piece of a line");
        file.set_len(whole)?;
        file.sync_all()?;
    }
    if len == 0 {
        // A new file survives a crash only with its directory.
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())?;
    }
    let first = first_of(path)?;
    Ok(End { file, len: whole, first })
}

/// When the first test of a file was begun; `None`: there is none, or no such file.
fn first_of(path: &Path) -> io::Result<Option<WallTime>> {
    let mut first = None;
    read(path, |line, _| {
        first = Some(line.at);
        false
    })?;
    Ok(first)
}

/// Reads the whole lines of a file; those that are none of ours are passed over. Goes on as long as `each` wants.
fn read(path: &Path, mut each: impl FnMut(ConnectivityLine, &[u8]) -> bool) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut file = BufReader::new(file);
    let mut text = Vec::new();
    loop {
        text.clear();
        if (&mut file).take(MAX_LINE).read_until(b'\n', &mut text)? == 0 {
            return Ok(());
        }
        let Some(body) = text.strip_suffix(b"\n") else { continue };
        if let Ok(line) = serde_json::from_slice(body)
            && !each(line, &text)
        {
            return Ok(());
        }
    }
}

/// The lines of the tests that were begun in a window, in order, as they stand there. Blocks.
///
/// # Errors
/// When the file system says no.
pub fn within(path: &Path, window: Window) -> io::Result<Vec<u8>> {
    let mut found: BTreeMap<(WallTime, NodeName), Vec<u8>> = BTreeMap::new();
    // The newer first: one that becomes the older meanwhile is read twice rather than never.
    for path in [path.to_owned(), older(path)] {
        read(&path, |line, text| {
            if window.contains(line.at) {
                found.entry((line.at, line.node)).or_insert_with(|| text.to_vec());
            }
            true
        })?;
    }
    Ok(found.into_values().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(at: i64) -> ConnectivityTest {
        let row = |node: &str| serde_json::json!({"node": node, "untested": {"reason": "too-old"}});
        let test = serde_json::json!({"at": WallTime::from_secs(at), "name": "api", "target": "tcp://api:80",
            "asked_by": "kim", "nodes": [row("a"), row("b")]});
        serde_json::from_value(test).unwrap()
    }

    fn of(tests: &[i64]) -> Vec<u8> {
        tests.iter().flat_map(|at| lines(&test(*at)).unwrap()).flatten().collect()
    }

    fn all() -> Window {
        Window::new(WallTime::MIN, WallTime::MAX).unwrap()
    }

    fn between(from: i64, until: i64) -> Window {
        Window::new(WallTime::from_secs(from), WallTime::from_secs(until)).unwrap()
    }

    #[test]
    fn what_was_kept_is_there_for_the_windows_that_it_lies_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("connectivity.jsonl");
        assert!(within(&path, all()).unwrap().is_empty(), "nothing was ever tested");
        let kept = Kept::open(&path).unwrap();
        for at in [10, 20, 30] {
            kept.append(&test(at)).unwrap();
        }
        assert_eq!(within(&path, all()).unwrap(), of(&[10, 20, 30]));
        assert_eq!(within(&path, between(20, 30)).unwrap(), of(&[20]), "half-open");
        assert!(within(&path, between(31, 99)).unwrap().is_empty());
        // And after a restart it goes on.
        drop(kept);
        Kept::open(&path).unwrap().append(&test(40)).unwrap();
        assert_eq!(within(&path, all()).unwrap(), of(&[10, 20, 30, 40]));
    }

    #[test]
    fn a_file_that_is_cut_anywhere_loses_the_line_that_was_cut_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("connectivity.jsonl");
        let whole = of(&[10, 20]);
        let each = whole.len() / 4;
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let left = &whole[..cut / each * each];
            assert_eq!(within(&path, all()).unwrap(), left, "read as it is, {cut}");
            let kept = Kept::open(&path).unwrap();
            kept.append(&test(30)).unwrap();
            assert_eq!(within(&path, all()).unwrap(), [left, &of(&[30])].concat(), "{cut}");
        }
        fs::write(&path, [b"no line of ours\n".as_slice(), &of(&[10]), &vec![b'x'; 200_000]].concat()).unwrap();
        assert_eq!(within(&path, all()).unwrap(), of(&[10]));
        Kept::open(&path).unwrap().append(&test(30)).unwrap();
        assert_eq!(within(&path, all()).unwrap(), of(&[10, 30]));
    }

    #[test]
    fn no_more_is_kept_than_two_files_may_have_and_nothing_too_old() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("connectivity.jsonl");
        let each = of(&[10]).len() as u64;
        let kept = Kept::open_with(&path, 3 * each).unwrap();
        for at in 1..=20 {
            kept.append(&test(at + 10)).unwrap();
            let size = |path: &Path| fs::metadata(path).map_or(0, |m| m.len());
            assert!(size(&path) <= 3 * each && size(&older(&path)) <= 3 * each);
        }
        assert_eq!(within(&path, all()).unwrap(), of(&[26, 27, 28, 29, 30]));
        // A test that is larger than a file gives what fits.
        let small = Kept::open_with(&dir.path().join("small.jsonl"), each - 1).unwrap();
        small.append(&test(10)).unwrap();
        assert_eq!(within(&small.path, all()).unwrap(), lines(&test(10)).unwrap()[0]);
        // A month later the file is turned over, and in two more the older one is gone.
        let month = age() / 1_000_000_000 + 1;
        kept.append(&test(30 + month)).unwrap();
        assert_eq!(within(&path, all()).unwrap(), of(&[29, 30, 30 + month]));
        kept.append(&test(30 + 2 * month)).unwrap();
        kept.append(&test(30 + 5 * month)).unwrap();
        assert_eq!(within(&path, all()).unwrap(), of(&[30 + 5 * month]));
    }
}
