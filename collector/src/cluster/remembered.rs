//! What was answered a moment ago, for a while and for so many questions at most; and a question that is being asked is not
//! asked a second time: whoever has it too waits for the one answer.
//!
//! Times are given; how long an answer counts is part of it. That there is no answer is told to all who wait, and not remembered.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use casefile_proto::time::BootTime;
use tokio::sync::watch;

/// What those who wait are told: `None`, nothing yet.
type Told<V, E> = Option<Result<V, E>>;

enum Slot<V, E> {
    /// Somebody is asking.
    Asking(watch::Receiver<Told<V, E>>),
    /// It was answered, and that counts until then.
    Known(V, BootTime),
}

/// Answers of one kind.
pub(super) struct Remembered<K, V, E> {
    slots: Mutex<HashMap<K, Slot<V, E>>>,
    most: usize,
}

/// What to do about a question.
enum Turn<V, E> {
    Known(V),
    Wait(watch::Receiver<Told<V, E>>),
    Ask(watch::Sender<Told<V, E>>),
}

/// Forgets that somebody is asking, when he went away before he was answered.
struct Asking<'a, K: Hash + Eq, V, E> {
    of: &'a Remembered<K, V, E>,
    key: &'a K,
}

impl<K: Hash + Eq, V, E> Drop for Asking<'_, K, V, E> {
    fn drop(&mut self) {
        let mut slots = self.of.slots();
        if matches!(slots.get(self.key), Some(Slot::Asking(_))) {
            slots.remove(self.key);
        }
    }
}

impl<K, V, E> Remembered<K, V, E> {
    /// Nothing yet, and never more than this.
    pub(super) fn new(most: usize) -> Self {
        Self { slots: Mutex::new(HashMap::new()), most }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<K, Slot<V, E>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone, V: Clone, E: Clone> Remembered<K, V, E> {
    /// The answer to this question: the one that counts still, that of whoever is asking, or that of `ask`, which says how long
    /// it counts.
    pub(super) async fn get<F: Future<Output = Result<(V, Duration), E>>>(
        &self,
        key: &K,
        now: impl Fn() -> BootTime,
        ask: impl Fn() -> F,
    ) -> Result<V, E> {
        loop {
            match self.turn(key, now()) {
                Turn::Known(value) => return Ok(value),
                Turn::Wait(mut told) => {
                    // An error: whoever asked went away without an answer, and somebody else asks.
                    if let Ok(told) = told.wait_for(Option::is_some).await
                        && let Some(answer) = told.clone()
                    {
                        return answer;
                    }
                }
                Turn::Ask(tell) => {
                    let asking = Asking { of: self, key };
                    let answer = ask().await;
                    // Counted from the answer on: what was decided is not older than that.
                    if let Ok((value, counts)) = &answer {
                        self.remember(key.clone(), value.clone(), now(), *counts);
                    }
                    drop(asking);
                    let answer = answer.map(|(value, _)| value);
                    tell.send_replace(Some(answer.clone()));
                    return answer;
                }
            }
        }
    }

    /// What is known of this, if it counts still.
    pub(super) fn known(&self, key: &K, now: BootTime) -> Option<V> {
        match self.slots().get(key) {
            Some(Slot::Known(value, until)) if now < *until => Some(value.clone()),
            _ => None,
        }
    }

    /// Remembers it for so long, in place of what ends first when there is too much.
    pub(super) fn remember(&self, key: K, value: V, now: BootTime, counts: Duration) {
        let mut slots = self.slots();
        make_room(&mut slots, self.most, now);
        let nanos = u64::try_from(counts.as_nanos()).unwrap_or(u64::MAX);
        slots.insert(key, Slot::Known(value, BootTime::from_nanos(now.nanos().saturating_add(nanos))));
    }

    fn turn(&self, key: &K, now: BootTime) -> Turn<V, E> {
        let mut slots = self.slots();
        match slots.get(key) {
            Some(Slot::Known(value, until)) if now < *until => return Turn::Known(value.clone()),
            Some(Slot::Asking(told)) => return Turn::Wait(told.clone()),
            _ => {}
        }
        make_room(&mut slots, self.most, now);
        let (tell, told) = watch::channel(None);
        slots.insert(key.clone(), Slot::Asking(told));
        Turn::Ask(tell)
    }
}

/// Those that are being asked stay: each is somebody's who waits, and of those there are only so many.
fn make_room<K: Hash + Eq + Clone, V, E>(slots: &mut HashMap<K, Slot<V, E>>, most: usize, now: BootTime) {
    if slots.len() < most {
        return;
    }
    slots.retain(|_, slot| !matches!(slot, Slot::Known(_, until) if *until <= now));
    while slots.len() >= most {
        let ends = slots.iter().filter_map(|(key, slot)| match slot {
            Slot::Known(_, until) => Some((*until, key)),
            Slot::Asking(_) => None,
        });
        let Some(first) = ends.min_by_key(|(until, _)| *until).map(|(_, key)| key.clone()) else { return };
        slots.remove(&first);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    type Numbers = Remembered<u32, u64, &'static str>;

    fn at(secs: u64) -> BootTime {
        BootTime::from_nanos(secs * 1_000_000_000)
    }

    /// Asks, which counts for five seconds, and counts how often it was asked.
    async fn get(numbers: &Numbers, key: u32, now: u64, asked: &AtomicU64) -> u64 {
        let ask = || async { Ok((asked.fetch_add(1, Ordering::Relaxed), Duration::from_secs(5))) };
        numbers.get(&key, || at(now), ask).await.unwrap()
    }

    #[tokio::test]
    async fn an_answer_counts_as_long_as_it_says_and_is_then_asked_for_again() {
        let (numbers, asked) = (Numbers::new(8), AtomicU64::new(0));
        assert_eq!(get(&numbers, 1, 0, &asked).await, 0);
        assert_eq!(get(&numbers, 1, 4, &asked).await, 0);
        assert_eq!(get(&numbers, 2, 4, &asked).await, 1, "another question");
        assert_eq!(get(&numbers, 1, 5, &asked).await, 2, "its time is over");
    }

    #[tokio::test]
    async fn of_many_who_ask_the_same_at_once_one_asks_and_all_are_answered_also_when_that_one_goes_away() {
        let (numbers, gate, asked) =
            (Arc::new(Numbers::new(8)), Arc::new(Semaphore::new(0)), Arc::new(AtomicU64::new(0)));
        let ask = || {
            let (numbers, gate, asked) = (Arc::clone(&numbers), Arc::clone(&gate), Arc::clone(&asked));
            tokio::spawn(async move {
                let ask = || async {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let _passed = gate.acquire().await.map_err(|_| "closed")?;
                    Err::<(u64, Duration), _>("away")
                };
                numbers.get(&1, || at(0), ask).await
            })
        };
        let first = ask();
        while asked.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let others: Vec<_> = (0..20).map(|_| ask()).collect();
        first.abort();
        while asked.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(100);
        for other in others {
            assert_eq!(other.await.unwrap(), Err("away"));
        }
        // Those who came after the answer ask again: that there was none is not remembered.
        assert!(numbers.slots().is_empty());
    }

    #[tokio::test]
    async fn a_flood_of_questions_is_remembered_up_to_the_limit() {
        let (numbers, asked) = (Numbers::new(8), AtomicU64::new(0));
        for key in 0..1_000 {
            get(&numbers, key, u64::from(key) / 300, &asked).await;
            assert!(numbers.slots().len() <= 8);
        }
        assert_eq!(numbers.known(&999, at(3)), Some(999));
        assert_eq!(numbers.known(&999, at(8)), None);
    }
}
