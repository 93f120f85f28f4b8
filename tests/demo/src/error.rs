//! Why the archive could not be made.

use std::path::PathBuf;

use casefile_evidence::archive::writer::WriteError;
use casefile_evidence::recording::reader::ReadError;

/// Why the archive could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The file system said no.
    #[error("write {path}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
    /// The schema has no such metric, or not with so many labels: a mistake in this crate.
    #[error("the sources of the agent have no metric {0} with so many labels")]
    Metric(String),
    /// The schema that is built in does not parse: a mistake in this crate.
    #[error("read the schema that is built in")]
    Schema(#[source] serde_json::Error),
    /// Something could not be written as JSON.
    #[error("write an item as JSON")]
    Json(#[source] serde_json::Error),
    /// A name, path or window of this crate is none.
    #[error("a name of the demonstration is not valid: {0}")]
    Name(String),
    /// The recording of a node could not be cut to the window.
    #[error("cut the recording of a node")]
    Cut(#[source] ReadError),
    /// An item could not be compressed.
    #[error("compress an item")]
    Pack(#[source] std::io::Error),
    /// The archive could not be written.
    #[error("seal the archive")]
    Seal(#[source] WriteError),
    /// A thread that makes nodes ended without any.
    #[error("a thread that makes nodes failed")]
    Thread,
}
