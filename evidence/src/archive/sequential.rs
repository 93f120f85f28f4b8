//! Walking through an archive from the front, entry by entry: how a truncated file is read, and one whose index is
//! damaged. Streams content; holds the paths that it has seen and nothing else.
//!
//! Strict on purpose: what an archive of ours never contains (links, devices, `..`, two entries of one path) ends the
//! walk as refused, what cannot be read as damaged or truncated. Nothing here writes or judges digests.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::sync::Arc;

use casefile_proto::item::EntryPath;

use super::index;
use super::limits::{Ended, Inflated, Limits, Stop};
use super::tar::{self, Announced, BLOCK, Header, HeaderError};

/// What comes next.
pub(crate) enum Next {
    /// An entry; its content may be read until the next call.
    Entry { path: EntryPath, size: u64 },
    /// The archive ends as it should.
    End(Ended),
}

/// A walk through one file. After an error it stays where it is.
pub(crate) struct Walk {
    plain: Inflated,
    limits: Limits,
    top: Option<(String, u64)>,
    seen: HashSet<EntryPath>,
    total: u64,
    current: Option<EntryPath>,
    left: u64,
    padding: usize,
}

impl Walk {
    pub(crate) fn begin(file: Arc<File>, limits: Limits) -> Result<Self, Stop> {
        let plain = Inflated::begin(file, &limits)?;
        Ok(Self { plain, limits, top: None, seen: HashSet::new(), total: 0, current: None, left: 0, padding: 0 })
    }

    /// The top directory, once an entry was seen.
    pub(crate) fn top(&self) -> Option<&str> {
        self.top.as_ref().map(|(top, _)| top.as_str())
    }

    /// The entry in which the walk stands: the one to name when something is wrong here.
    pub(crate) fn within(&self) -> Option<&EntryPath> {
        self.current.as_ref()
    }

    /// Goes to the next entry, over what was not read of this one.
    pub(crate) fn next(&mut self) -> Result<Next, Stop> {
        let mut skipped = [0u8; 16 << 10];
        while self.read(&mut skipped)? > 0 {}
        let mut padding = [0u8; BLOCK];
        let padding = &mut padding[..self.padding];
        Self::fill(&mut self.plain, padding)?;
        if padding.iter().any(|b| *b != 0) {
            return Err(Stop::Damaged("what pads it to a whole block is not zero".to_owned()));
        }
        self.padding = 0;
        self.current = None;
        let Some(header) = self.header()? else { return self.end().map(Next::End) };
        let path = self.admit(&header)?;
        self.left = header.size;
        self.padding = tar::padding(header.size);
        self.current = Some(path.clone());
        Ok(Next::Entry { path, size: header.size })
    }

    /// Content of the current entry; 0 at its end.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> Result<usize, Stop> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        if most == 0 {
            return Ok(0);
        }
        match self.plain.read(&mut out[..most])? {
            0 => Err(Stop::Damaged("the compressed stream ends inside".to_owned())),
            n => {
                self.left -= n as u64;
                Ok(n)
            }
        }
    }

    fn header(&mut self) -> Result<Option<Header>, Stop> {
        let mut first = [0u8; BLOCK];
        Self::fill(&mut self.plain, &mut first)?;
        match tar::read(&first).map_err(stop)? {
            Announced::End => Ok(None),
            Announced::File(header) => Ok(Some(header)),
            Announced::Pax(size) => {
                // `tar::read` gave at most a few blocks.
                let len = usize::try_from(size).unwrap_or(0).next_multiple_of(BLOCK);
                let (mut body, mut block) = (vec![0u8; len], [0u8; BLOCK]);
                Self::fill(&mut self.plain, &mut body)?;
                Self::fill(&mut self.plain, &mut block)?;
                tar::read_file(&block, Some((&first, &body))).map(Some).map_err(stop)
            }
        }
    }

    /// Whether this entry may be here at all.
    fn admit(&mut self, header: &Header) -> Result<EntryPath, Stop> {
        let refused = |why: String| Stop::Refused(why);
        let name = header.name.as_str();
        let shown = || name.chars().take(100).collect::<String>();
        let (top, path) = name.split_once('/').unwrap_or((name, ""));
        let path: EntryPath = path.parse().map_err(|e| refused(format!("the entry {:?}: {e}", shown())))?;
        match &self.top {
            None if index::is_top(top) => self.top = Some((top.to_owned(), header.mtime)),
            Some((first, mtime)) if first == top && *mtime == header.mtime => {}
            _ => return Err(refused(format!("the entry {:?} is not below the one top directory", shown()))),
        }
        if header.size > self.limits.entry_bytes.0 {
            return Err(refused(format!(
                "{path} claims {} bytes, and the limit is {}",
                header.size, self.limits.entry_bytes
            )));
        }
        self.total = self.total.saturating_add(header.size);
        if self.total > self.limits.total_bytes.0 {
            return Err(refused(format!("it has more than {} of content", self.limits.total_bytes)));
        }
        if self.seen.len() as u64 >= self.limits.entries {
            return Err(refused(format!("it has more than {} entries", self.limits.entries)));
        }
        if !self.seen.insert(path.clone()) {
            return Err(refused(format!("it has two entries {path}")));
        }
        Ok(path)
    }

    fn end(&mut self) -> Result<Ended, Stop> {
        let mut second = [0u8; BLOCK];
        Self::fill(&mut self.plain, &mut second)?;
        if second.iter().any(|b| *b != 0) {
            return Err(Stop::Damaged("the end of the tar file is not two blocks of zeros".to_owned()));
        }
        if self.plain.read(&mut [0u8; 1])? != 0 {
            return Err(Stop::Refused("something stands behind the end of the tar file".to_owned()));
        }
        self.plain.trailer()
    }

    fn fill(plain: &mut Inflated, mut out: &mut [u8]) -> Result<(), Stop> {
        while !out.is_empty() {
            match plain.read(out)? {
                0 => return Err(Stop::Damaged("the compressed stream ends before the tar file does".to_owned())),
                n => out = &mut out[n..],
            }
        }
        Ok(())
    }
}

fn stop(e: HeaderError) -> Stop {
    match e {
        HeaderError::Damaged => Stop::Damaged("a tar header is damaged".to_owned()),
        HeaderError::Refused(what) => Stop::Refused(format!("it contains {what}")),
    }
}

impl From<Stop> for io::Error {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Truncated => Self::new(io::ErrorKind::UnexpectedEof, "the file is truncated here"),
            Stop::Damaged(why) | Stop::Refused(why) => Self::new(io::ErrorKind::InvalidData, why),
            Stop::Io(e) => e,
        }
    }
}
