//! The session with both of its ends: the agent's real uplink and the collector's real ingest, over loopback, with a wire in
//! between that can be cut, and clients that mean no good.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail the test")]

mod collecting;
mod hostile;
mod node;
mod server;
mod streaming;
mod wire;

use std::time::{Duration, Instant};

/// How long something that will happen is waited for.
const SOON: Duration = Duration::from_secs(30);

/// Looks until there is something.
async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {SOON:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
