//! Where the entries of a case file lie: in a sealed archive, in an incident that is being sealed, or in a directory of segments.
//!
//! What understands a case file reads through this alone, so that checks say the same before sealing and years later.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use casefile_evidence::archive::reader::{Archive, EntryInfo, OpenError};
use casefile_proto::item::EntryPath;
use casefile_proto::units::Bytes;

/// The entries of a case file.
pub trait Entries: Send {
    /// All of them, in the order in which reading them is one pass.
    fn list(&self) -> &[EntryInfo];

    /// The entry of this path.
    fn find(&self, path: &EntryPath) -> Option<&EntryInfo>;

    /// The content of one entry; a truncated or damaged one ends in an error, after what was whole.
    ///
    /// # Errors
    /// When there is no such entry, or it cannot be reached.
    fn entry(&mut self, path: &EntryPath) -> Result<Box<dyn Read + '_>, OpenError>;

    /// Whether what holds them ends early; then [`Self::list`] are those that begin in it.
    fn truncated(&self) -> bool {
        false
    }

    /// Whether all of them are known. Without an index something is damaged, and entries behind the damage may be missing.
    fn indexed(&self) -> bool {
        true
    }

    /// The whole content of one small entry; refused when it is larger than `at_most`.
    ///
    /// # Errors
    /// When there is no such entry, it is too large or cannot be read.
    fn read(&mut self, path: &EntryPath, at_most: Bytes) -> Result<Vec<u8>, OpenError> {
        let size = self.find(path).ok_or_else(|| OpenError::NoEntry(path.to_string()))?.size;
        let file = Path::new(path.as_str()).to_owned();
        if size > at_most.0 {
            let why = format!("it has {}, and more than {at_most} is not read at once", Bytes(size));
            return Err(OpenError::Refused { path: file, why });
        }
        let mut out = Vec::new();
        self.entry(path)?.read_to_end(&mut out).map_err(|source| OpenError::Io { path: file, source })?;
        Ok(out)
    }
}

impl Entries for Archive {
    fn list(&self) -> &[EntryInfo] {
        self.entries()
    }

    fn find(&self, path: &EntryPath) -> Option<&EntryInfo> {
        Archive::find(self, path)
    }

    fn entry(&mut self, path: &EntryPath) -> Result<Box<dyn Read + '_>, OpenError> {
        Archive::entry(self, path)
    }

    fn truncated(&self) -> bool {
        Archive::truncated(self)
    }

    fn indexed(&self) -> bool {
        Archive::indexed(self)
    }

    fn read(&mut self, path: &EntryPath, at_most: Bytes) -> Result<Vec<u8>, OpenError> {
        Archive::read(self, path, at_most)
    }
}

/// One entry in a file without a name: the recording that was cut out of a directory of segments.
#[derive(Debug)]
pub(crate) struct OneEntry {
    info: [EntryInfo; 1],
    file: std::fs::File,
}

impl OneEntry {
    /// What `file` holds from its beginning, under this path.
    pub(crate) fn new(path: EntryPath, mut file: std::fs::File) -> io::Result<Self> {
        let size = file.seek(SeekFrom::End(0))?;
        Ok(Self { info: [EntryInfo { path, size }], file })
    }
}

impl Entries for OneEntry {
    fn list(&self) -> &[EntryInfo] {
        &self.info
    }

    fn find(&self, path: &EntryPath) -> Option<&EntryInfo> {
        self.info.iter().find(|info| info.path == *path)
    }

    fn entry(&mut self, path: &EntryPath) -> Result<Box<dyn Read + '_>, OpenError> {
        if self.find(path).is_none() {
            return Err(OpenError::NoEntry(path.to_string()));
        }
        let failed = |source| OpenError::Io { path: Path::new(path.as_str()).to_owned(), source };
        self.file.seek(SeekFrom::Start(0)).map_err(failed)?;
        Ok(Box::new(&mut self.file))
    }
}
