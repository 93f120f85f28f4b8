//! `/metrics`: what was counted where it happened, and what is known only when somebody asks.
//!
//! How to add a figure that is counted: a line in [`crate::stats::Stats`]. One that has to be asked for: here. What does
//! not answer is left out; that is not the same as zero.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use casefile_proto::incident::IncidentState;

use super::health::{ANSWER_WITHIN, Health};
use super::once::Once;
use super::process;
use crate::archives::{Archives, Waiting};
use crate::cluster::recorder::{Held, OfKind, Recorder};
use crate::ingest::{Clock, Ingest};
use crate::last_words::LastWords;
use crate::space::Space;
use crate::stats::Stats;
use crate::stats::text::{Exposition, Kind};

/// The spools are added up at most this often: they can have many thousands of files.
const SPOOLS_EVERY: Duration = Duration::from_secs(10);

/// More files than this are not added up: then their bytes are not known.
const MAX_SPOOL_FILES: usize = 200_000;

/// What lay in the spools at some moment; `None`: nobody knows.
#[derive(Clone, Copy)]
struct Spooled {
    at: Instant,
    bytes: Option<u64>,
}

/// Where the figures come from.
pub struct Parts {
    /// What is counted while it happens.
    pub stats: Arc<Stats>,
    /// The sessions.
    pub ingest: Ingest,
    /// What is kept of each node.
    pub last_words: LastWords,
    /// The disk.
    pub space: Space,
    /// The directory with all spools.
    pub spools: PathBuf,
    /// Where sealed archives are kept.
    pub archives: Archives,
    /// `None`: the configuration names no cluster.
    pub cluster: Option<Recorder>,
}

/// All figures, put together when they are asked for.
pub struct Metrics {
    of: Parts,
    spooled: Arc<Mutex<Option<Spooled>>>,
    adding_up: Once,
    asking_cluster: Once,
    started: Option<f64>,
}

impl Metrics {
    /// Of these parts; the clock says when this process was started.
    pub fn new(of: Parts, clock: &Clock) -> Self {
        let started = process::started(clock);
        Self { of, spooled: Arc::default(), adding_up: Once::new(), asking_cluster: Once::new(), started }
    }

    /// All of them as text.
    pub async fn text(&self, health: &Health) -> String {
        let archives = self.of.archives.clone();
        let (states, waiting, spooled, held) = tokio::join!(
            health.ask_index(|store| store.count_by_state()),
            health.ask_index(move |_| archives.waiting()),
            self.spooled(),
            self.held_of_cluster()
        );
        let mut to = Exposition::default();
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        to.family("casefile_build_info", Kind::Gauge, "1, with the version as a label.").sample("", &version, 1);
        self.of.stats.write(&mut to);
        self.nodes(&mut to);
        if let Some(Ok(states)) = states {
            let mut family = to.family("casefile_incidents", Kind::Gauge, "Incidents in the index, by state.");
            for state in IncidentState::ALL {
                let count = states.iter().find(|(s, _)| *s == state).map_or(0, |(_, count)| *count);
                family.sample("", &[("state", state.name())], count);
            }
        }
        if let Some(held) = held {
            cluster(&held, &mut to);
        }
        let last_words = Some(self.of.last_words.bytes().0);
        to.gauge("casefile_last_words_bytes", "Bytes of the last words of all nodes on disk.", last_words);
        to.gauge(
            "casefile_spool_bytes",
            "Bytes of evidence that waits to be sealed; at most ten seconds old.",
            spooled,
        );
        if let Some(Ok(Some(waiting))) = waiting {
            uncopied(&waiting, &mut to);
        }
        self.disk(&mut to);
        process::write(self.started, &mut to);
        to.into_text()
    }

    fn nodes(&self, to: &mut Exposition) {
        let heard = self.of.ingest.heard();
        to.gauge("casefile_sessions", "Sessions of agents that stand now.", Some(heard.sessions));
        let help = "Nodes by how long ago their last frame came; silent: more than ten minutes, or not since this \
                    collector was started.";
        let mut family = to.family("casefile_nodes", Kind::Gauge, help);
        let classes = [
            ("2s", heard.within_2s),
            ("10s", heard.within_10s),
            ("1m", heard.within_1m),
            ("10m", heard.within_10m),
            ("silent", heard.silent),
        ];
        for (class, nodes) in classes {
            family.sample("", &[("heard_within", class)], nodes);
        }
    }

    fn disk(&self, to: &mut Exposition) {
        let look = self.of.space.last_look().map(|(look, _)| look);
        let disk = look.map(|look| look.disk);
        let files = disk.and_then(|disk| disk.files);
        let of = |what: &str| format!("{what} of the file system of the data directory.");
        to.gauge("casefile_disk_size_bytes", &of("Size"), disk.map(|d| d.size.0));
        to.gauge("casefile_disk_free_bytes", &of("What the collector may still write"), disk.map(|d| d.free.0));
        to.gauge("casefile_disk_files", &of("Files that fit on it (inodes)"), files.map(|f| f.all));
        to.gauge("casefile_disk_files_free", &of("Files that still fit on it (inodes)"), files.map(|f| f.free));
        let help = "Space that is kept back to finish on a full disk.";
        to.gauge("casefile_reserve_bytes", help, look.map(|look| look.reserved.0));
    }

    /// What is held of the cluster; `None`: there is none, or it does not answer.
    async fn held_of_cluster(&self) -> Option<Held> {
        let recorder = self.of.cluster.clone()?;
        self.asking_cluster.ask(ANSWER_WITHIN, move || recorder.held()).await.flatten()
    }

    /// What lies in the spools, as it was at most ten seconds ago.
    async fn spooled(&self) -> Option<u64> {
        let (spools, kept) = (self.of.spools.clone(), Arc::clone(&self.spooled));
        let added_up = self.adding_up.ask(ANSWER_WITHIN, move || {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            match *kept {
                Some(Spooled { at, bytes }) if at.elapsed() < SPOOLS_EVERY => bytes,
                _ => {
                    let bytes = add_up(&spools);
                    *kept = Some(Spooled { at: Instant::now(), bytes });
                    bytes
                }
            }
        });
        added_up.await.flatten()
    }
}

fn cluster(held: &Held, to: &mut Exposition) {
    let bytes = Some(held.bytes);
    to.gauge("casefile_cluster_record_bytes", "Bytes of what is recorded of the cluster, on disk.", bytes);
    let mut gauge = |name: &str, help: &str, of: fn(&OfKind) -> Option<f64>| {
        let mut known = held.kinds.iter().filter_map(|kind| Some((kind.kind.plural, of(kind)?))).peekable();
        if known.peek().is_some() {
            let mut family = to.family(name, Kind::Gauge, help);
            known.for_each(|(kind, value)| family.sample("", &[("kind", kind)], value));
        }
    };
    let help = "Objects of the cluster that are known, by kind; of a kind that was never listed there is none.";
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    gauge("casefile_cluster_objects", help, |kind| kind.heard.map(|_| kind.objects as f64));
    let help = "1 while what happens to objects of a kind is heard, else 0: also where the cluster has no such kind.";
    gauge("casefile_cluster_followed", help, |kind| Some(f64::from(u8::from(kind.is_followed))));
    let help = "When something was heard of a kind last, in seconds since 1970; of a quiet one: when the API server last answered.";
    #[expect(clippy::cast_precision_loss, reason = "a time of day to some hundred nanoseconds")]
    gauge("casefile_cluster_heard_timestamp_seconds", help, |kind| kind.heard.map(|at| at.nanos() as f64 / 1e9));
}

fn uncopied(waiting: &Waiting, to: &mut Exposition) {
    let help = "Sealed archives that are not in the archive store yet; not there where there is no store.";
    to.gauge("casefile_archives_uncopied", help, Some(waiting.count));
    to.gauge("casefile_archives_uncopied_bytes", "Bytes of these.", Some(waiting.bytes));
    let help = "When the oldest of these was sealed, in seconds since 1970; not there when there is none.";
    let seconds = waiting.oldest.map(|sealed| sealed.nanos() / 1_000_000_000);
    to.gauge("casefile_archives_uncopied_oldest_timestamp_seconds", help, seconds);
}

/// The bytes of all files below a directory; `None`: it could not be listed, or there are too many.
fn add_up(dir: &Path) -> Option<u64> {
    let (mut dirs, mut bytes, mut files) = (vec![dir.to_owned()], 0u64, 0usize);
    while let Some(dir) = dirs.pop() {
        let entries = match std::fs::read_dir(&dir) {
            // A spool goes when it is sealed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            entries => entries.ok()?,
        };
        for entry in entries {
            let entry = entry.ok()?;
            files += 1;
            if files > MAX_SPOOL_FILES {
                return None;
            }
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => dirs.push(entry.path()),
                Ok(meta) => bytes = bytes.saturating_add(meta.len()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(_) => return None,
            }
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spools_are_added_up_with_everything_below_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("1/2")).unwrap();
        std::fs::write(dir.path().join("1/2/000-000001.chunks"), [0; 70]).unwrap();
        std::fs::write(dir.path().join("1/x"), [0; 7]).unwrap();
        assert_eq!(add_up(dir.path()), Some(77));
        assert_eq!(add_up(&dir.path().join("none")), Some(0));
        assert_eq!(add_up(&dir.path().join("1/x")), None, "it is no directory, so nobody knows");
    }
}
