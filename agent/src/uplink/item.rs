//! An evidence item on the agent's own disk, from when it is begun until the collector has it: written by the collection,
//! read by its upload at the same time, and again from any offset when a connection was lost.

use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use casefile_evidence::archive::chunk::{Chunk, SPOOL_HEADER, read_spooled, write_spooled};
use casefile_proto::convert::MAX_LINE;
use casefile_proto::ids::ItemNumber;
use casefile_proto::item::{ItemHead, ItemTail};
use casefile_proto::units::Bytes;
use tokio::sync::{mpsc, watch};

use super::fit;
use crate::collect::{ItemSink, SinkError};
use crate::room::{Level, Room};
use crate::stats::Stats;

/// Items of one collection that wait for their upload: as many as a collector takes. When it is full the collection waits.
pub(super) const ITEMS: usize = 20_000;

/// Gaps of one item: what is more is counted in the last, so that its end fits into a message.
const GAPS: usize = 256;

/// One item.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) number: ItemNumber,
    pub(super) head: ItemHead,
    path: PathBuf,
    written: watch::Sender<Written>,
    stats: Arc<Stats>,
}

/// How much of an item is in its file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Written {
    /// Bytes of the file that hold whole chunks.
    file_len: u64,
    /// Plain bytes in them.
    pub(super) plain: u64,
    /// What comes after them.
    pub(super) then: Then,
}

/// What comes after what is in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Then {
    /// Perhaps more.
    More,
    /// Nothing: the item is whole.
    End(ItemTail),
    /// Nothing: the item was cut short, its reader did not come to an end.
    Cut,
}

impl Item {
    fn create(dir: &Path, number: ItemNumber, head: ItemHead, stats: Arc<Stats>) -> io::Result<(Arc<Self>, File)> {
        let path = dir.join(format!("{:06}.chunks", number.0));
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let written = watch::Sender::new(Written { file_len: 0, plain: 0, then: Then::More });
        Ok((Arc::new(Self { number, head, path, written, stats }), file))
    }

    /// Follows how much is there.
    pub(super) fn follow(&self) -> watch::Receiver<Written> {
        self.written.subscribe()
    }

    /// Reads from a plain offset on. Blocks for as long as reading headers takes.
    pub(super) fn open_at(&self, offset: u64) -> io::Result<ItemReader> {
        let mut reader = ItemReader { file: BufReader::new(File::open(&self.path)?), position: 0, plain: 0 };
        let there = self.written.borrow().clone();
        while reader.plain < offset {
            if reader.next(&there)?.is_none() {
                break;
            }
        }
        if reader.plain == offset {
            Ok(reader)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, format!("no chunk begins at offset {offset}")))
        }
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        // Delivered or given up: not needed any more. What is left behind goes with its directory.
        let _ = std::fs::remove_file(&self.path);
        self.stats.spool_bytes.take(self.written.borrow().file_len);
    }
}

/// Reads the chunks of an item.
pub(super) struct ItemReader {
    file: BufReader<File>,
    position: u64,
    plain: u64,
}

impl ItemReader {
    /// Where in the plain content the next chunk begins.
    pub(super) fn offset(&self) -> u64 {
        self.plain
    }

    /// The next chunk, as far as `there` says that it is in the file.
    pub(super) fn next(&mut self, there: &Written) -> io::Result<Option<Chunk>> {
        if self.position >= there.file_len {
            return Ok(None);
        }
        // What an earlier read took into its buffer may have ended within this chunk.
        self.file.seek(SeekFrom::Start(self.position))?;
        let chunk = read_spooled(&mut self.file)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.position += (SPOOL_HEADER + chunk.deflated.len()) as u64;
        self.plain += u64::from(chunk.plain_len);
        Ok(Some(chunk))
    }
}

/// Where a collection puts its items.
pub(super) struct Sink<P: FnMut(&str, u64, u64)> {
    dir: PathBuf,
    /// What is left free on the disk; `None`: what suits it.
    leave_free: Option<Bytes>,
    items: mpsc::Sender<Arc<Item>>,
    stop: Arc<AtomicBool>,
    progress: P,
    current: Option<(Arc<Item>, File)>,
    stats: Arc<Stats>,
}

impl<P: FnMut(&str, u64, u64)> Sink<P> {
    pub(super) fn new(
        dir: PathBuf,
        leave_free: Option<Bytes>,
        items: mpsc::Sender<Arc<Item>>,
        stop: Arc<AtomicBool>,
        progress: P,
        stats: Arc<Stats>,
    ) -> Self {
        Self { dir, leave_free, items, stop, progress, current: None, stats }
    }

    fn cut(&mut self) {
        if let Some((item, _)) = self.current.take() {
            item.written.send_modify(|written| written.then = Then::Cut);
        }
    }

    fn go_on(&self) -> Result<(), SinkError> {
        if self.stop.load(Ordering::Relaxed) {
            Err(SinkError(io::Error::new(io::ErrorKind::ConnectionAborted, "the collection was stopped")))
        } else {
            Ok(())
        }
    }
}

impl<P: FnMut(&str, u64, u64)> ItemSink for Sink<P> {
    fn begin(&mut self, number: ItemNumber, head: &ItemHead) -> Result<(), SinkError> {
        self.cut();
        self.go_on()?;
        let mut head = head.clone();
        // For a person: the beginning says the most.
        head.method.truncate(head.method.floor_char_boundary(MAX_LINE));
        let (item, file) = Item::create(&self.dir, number, head, Arc::clone(&self.stats)).map_err(SinkError)?;
        self.items
            .blocking_send(Arc::clone(&item))
            .map_err(|_| SinkError(io::Error::new(io::ErrorKind::BrokenPipe, "nobody wants it any more")))?;
        self.current = Some((item, file));
        Ok(())
    }

    fn chunk(&mut self, chunk: Chunk) -> Result<(), SinkError> {
        self.go_on()?;
        let Some((item, file)) = &mut self.current else {
            return Err(SinkError(io::Error::new(io::ErrorKind::InvalidInput, "no item was begun")));
        };
        // The node's disk is the node's. Where nobody knows how much room there is, writing finds it out.
        if let Ok(room) = Room::at(&self.dir) {
            let leave = room.to_leave(self.leave_free);
            if room.level(leave) == Level::Out {
                return Err(SinkError(room.refusal(leave)));
            }
        }
        // Not synced: a collection does not outlive the agent, and the collector's own disk is what counts.
        write_spooled(&chunk, file).map_err(SinkError)?;
        let bytes = (SPOOL_HEADER + chunk.deflated.len()) as u64;
        self.stats.spool_bytes.add(bytes);
        item.written.send_modify(|written| {
            written.file_len += bytes;
            written.plain += u64::from(chunk.plain_len);
        });
        Ok(())
    }

    fn end(&mut self, tail: &ItemTail) -> Result<(), SinkError> {
        self.go_on()?;
        if let Some((item, _)) = self.current.take() {
            let tail = ItemTail { gaps: fit::gaps(tail.gaps.clone(), GAPS), ..tail.clone() };
            item.written.send_modify(|written| written.then = Then::End(tail));
        }
        Ok(())
    }

    fn progress(&mut self, source: &str, records: u64, bytes: u64) {
        (self.progress)(source, records, bytes);
    }
}

impl<P: FnMut(&str, u64, u64)> Drop for Sink<P> {
    fn drop(&mut self) {
        self.cut();
    }
}
