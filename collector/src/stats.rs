//! What the collector counts about itself since it was started, and what each figure is called at `/metrics`.
//!
//! How to add one: a line in [`Stats`], and a call where it happens. Names follow Prometheus: `casefile_` first, the unit
//! last, `_total` after it for what only grows. Labels are closed lists: never a node, an incident or an address.

pub mod figure;
pub mod text;

use std::fmt;
use std::sync::Arc;

use casefile_proto::gap::GapReason;

use crate::archives::Failure;
use crate::cluster::asking::Question;
use crate::cluster::collections::decide::Phase;
use crate::cluster::collections::follow::Standing;
use crate::cluster::kinds::Kind;
use crate::ingest::{Ended, RefusedConnection};
use crate::space::Why;
use figure::{By, Counter, Figure, Gauge, Histogram, Label, Quick, Slow};
use text::Exposition;

/// Makes the struct and the list for `/metrics` out of one line for each figure.
macro_rules! figures {
    ($($field:ident: $type:ty = $name:literal, $help:literal;)*) => {
        /// Every figure that is counted where it happens. What is known only when somebody asks is in
        /// [`crate::observe::metrics`].
        #[derive(Debug, Default)]
        pub struct Stats {
            $(#[doc = $help] pub $field: $type,)*
        }

        impl Stats {
            /// Writes all of them down.
            pub fn write(&self, to: &mut Exposition) {
                $(self.$field.write(&[], &mut to.family($name, self.$field.kind(), $help));)*
            }
        }
    };
}

figures! {
    connections: Arc<Gauge> = "casefile_connections", "Connections that are open on the gRPC port.";
    connections_accepted: Counter = "casefile_connections_accepted_total", "Connections that were taken on the gRPC port.";
    connections_refused: By<RefusedConnection, Counter> = "casefile_connections_refused_total", "Connections that were refused or given up on the gRPC port, by reason.";
    http_connections: Arc<Gauge> = "casefile_http_connections", "Connections that are open on the HTTP port of the API.";
    http_answers: By<Class, Counter> = "casefile_http_answers_total", "Requests to the API over HTTP that were answered, by class of status.";
    sessions_started: Counter = "casefile_sessions_started_total", "Sessions that agents began.";
    sessions_ended: By<Ended, Counter> = "casefile_sessions_ended_total", "Sessions of agents that ended, by reason; agent: it ended the session, or its connection was lost.";
    batches: Counter = "casefile_frame_batches_received_total", "Batches of frames that were received and are in order.";
    frames: Counter = "casefile_frames_received_total", "Frames that were received and are in order; what was there already is not counted again.";
    frame_bytes: Counter = "casefile_frames_received_bytes_total", "Bytes of these frames, as they are recorded.";
    acks: Counter = "casefile_acks_sent_total", "Acknowledgements that were sent to agents: everything up to a frame is on the disk.";
    ack_time: Histogram<Quick> = "casefile_ack_seconds", "Time from handing a batch over for writing to its acknowledgement.";
    stream_gaps: By<GapReason, Counter> = "casefile_stream_gaps_total", "Gaps that were declared in the streams of agents, by reason.";
    stream_frames_lost: By<GapReason, Counter> = "casefile_stream_frames_lost_total", "Frames that agents declared missing or left out in their streams, by reason.";
    appends: Counter = "casefile_last_words_appends_total", "Batches that were appended to last words.";
    syncs: Counter = "casefile_last_words_syncs_total", "Times that last words were synced; one sync may serve many appends.";
    sync_time: Histogram<Quick> = "casefile_last_words_sync_seconds", "Time of one sync of last words.";
    last_words_failures: Counter = "casefile_last_words_failures_total", "Times that last words could not be written or synced; nothing of it was acknowledged.";
    items: Counter = "casefile_upload_items_received_total", "Evidence items that arrived whole.";
    upload_bytes: Counter = "casefile_uploads_received_bytes_total", "Bytes of evidence items that were received and passed their check, before compression.";
    uploads_ended: By<Ended, Counter> = "casefile_uploads_ended_total", "Uploads that did not end with a whole item, by reason.";
    opened: Counter = "casefile_incidents_opened_total", "Incidents that were opened.";
    sealed: Counter = "casefile_incidents_sealed_total", "Incidents that were sealed.";
    failed: Counter = "casefile_incident_seal_failures_total", "Times that an incident could not be sealed; what was gathered is kept.";
    archived: Counter = "casefile_archives_sealed_bytes_total", "Bytes of sealed archives.";
    archives_copied: Counter = "casefile_archives_copied_total", "Archives that were copied to the archive store, read back there and found whole.";
    archives_copied_bytes: Counter = "casefile_archives_copied_bytes_total", "Bytes of these.";
    archives_removed: Counter = "casefile_archives_removed_total", "Archives that were removed from the collector's disk to make room, with a copy in the archive store.";
    archives_fetched: Counter = "casefile_archives_fetched_total", "Archives that were fetched back from the archive store because somebody wanted them.";
    copy_failures: By<Failure, Counter> = "casefile_archive_store_failures_total", "Times that an archive could not be copied to the archive store, fetched from it, or removed here, by reason.";
    coverage_gaps: By<GapReason, Counter> = "casefile_coverage_gaps_total", "Gaps that sealed incidents declare in their coverage, by reason.";
    stages: By<Stage, Histogram<Slow>> = "casefile_incident_stage_seconds", "Time of each stage of an incident on its way to a sealed archive.";
    paused: By<Why, Gauge> = "casefile_ingest_paused", "1 while no evidence is taken for this reason, else 0.";
    pauses: By<Why, Counter> = "casefile_ingest_pauses_total", "Times that taking evidence was paused, by reason.";
    collections: By<Standing, Gauge> = "casefile_collections_watch", "1 for how the resources of the kind Collection are followed now, else 0; all 0 where they are not.";
    collections_held: By<Phase, Gauge> = "casefile_collections", "Such resources that are known, by how far they are; as it was at most five seconds ago.";
    collection_writes: Counter = "casefile_collection_status_writes_total", "Statuses of such resources that were written.";
    cluster_lists: By<&'static Kind, Counter> = "casefile_cluster_lists_total", "Lists of objects that the API server began to give, by kind; each comes in pages.";
    cluster_watches: By<&'static Kind, Counter> = "casefile_cluster_watches_total", "Watches that the API server granted, by kind; each lasts for five minutes at most.";
    cluster_losses: By<&'static Kind, Counter> = "casefile_cluster_losses_total", "Times that a kind of objects could not be followed any further, or not be followed again, by kind.";
    reviews_asked: By<Question, Counter> = "casefile_reviews_asked_total", "Questions to the API server about whoever showed a token: whose it is, and whether he may.";
    reviews_failed: By<Question, Counter> = "casefile_reviews_failed_total", "Of these, those that were not answered, or not in time: nobody was let in for them.";
    reviews_remembered: By<Question, Counter> = "casefile_reviews_remembered_total", "Such questions that were not asked, because the answer of a moment ago counted still.";
    reserve_uses: Counter = "casefile_reserve_uses_total", "Times that the reserved space was given up, so that something could be finished on a full disk.";
}

/// The classes of the status of an answer over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It was done.
    Done,
    /// There was nothing to do.
    Elsewhere,
    /// The caller's mistake, or he may not.
    Refused,
    /// Ours.
    Failed,
}

impl Class {
    /// Of a status.
    pub const fn of(status: u16) -> Self {
        match status {
            0..300 => Self::Done,
            300..400 => Self::Elsewhere,
            400..500 => Self::Refused,
            _ => Self::Failed,
        }
    }
}

impl Label for Class {
    const NAME: &'static str = "status";
    const ALL: &'static [Self] = &[Self::Done, Self::Elsewhere, Self::Refused, Self::Failed];

    fn value(self) -> &'static str {
        match self {
            Self::Done => "2xx",
            Self::Elsewhere => "3xx",
            Self::Refused => "4xx",
            Self::Failed => "5xx",
        }
    }
}

/// The stages of an incident, of which each is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// From opening it to the first evidence item.
    FirstEvidence,
    /// From opening it, or the end of its window, to the begin of sealing.
    Gathering,
    /// Making the archive and writing it into the index, with reading it again.
    Sealing,
    /// Of that: reading the archive again and verifying it.
    Reread,
}

impl Label for Stage {
    const NAME: &'static str = "stage";
    const ALL: &'static [Self] = &[Self::FirstEvidence, Self::Gathering, Self::Sealing, Self::Reread];

    fn value(self) -> &'static str {
        match self {
            Self::FirstEvidence => "first-evidence",
            Self::Gathering => "gathering",
            Self::Sealing => "sealing",
            Self::Reread => "reread",
        }
    }
}

impl Label for GapReason {
    const NAME: &'static str = "reason";
    const ALL: &'static [Self] = &Self::ALL;

    fn value(self) -> &'static str {
        self.name()
    }
}

/// The counters at one moment, for the log.
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
    /// The counters now. Each is right; together they are of nearly one moment.
    pub fn counts(&self) -> Counts {
        Counts {
            opened: self.opened.get(),
            sealed: self.sealed.get(),
            failed: self.failed.get(),
            items: self.items.get(),
            archived: self.archived.get(),
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
    use std::time::Duration;

    #[test]
    fn the_counters_say_what_happened() {
        let stats = Stats::default();
        stats.opened.one();
        stats.items.add(2);
        stats.sealed.one();
        stats.archived.add(2048);
        let expected = "incidents: 1 opened, 1 sealed (2.0 KiB), 0 failed to seal; items: 2";
        assert_eq!(stats.counts().to_string(), expected);
    }

    #[test]
    fn what_was_counted_by_a_closed_list_is_written_with_its_word() {
        let stats = Stats::default();
        stats.coverage_gaps.of(GapReason::NodeSilent).add(3);
        stats.stages.of(Stage::Reread).took(Duration::from_millis(300));
        let mut text = Exposition::default();
        stats.write(&mut text);
        let text = text.into_text();
        for line in [
            "casefile_coverage_gaps_total{reason=\"node-silent\"} 3",
            "casefile_coverage_gaps_total{reason=\"budget\"} 0",
            "casefile_incident_stage_seconds_bucket{stage=\"reread\",le=\"0.25\"} 0",
            "casefile_incident_stage_seconds_bucket{stage=\"reread\",le=\"0.5\"} 1",
            "casefile_incident_stage_seconds_bucket{stage=\"reread\",le=\"+Inf\"} 1",
            "casefile_incident_stage_seconds_sum{stage=\"reread\"} 0.3",
            "casefile_incident_stage_seconds_count{stage=\"reread\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
