//! A case file in which every text that a node, a person or an attacker may write is a payload, and one of the same shape in which
//! all of them are harmless: what a page or a file makes of the two must differ in nothing but words.
//!
//! Two nodes with logs, tables and a recording in the agent's own schema, and one that gave nothing. Written by the real writers.

mod documents;
mod recording;
mod tables;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use casefile_evidence::archive::Title;
use casefile_evidence::archive::chunk::{Chunker, Pack};
use casefile_evidence::archive::layout::{self, IncidentFile, ItemLine};
use casefile_evidence::archive::writer::{ArchiveWriter, ChunkedItem};
use casefile_proto::coverage::{
    Cost, Coverage, NodeCoverage, NodeState, OutcomeCounts, Redaction, SourceCoverage, SourceKind,
};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::{IncidentId, NodeName};
use casefile_proto::incident::{IncidentAsk, Severity, Trigger};
use casefile_proto::item::{Digest, EntryPath, ItemHead, ItemKind, safe_component};
use casefile_proto::scope::Scope;
use casefile_proto::time::{ClockOffset, WallTime, Window};

use crate::payloads::payloads;

/// The nodes; names of nodes cannot say more than this.
pub const NODES: [&str; 3] = ["n__1__-javascript", "n__2__", "n__3.gone"];

/// How long the window is, in seconds.
pub const SECONDS: i64 = 180;

/// Sources of the coverage beside the real ones.
const SOURCES: usize = 24;

/// What the texts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// Payloads.
    Hostile,
    /// Words.
    Harmless,
}

/// Says text after text, over and over again.
#[derive(Debug, Clone)]
pub struct Texts {
    all: Vec<String>,
    next: usize,
}

impl Texts {
    /// Of one kind.
    pub fn new(words: Words) -> Self {
        let hostile = payloads().into_iter().map(|payload| payload.text);
        let all: Vec<String> = match words {
            Words::Hostile => hostile.collect(),
            Words::Harmless => (0..hostile.len()).map(harmless).collect(),
        };
        Self { all, next: 0 }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Any text.
    pub fn text(&mut self) -> String {
        self.next += 1;
        self.all[(self.next - 1) % self.all.len()].clone()
    }

    /// One that stays on one line.
    pub fn line(&mut self) -> String {
        self.text().replace('\n', " ")
    }

    /// One of which a pattern of the kernel takes all: without these, and not longer.
    fn part(&mut self, without: &[char], longest: usize) -> String {
        let text: String = self.line().chars().filter(|c| !without.contains(c)).take(longest).collect();
        if text.trim().is_empty() { "x".to_owned() } else { text }
    }
}

/// Letters, for a template of log lines takes two numbers for one.
fn harmless(number: usize) -> String {
    let letter = |n: usize| char::from(b'a' + u8::try_from(n % 26).unwrap_or(0));
    format!("words {}{}{}", letter(number / 676), letter(number / 26), letter(number))
}

/// The window.
pub fn window() -> Window {
    let from = WallTime::from_secs(1_795_402_800);
    Window::new(from, from.offset(SECONDS * 1_000_000_000)).expect("a window")
}

/// A moment of it.
fn at(seconds: f64) -> WallTime {
    #[expect(clippy::cast_possible_truncation, reason = "seconds of a few minutes")]
    window().from().offset((seconds * 1e9) as i64)
}

/// As the agent writes times.
fn stamp(at: WallTime) -> String {
    let text = at.to_string();
    let (seconds, fraction) =
        text.trim_end_matches('Z').split_once('.').map_or((text.trim_end_matches('Z'), ""), |p| p);
    format!("{seconds}.{fraction:0<6.6}Z")
}

/// A case file before it is sealed.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it is about.
    pub title: Title,
    /// What goes into it, by path.
    pub entries: BTreeMap<EntryPath, Vec<u8>>,
    /// What says its texts.
    texts: Texts,
}

impl Case {
    /// Its evidence, of which nothing was concluded yet.
    pub fn new(words: Words) -> Result<Self> {
        let mut texts = Texts::new(words);
        let mut entries = BTreeMap::new();
        let title = title(&mut texts);
        let mut nodes = Vec::new();
        for (n, name) in NODES.iter().enumerate() {
            let node: NodeName = name.parse().context("a name of a node")?;
            let mut items = BTreeMap::new();
            match n {
                0 => {
                    items.insert("logs/kernel.log".to_owned(), (ItemKind::Log, kernel_log(&mut texts)));
                    logs(&mut texts, &mut items);
                }
                1 => {
                    items.insert("logs/files/var/log/app.log".to_owned(), (ItemKind::Log, plain(&mut texts, "")));
                }
                _ => {}
            }
            if n < 2 {
                tables::tables(&mut texts, &node, &mut items)?;
                let segment = recording::recording(&mut texts, &node, n == 1);
                items.insert(layout::RECORDING_ITEM.to_owned(), (ItemKind::Recording, segment));
            }
            nodes.push(coverage(&mut texts, node.clone(), n == 2));
            lay(&node, items, &mut texts, &mut entries)?;
        }
        let coverage = Coverage { window: window(), nodes, scope: Scope::default(), cluster: None };
        entries.insert(layout::path(layout::COVERAGE), layout::coverage_json(&coverage)?);
        let incident = IncidentFile::new(&title, &coverage, None);
        entries.insert(layout::path(layout::INCIDENT), layout::incident_json(&incident)?);
        Ok(Self { title, entries, texts })
    }

    /// With what our own checks and our report say of it, as a collector seals it.
    pub fn reviewed(mut self) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let path = self.write(dir.path(), "case.tar.gz")?;
        self.entries.extend(documents::ours(&path)?);
        Ok(self)
    }

    /// With documents that an attacker wrote in our forms, and a report of theirs.
    pub fn forged(mut self) -> Result<Self> {
        self.entries.extend(documents::theirs(&mut self.texts)?);
        Ok(self)
    }

    /// The archive.
    pub fn seal(&self) -> Result<Vec<u8>> {
        let mut writer = ArchiveWriter::new(Vec::new(), self.title.clone(), None)?;
        for (path, bytes) in &self.entries {
            let mut chunks = Vec::new();
            let mut chunker = Chunker::new(Pack::Deflate, |chunk| {
                chunks.push(Ok(chunk));
                Ok(())
            });
            chunker.write_all(bytes)?;
            let (size, sha256) = chunker.finish()?;
            writer.add_chunks(path, ChunkedItem { size, sha256, chunks: &mut chunks.into_iter() })?;
        }
        Ok(writer.seal()?.1)
    }

    /// Writes the archive.
    pub fn write(&self, dir: &Path, name: &str) -> Result<PathBuf> {
        let path = dir.join(name);
        std::fs::write(&path, self.seal()?).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

fn title(texts: &mut Texts) -> Title {
    let mut several = |n: usize| (0..n).map(|_| texts.text()).collect::<Vec<_>>().join(" ");
    let ask = IncidentAsk {
        title: several(6),
        reason: several(6),
        requested_by: several(2),
        severity: Severity::Sev2,
        trigger: Trigger::Person,
        resource: None,
        runbook: Some(several(2)),
        window: window(),
        nodes: vec![],
        scope: Scope::default(),
    };
    let sealed_by = several(2);
    Title { ask, incident: Some(IncidentId(666)), sealed_at: window().until(), sealed_by, amends: None }
}

type Items = BTreeMap<String, (ItemKind, Vec<u8>)>;

fn lay(node: &NodeName, items: Items, texts: &mut Texts, entries: &mut BTreeMap<EntryPath, Vec<u8>>) -> Result<()> {
    let mut list = Vec::new();
    for (item, (kind, bytes)) in items {
        let item: EntryPath = item.parse().with_context(|| format!("a path: {item}"))?;
        let path = layout::node_item(node, &item)?;
        let (source, method) = (texts.text(), texts.text());
        let head = ItemHead { kind, path: item, source, method, times: None };
        list.extend(layout::item_json(&ItemLine::new(path.clone(), &head, None, bytes.len() as u64, Digest([0; 32])))?);
        entries.insert(path, bytes);
    }
    if !list.is_empty() {
        entries.insert(layout::node_item(node, &layout::path(layout::ITEMS_ITEM))?, list);
    }
    Ok(())
}

fn coverage(texts: &mut Texts, node: NodeName, gone: bool) -> NodeCoverage {
    let asked = window();
    let gap = |reason, detail: String, interval| Gap { interval, ..Gap::new(reason, detail) };
    let mut sources = Vec::new();
    let known = ["kernel", "journal", "pods", "files"].map(|name| (name.to_owned(), SourceKind::Logs));
    let named = (0..SOURCES).map(|n| (texts.text(), SourceKind::ALL[n % 3])).collect::<Vec<_>>();
    for (n, (source, kind)) in known.into_iter().chain(named).enumerate() {
        let reason = GapReason::ALL[n % GapReason::ALL.len()];
        let from = asked.from().offset(i64::try_from(n).unwrap_or(0) * 1_000_000_000);
        let interval = Window::new(from, from.offset(5_000_000_000)).ok().filter(|_| n % 3 > 0);
        let redaction = Redaction { key_id: texts.text(), rules: BTreeMap::from([(texts.text(), 7)]) };
        sources.push(SourceCoverage {
            source,
            kind,
            asked,
            covered: if gone { vec![] } else { vec![asked] },
            outcomes: OutcomeCounts { complete: 3, failed: 1, ..OutcomeCounts::default() },
            records: 1,
            items: 1,
            gaps: if n < 4 && !gone { vec![] } else { vec![gap(reason, texts.text(), interval)] },
            cost: Cost::default(),
            redaction: Some(redaction),
        });
    }
    let reason = if gone { GapReason::NodeSilent } else { GapReason::CollectorAway };
    let gaps = (0..8).map(|_| gap(reason, texts.text(), Some(asked))).collect();
    NodeCoverage {
        node,
        state: if gone { NodeState::Silent } else { NodeState::Answered },
        clock: Some(ClockOffset { ahead_nanos: 0, bound_nanos: 1_000_000 }),
        sources,
        gaps,
        amended: None,
    }
}

/// A kernel log: each text as the name of a process that was killed, and others in what signatures take apart.
fn kernel_log(texts: &mut Texts) -> Vec<u8> {
    let count = texts.count();
    let mut out = Vec::new();
    for n in 0..count {
        #[expect(clippy::cast_precision_loss, reason = "some hundred lines")]
        let time = stamp(at(1.0 + 170.0 * n as f64 / count as f64));
        let pid = 1_000 + n;
        let mut say = |level: &str, text: &str| {
            // Writing to a vector does not fail.
            let _infallible = writeln!(out, "{time} facility=kern level={level} seq={pid} user=false {text}");
        };
        let whole = texts.line();
        say("err", &format!("Out of memory: Killed process {pid} ({whole}) total-vm:4kB, anon-rss:4kB, UID:0"));
        match n % 8 {
            0 => {
                let name = texts.part(&[], 15);
                say("info", &format!("{name}[{pid}]: segfault at 0 ip 0 sp 0 error 4 in libc.so.6[0+1]"));
            }
            1 => {
                let device = texts.part(&[')'], 60);
                say("crit", &format!("EXT4-fs error (device {device}): ext4_find_entry:1: inode #1: comm x: bad"));
            }
            2 => {
                let server =
                    texts.part(&[' ', '\t', '\r', '\u{85}', '\u{a0}', '\u{2028}', '\u{2029}', '\u{b}', '\u{c}'], 60);
                say("err", &format!("nfs: server {server} not responding, still trying"));
            }
            3 => {
                let name = texts.part(&[','], 60);
                say(
                    "err",
                    &format!("NVRM: Xid (PCI:0000:84:00): 79, pid={pid}, name={name}, GPU has fallen off the bus."),
                );
            }
            4 => {
                let cgroup = texts.part(&[','], 60);
                let task = texts.part(&[], 15);
                say(
                    "warn",
                    &format!(
                        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/x,task_memcg={cgroup},task={task},pid={pid},uid=0"
                    ),
                );
            }
            _ => {
                let unknown = texts.line();
                say("err", &unknown);
            }
        }
    }
    out
}

/// Lines with each text, in a log of any kind.
fn plain(texts: &mut Texts, before: &str) -> Vec<u8> {
    let count = texts.count();
    let mut out = Vec::new();
    for n in 0..count {
        #[expect(clippy::cast_precision_loss, reason = "some hundred lines")]
        let time = stamp(at(2.0 + 170.0 * n as f64 / count as f64));
        let _infallible = writeln!(out, "{time} {before}{}", texts.line());
    }
    // What is no text at all, and overlong forms of `<`.
    let _infallible = out.write_all(b"\xc0\xbcscript\xc0\xbe \xe0\x80\xbc \xff\xfe\x1b[2J \xed\xa0\x80\n");
    out
}

/// Logs whose very names are texts.
fn logs(texts: &mut Texts, items: &mut Items) {
    let few = |texts: &mut Texts, before: &str| {
        let lines = (0..4).map(|n| format!("{} {before}{}\n", stamp(at(10.0 + f64::from(n))), texts.line()));
        lines.collect::<String>().into_bytes()
    };
    for n in 0..10 {
        let unit = safe_component(&format!("{} {n}.service", texts.text()));
        let body = few(texts, "host proc[1]: ");
        items.insert(format!("logs/journal/{unit}.log"), (ItemKind::Log, body));
        let pod = safe_component(&format!("{}_{}_{n}", texts.part(&['_'], 60), texts.part(&['_'], 60)));
        let container = safe_component(&texts.text());
        let body = few(texts, "stderr ");
        items.insert(format!("logs/pods/{pod}/{container}.log"), (ItemKind::Log, body));
        let file = safe_component(&texts.text());
        let body = few(texts, "");
        items.insert(format!("logs/files/var/log/{file}{n}"), (ItemKind::Log, body));
    }
    items.insert("logs/journal/kubelet.service.log".to_owned(), (ItemKind::Log, plain(texts, "host kubelet[7]: ")));
    items.insert("logs/pods/shop_api-0_0a1b/main.log".to_owned(), (ItemKind::Log, plain(texts, "stdout ")));
}
