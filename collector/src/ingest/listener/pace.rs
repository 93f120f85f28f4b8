//! How many frames of HTTP/2 a connection may send: a bucket that fills with time, and with what is sent to the peer.
//!
//! What costs the peer nothing, settings, pings, resets, data without bytes, costs us a look each, and h2 looks at as many as
//! come. A connection that sends more of them than anybody has a use for is read as fast as the bucket fills.

use std::time::Duration;

use tokio::time::Instant;

/// Small frames that a connection may send at once: a person's client that begins its calls, an agent that catches up.
const BURST: f64 = 2_000.0;

/// And per second, for ever.
const SUSTAINED: f64 = 500.0;

/// Whoever downloads answers with windows: so many bytes to the peer are one frame more. Clients answer every 32 KiB at the
/// smallest window there is, for the stream and for the connection.
const BYTES_A_FRAME: f64 = 8192.0;

/// Frames of data with so many bytes are what connections are for: they are limited by bytes, not here.
const SMALL: u32 = 1024;

/// Length of the head of a frame (RFC 9113 §4.1).
const HEAD: usize = 9;

/// The type of frames of data.
const DATA: u8 = 0;

/// The frames of one connection.
#[derive(Debug)]
pub(super) struct Pace {
    left: f64,
    at: Instant,
    /// Bytes to come before the next head.
    body: u32,
    head: [u8; HEAD],
    /// Bytes of the head that have come.
    known: usize,
}

impl Pace {
    /// Of a connection whose first bytes, so many, are no frame.
    pub(super) fn behind(preface: usize, now: Instant) -> Self {
        let body = u32::try_from(preface).unwrap_or(u32::MAX);
        Self { left: BURST, at: now, body, head: [0; HEAD], known: 0 }
    }

    /// These bytes came.
    pub(super) fn came(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.body > 0 {
                let skip = usize::try_from(self.body).unwrap_or(usize::MAX).min(bytes.len());
                self.body -= u32::try_from(skip).unwrap_or(self.body);
                bytes = &bytes[skip..];
                continue;
            }
            let take = (HEAD - self.known).min(bytes.len());
            self.head[self.known..self.known + take].copy_from_slice(&bytes[..take]);
            (self.known, bytes) = (self.known + take, &bytes[take..]);
            if self.known == HEAD {
                let [a, b, c, kind, ..] = self.head;
                (self.body, self.known) = (u32::from_be_bytes([0, a, b, c]), 0);
                if kind != DATA || self.body < SMALL {
                    self.left -= 1.0;
                }
            }
        }
    }

    /// So many bytes went to the peer.
    #[expect(clippy::cast_precision_loss, reason = "bytes of one write")]
    pub(super) fn went(&mut self, bytes: usize) {
        self.left = (self.left + bytes as f64 / BYTES_A_FRAME).min(BURST);
    }

    /// Until when nothing is to be read; `None`: now.
    pub(super) fn wait(&mut self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        if self.left > 0.0 {
            // Nobody asks the clock for those that send little.
            return None;
        }
        let now = now();
        self.left = (self.left + (now - self.at).as_secs_f64() * SUSTAINED).min(BURST);
        self.at = now;
        (self.left <= 0.0).then(|| now + Duration::from_secs_f64((1.0 - self.left) / SUSTAINED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: u32) -> Vec<u8> {
        let mut out = length.to_be_bytes()[1..].to_vec();
        out.extend([kind, 0, 0, 0, 0, 0]);
        out.resize(HEAD + usize::try_from(length).unwrap(), 7);
        out
    }

    /// Frames that were counted, in whatever pieces they come.
    fn counted(bytes: &[u8], piece: usize) -> f64 {
        let mut pace = Pace::behind(24, Instant::now());
        for piece in [vec![0xff; 24], bytes.to_vec()].concat().chunks(piece) {
            pace.came(piece);
        }
        BURST - pace.left
    }

    #[test]
    fn small_frames_count_and_large_ones_of_data_do_not() {
        let frames = [frame(6, 8), frame(0, 0), frame(0, 1023), frame(0, 1024), frame(0, 16_384), frame(1, 5_000)];
        for piece in [1, 8, 9, 10, 1_000, 1 << 20] {
            assert!((counted(&frames.concat(), piece) - 4.0).abs() < 1e-6, "{piece}");
        }
    }

    #[test]
    fn whoever_sends_too_many_waits_and_then_goes_on() {
        let begun = Instant::now();
        let mut pace = Pace::behind(0, begun);
        assert_eq!(pace.wait(|| begun), None);
        pace.came(&frame(6, 8).repeat(3_000));
        let until = pace.wait(|| begun).unwrap();
        assert!(until > begun + Duration::from_secs(1), "a thousand too many");
        assert_eq!(pace.wait(|| until), None);
        pace.came(&frame(6, 8).repeat(2));
        assert!(pace.wait(|| until).is_some(), "and no burst was saved meanwhile");
    }

    #[test]
    fn a_download_may_be_answered_for() {
        let begun = Instant::now();
        let mut pace = Pace::behind(0, begun);
        for _ in 0..10_000 {
            pace.went(32 << 10);
            pace.came(&frame(8, 4).repeat(2));
        }
        assert_eq!(pace.wait(|| begun), None);
    }
}
