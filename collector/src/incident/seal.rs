//! Sealing: spool, last words and coverage become one verified archive. Blocking; runs on a thread of its own.
//!
//! Written as `.partial`, synced, read again and verified, renamed, the directory synced: only then is it announced. When
//! anything fails nothing of it is left but the spool, from which it is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use casefile_evidence::archive::Title;
use casefile_evidence::archive::layout::{self, IncidentFile};
use casefile_evidence::archive::reader::{Archive, Limits, OpenError};
use casefile_evidence::archive::sign::{AllowedSigners, SigningKey};
use casefile_evidence::archive::verify::{Problem, SignatureState};
use casefile_evidence::archive::writer::{ArchiveWriter, ChunkedItem, Sealed, WriteError};
use casefile_evidence::recording::reader::Cut;
use casefile_proto::cluster::ClusterCoverage;
use casefile_proto::coverage::{Coverage, NodeCoverage};
use casefile_proto::ids::NodeName;
use casefile_proto::incident::SealedArchive;
use casefile_proto::item::{EntryPath, ItemKind};
use casefile_proto::session::Collectable;

use super::before::{Before, Kept};
use super::coverage::{Arrived, Ended, Expected, FromNode, Received, Roster, amended, asks_recording, coverage};
use super::entries::{Body, Entry, entries};
use super::machine::{Answer, is_missing, settled_as};
use super::recorded::recorded;
use super::rejoined::{rejoined, without};
use super::reviewed::reviewed;
use crate::cluster::archive::Fixed;
use crate::connectivity::kept;
use crate::data::{PARTIAL, hint};
use crate::spool::{self, SpooledItem};
use crate::store::Asked;

/// How many problems of a failed verification are told; the first ones say what is wrong.
const MAX_PROBLEMS: usize = 5;

/// Everything that sealing one incident needs.
pub struct SealJob {
    /// What the archive says of itself.
    pub title: Title,
    /// The nodes, in order of name.
    pub nodes: Vec<SealNode>,
    /// Where archives go.
    pub archives: PathBuf,
    /// Where the results of tests of connectivity lie.
    pub connectivity: PathBuf,
    /// A directory for what is compressed meanwhile; on the disk of the spool, gone with it.
    pub scratch: PathBuf,
    /// Signs.
    pub key: Arc<SigningKey>,
    /// The archive that this one amends; `None`: it is the first.
    pub before: Option<(SealedArchive, Coverage)>,
    /// What was taken of the cluster; `None`: there is none, or what the archive before has of it stays.
    pub cluster: Option<ClusterPart>,
}

/// The cluster's part of an incident that is sealed.
#[derive(Debug)]
pub struct ClusterPart {
    /// What was taken, and the directory that it lies in; `None`: nothing could be.
    pub fixed: Option<(Fixed, PathBuf)>,
    /// What the archive says of it.
    pub coverage: ClusterCoverage,
}

/// One node of an incident that is sealed.
#[derive(Debug, Clone)]
pub struct SealNode {
    /// Which.
    pub node: NodeName,
    /// What its agent said it can collect.
    pub collectable: Vec<Collectable>,
    /// What it sent.
    pub spool: PathBuf,
    /// What it said when it was done.
    pub answer: Option<Answer>,
    /// The window on its clock.
    pub asked: Asked,
    /// How it was when gathering ended.
    pub ended: Ended,
    /// Where its last words lie, if there are any.
    pub last_words: Option<PathBuf>,
}

/// A sealed incident.
#[derive(Debug)]
pub struct SealedIncident {
    /// The archive.
    pub archive: SealedArchive,
    /// Its coverage.
    pub coverage: Coverage,
    /// How long reading it again and verifying it took.
    pub reread: Duration,
}

/// Why an incident could not be sealed. What was gathered is kept.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The file system said no.
    #[error("{doing} {}{}", path.display(), hint(source))]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The archive could not be written.
    #[error("write {}{}", path.display(), write_hint(source))]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: WriteError,
    },
    /// What was written could not be read again.
    #[error("read the archive again")]
    Reopen(#[source] OpenError),
    /// The archive that is amended is not what it was, so nothing can be taken over from it.
    #[error("the archive before cannot be amended: {0}")]
    Before(String),
    /// What was read again is not what was written.
    #[error("the archive did not verify after it was written, so it was not announced: {0}")]
    Unsound(String),
}

fn write_hint(error: &WriteError) -> &'static str {
    if let WriteError::Io(source) = error { hint(source) } else { "" }
}

/// Seals.
pub fn seal(job: &SealJob) -> Result<SealedIncident, SealError> {
    fs::create_dir_all(&job.scratch).map_err(io_error("make", &job.scratch))?;
    let sealed = assembled(job);
    if sealed.is_err() {
        // The spool is kept; what was made of it can be made again, and its room may be what is wanting.
        if let Err(error) = fs::remove_dir_all(&job.scratch) {
            tracing::debug!(path = %job.scratch.display(), %error, "scratch files stay until sealing is tried again");
        }
    }
    sealed
}

fn assembled(job: &SealJob) -> Result<SealedIncident, SealError> {
    let mut before = match &job.before {
        Some((archive, coverage)) => {
            let path = job.archives.join(&archive.file_name);
            Some(Before::open(&path, archive, coverage.clone(), &job.key)?)
        }
        None => None,
    };
    let (mut all, mut coverage) = gathered(job, before.as_mut())?;
    coverage.cluster = match &job.cluster {
        Some(cluster) => Some(cluster.coverage.clone()),
        None => job.before.as_ref().and_then(|(_, before)| before.cluster.clone()),
    };
    if let Some((fixed, dir)) = job.cluster.as_ref().and_then(|cluster| cluster.fixed.as_ref()) {
        all.extend(fixed.entries(dir));
    }
    all.extend(documents(job, &coverage).map_err(io_error("describe below", &job.scratch))?);
    if let Some(before) = &before {
        let brought: BTreeSet<_> = coverage.nodes.iter().filter(|n| is_of(n, job)).map(|n| n.node.clone()).collect();
        let made: BTreeSet<_> = all.iter().map(|entry| entry.path.clone()).collect();
        // What a node that came back gave before was looked at item by item.
        let wanted = |path: &EntryPath| {
            !made.contains(path)
                && !layout::DERIVED.contains(&path.as_str())
                && layout::split_node_item(path).is_none_or(|(node, _)| !brought.contains(&node))
        };
        all.extend(before.entries(wanted)?);
    }
    all.extend(tests_of_connectivity(job, &all)?);
    all.sort_by(|a, b| a.path.cmp(&b.path));
    let incident = IncidentFile::new(&job.title, &coverage, Some(&job.key));
    let (mut all, review) = reviewed(all, incident, &coverage, &job.scratch);
    all.extend(review.map_err(io_error("write the review below", &job.scratch))?);
    all.sort_by(|a, b| a.path.cmp(&b.path));

    let file_name = format!("{}.tar.gz", job.title.name());
    let path = job.archives.join(&file_name);
    let partial = job.archives.join(format!("{file_name}{PARTIAL}"));
    let sealed = written(job, &all, &partial).and_then(|sealed| {
        let began = Instant::now();
        verified(&partial, &job.key)?;
        let reread = began.elapsed();
        fs::rename(&partial, &path).map_err(io_error("rename", &partial))?;
        let synced = File::open(&job.archives).and_then(|dir| dir.sync_all());
        synced.map_err(io_error("sync", &job.archives))?;
        Ok((sealed, reread))
    });
    let (sealed, reread) = sealed.inspect_err(|_| remove(&partial))?;
    let archive = SealedArchive {
        file_name,
        size: sealed.size,
        sha256: sealed.sha256,
        sealed_at: job.title.sealed_at,
        whole: coverage.is_whole(),
        revision: job.title.revision(),
        kept: None,
    };
    Ok(SealedIncident { archive, coverage, reread })
}

/// Whether a node came back in the revision that is being sealed.
fn is_of(node: &NodeCoverage, job: &SealJob) -> bool {
    node.amended.as_ref().is_some_and(|amended| amended.revision == job.title.revision())
}

/// Every new entry below the nodes, and what they cover. Of a node that has nothing new the row of before is taken over.
fn gathered(job: &SealJob, mut before: Option<&mut Before>) -> Result<(Vec<Entry>, Coverage), SealError> {
    let (mut all, mut received) = (Vec::new(), Received::default());
    let mut kept_rows = BTreeMap::new();
    let mut roster = Roster { nodes: Vec::new(), scope: job.title.ask.scope.clone() };
    for (n, node) in job.nodes.iter().enumerate() {
        let scratch = job.scratch.join(n.to_string());
        fs::create_dir_all(&scratch).map_err(io_error("make", &scratch))?;
        let items = spool::read_dir(&node.spool).map_err(io_error("read", &node.spool))?;
        let row = before.as_ref().and_then(|before| before.row(&node.node)).cloned();
        let brought = node.answer.is_some() || !items.is_empty();
        if let Some(row) = &row
            && !(brought && is_missing(settled_as(row.state)))
        {
            kept_rows.insert(node.node.clone(), row.clone());
            continue;
        }
        let own = items.iter().find(|i| i.head.kind == ItemKind::Recording);
        if let (Some(before), Some(row)) = (before.as_deref_mut(), row) {
            let kept = before.items(&node.node)?;
            let joined = rejoined(own, node.answer.is_some(), &kept, node.asked.window, &scratch)
                .map_err(io_error("join recordings below", &scratch))?;
            let kept = still_needed(kept, &items, joined.keep).map_err(io_error("compare with", &node.spool))?;
            let (entries, items) =
                entries(&node.node, items, joined.rest, kept, &scratch).map_err(io_error("read", &node.spool))?;
            all.extend(entries);
            roster.nodes.push(Expected { node: node.node.clone(), collectable: node.collectable.clone() });
            let answer = node.answer.clone().map(|a| Answer { gaps: without(a.gaps, &joined.runs), ..a });
            received.nodes.insert(node.node.clone(), node.received(answer, items, joined.cut));
            kept_rows.insert(node.node.clone(), row);
            continue;
        }
        let last_words = node.last_words.as_deref().filter(|_| asks_recording(&job.title.ask.scope, &node.collectable));
        let recorded = recorded(own, node.answer.is_some(), last_words, node.asked.window, &scratch)
            .map_err(io_error("write below", &scratch))?;
        let (entries, items) = entries(&node.node, items, recorded.last_words, Vec::new(), &scratch)
            .map_err(io_error("read", &node.spool))?;
        all.extend(entries);
        roster.nodes.push(Expected { node: node.node.clone(), collectable: node.collectable.clone() });
        received.nodes.insert(node.node.clone(), node.received(node.answer.clone(), items, recorded.cut));
    }
    let mut covered = coverage(&roster, job.title.ask.window, &received);
    let (revision, sealed_at) = (job.title.revision(), job.title.sealed_at);
    for node in &mut covered.nodes {
        if let Some(row) = kept_rows.remove(&node.node) {
            *node = amended(&row, node.clone(), revision, sealed_at);
        }
    }
    covered.nodes.extend(kept_rows.into_values());
    covered.nodes.sort_by(|a, b| a.node.cmp(&b.node));
    Ok((all, covered))
}

/// What of the items of before is not in the new ones. The recordings are needed as they lie when `recordings`.
fn still_needed(kept: Vec<Kept>, items: &[SpooledItem], recordings: bool) -> io::Result<Vec<Kept>> {
    let mut needed = Vec::new();
    for old in kept {
        let new = items.iter().find(|item| item.head.path == old.path);
        let there = match new {
            _ if old.is_recording() => !recordings,
            Some(new) => old.is_within(new)?,
            None => false,
        };
        if !there {
            needed.push(old);
        }
    }
    Ok(needed)
}

impl SealNode {
    fn received(&self, answer: Option<Answer>, items: Vec<Arrived>, recorded: Option<Cut>) -> FromNode {
        let Asked { window, clock } = self.asked;
        FromNode { clock, asked: window, answer, ended: self.ended, items, recorded }
    }
}

/// `incident.json` and `coverage.json`.
fn documents(job: &SealJob, coverage: &Coverage) -> io::Result<[Entry; 2]> {
    let incident = layout::incident_json(&IncidentFile::new(&job.title, coverage, Some(&job.key)))?;
    let coverage = layout::coverage_json(coverage)?;
    let entry =
        |path, bytes, file| Ok(Entry { path: layout::path(path), body: Body::of(bytes, &job.scratch.join(file))? });
    let incident: io::Result<Entry> = entry(layout::INCIDENT, incident, "incident.chunks");
    Ok([incident?, entry(layout::COVERAGE, coverage, "coverage.chunks")?])
}

/// The tests of connectivity that were begun in the window. What an archive before has of them was whole: it is taken over.
fn tests_of_connectivity(job: &SealJob, all: &[Entry]) -> Result<Option<Entry>, SealError> {
    let path = layout::path(layout::CONNECTIVITY);
    if all.iter().any(|entry| entry.path == path) {
        return Ok(None);
    }
    let found = kept::within(&job.connectivity, job.title.ask.window);
    let found = found.map_err(io_error("read the tests of connectivity at", &job.connectivity))?;
    if found.is_empty() {
        return Ok(None);
    }
    let body = Body::of(found, &job.scratch.join("connectivity.chunks"));
    Ok(Some(Entry { path, body: body.map_err(io_error("write below", &job.scratch))? }))
}

fn written(job: &SealJob, all: &[Entry], partial: &Path) -> Result<Sealed, SealError> {
    let write_error = |source| SealError::Write { path: partial.to_owned(), source };
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(partial);
    let file = file.map_err(io_error("make", partial))?;
    let mut writer = ArchiveWriter::new(file, job.title.clone(), Some(&job.key)).map_err(write_error)?;
    for entry in all {
        let added = match &entry.body {
            Body::Bytes(bytes) => writer.add(&entry.path, &mut bytes.as_slice()),
            Body::Chunks(_) | Body::Item(..) | Body::Packed(_) => {
                let (content, mut chunks) = entry.body.chunks().map_err(io_error("read an item for", partial))?;
                let item = ChunkedItem { size: content.size, sha256: content.sha256, chunks: &mut chunks };
                writer.add_chunks(&entry.path, item)
            }
        };
        added.map_err(write_error)?;
    }
    let (sealed, file) = writer.seal().map_err(write_error)?;
    file.sync_all().map_err(io_error("sync", partial))?;
    Ok(sealed)
}

/// Reads the archive as a stranger would, and believes nothing that is not in the file.
pub fn verified(path: &Path, key: &SigningKey) -> Result<(), SealError> {
    let mut archive = Archive::open(path, Limits::default()).map_err(SealError::Reopen)?;
    let found = archive.verify(&AllowedSigners::parse(&key.allowed_signer()));
    let named = |p: &Problem| match &p.entry {
        Some(entry) => format!("{entry}: {}", p.what),
        None => p.what.clone(),
    };
    let first: Vec<_> = found.problems.iter().take(MAX_PROBLEMS).map(named).collect();
    if !first.is_empty() {
        let more = found.problems.len() - first.len();
        let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
        return Err(SealError::Unsound(format!("{}{more}", first.join("; "))));
    }
    match found.signature {
        SignatureState::Good { .. } => Ok(()),
        other => Err(SealError::Unsound(format!("the signature is {other:?}"))),
    }
}

fn remove(partial: &Path) {
    match fs::remove_file(partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            // The next start removes it.
            tracing::warn!(path = %partial.display(), %error, "an unfinished archive could not be removed");
        }
        _ => {}
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SealError {
    let path = path.to_owned();
    move |source| SealError::Io { doing, path, source }
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
