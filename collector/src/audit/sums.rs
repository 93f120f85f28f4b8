//! What happens too often to be told each time: told at once, then in sums. A flood of refused calls must not become a
//! flood of lines.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One kind is told at most this often.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(10);

/// Kinds that are told apart; what is beyond is told together.
pub(super) const KINDS: usize = 256;

/// How often what happened since it was told last.
#[derive(Default)]
pub struct Sums(Mutex<HashMap<(String, String), (u64, Instant)>>);

impl Sums {
    /// Somebody did something once more. `Some`: tell this many now.
    pub fn count(&self, who: &str, what: &str, now: Instant) -> Option<u64> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kind = (who.to_owned(), what.to_owned());
        if kinds.len() >= KINDS && !kinds.contains_key(&kind) {
            kinds.retain(|_, (untold, told)| *untold > 0 || now.duration_since(*told) < TELL_EVERY);
            if kinds.len() >= KINDS {
                kind = ("others".to_owned(), String::new());
            }
        }
        match kinds.get_mut(&kind) {
            None => {
                kinds.insert(kind, (0, now));
                Some(1)
            }
            Some((untold, told)) if now.duration_since(*told) >= TELL_EVERY => {
                *told = now;
                Some(std::mem::take(untold) + 1)
            }
            Some((untold, _)) => {
                *untold += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_in_sums() {
        let (sums, start) = (Sums::default(), Instant::now());
        assert_eq!(sums.count("nobody", "/x", start), Some(1));
        for _ in 0..1000 {
            assert_eq!(sums.count("nobody", "/x", start), None);
        }
        assert_eq!(sums.count("kim", "/x", start), Some(1));
        assert_eq!(sums.count("nobody", "/x", start + TELL_EVERY), Some(1001));
        for n in 0..10_000 {
            sums.count("nobody", &n.to_string(), start);
        }
        assert!(sums.0.lock().unwrap().len() <= KINDS + 1);
    }
}
