//! Ctrl-C and SIGTERM: the first asks for an orderly stop, the second means at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask for a stop.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on they no longer end the process.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Ready when one of them has come. May be dropped: one that came is told next time.
    pub async fn stop(&mut self) {
        tokio::select! {
            // Ctrl-C at a terminal.
            _ = self.interrupt.recv() => {}
            // What kill, systemd and Kubernetes send.
            _ = self.terminate.recv() => {}
        }
    }
}
