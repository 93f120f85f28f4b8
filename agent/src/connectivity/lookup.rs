//! Names become addresses the way every program of this container has it: by the C library, which reads `hosts`, `nsswitch.conf`
//! and `resolv.conf`. It blocks for as long as it likes, so it has a thread of its own that may be given up, and is counted.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use casefile_proto::connectivity::detail;
use casefile_proto::connectivity::steps::{Failure, MAX_ADDRESSES};
use tokio::sync::oneshot;

use crate::stats::Stats;

/// Lookups that were given up and have not returned. At this many no test is begun.
const MAX_BLOCKED: u64 = 4;

/// The C library puts answers of 64 KiB on its stack, and modules of `nsswitch.conf` run on it.
const STACK: usize = 512 << 10;

/// The states of a lookup's thread.
const RUNNING: u8 = 0;
const GIVEN_UP: u8 = 1;
const ENDED: u8 = 2;

/// Why a lookup gave nothing.
pub(super) type Failed = (Failure, String);

/// Whether there is a thread to be had for another one.
pub(super) fn may_begin(stats: &Stats) -> Result<(), String> {
    match stats.lookups_blocked.get() {
        blocked if blocked < MAX_BLOCKED => Ok(()),
        blocked => Err(format!("{blocked} name lookups before have not returned")),
    }
}

/// Counts a lookup as blocked when nobody waits for it any more and it still runs.
struct Waiting {
    state: Arc<AtomicU8>,
    stats: Arc<Stats>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.state.compare_exchange(RUNNING, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.stats.lookups_blocked.add(1);
        }
    }
}

/// The addresses of a host, as they came. Drop it to give it up.
pub(super) async fn lookup(host: &str, stats: &Arc<Stats>) -> Result<Vec<IpAddr>, Failed> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![address]);
    }
    let asked = host.to_owned();
    // The port is only asked along: it is that of no protocol.
    with(stats, move || (asked.as_str(), 0).to_socket_addrs().map(|all| all.map(|a| a.ip()).collect())).await
}

async fn with(
    stats: &Arc<Stats>,
    resolve: impl FnOnce() -> io::Result<Vec<IpAddr>> + Send + 'static,
) -> Result<Vec<IpAddr>, Failed> {
    let state = Arc::new(AtomicU8::new(RUNNING));
    let (tell, told) = oneshot::channel();
    let waiting = Waiting { state: Arc::clone(&state), stats: Arc::clone(stats) };
    let counted = Arc::clone(stats);
    let run = move || {
        let found = resolve();
        if state.swap(ENDED, Ordering::AcqRel) == GIVEN_UP {
            counted.lookups_blocked.take(1);
        }
        // Whoever waited may have gone.
        let _ = tell.send(found);
    };
    let started = std::thread::Builder::new().name("lookup".to_owned()).stack_size(STACK).spawn(run);
    if let Err(error) = started {
        // No thread came of it that could be blocked.
        waiting.state.store(ENDED, Ordering::Release);
        return Err((Failure::Other, format!("start a thread: {error}")));
    }
    let found = told.await.map_err(|_| (Failure::Other, "the lookup broke down".to_owned()))?;
    drop(waiting);
    let mut addresses = found.map_err(|error| of(&error))?;
    let mut seen = std::collections::HashSet::new();
    addresses.retain(|address| seen.insert(*address));
    addresses.truncate(MAX_ADDRESSES);
    if addresses.is_empty() {
        return Err((Failure::NoName, "the name has no address".to_owned()));
    }
    Ok(addresses)
}

/// What the C library means. `std` keeps its text and not its number; it is English: no locale is ever set.
fn of(error: &io::Error) -> Failed {
    /// `EAI_NONAME` and `EAI_NODATA` of glibc, `EAI_NONAME` and `EAI_NODATA` of musl.
    const NO_NAME: [&str; 4] = [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "Name has no usable address",
    ];
    /// `EAI_AGAIN` and `EAI_FAIL` of both.
    const NAME_SERVER: [&str; 4] =
        ["Temporary failure in name resolution", "Try again", "Non-recoverable failure", "Non-recoverable error"];
    let text = error.to_string();
    let among = |list: &[&str]| list.iter().any(|known| text.contains(known));
    let failure = if among(&NO_NAME) {
        Failure::NoName
    } else if among(&NAME_SERVER) {
        Failure::NameServer
    } else {
        Failure::Other
    };
    (failure, detail(text.strip_prefix("failed to lookup address information: ").unwrap_or(&text)))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_lookup_that_was_given_up_is_counted_until_it_returns() {
        let stats = Arc::new(Stats::default());
        let mut blocked = Vec::new();
        for _ in 0..MAX_BLOCKED {
            may_begin(&stats).unwrap();
            let (open, gate) = mpsc::channel::<()>();
            let looking = with(&stats, move || {
                // Ends when the other end is dropped.
                let _ = gate.recv();
                Ok(Vec::new())
            });
            assert!(tokio::time::timeout(Duration::from_millis(5), looking).await.is_err());
            blocked.push(open);
        }
        assert_eq!(stats.lookups_blocked.get(), MAX_BLOCKED);
        assert!(may_begin(&stats).unwrap_err().contains("have not returned"));
        drop(blocked);
        while stats.lookups_blocked.get() > 0 {
            tokio::task::yield_now().await;
        }
        may_begin(&stats).unwrap();
    }

    #[tokio::test]
    async fn addresses_come_in_their_order_once_each_and_not_without_end() {
        let stats = Arc::new(Stats::default());
        let address = |n: u8| IpAddr::V4(Ipv4Addr::new(10, 0, 0, n));
        let found =
            with(&stats, move || Ok((0..100).flat_map(|n| [address(200 - n), address(200 - n)]).collect())).await;
        assert_eq!(found.unwrap(), (0..16).map(|n| address(200 - n)).collect::<Vec<_>>());
        assert_eq!(with(&stats, || Ok(Vec::new())).await.unwrap_err().0, Failure::NoName);
        assert_eq!(lookup("fd00::7", &stats).await.unwrap(), ["fd00::7".parse::<IpAddr>().unwrap()]);
        assert!(lookup("localhost", &stats).await.unwrap().iter().all(IpAddr::is_loopback));
        assert_eq!(stats.lookups_blocked.get(), 0);
    }

    #[test]
    fn a_name_that_is_not_there_is_told_from_a_server_that_is_not() {
        let of = |text: &str| of(&io::Error::other(format!("failed to lookup address information: {text}")));
        assert_eq!(of("Name or service not known"), (Failure::NoName, "Name or service not known".to_owned()));
        assert_eq!(of("No address associated with hostname").0, Failure::NoName);
        assert_eq!(of("Temporary failure in name resolution").0, Failure::NameServer);
        assert_eq!(of("Name does not resolve").0, Failure::NoName);
        assert_eq!(of("Try again").0, Failure::NameServer);
        assert_eq!(of("Memory allocation failure").0, Failure::Other);
    }
}
