//! Whether the collector works, and whether it can take evidence now: a list of checks, each of which says why it failed.
//!
//! A check asks the part itself and waits for a second at most. What failed is told without paths or names: whoever can
//! reach the port may read it.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use super::once::Once;
use crate::last_words::LastWords;
use crate::space::{Space, Taking};
use crate::store::{Store, StoreError};

/// Every check waits so long for an answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// The disk is looked at four times a second; one that was not looked at for so long hangs.
const STALE: Duration = Duration::from_secs(3);

/// Whether the collector is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// It works.
    Go,
    /// It takes nothing new.
    Stop,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which check.
    pub name: &'static str,
    /// Whether all is well.
    pub ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Check {
    fn of(name: &'static str, found: Result<(), String>) -> Self {
        Self { name, ok: found.is_ok(), why: found.err() }
    }
}

/// What all checks found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report(Vec<Check>);

impl Report {
    /// Whether every check is well.
    pub fn is_good(&self) -> bool {
        self.0.iter().all(|check| check.ok)
    }

    /// One line a check, what failed first.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for check in self.0.iter().filter(|c| !c.ok).chain(self.0.iter().filter(|c| c.ok)) {
            // Writing into a text does not fail.
            let _ = match &check.why {
                Some(why) => writeln!(text, "failed {}: {why}", check.name),
                None => writeln!(text, "ok {}", check.name),
            };
        }
        text
    }

    /// The same for programs.
    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct Body<'a> {
            ok: bool,
            checks: &'a [Check],
        }
        let body = Body { ok: self.is_good(), checks: &self.0 };
        // Words and truth values only: it is always written.
        serde_json::to_string(&body).unwrap_or_else(|_| "{\"ok\":false}".to_owned())
    }
}

/// What is asked.
pub struct Health {
    last_words: LastWords,
    space: Space,
    store: Arc<dyn Store>,
    run: watch::Receiver<Run>,
    index: Once,
    threads: Once,
}

impl Health {
    /// Of these parts.
    pub fn new(last_words: LastWords, space: Space, store: Arc<dyn Store>, run: watch::Receiver<Run>) -> Self {
        Self { last_words, space, store, run, index: Once::new(), threads: Once::new() }
    }

    /// Whether the process works: its event loop, the threads that may block, and those that write.
    pub async fn alive(&self) -> Report {
        let (event_loop, threads, writers) = tokio::join!(event_loop(), self.threads(), self.writers());
        Report(vec![event_loop, threads, writers])
    }

    /// Whether it can take evidence now.
    pub async fn ready(&self) -> Report {
        let (writers, index, disk) = tokio::join!(self.writers(), self.index(), self.disk());
        Report(vec![self.not_stopping(), writers, index, disk, self.room()])
    }

    /// A number that the index gives, for whoever counts; `None`: it does not answer.
    pub(super) async fn ask_index<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Option<Result<T, StoreError>> {
        let store = Arc::clone(&self.store);
        self.index.ask(ANSWER_WITHIN, move || question(&*store)).await
    }

    fn not_stopping(&self) -> Check {
        let found = if *self.run.borrow() == Run::Go { Ok(()) } else { Err("the collector is stopping".to_owned()) };
        Check::of("running", found)
    }

    async fn threads(&self) -> Check {
        let answered = self.threads.ask(ANSWER_WITHIN, || ()).await;
        Check::of("threads", answered.ok_or_else(|| "no thread is free for work that may block".to_owned()))
    }

    async fn writers(&self) -> Check {
        Check::of("writers", self.last_words.answer(ANSWER_WITHIN).await.map_err(|e| e.to_string()))
    }

    async fn index(&self) -> Check {
        let found = match self.ask_index(|store| store.count_by_state()).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => {
                tracing::warn!(error = crate::chain::chain(&error), "the index does not answer");
                Err("the index gives an error; the log says which".to_owned())
            }
            None => Err("the index does not answer".to_owned()),
        };
        Check::of("index", found)
    }

    async fn disk(&self) -> Check {
        Check::of("disk", self.space.try_to_write().await.map_err(|e| e.to_string()))
    }

    fn room(&self) -> Check {
        let found = match self.space.last_look() {
            None => Err("the room on the disk is not known".to_owned()),
            Some((_, ago)) if ago > STALE => Err(format!("the disk was not seen for {} s", ago.as_secs())),
            Some((look, _)) => match look.taking {
                Taking::Yes => Ok(()),
                Taking::No(why) => Err(format!(
                    "{}: {} of {} are free, and no evidence is taken",
                    why.text(),
                    look.disk.free,
                    look.disk.size
                )),
            },
        };
        Check::of("room", found)
    }
}

async fn event_loop() -> Check {
    // A task of its own: that this one runs says only that one thread of the runtime does.
    let ran = tokio::time::timeout(ANSWER_WITHIN, tokio::spawn(tokio::task::yield_now())).await;
    Check::of("event-loop", if matches!(ran, Ok(Ok(()))) { Ok(()) } else { Err("it does not run".to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_what_failed_first_and_is_good_only_when_nothing_did() {
        let report = Report(vec![Check::of("index", Ok(())), Check::of("disk", Err("it is \"full\"".to_owned()))]);
        assert!(!report.is_good());
        assert_eq!(report.text(), "failed disk: it is \"full\"\nok index\n");
        let expected =
            r#"{"ok":false,"checks":[{"name":"index","ok":true},{"name":"disk","ok":false,"why":"it is \"full\""}]}"#;
        assert_eq!(report.json(), expected);
        assert!(Report(vec![Check::of("index", Ok(()))]).is_good());
    }
}
