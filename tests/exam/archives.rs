//! Small archives to be damaged: what goes into them, made from a seed, and where each part of one lies in its file.
//!
//! Where the parts lie is read out of the index as `FORMAT.md` describes it, with nothing of the reader under exam.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use casefile_evidence::archive::Title;
use casefile_evidence::archive::chunk::{Chunk, Chunker, Pack};
use casefile_evidence::archive::layout::{self, IncidentFile};
use casefile_evidence::archive::sign::SigningKey;
use casefile_evidence::archive::writer::{ArchiveWriter, ChunkedItem};
use casefile_evidence::recording::delta::Encoder;
use casefile_evidence::recording::reader::Recording;
use casefile_evidence::recording::segment::{Retention, Store};
use casefile_proto::coverage::{Coverage, NodeCoverage, NodeState};
use casefile_proto::ids::{BootId, FrameSeq, IncidentId, NodeName};
use casefile_proto::incident::{IncidentAsk, Severity, Trigger};
use casefile_proto::item::{Digest, EntryPath};
use casefile_proto::scope::Scope;
use casefile_proto::time::{BootTime, Stamp, WallTime, Window};
use casefile_proto::units::Bytes;
use casefile_tests::program::{run, said};

use crate::frames::{self, Series};
use crate::random::Random;

/// When the windows of these archives begin.
const BEGIN: i64 = 1_795_401_850;

/// An archive as it was sealed.
pub(crate) struct Subject {
    /// What it is, for people.
    pub(crate) name: String,
    /// The file.
    pub(crate) bytes: Vec<u8>,
    /// Where its parts lie.
    pub(crate) parts: Parts,
    /// The key that signed it, as a line of an allowed-signers file.
    pub(crate) signer: String,
}

/// Where the parts of an archive lie in its file.
pub(crate) struct Parts {
    /// Its members, in order.
    pub(crate) members: Vec<Member>,
}

/// One member.
pub(crate) struct Member {
    /// Its path below the top directory.
    pub(crate) path: String,
    /// Header, content and padding.
    pub(crate) whole: Range<usize>,
    /// The compressed content.
    pub(crate) content: Range<usize>,
    /// Each chunk of it.
    pub(crate) chunks: Vec<Range<usize>>,
}

/// Archives of all kinds: several nodes, recordings, logs of one chunk and of many, empty files, long names; and the one
/// that `casefile-collector local` makes of this machine.
pub(crate) fn subjects(dir: &Path, random: &mut Random) -> Result<Vec<Subject>> {
    let key = SigningKey::load_or_create(&dir.join("signing")).context("make a key")?;
    let mut all = Vec::new();
    for nodes in [1, 2, 4] {
        let work = dir.join(format!("recordings-{nodes}"));
        all.push(Subject::new(format!("{nodes} nodes"), made(&work, nodes, &key, random)?, key.allowed_signer())?);
    }
    all.push(of_this_machine(&dir.join("local"))?);
    Ok(all)
}

impl Subject {
    /// Out of the bytes of a sealed archive.
    pub(crate) fn new(name: String, bytes: Vec<u8>, signer: String) -> Result<Self> {
        let parts = Parts::of(&bytes).with_context(|| format!("read the index of the archive of {name}"))?;
        Ok(Self { name, bytes, parts, signer })
    }
}

fn of_this_machine(data: &Path) -> Result<Subject> {
    let data_arg = data.to_str().context("a path that is text")?;
    let args = ["local", "--once", "--warm-up", "2s", "--listen", "127.0.0.1:0", "--data", data_arg];
    let made = run("casefile-collector", &args);
    ensure!(made.status.success(), "casefile-collector local: {}", said(&made));
    let sealed = std::fs::read_dir(data.join("archives"))?.next().context("it left no archive")??.path();
    let key = run("casefile-collector", &["key", "--data", data_arg]);
    ensure!(key.status.success(), "casefile-collector key: {}", said(&key));
    let signer = String::from_utf8_lossy(&key.stdout).into_owned();
    Subject::new("this machine".to_owned(), std::fs::read(sealed)?, signer)
}

/// One of our own making: several nodes, each with a recording and logs.
pub(crate) fn made(work: &Path, nodes: usize, key: &SigningKey, random: &mut Random) -> Result<Vec<u8>> {
    let window = Window::new(WallTime::from_secs(BEGIN), WallTime::from_secs(BEGIN + 600))?;
    let names: Vec<NodeName> = (1..=nodes).map(|n| format!("node-{n}").parse()).collect::<Result<_, _>>()?;
    let title = Title {
        ask: IncidentAsk {
            title: "an archive to be damaged".to_owned(),
            reason: "the exam".to_owned(),
            requested_by: "exam".to_owned(),
            severity: Severity::Sev4,
            trigger: Trigger::Person,
            resource: None,
            runbook: None,
            window,
            nodes: names.clone(),
            scope: Scope::default(),
        },
        incident: Some(IncidentId(random.between(1, 999_999))),
        sealed_at: WallTime::from_secs(BEGIN + 700),
        sealed_by: "casefile-collector 0.1.0".to_owned(),
        amends: None,
    };
    let covered = |node: &NodeName| NodeCoverage {
        node: node.clone(),
        state: NodeState::Answered,
        clock: None,
        sources: vec![],
        gaps: vec![],
        amended: None,
    };
    let coverage =
        Coverage { window, nodes: names.iter().map(covered).collect(), scope: Scope::default(), cluster: None };
    let incident = IncidentFile::new(&title, &coverage, Some(key));
    let mut contents: BTreeMap<String, (Pack, Vec<u8>)> = BTreeMap::new();
    contents.insert(layout::COVERAGE.to_owned(), (Pack::Deflate, layout::coverage_json(&coverage)?));
    contents.insert(layout::INCIDENT.to_owned(), (Pack::Deflate, layout::incident_json(&incident)?));
    for node in &names {
        let base = format!("{}{node}", layout::NODES);
        let recorded = recording(&work.join(node.as_str()), node, window)?;
        contents.insert(format!("{base}/{}", layout::RECORDING_ITEM), (Pack::Store, recorded));
        contents.insert(format!("{base}/logs/empty.log"), (Pack::Deflate, Vec::new()));
        for (log, least, most) in [("kernel", 1, 30), ("files/app", 200, 600), ("files/noise", 40, 900)] {
            contents.insert(format!("{base}/logs/{log}.log"), (Pack::Deflate, lines(least, most, random)));
        }
        contents.insert(format!("{base}/state/{}", "x".repeat(120)), (Pack::Deflate, lines(1, 3, random)));
    }
    let mut writer = ArchiveWriter::new(Vec::new(), title, Some(key))?;
    for (path, (pack, bytes)) in &contents {
        let chunks = chunked(*pack, bytes, random)?;
        let sha256 = digest(bytes);
        let item = ChunkedItem { size: bytes.len() as u64, sha256, chunks: &mut chunks.into_iter().map(Ok) };
        writer.add_chunks(&path.parse::<EntryPath>()?, item)?;
    }
    Ok(writer.seal()?.1)
}

fn digest(bytes: &[u8]) -> Digest {
    use sha2::Digest as _;
    Digest(sha2::Sha256::digest(bytes).into())
}

/// Content in many small chunks, so that there is something to be put in another order.
fn chunked(pack: Pack, bytes: &[u8], random: &mut Random) -> Result<Vec<Chunk>> {
    let mut chunks = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = usize::try_from(random.between(500, 9_000))?.min(rest.len());
        let (piece, behind) = rest.split_at(length);
        let mut chunker = Chunker::new(pack, |chunk| {
            chunks.push(chunk);
            Ok(())
        });
        chunker.write_all(piece)?;
        chunker.finish()?;
        rest = behind;
    }
    Ok(chunks)
}

fn lines(least: u64, most: u64, random: &mut Random) -> Vec<u8> {
    let mut text = String::new();
    for line in 0..random.between(least, most) {
        let at = WallTime::from_secs(BEGIN).after(Duration::from_millis(line * 500));
        text.push_str(&format!("{at} app[{}]: request {:016x} took {} ms\n", 7, random.next(), random.below(900)));
    }
    text.into_bytes()
}

fn recording(dir: &Path, node: &NodeName, window: Window) -> Result<Vec<u8>> {
    let mut store = Store::open(dir, Retention { bytes: Bytes::mib(64), age: Duration::from_secs(1 << 20) })?;
    let boot = BootId::from_bytes([7; 16]);
    let mut encoder = Encoder::new(frames::header(node, boot));
    let mut records = encoder.header();
    for seq in 1..=300u32 {
        let at = Stamp {
            wall: WallTime::from_secs(BEGIN + 1 + i64::from(seq)),
            boot: BootTime::from_nanos(u64::from(seq) * 1_000_000_000),
        };
        let series = if seq == 1 { Series::New } else { Series::Known };
        encoder.frame(&frames::frame(boot, FrameSeq(u64::from(seq)), at, series), &mut records);
    }
    store.append(&records)?;
    store.sync()?;
    let mut cut = Vec::new();
    Recording::open_dir(dir)?.cut(window, &mut cut)?;
    Ok(cut)
}

/// Bytes of a stored block before its content.
const STORED: usize = 5;
/// Bytes of a tar block.
const BLOCK: usize = 512;
/// The gzip header.
const GZIP_HEADER: usize = 10;
/// From the locator's first byte to the end of the file.
const LOCATOR_FROM_END: usize = 1554;

impl Parts {
    /// Of a whole archive.
    pub(crate) fn of(bytes: &[u8]) -> Result<Self> {
        let locator_at = bytes.len().checked_sub(LOCATOR_FROM_END).context("it is too short")?;
        let locator = bytes.get(locator_at..locator_at + BLOCK).context("a locator")?;
        let locator = std::str::from_utf8(locator).context("a locator that is text")?;
        let field = |name: &str| -> Result<usize> {
            let line = locator.lines().find_map(|line| line.strip_prefix(name)).context("a line of the locator")?;
            Ok(line.trim().parse()?)
        };
        let (index_at, text_len) = (field("index-entry-at ")?, field("index-text-bytes ")?);
        let text = stored_text(bytes.get(index_at + STORED + BLOCK..).context("an index")?, text_len)?;
        let (mut members, mut begin) = (Vec::<Member>::new(), GZIP_HEADER);
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let Some(entry) = line.strip_prefix("entry ") else { continue };
            let mut words = entry.splitn(4, ' ');
            let mut word = || words.next().context("a word of an entry");
            let (at, size, _sha256, path): (usize, usize, &str, &str) =
                (word()?.parse()?, word()?.parse()?, word()?, word()?);
            let (mut chunks, mut end) = (Vec::new(), at);
            while let Some(chunk) = lines.next_if(|line| line.starts_with("chunk ")) {
                let length: usize = chunk.split(' ').nth(1).context("a length")?.parse()?;
                chunks.push(end..end + length);
                end += length;
            }
            let padding = match size % BLOCK {
                0 => 0,
                rest => STORED + BLOCK - rest,
            };
            members.push(Member { path: path.to_owned(), whole: begin..end + padding, content: at..end, chunks });
            begin = end + padding;
        }
        ensure!(begin == index_at, "the members end at {begin}, and the index begins at {index_at}");
        Ok(Self { members })
    }

    /// What lies at a byte of the file, for people.
    pub(crate) fn owner(&self, at: usize) -> &str {
        if at < GZIP_HEADER {
            return "the gzip header";
        }
        self.members.iter().find(|m| m.whole.contains(&at)).map_or("the index or the end", |m| &m.path)
    }
}

/// The text in stored blocks.
fn stored_text(mut framed: &[u8], length: usize) -> Result<String> {
    let mut text = Vec::new();
    while text.len() < length {
        let head = framed.get(..STORED).context("a stored block")?;
        let held = usize::from(u16::from_le_bytes([head[1], head[2]]));
        text.extend_from_slice(framed.get(STORED..STORED + held).context("its content")?);
        framed = &framed[STORED + held..];
    }
    text.truncate(length);
    Ok(String::from_utf8(text)?)
}
