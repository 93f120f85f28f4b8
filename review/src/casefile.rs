//! An opened case file: its entries, what was asked, and what its coverage says. A directory of segments (an agent's ring, a
//! collector's last words) is read as the case file of its node that a person would cut out of it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use casefile_evidence::archive::layout::{self, IncidentFile, NodeClock};
use casefile_evidence::archive::limits::Limits;
use casefile_evidence::archive::reader::{Archive, OpenError};
use casefile_evidence::recording::reader::{ReadError, Recording};
use casefile_proto::coverage::{Coverage, NodeCoverage, NodeState};
use casefile_proto::ids::NodeName;
use casefile_proto::incident::{Severity, Trigger};
use casefile_proto::item::EntryPath;
use casefile_proto::scope::Scope;
use casefile_proto::time::{ClockOffset, Window};
use casefile_proto::units::Bytes;

use crate::entries::{Entries, OneEntry};
use crate::{replay, written};

/// The most that `coverage.json` may have: 10,000 nodes × 40 sources fit.
const MAX_COVERAGE: Bytes = Bytes::mib(256);

/// The most that `incident.json` may have: it names each node three times.
const MAX_INCIDENT: Bytes = Bytes::mib(16);

/// The most that one node's recording may have: a week at 1 Hz of a large node is below it.
const MAX_RECORDING: Bytes = Bytes::mib(1024);

/// How much of a directory of segments is looked at, back from its end, when nobody says which part.
pub const LATEST: Duration = Duration::from_secs(6 * 3600);

/// Why a case file cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum CaseFileError {
    /// The archive cannot be opened, or has no such entry.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A document in it does not parse.
    #[error("{entry} of the case file is not what it should be{}", of_form(*form))]
    Document {
        /// Which entry.
        entry: String,
        /// Of which form it says that it is, where that is another one than this version knows.
        form: Option<u32>,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// A directory of segments holds nothing that could be looked at.
    #[error("nothing is recorded in {0}")]
    Nothing(PathBuf),
    /// A directory of segments cannot be read.
    #[error("read the recording in {}", path.display())]
    Directory {
        /// Which directory.
        path: PathBuf,
        /// What happened.
        #[source]
        source: ReadError,
    },
    /// What was cut out of a directory of segments could not be kept.
    #[error("keep what is cut out of the recording in {} (TMPDIR names another directory)", std::env::temp_dir().display())]
    Cut(#[source] io::Error),
    /// What does not fit into memory could not be kept on disk while it was sorted.
    #[error("sort the records in {} (TMPDIR names another directory)", std::env::temp_dir().display())]
    Sort(#[source] io::Error),
    /// A recording in it cannot be read.
    #[error("read the recording {entry}")]
    Recording {
        /// Which entry.
        entry: String,
        /// What happened.
        #[source]
        source: ReadError,
    },
}

/// An opened case file.
pub struct CaseFile {
    /// Its entries.
    pub entries: Box<dyn Entries>,
    /// What was asked.
    pub incident: IncidentFile,
    /// What is there and what is missing.
    pub coverage: Coverage,
}

impl CaseFile {
    /// Opens an archive and reads its two documents; of a directory of segments the [`LATEST`] part.
    pub fn open(path: &Path) -> Result<Self, CaseFileError> {
        if path.is_dir() {
            return Self::of_recording(path, None);
        }
        let mut archive = Archive::open(path, Limits::default())?;
        let mut incident: IncidentFile = document(&mut archive, layout::INCIDENT, MAX_INCIDENT)?;
        let texts = [&mut incident.title, &mut incident.reason, &mut incident.requested_by, &mut incident.sealed_by];
        // They stand on top of everything: what is longer than a person reads is cut, and `casefile cat` has all of it.
        texts.into_iter().chain(&mut incident.runbook).for_each(written::cut);
        let coverage = document(&mut archive, layout::COVERAGE, MAX_COVERAGE)?;
        Ok(Self { entries: Box::new(archive), incident, coverage })
    }

    /// What a directory of segments holds of a window; of the [`LATEST`] part of it when there is none.
    pub fn of_recording(dir: &Path, window: Option<Window>) -> Result<Self, CaseFileError> {
        let failed = |source| CaseFileError::Directory { path: dir.to_owned(), source };
        let mut recording = Recording::open_dir(dir).map_err(failed)?;
        let overview = replay::overview(&mut recording, None).map_err(failed)?;
        let nothing = || CaseFileError::Nothing(dir.to_owned());
        let (Some(node), Some(first), Some(last)) = (overview.node, overview.boots.first(), overview.boots.last())
        else {
            return Err(nothing());
        };
        // The last frame belongs to it: the window is half-open.
        let until = last.last.after(Duration::from_nanos(1));
        let window = match window {
            Some(window) => window,
            None => Window::new(first.first.max(until.before(LATEST)), until).map_err(|_| nothing())?,
        };
        let mut file = io::BufWriter::new(tempfile::tempfile().map_err(CaseFileError::Cut)?);
        let cut = recording.cut(window, &mut file).map_err(failed)?;
        let file = file.into_inner().map_err(|e| CaseFileError::Cut(e.into_error()))?;
        let path = layout::node_item(&node, &layout::path(layout::RECORDING_ITEM)).map_err(|_| nothing())?;
        let row = NodeCoverage {
            node: node.clone(),
            state: NodeState::Answered,
            clock: None,
            sources: cut.sources,
            gaps: cut.gaps,
            amended: None,
        };
        let incident = IncidentFile {
            format: IncidentFile::FORMAT,
            id: None,
            title: format!("recording of {node}"),
            severity: Severity::Sev4,
            trigger: Trigger::Extract,
            resource: None,
            runbook: None,
            window,
            requested_by: String::new(),
            requested_by_verified: false,
            reason: String::new(),
            asked_nodes: vec![node.clone()],
            scope: Scope::default(),
            expected_nodes: vec![node.clone()],
            clocks: vec![NodeClock { node, offset: None }],
            sealed_by: "not sealed: read from a directory of segments".to_owned(),
            sealed_at: until,
            signing_key: None,
            amends: None,
            synthetic: false,
        };
        let entries = OneEntry::new(path, file).map_err(CaseFileError::Cut)?;
        let coverage = Coverage { window, nodes: vec![row], scope: Scope::default(), cluster: None };
        Ok(Self { entries: Box::new(entries), incident, coverage })
    }

    /// What is to be said of a case file of another form than this version knows, as [`crate::written::Unread`] has it.
    pub fn newer(&self) -> Option<(String, String)> {
        let form = self.incident.format;
        let other = form != IncidentFile::FORMAT;
        other.then(|| (layout::INCIDENT.to_owned(), written::of_form(form, IncidentFile::FORMAT)))
    }

    /// The row of a node in the coverage.
    pub fn node(&self, node: &NodeName) -> Option<&NodeCoverage> {
        self.coverage.nodes.iter().find(|row| row.node == *node)
    }

    /// The clock of a node against the collector's; `None`: it was never measured.
    pub fn clock(&self, node: &NodeName) -> Option<ClockOffset> {
        self.node(node).and_then(|row| row.clock)
    }

    /// The recordings in it: node and entry, in order of node. Only this node's, when one is named. A node that was cut
    /// short has two that do not overlap: what it sent itself, and what the collector had heard of it.
    pub fn recordings(&self, only: Option<&NodeName>) -> Vec<(NodeName, EntryPath)> {
        self.node_entries(only)
            .filter(|(_, _, item)| item.as_str().starts_with("recording/") && item.as_str().ends_with(".seg"))
            .map(|(node, entry, _)| (node, entry))
            .collect()
    }

    /// The entries of nodes: node, entry, and the item's path below the node's own directory.
    pub(crate) fn node_entries(
        &self,
        only: Option<&NodeName>,
    ) -> impl Iterator<Item = (NodeName, EntryPath, EntryPath)> {
        self.entries.list().iter().filter_map(move |entry| {
            let (node, item) = layout::split_node_item(&entry.path)?;
            only.is_none_or(|o| *o == node).then(|| (node, entry.path.clone(), item))
        })
    }

    /// Opens one of [`Self::recordings`].
    pub fn recording(&mut self, entry: &EntryPath) -> Result<Recording, CaseFileError> {
        let mut read = self.entries.entry(entry)?;
        Recording::from_segment(&mut read, MAX_RECORDING)
            .map_err(|source| CaseFileError::Recording { entry: entry.to_string(), source })
    }
}

/// An error with all its causes, as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn document<T: serde::de::DeserializeOwned>(
    archive: &mut Archive,
    entry: &'static str,
    most: Bytes,
) -> Result<T, CaseFileError> {
    let bytes = archive.read(&layout::path(entry), most)?;
    serde_json::from_slice(&bytes).map_err(|source| {
        let form = written::form(&bytes).filter(|form| *form != IncidentFile::FORMAT);
        CaseFileError::Document { entry: entry.to_owned(), form, source }
    })
}

fn of_form(form: Option<u32>) -> String {
    form.map(|form| format!(": it is of form {form}, which a newer version may read")).unwrap_or_default()
}
