//! What masks secrets before anything is stored or sent: the rules of [`casefile_redact`], with the key of the day.
//!
//! The key comes from the collector, the same for all agents, and may change at any time; what was begun with one key is
//! ended with it. An agent that has not met its collector yet, or has none, makes a key of its own and keeps it beside the
//! ring, so that tokens stay the same over a restart. Names of files, units and pods are not masked: evidence is found by
//! them.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use casefile_proto::coverage::Redaction as Counts;
use casefile_proto::event::Event;
use casefile_proto::sample::Sample;
use casefile_redact::{Key, Pseudonyms, Redactor, RuleSet, Stream};

/// The rules that every agent has, compiled once.
static BUILTIN: LazyLock<Arc<RuleSet>> = LazyLock::new(|| Arc::new(RuleSet::builtin()));

/// Values of labels shorter than this are names and numbers, and hold no secret that any rule knows.
const SHORT_LABEL: usize = 12;

/// What is masked, as the configuration says it.
#[derive(Clone)]
pub struct Masking {
    /// The rules: ours, and those of the operator.
    pub rules: Arc<RuleSet>,
    /// What becomes a pseudonym.
    pub pseudonyms: Pseudonyms,
}

impl Default for Masking {
    /// Our own rules and no pseudonyms.
    fn default() -> Self {
        Self { rules: Arc::clone(&BUILTIN), pseudonyms: Pseudonyms::default() }
    }
}

impl std::fmt::Debug for Masking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Masking").field("rules", &self.rules.rules().count()).finish_non_exhaustive()
    }
}

/// The redactor of this agent, with the key that is in use now.
pub struct Redaction {
    masking: Masking,
    /// Where the key is kept; `None`: nowhere.
    file: Option<PathBuf>,
    now: RwLock<Redactor>,
}

impl Redaction {
    /// With the key that is kept in this file; with a new one where there is none. A key that cannot be kept is used
    /// all the same, and that is logged: tokens of before and after a restart cannot be compared then.
    pub fn open(masking: Masking, file: PathBuf) -> io::Result<Self> {
        let key = match kept(&file) {
            Ok(key) => key,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%error, file = %file.display(), "the redaction key cannot be read: a new one is made");
                }
                let key = casefile_identity::random()?;
                keep(&file, &key);
                key
            }
        };
        let now = RwLock::new(redactor(&masking, key));
        Ok(Self { masking, file: Some(file), now })
    }

    /// With a key that is forgotten when this ends, unless the agent of this machine has one in `file` that may be read.
    pub fn for_once(masking: Masking, file: &Path) -> io::Result<Self> {
        let key = kept(file).or_else(|_| casefile_identity::random())?;
        let now = RwLock::new(redactor(&masking, key));
        Ok(Self { masking, file: None, now })
    }

    /// The redactor as it is now, for one collection or one frame.
    pub fn current(&self) -> Redactor {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The collector issues this key. What is begun from now on is masked with it. `true`: it is another one than before,
    /// and is to be kept.
    pub fn use_key(&self, key: [u8; 32]) -> bool {
        let next = redactor(&self.masking, key);
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = now.key_id() != next.key_id();
        if is_new {
            tracing::info!(key = %next.key_id(), "secrets are masked with another key");
            *now = next;
        }
        is_new
    }

    /// Keeps this key for the next start. Waits for the disk.
    pub fn keep_key(&self, key: &[u8; 32]) {
        if let Some(file) = &self.file {
            keep(file, key);
        }
    }
}

fn redactor(masking: &Masking, key: [u8; 32]) -> Redactor {
    Redactor::new(Arc::clone(&masking.rules), Key::new(key), masking.pseudonyms)
}

fn kept(file: &Path) -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    File::open(file)?.read_exact(&mut key)?;
    Ok(key)
}

/// Whole or not at all, and for nobody but us.
fn keep(file: &Path, key: &[u8; 32]) {
    if let Err(error) = casefile_identity::file::write_private(file, key) {
        tracing::warn!(%error, file = %file.display(), "the redaction key cannot be kept: the next start has another one");
    }
}

/// Masks what a frame says in words: events, and the labels of series that are new. Everything else in it is numbers and
/// the names of files.
pub(crate) fn mask_frame(redaction: &Redaction, samples: &mut [Sample], events: &mut [Event]) {
    if events.is_empty() && samples.iter().all(|sample| sample.defined.is_empty()) {
        return;
    }
    let mut stream = redaction.current().stream();
    for event in events {
        if let Some(text) = masked(&mut stream, &event.text, event.text.len() < Event::MAX_TEXT) {
            event.text = text;
            event.text.truncate(event.text.floor_char_boundary(Event::MAX_TEXT));
        }
    }
    for (_, series) in samples.iter_mut().flat_map(|sample| &mut sample.defined) {
        for label in series.labels.iter_mut().filter(|label| label.len() >= SHORT_LABEL) {
            if let Some(text) = masked(&mut stream, label, true) {
                *label = text.into_boxed_str();
            }
        }
    }
}

/// The text with its secrets masked; `None`: it holds none.
fn masked(stream: &mut Stream, text: &str, whole: bool) -> Option<String> {
    let out = stream.record(text.as_bytes(), whole);
    // A token is ASCII, and what is replaced begins and ends at the characters that a rule names: but a rule of the
    // operator may end in the middle of one.
    (out != text.as_bytes()).then(|| String::from_utf8_lossy(out).into_owned())
}

/// What a stream has masked, for a row of the coverage.
pub(crate) fn counts(redactor: &Redactor) -> Counts {
    Counts { key_id: redactor.key_id().to_string(), rules: std::collections::BTreeMap::new() }
}

/// Adds what one stream has masked.
pub(crate) fn add_counts(counts: &mut Counts, stream: &Stream) {
    for (rule, count) in stream.counts() {
        *counts.rules.entry(rule.to_owned()).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use casefile_proto::event::EventKind;
    use casefile_proto::sample::{MetricIndex, Outcome, SeriesDef, SeriesId, SourceIndex};
    use casefile_proto::time::{BootTime, Stamp, WallTime};

    use super::*;

    const SECRET: &str = "password=hunter2-hunter2";

    fn mask(redaction: &Redaction, text: &str) -> String {
        String::from_utf8(redaction.current().stream().record(text.as_bytes(), true).to_vec()).unwrap()
    }

    #[test]
    fn a_key_of_our_own_survives_a_restart_and_is_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("redaction.key");
        let first = Redaction::open(Masking::default(), file.clone()).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Redaction::open(Masking::default(), file.clone()).unwrap();
        assert_eq!(mask(&first, SECRET), mask(&again, SECRET));
        // By hand beside the agent: the same tokens.
        assert_eq!(mask(&Redaction::for_once(Masking::default(), &file).unwrap(), SECRET), mask(&first, SECRET));
        let elsewhere = Redaction::for_once(Masking::default(), Path::new("/nonexistent/key")).unwrap();
        assert_ne!(mask(&elsewhere, SECRET), mask(&first, SECRET));
    }

    #[test]
    fn the_collectors_key_takes_the_place_of_our_own_and_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("redaction.key");
        let redaction = Redaction::open(Masking::default(), file.clone()).unwrap();
        let begun = redaction.current();
        assert!(redaction.use_key([7; 32]) && !redaction.use_key([7; 32]));
        // What was begun with the old key is ended with it.
        assert_ne!(begun.key_id(), redaction.current().key_id());
        redaction.keep_key(&[7; 32]);
        assert_eq!(Redaction::open(Masking::default(), file).unwrap().current().key_id(), redaction.current().key_id());
    }

    #[test]
    fn a_key_that_cannot_be_kept_is_used_all_the_same() {
        let redaction = Redaction::open(Masking::default(), PathBuf::from("/nonexistent/redaction.key")).unwrap();
        assert!(!mask(&redaction, SECRET).contains("hunter2"));
    }

    #[test]
    fn events_and_new_labels_of_a_frame_are_masked_and_numbers_are_not_touched() {
        let redaction = Redaction::open(Masking::default(), PathBuf::from("/nonexistent/redaction.key")).unwrap();
        let at = Stamp { wall: WallTime::from_secs(0), boot: BootTime::from_nanos(0) };
        let kind = EventKind::Kernel { seq: None, facility: 0, level: 6 };
        let mut events =
            ["eth0: link is up", SECRET].map(|text| Event { at, kind: kind.clone(), text: text.to_owned() });
        let labels = ["vda", SECRET].map(Box::from);
        let mut samples = [Sample {
            source: SourceIndex(0),
            outcome: Outcome::Complete,
            took_nanos: 1,
            defined: vec![(SeriesId(0), SeriesDef { metric: MetricIndex(0), labels: labels.into() })],
            readings: Vec::new(),
        }];
        mask_frame(&redaction, &mut samples, &mut events);
        assert_eq!(events[0].text, "eth0: link is up");
        let label = &samples[0].defined[0].1.labels;
        assert_eq!(&*label[0], "vda");
        for text in [&*events[1].text, &*label[1]] {
            assert!(text.starts_with("password=[redacted:") && !text.contains("hunter2"), "{text}");
        }
    }
}
