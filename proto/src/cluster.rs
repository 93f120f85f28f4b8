//! What is said of evidence of the cluster itself: how much of it an archive covers.

use serde::{Deserialize, Serialize};

use crate::gap::{Gap, GapReason};
use crate::time::Window;

/// What an archive has of the cluster, beside its nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterCoverage {
    /// What was asked, on the collector's clock.
    pub asked: Window,
    /// The namespaces that it was narrowed to, in order; empty: all. Objects without a namespace are always there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// One row for every kind of objects.
    pub kinds: Vec<KindCoverage>,
    /// What is missing of the cluster as a whole.
    pub gaps: Vec<Gap>,
}

/// One row: one kind of objects.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KindCoverage {
    /// Its name in paths of the API: `pods`.
    pub kind: String,
    /// When it was followed, oldest first, not overlapping.
    pub covered: Vec<Window>,
    /// Objects in the archive, as of the end of the window.
    pub objects: u64,
    /// Changes in the window.
    pub changes: u64,
    /// What is missing, and why.
    pub gaps: Vec<Gap>,
}

impl ClusterCoverage {
    /// The most rows: there are not so many kinds that anybody follows.
    pub const MAX_KINDS: usize = 256;
    /// The most namespaces that it is narrowed to.
    pub const MAX_NAMESPACES: usize = 256;

    /// Everything that is missing.
    pub fn gaps(&self) -> impl Iterator<Item = &Gap> {
        self.gaps.iter().chain(self.kinds.iter().flat_map(|kind| &kind.gaps))
    }

    /// Whether nothing is missing. That this cluster has no such kind is no gap in this sense.
    pub fn is_whole(&self) -> bool {
        self.gaps().all(|gap| gap.reason == GapReason::SourceAbsent)
    }
}
