//! An opened case file: its archive, what was asked, and what its coverage says.

use std::path::Path;

use casefile_evidence::archive::layout::{self, IncidentFile};
use casefile_evidence::archive::limits::Limits;
use casefile_evidence::archive::reader::{Archive, OpenError};
use casefile_evidence::recording::reader::{ReadError, Recording};
use casefile_proto::coverage::Coverage;
use casefile_proto::ids::NodeName;
use casefile_proto::item::EntryPath;
use casefile_proto::units::Bytes;

/// The most that a document (`incident.json`, `coverage.json`) may have: 10,000 nodes × 40 sources fit.
const MAX_DOCUMENT: Bytes = Bytes::mib(256);

/// The most that one node's recording may have: a week at 1 Hz of a large node is below it.
const MAX_RECORDING: Bytes = Bytes::mib(1024);

/// Why a case file cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum CaseFileError {
    /// The archive cannot be opened, or has no such entry.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A document in it does not parse.
    #[error("{entry} of the case file is not what it should be")]
    Document {
        /// Which entry.
        entry: String,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// What does not fit into memory could not be kept on disk while it was sorted.
    #[error("sort the records in {} (TMPDIR names another directory)", std::env::temp_dir().display())]
    Sort(#[source] std::io::Error),
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
    /// The archive.
    pub archive: Archive,
    /// What was asked.
    pub incident: IncidentFile,
    /// What is there and what is missing.
    pub coverage: Coverage,
}

impl CaseFile {
    /// Opens an archive and reads its two documents.
    pub fn open(path: &Path) -> Result<Self, CaseFileError> {
        let mut archive = Archive::open(path, Limits::default())?;
        let incident = document(&mut archive, layout::INCIDENT)?;
        let coverage = document(&mut archive, layout::COVERAGE)?;
        Ok(Self { archive, incident, coverage })
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
        self.archive.entries().iter().filter_map(move |entry| {
            let (node, item) = layout::split_node_item(&entry.path)?;
            only.is_none_or(|o| *o == node).then(|| (node, entry.path.clone(), item))
        })
    }

    /// Opens one of [`Self::recordings`].
    pub fn recording(&mut self, entry: &EntryPath) -> Result<Recording, CaseFileError> {
        let mut read = self.archive.entry(entry)?;
        Recording::from_segment(&mut read, MAX_RECORDING)
            .map_err(|source| CaseFileError::Recording { entry: entry.to_string(), source })
    }
}

/// An error with all its causes, as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn document<T: serde::de::DeserializeOwned>(archive: &mut Archive, entry: &'static str) -> Result<T, CaseFileError> {
    let bytes = archive.read(&layout::path(entry), MAX_DOCUMENT)?;
    serde_json::from_slice(&bytes).map_err(|source| CaseFileError::Document { entry: entry.to_owned(), source })
}
