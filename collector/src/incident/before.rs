//! The archive that an incident has already, for the revision that amends it: what of it is taken over as it lies.
//!
//! It is verified before anything is believed, and its chunks are copied, never compressed again. Blocking.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use casefile_evidence::archive::layout::{ITEMS_ITEM, ItemLine, node_item, path, split_node_item};
use casefile_evidence::archive::packed::Packed;
use casefile_evidence::archive::reader::{Archive, Limits};
use casefile_evidence::archive::sign::SigningKey;
use casefile_evidence::recording::reader::Recording;
use casefile_proto::coverage::{Coverage, NodeCoverage};
use casefile_proto::ids::NodeName;
use casefile_proto::incident::SealedArchive;
use casefile_proto::item::{Digest, EntryPath, ItemKind};
use casefile_proto::units::Bytes;
use sha2::{Digest as _, Sha256};

use super::entries::{Body, Entry};
use super::recorded::{MAX_READ, Plain};
use super::seal::{SealError, verified};
use crate::spool::SpooledItem;

/// The most of one node's list of items: the items of one run, with their gaps.
const MAX_LIST: Bytes = Bytes::mib(64);

/// The archive before, opened and verified.
pub struct Before {
    archive: Archive,
    coverage: Coverage,
}

/// An item of it that goes into the new archive too.
pub struct Kept {
    /// Where it lay below its node's directory.
    pub path: EntryPath,
    /// What is known of it.
    pub line: ItemLine,
    /// Its content.
    pub packed: Packed,
}

impl Before {
    /// Opens it, and makes sure that it is what was sealed.
    pub fn open(path: &Path, sealed: &SealedArchive, coverage: Coverage, key: &SigningKey) -> Result<Self, SealError> {
        let digest = digest(path).map_err(|source| SealError::Io {
            doing: "read the archive before,",
            path: path.to_owned(),
            source,
        })?;
        if digest != sealed.sha256 {
            return Err(SealError::Before(format!("{} is not what was sealed: SHA-256 differs", sealed.file_name)));
        }
        verified(path, key)?;
        let archive = Archive::open(path, Limits::default()).map_err(SealError::Reopen)?;
        Ok(Self { archive, coverage })
    }

    /// What it says of a node.
    pub fn row(&self, node: &NodeName) -> Option<&NodeCoverage> {
        self.coverage.nodes.iter().find(|n| n.node == *node)
    }

    /// Every entry for which `wanted` holds, as it lies.
    pub fn entries(&self, wanted: impl Fn(&EntryPath) -> bool) -> Result<Vec<Entry>, SealError> {
        let paths = self.archive.entries().iter().map(|e| &e.path).filter(|path| is_payload(path) && wanted(path));
        paths.map(|path| Ok(Entry { path: path.clone(), body: Body::Packed(self.packed(path)?) })).collect()
    }

    /// The items of a node.
    pub fn items(&mut self, node: &NodeName) -> Result<Vec<Kept>, SealError> {
        let list = node_item(node, &path(ITEMS_ITEM)).map_err(|e| SealError::Before(e.to_string()))?;
        if self.archive.find(&list).is_none() {
            return Ok(Vec::new());
        }
        let text = self.archive.read(&list, MAX_LIST).map_err(SealError::Reopen)?;
        let lines = serde_json::Deserializer::from_slice(&text).into_iter::<ItemLine>();
        lines
            .map(|line| {
                let line = line.map_err(|e| SealError::Before(format!("{list} cannot be read: {e}")))?;
                let item = split_node_item(&line.path).filter(|(of, _)| of == node);
                let (_, path) = item.ok_or_else(|| SealError::Before(format!("{list} lists {}", line.path)))?;
                Ok(Kept { packed: self.packed(&line.path)?, path, line })
            })
            .collect()
    }

    fn packed(&self, path: &EntryPath) -> Result<Packed, SealError> {
        self.archive.packed(path).ok_or_else(|| SealError::Before(format!("it has no {path}")))
    }
}

impl Kept {
    /// Whether it is a recording.
    pub fn is_recording(&self) -> bool {
        self.line.kind == ItemKind::Recording
    }

    /// Its content as a recording. An error is a text for people.
    pub fn recording(&self) -> Result<Recording, String> {
        Recording::from_segment(&mut Plain::new(self.packed.chunks()), MAX_READ).map_err(|e| crate::chain::chain(&e))
    }

    /// Whether a new item begins with all of its bytes, so that nothing is lost without it.
    pub fn is_within(&self, item: &SpooledItem) -> io::Result<bool> {
        if item.tail.as_ref().is_none_or(|tail| tail.size < self.packed.size) {
            return Ok(false);
        }
        let mut new = BufReader::new(Plain::new(item.chunks()?));
        let mut old = BufReader::new(Plain::new(self.packed.chunks()));
        let (mut theirs, mut ours) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        loop {
            let len = old.read(&mut ours)?;
            if len == 0 {
                return Ok(true);
            }
            match new.read_exact(&mut theirs[..len]) {
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                read => read?,
            }
            if theirs[..len] != ours[..len] {
                return Ok(false);
            }
        }
    }
}

fn is_payload(path: &EntryPath) -> bool {
    path.as_str().starts_with(casefile_evidence::archive::layout::DATA)
}

fn digest(path: &Path) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(Digest(hash.finalize().into()))
}
