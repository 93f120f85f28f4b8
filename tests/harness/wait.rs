//! Waiting for a condition, never for a time; a condition that does not come names itself.

use std::time::{Duration, Instant};

use crate::SOON;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until there is something; panics with what was waited for when [`SOON`] has passed.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come within {} s", SOON.as_secs());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// [`until`] where there is no runtime: around programs in processes of their own.
pub fn until_blocking<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come within {} s", SOON.as_secs());
        std::thread::park_timeout(LOOK_EVERY);
    }
}
