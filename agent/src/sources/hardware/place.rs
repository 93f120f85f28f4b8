//! A directory of sysfs that belongs to one device, and how its small files are read: with the directory kept open where
//! that is worth a descriptor, else by its path.
//!
//! A path through `/sys/class` leads through links and up to ten directories, so a kept directory halves what a file
//! costs. Files themselves are not kept: a device has up to sixty of them.

use crate::host::{Dir, Host, HostError};
use crate::sources::Measurement;
use crate::sources::kept::{said, unreadable};
use crate::text::{self, BadLine, Unparsed};

/// Sysfs gives out at most a page, and what is read here is a word, a number or some thirty short lines.
pub(super) const MAX_FILE: usize = 4096;

/// Where the files of one device lie.
#[derive(Debug)]
pub(super) struct Place {
    path: String,
    dir: Option<Dir>,
}

/// Whether a directory is worth a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Kept open.
    Open,
    /// Reached by its path each time.
    ByPath,
}

impl Hold {
    /// The first so many are kept open.
    pub(super) fn of(position: usize, most: usize) -> Self {
        if position < most { Self::Open } else { Self::ByPath }
    }
}

impl Place {
    /// A directory. One that cannot be opened now is reached by its path, and reading says what is the matter.
    pub(super) fn new(host: &Host, path: String, hold: Hold) -> Self {
        let dir = if hold == Hold::Open { host.dir(&path).ok() } else { None };
        Self { path, dir }
    }

    /// Below the host's root.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Whether it holds a descriptor.
    pub(super) fn is_kept(&self) -> bool {
        self.dir.is_some()
    }

    /// Reads a file that is known to be there. A device that was removed and came back under the same name has a new
    /// directory: it is opened once more before the file counts as missing.
    pub(super) fn read(&mut self, host: &Host, file: &str, buf: &mut Vec<u8>) -> Result<(), HostError> {
        let Some(dir) = &self.dir else {
            return host.keep(format!("{}/{file}", self.path))?.read_record(buf, MAX_FILE);
        };
        match dir.read_record(file, buf, MAX_FILE) {
            Err(error) if error.is_not_found() => {
                let dir = host.dir(&self.path)?;
                let read = dir.read_record(file, buf, MAX_FILE);
                self.dir = Some(dir);
                read
            }
            read => read,
        }
    }
}

/// What every part of the source needs for reading, in one hand.
pub(super) struct Reader<'a> {
    pub(super) host: &'a Host,
    pub(super) buf: &'a mut Vec<u8>,
    pub(super) out: &'a mut Measurement,
}

impl Reader<'_> {
    /// The names in a directory of sysfs that `wanted` takes, sorted; `None` where there is no such directory. Other names
    /// (`power`, `uevent`) are of no interest.
    pub(super) fn names(&mut self, path: &str, wanted: impl Fn(&str) -> bool) -> Option<Vec<String>> {
        match self.host.list(path) {
            Ok(listed) => {
                let names = listed.into_iter().filter_map(|name| name.into_string().ok());
                let mut names: Vec<String> = names.filter(|name| wanted(name)).collect();
                names.sort_unstable();
                Some(names)
            }
            Err(error) if error.is_not_found() => None,
            Err(error) => {
                self.out.gap(unreadable(&error));
                None
            }
        }
    }

    /// The content of a file, or `None` with a gap where it should have been readable.
    pub(super) fn glance(&mut self, place: &mut Place, file: &str) -> Option<&[u8]> {
        said(place.read(self.host, file, self.buf), self.out).then_some(self.buf)
    }

    /// The one number in a file.
    pub(super) fn number(&mut self, place: &mut Place, file: &str) -> Option<i64> {
        self.parsed(place, file, text::single_number)
    }

    /// What `parse` makes of a file.
    pub(super) fn parsed<T>(
        &mut self,
        place: &mut Place,
        file: &str,
        parse: impl FnOnce(&[u8]) -> Result<T, BadLine<'_>>,
    ) -> Option<T> {
        let text = self.glance(place, file)?;
        let mut bad = Unparsed::default();
        let parsed = bad.keep(parse(text));
        self.gap(bad, place, file);
        parsed
    }

    /// The line of text in a file, without blanks around it: a name for people, which may be empty.
    pub(super) fn line(&mut self, place: &mut Place, file: &str) -> Option<String> {
        self.parsed(place, file, |text| {
            let line = text::single(text)?;
            let said = line.trim_ascii();
            match text::name(said) {
                Some(name) => Ok(name.to_owned()),
                None if said.is_empty() => Ok(String::new()),
                None => Err(BadLine { line, why: "not a line of text" }),
            }
        })
    }

    /// Says what did not parse of a file.
    pub(super) fn gap(&mut self, bad: Unparsed, place: &Place, file: &str) {
        if bad.is_empty() {
            return;
        }
        bad.gap(&format!("{}/{file}", place.path())).into_iter().for_each(|gap| self.out.gap(gap));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("sys/x")).unwrap();
        std::fs::write(root.path().join("sys/x/n"), "1\n").unwrap();
        let host = Host::new(root.path()).unwrap();
        (root, host)
    }

    #[test]
    fn a_directory_that_was_replaced_is_opened_again() {
        let (root, host) = host();
        let mut buf = Vec::new();
        let mut kept = Place::new(&host, "sys/x".to_owned(), Hold::Open);
        kept.read(&host, "n", &mut buf).unwrap();
        std::fs::remove_dir_all(root.path().join("sys/x")).unwrap();
        assert!(kept.read(&host, "n", &mut buf).unwrap_err().is_not_found());
        std::fs::create_dir_all(root.path().join("sys/x")).unwrap();
        std::fs::write(root.path().join("sys/x/n"), "2\n").unwrap();
        kept.read(&host, "n", &mut buf).unwrap();
        assert_eq!(buf, b"2\n");
    }

    #[test]
    fn a_file_reads_the_same_by_path_and_by_directory() {
        let (_root, host) = host();
        let (mut buf, mut out) = (Vec::new(), Measurement::new(&[]));
        let mut reader = Reader { host: &host, buf: &mut buf, out: &mut out };
        for mut place in [Hold::Open, Hold::ByPath].map(|hold| Place::new(&host, "sys/x".to_owned(), hold)) {
            assert_eq!(reader.number(&mut place, "n"), Some(1));
            assert_eq!(reader.number(&mut place, "none"), None);
        }
        assert!(out.gaps().is_empty());
    }
}
