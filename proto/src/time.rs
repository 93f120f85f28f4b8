//! Wall clock, boot clock, windows and clock offsets: nanoseconds, UTC, half-open.
//!
//! Nothing here reads a clock: the time is always an argument. Differences of wall times are only formed where both
//! come from one clock; durations that must survive a clock step are taken on the boot clock.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Nanoseconds in a second.
pub const NANOS_PER_SEC: i64 = 1_000_000_000;

/// Why a text is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no RFC 3339 time such as 2026-11-23T03:14:00Z: {why}")]
pub struct InvalidTime {
    /// What was given, cut at 64 characters.
    pub given: String,
    /// What the parser said.
    pub why: String,
}

/// A point of the UTC wall clock in nanoseconds since 1970-01-01T00:00:00Z; may be before it. Covers 1677 to 2262.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WallTime(i64);

impl WallTime {
    /// The earliest time that can be said.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest time that can be said.
    pub const MAX: Self = Self(i64::MAX);

    /// From nanoseconds since the epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From whole seconds since the epoch; saturates at the ends of the range.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(NANOS_PER_SEC))
    }

    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// This time moved by a signed number of nanoseconds; saturates at the ends of the range.
    #[must_use]
    pub const fn offset(self, nanos: i64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// This much later; saturates.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        self.offset(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX))
    }

    /// This much earlier; saturates.
    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        self.offset(i64::try_from(by.as_nanos()).map_or(i64::MIN, |n| -n))
    }

    /// Nanoseconds from `earlier` to this; negative when `earlier` is later. Saturates.
    pub const fn nanos_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// `20261123T024410Z`: for names of files. Parts of a second are cut off.
    pub fn compact(self) -> String {
        self.stamp().strftime("%Y%m%dT%H%M%SZ").to_string()
    }

    /// `2026-11-23T02:44:10Z`: for people; parts of a second are cut off.
    pub fn to_seconds_text(self) -> String {
        self.stamp().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    fn stamp(self) -> jiff::Timestamp {
        // Every i64 of nanoseconds lies within jiff's range of years -9999 to 9999.
        jiff::Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

impl fmt::Display for WallTime {
    /// RFC 3339 in UTC with as many digits of the second as are needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.stamp(), f)
    }
}

impl FromStr for WallTime {
    type Err = InvalidTime;
    /// RFC 3339 with `Z` or an offset; a time without a zone is refused rather than guessed.
    fn from_str(s: &str) -> Result<Self, InvalidTime> {
        let bad = |why: String| InvalidTime { given: s.chars().take(64).collect(), why };
        let stamp: jiff::Timestamp = s.trim().parse().map_err(|e: jiff::Error| bad(e.to_string()))?;
        i64::try_from(stamp.as_nanosecond()).map(Self).map_err(|_| bad("is outside the years 1677 to 2262".to_owned()))
    }
}

impl TryFrom<String> for WallTime {
    type Error = InvalidTime;
    fn try_from(s: String) -> Result<Self, InvalidTime> {
        s.parse()
    }
}

impl From<WallTime> for String {
    fn from(t: WallTime) -> Self {
        t.to_string()
    }
}

/// A point of one boot's clock (`CLOCK_BOOTTIME`): nanoseconds since boot, suspend included; never steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootTime(u64);

impl BootTime {
    /// From nanoseconds since boot.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since boot.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` of the same boot; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Both clocks of one machine, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// The wall clock: may have been stepped.
    pub wall: WallTime,
    /// The boot clock: never steps.
    pub boot: BootTime,
}

/// Why two times make no window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWindow {
    /// `from` and `until` are the same instant: `[t, t)` holds nothing.
    #[error("the window is empty: it begins and ends at {0}")]
    Empty(WallTime),
    /// `until` lies before `from`.
    #[error("the window is reversed: it begins at {from} and ends before that, at {until}")]
    Reversed {
        /// The begin that was given.
        from: WallTime,
        /// The end that was given.
        until: WallTime,
    },
}

/// A half-open interval `[from, until)` of wall time; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "WindowText", into = "WindowText")]
pub struct Window {
    from: WallTime,
    until: WallTime,
}

#[derive(Serialize, Deserialize)]
struct WindowText {
    from: WallTime,
    until: WallTime,
}

impl TryFrom<WindowText> for Window {
    type Error = InvalidWindow;
    fn try_from(t: WindowText) -> Result<Self, InvalidWindow> {
        Self::new(t.from, t.until)
    }
}

impl From<Window> for WindowText {
    fn from(w: Window) -> Self {
        Self { from: w.from, until: w.until }
    }
}

impl Window {
    /// `[from, until)`, or why not.
    pub fn new(from: WallTime, until: WallTime) -> Result<Self, InvalidWindow> {
        match from.cmp(&until) {
            std::cmp::Ordering::Less => Ok(Self { from, until }),
            std::cmp::Ordering::Equal => Err(InvalidWindow::Empty(from)),
            std::cmp::Ordering::Greater => Err(InvalidWindow::Reversed { from, until }),
        }
    }

    /// The first instant inside.
    pub const fn from(&self) -> WallTime {
        self.from
    }

    /// The first instant after it.
    pub const fn until(&self) -> WallTime {
        self.until
    }

    /// Whether the instant lies inside: the begin does, the end does not.
    pub fn contains(&self, at: WallTime) -> bool {
        self.from <= at && at < self.until
    }

    /// What two windows share, if anything.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        Self::new(self.from.max(other.from), self.until.min(other.until)).ok()
    }

    /// The length.
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.until.0.abs_diff(self.from.0))
    }

    /// The same window on a clock that is ahead of this one by `nanos`; `None` where it falls off the range.
    pub fn shifted(&self, nanos: i64) -> Option<Self> {
        Self::new(self.from.offset(nanos), self.until.offset(nanos)).ok()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.from, self.until)
    }
}

/// How far a node's wall clock is ahead of the collector's, and how wrong that can be.
///
/// `node time = collector time + ahead_nanos`, within ± `bound_nanos`. Measured over the session as half the round
/// trip around the answer with the smallest delay, as in RFC 5905 §8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClockOffset {
    /// Nanoseconds by which the node is ahead; negative when it is behind.
    pub ahead_nanos: i64,
    /// The true value is within this many nanoseconds of it.
    pub bound_nanos: u64,
}

impl ClockOffset {
    /// By how many nanoseconds the node's clock is to be told from the collector's; `None`: an offset within its own bound is
    /// no sign that the two differ. One rule for whoever asks a node and whoever reads what it gave.
    pub fn apart(self) -> Option<i64> {
        (self.ahead_nanos.unsigned_abs() > self.bound_nanos).then_some(self.ahead_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_time_prints_and_parses_to_the_nanosecond() {
        let t = WallTime::from_nanos(1_795_405_450_123_456_789);
        assert_eq!(t.to_string().parse::<WallTime>().unwrap(), t);
        assert_eq!("2026-11-23T03:44:10+01:00".parse::<WallTime>().unwrap().to_string(), "2026-11-23T02:44:10Z");
        assert_eq!("2026-11-23T02:44:10Z".parse::<WallTime>().unwrap().compact(), "20261123T024410Z");
        for edge in [WallTime::MIN, WallTime::MAX] {
            assert_eq!(edge.to_string().parse::<WallTime>().unwrap(), edge);
        }
    }

    #[test]
    fn a_time_without_a_zone_is_refused() {
        for bad in ["2026-11-23T02:44:10", "2026-11-23", "", "now", "9999-01-01T00:00:00Z"] {
            assert!(bad.parse::<WallTime>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_window_holds_its_begin_and_not_its_end() {
        let (a, b) = (WallTime::from_secs(10), WallTime::from_secs(20));
        let w = Window::new(a, b).unwrap();
        assert!(w.contains(a) && !w.contains(b) && w.contains(WallTime::from_nanos(b.nanos() - 1)));
        assert_eq!(Window::new(a, a), Err(InvalidWindow::Empty(a)));
        assert_eq!(Window::new(b, a), Err(InvalidWindow::Reversed { from: b, until: a }));
        assert_eq!(w.intersect(&Window::new(b, WallTime::MAX).unwrap()), None);
    }
}
