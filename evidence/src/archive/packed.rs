//! Entries of an archive as they lie in it, for another archive that takes them over: chunks are copied, never recompressed.
//!
//! What is given out is checked against nothing. Whoever takes it over verifies what was written, and had better verify
//! the archive first.

use std::fs::File;
use std::io;
use std::sync::Arc;

use casefile_proto::item::{Digest, EntryPath};

use super::chunk::Chunk;
use super::index::ChunkLine;
use super::reader::{Archive, Form, Indexed, read_chunk_bytes};

/// One entry as it lies in an archive.
#[derive(Debug, Clone)]
pub struct Packed {
    /// Plain bytes.
    pub size: u64,
    /// Their digest, as the index says it.
    pub sha256: Digest,
    file: Arc<File>,
    at: u64,
    lines: Arc<[ChunkLine]>,
}

impl Archive {
    /// An entry as it lies here. `None`: there is none, or the archive's index cannot be used and so nothing can vouch for
    /// it.
    pub fn packed(&self, path: &EntryPath) -> Option<Packed> {
        let Form::Indexed(Indexed { index, .. }) = &self.form else { return None };
        let entry = index.entries.iter().find(|e| e.path == *path)?;
        let lines = index.chunks.get(entry.chunks.clone())?.into();
        let file = Arc::clone(&self.file);
        Some(Packed { size: entry.size, sha256: entry.sha256, file, at: entry.content_at, lines })
    }
}

impl Packed {
    /// Its chunks, in order.
    pub fn chunks(&self) -> PackedChunks {
        PackedChunks { packed: self.clone(), at: self.at, done: 0 }
    }
}

/// The chunks of one entry.
pub struct PackedChunks {
    packed: Packed,
    at: u64,
    done: usize,
}

impl Iterator for PackedChunks {
    type Item = io::Result<Chunk>;

    fn next(&mut self) -> Option<io::Result<Chunk>> {
        let line = self.packed.lines.get(self.done)?;
        let chunk = read_chunk_bytes(&self.packed.file, self.at, line);
        self.at += u64::from(line.deflated_len);
        // After an error there is nothing that could be relied on.
        self.done = if chunk.is_ok() { self.done + 1 } else { self.packed.lines.len() };
        Some(chunk)
    }
}
