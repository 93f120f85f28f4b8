//! Addresses for programs that are started again on the one that they had.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

/// Below what Linux gives to whoever asks for any port, and to what connects: such a port may be somebody else's by the
/// time a stopped program listens again, and one that connects to itself can even hold it.
const FIRST: u16 = 10_000;

/// So many from there on.
const COUNT: u16 = 20_000;

/// How many were handed out by this process.
static HANDED_OUT: AtomicU16 = AtomicU16::new(0);

/// An address on loopback that nobody listens on, that this process hands out once, and that nobody gets by chance.
///
/// # Errors
///
/// When none can be listened on.
pub fn free_address() -> Result<SocketAddr> {
    // Processes side by side start apart from each other.
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let next = start.wrapping_add(u32::from(HANDED_OUT.fetch_add(1, Ordering::Relaxed)));
        let below = u16::try_from(next % u32::from(COUNT)).unwrap_or_default();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + below));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no port from {FIRST} on can be listened on")
}
