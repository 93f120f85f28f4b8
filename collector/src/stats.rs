//! Counters about the collector itself, for its log. What is known of nodes comes from ingest.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// What happened since the collector was started.
#[derive(Debug, Default)]
pub struct Stats {
    opened: AtomicU64,
    sealed: AtomicU64,
    failed: AtomicU64,
    items: AtomicU64,
    archived: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Incidents opened.
    pub opened: u64,
    /// Incidents sealed.
    pub sealed: u64,
    /// Times that sealing failed.
    pub failed: u64,
    /// Evidence items that arrived whole.
    pub items: u64,
    /// Bytes of sealed archives.
    pub archived: u64,
}

impl Stats {
    /// An incident was opened.
    pub fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// An incident was sealed into an archive of this many bytes.
    pub fn sealed(&self, bytes: u64) {
        self.sealed.fetch_add(1, Ordering::Relaxed);
        self.archived.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Sealing failed.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// An item arrived whole.
    pub fn item(&self) {
        self.items.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters now. Each is right; together they are of nearly one moment.
    pub fn counts(&self) -> Counts {
        Counts {
            opened: self.opened.load(Ordering::Relaxed),
            sealed: self.sealed.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            items: self.items.load(Ordering::Relaxed),
            archived: self.archived.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { opened, sealed, failed, items, archived } = self;
        let archived = casefile_proto::units::Bytes(*archived);
        write!(f, "incidents: {opened} opened, {sealed} sealed ({archived}), {failed} failed to seal; items: {items}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_say_what_happened() {
        let stats = Stats::default();
        stats.opened();
        stats.item();
        stats.item();
        stats.sealed(2048);
        let expected = "incidents: 1 opened, 1 sealed (2.0 KiB), 0 failed to seal; items: 2";
        assert_eq!(stats.counts().to_string(), expected);
    }
}
