//! The recording of one node when its incident is sealed: the node's own, or its last words, or the one and then the
//! other. What is read here is what the coverage may claim.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use casefile_evidence::archive::chunk::{Checker, Chunk, Chunker, Pack, write_spooled};
use casefile_evidence::archive::layout;
use casefile_evidence::recording::reader::{Cut, Piece, ReadError, Recording};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::item::{ItemHead, ItemKind, ItemTail};
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;

use super::coverage::joined;
use crate::chain::chain;
use crate::spool::{Content, SpooledItem};

/// Where last words go below `data/nodes/<node>/` beside a recording of the node's own that was cut short: there they
/// begin after its last frame. Where there is none they take its place.
pub const LAST_WORDS_PATH: &str = "recording/last-words.seg";

/// The source that recordings are filed under.
pub const SOURCE: &str = "recording";

/// The largest recording of a node that never finished which is read to see what it covers: it is held in memory, and a
/// day of a busy node is about as much. A larger one is kept all the same; then last words tell what is covered.
pub const MAX_READ: Bytes = Bytes::mib(128);

/// Content that was compressed into a file of chunks while sealing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spooled {
    /// The file.
    pub file: PathBuf,
    /// Size and digest of the plain content.
    pub content: Content,
}

/// The recording of a node as it goes into the archive.
#[derive(Debug, Default)]
pub struct Recorded {
    /// What we read of it ourselves; `None`: the node's own is whole, and its answer tells what it covers.
    pub cut: Option<Cut>,
    /// Last words, in addition to the node's own items.
    pub last_words: Vec<(ItemHead, ItemTail, Spooled)>,
}

/// Decides which recording is used, and cuts last words into `scratch` where they are needed. An error means that
/// writing there failed; what cannot be read is a gap.
pub fn recorded(
    own: Option<&SpooledItem>,
    answered: bool,
    last_words: Option<&Path>,
    asked: Window,
    scratch: &Path,
) -> io::Result<Recorded> {
    let Some(item) = own else { return from_last_words(last_words, asked, layout::RECORDING_ITEM, scratch) };
    let whole = item.tail.is_some();
    if whole && answered {
        return Ok(Recorded::default());
    }
    match read_own(item, asked) {
        Ok((cut, _)) if whole => Ok(Recorded { cut: Some(cut), last_words: Vec::new() }),
        Ok((cut, last)) => {
            let rest = last.map_or(Some(asked), |at| Window::new(at.offset(1).max(asked.from()), asked.until()).ok());
            let Some(rest) = rest else { return Ok(Recorded { cut: Some(cut), last_words: Vec::new() }) };
            let more = from_last_words(last_words, rest, LAST_WORDS_PATH, scratch)?;
            Ok(Recorded { cut: Some(joined(cut, more.cut.unwrap_or_default())), ..more })
        }
        Err(why) => {
            let mut ours = from_last_words(last_words, asked, LAST_WORDS_PATH, scratch)?;
            let gap = Gap::new(GapReason::ParseFailed, format!("what arrived of the node's own recording: {why}"));
            ours.cut.get_or_insert_default().gaps.push(gap);
            Ok(ours)
        }
    }
}

/// What the node's own recording covers, and the time of its last frame.
fn read_own(item: &SpooledItem, asked: Window) -> Result<(Cut, Option<WallTime>), String> {
    let chunks = item.chunks().map_err(|e| e.to_string())?;
    let mut recording = Recording::from_segment(&mut Plain::new(chunks), MAX_READ).map_err(|e| chain(&e))?;
    let cut = recording.cut(asked, &mut io::sink()).map_err(|e| chain(&e))?;
    let mut last = None;
    let each = &mut |piece| {
        if let Piece::Frame(frame) = piece {
            last = last.max(Some(frame.at.wall));
        }
        ControlFlow::Continue(())
    };
    recording.pieces(Some(asked), each).map_err(|e| chain(&e))?;
    Ok((cut, last))
}

fn from_last_words(dir: Option<&Path>, asked: Window, path: &str, scratch: &Path) -> io::Result<Recorded> {
    // Nothing held: the coverage says that the node is silent.
    let Some(dir) = dir else { return Ok(Recorded { cut: Some(Cut::default()), last_words: Vec::new() }) };
    let file = scratch.join("last-words.chunks");
    let (cut, content) = spooled(&file, Pack::Store, |out| {
        match Recording::open_dir(dir).and_then(|mut recording| recording.cut(asked, out)) {
            Err(ReadError::Write { source }) => Err(source),
            cut => Ok(cut),
        }
    })?;
    let cut = match cut {
        Ok(cut) => silent(cut),
        Err(error) => {
            // Half a segment must not be taken for a whole one.
            let gap = Gap::new(GapReason::SourceFailed, format!("last words: {}", chain(&error)));
            return Ok(Recorded { cut: Some(Cut { gaps: vec![gap], ..Cut::default() }), last_words: Vec::new() });
        }
    };
    if cut.frames == 0 {
        return Ok(Recorded { cut: Some(cut), last_words: Vec::new() });
    }
    let head = ItemHead {
        kind: ItemKind::Recording,
        path: path.parse().map_err(io::Error::other)?,
        source: SOURCE.to_owned(),
        method: "frames that the node had streamed to the collector, cut to the window".to_owned(),
        times: None,
    };
    let tail = ItemTail {
        size: content.size,
        sha256: content.sha256,
        records: cut.frames,
        covered: hull(&cut),
        gaps: Vec::new(),
    };
    Ok(Recorded { cut: Some(cut), last_words: vec![(head, tail, Spooled { file, content })] })
}

/// What is not in last words may well have been recorded, on the node's own disk: that nobody recorded it is not for us
/// to say. The node did not give it, and it had not arrived.
pub fn silent(mut cut: Cut) -> Cut {
    let rows = cut.sources.iter_mut().flat_map(|row| &mut row.gaps);
    for gap in rows.chain(&mut cut.gaps).filter(|gap| gap.reason == GapReason::NotRecorded) {
        gap.reason = GapReason::NodeSilent;
        gap.detail = "the node had streamed nothing of this, and it did not give its own recording".to_owned();
    }
    cut
}

/// From the first to the last instant that any source covers.
pub fn hull(cut: &Cut) -> Option<Window> {
    let all = || cut.sources.iter().flat_map(|s| &s.covered);
    let from = all().map(Window::from).min()?;
    let until = all().map(Window::until).max()?;
    Window::new(from, until).ok()
}

/// Compresses what `write` writes into a file of chunks, synced.
pub fn spooled<T>(
    file: &Path,
    pack: Pack,
    write: impl FnOnce(&mut dyn Write) -> io::Result<T>,
) -> io::Result<(T, Content)> {
    let mut out = BufWriter::new(File::create(file)?);
    let mut chunker = Chunker::new(pack, |chunk| write_spooled(&chunk, &mut out));
    let value = write(&mut chunker)?;
    let (size, sha256) = chunker.finish()?;
    out.into_inner()?.sync_all()?;
    Ok((value, Content { size, sha256 }))
}

/// The plain content of chunks, one chunk in memory at a time.
pub struct Plain<I> {
    chunks: I,
    checker: Checker,
    plain: Vec<u8>,
    read: usize,
}

impl<I: Iterator<Item = io::Result<Chunk>>> Plain<I> {
    /// Reads these chunks, each checked.
    pub fn new(chunks: I) -> Self {
        Self { chunks, checker: Checker::new(), plain: Vec::new(), read: 0 }
    }
}

impl<I: Iterator<Item = io::Result<Chunk>>> Read for Plain<I> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.read == self.plain.len() {
            let Some(chunk) = self.chunks.next().transpose()? else { return Ok(0) };
            self.checker.check(&chunk, &mut self.plain).map_err(io::Error::other)?;
            self.read = 0;
        }
        let len = buf.len().min(self.plain.len() - self.read);
        buf[..len].copy_from_slice(&self.plain[self.read..self.read + len]);
        self.read += len;
        Ok(len)
    }
}
