//! A question to something that may hang: one asks at a time, whoever waits gives up in time, and a question that hangs
//! costs one thread, however often it is asked.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// Asks on a thread that may block.
pub(super) struct Once {
    turn: Arc<Semaphore>,
}

impl Once {
    pub(super) fn new() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)) }
    }

    /// The answer; `None` when there is none within this time, or the question ended in a defect.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        within: Duration,
        question: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let deadline = Instant::now() + within;
        let turn = timeout_at(deadline, Arc::clone(&self.turn).acquire_owned()).await.ok()?.ok()?;
        let asked = tokio::task::spawn_blocking(move || {
            let answer = question();
            drop(turn);
            answer
        });
        timeout_at(deadline, asked).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_that_hangs_is_given_up_and_asked_by_nobody_else_until_it_has_ended() {
        let once = Once::new();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let count = Arc::clone(&asked);
        assert_eq!(once.ask(Duration::from_millis(20), move || ended.recv().is_ok()).await, None);
        assert_eq!(
            once.ask(Duration::from_millis(20), move || count.fetch_add(1, std::sync::atomic::Ordering::Relaxed)).await,
            None
        );
        assert_eq!(
            asked.load(std::sync::atomic::Ordering::Relaxed),
            0,
            "it waited for its turn, and no thread with it"
        );
        end.send(()).unwrap();
        assert_eq!(once.ask(Duration::from_secs(20), || 7).await, Some(7));
    }
}
