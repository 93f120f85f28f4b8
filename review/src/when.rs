//! Times as people type them: RFC 3339, `now`, `10m`, `10m ago`, `03:12Z`, and a window around one of them.
//!
//! Pure: the present is an argument. A time without a zone is refused, because the three people who read it at night
//! sit in three zones.

use std::time::Duration;

use casefile_proto::time::{InvalidWindow, WallTime, Window};

/// Why a text is no time, with what to type instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWhen {
    /// It is no time in any form that we know.
    #[error("{0:?} is no time: say 10m (ago), 2026-11-23T03:12:00Z, 03:12Z or now")]
    Time(String),
    /// It is no length of time.
    #[error("{0:?} is no length of time: say 90s, 15m, 2h or 1d")]
    Length(String),
    /// It is no `TIME±LENGTH`.
    #[error("{0:?} is no window around a time: say 03:12Z±15m (or 03:12Z+-15m)")]
    Around(String),
    /// The window is empty or reversed.
    #[error(transparent)]
    Window(#[from] InvalidWindow),
}

/// A length of time: `90s`, `15m`, `2h`, `1d`, `1h30m`, `250ms`. Positive.
pub fn length(text: &str) -> Result<Duration, InvalidWhen> {
    let bad = || InvalidWhen::Length(text.chars().take(64).collect());
    let mut rest = text.trim();
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
        let unit: u128 = match &rest[digits..digits + letters] {
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" | "min" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            _ => return Err(bad()),
        };
        nanos += u128::from(number) * unit;
        rest = &rest[digits + letters..];
    }
    match u64::try_from(nanos) {
        Ok(0) | Err(_) => Err(bad()),
        Ok(n) => Ok(Duration::from_nanos(n)),
    }
}

/// A point in time, seen from `now`: a bare length and `LENGTH ago` lie in the past; `+LENGTH` in the future;
/// a time of day with a zone is the nearest one that is not in the future.
pub fn time(text: &str, now: WallTime) -> Result<WallTime, InvalidWhen> {
    let trimmed = text.trim();
    let bad = || InvalidWhen::Time(text.chars().take(64).collect());
    if trimmed.eq_ignore_ascii_case("now") {
        return Ok(now);
    }
    if let Some(ahead) = trimmed.strip_prefix('+') {
        return length(ahead).map(|d| now.after(d)).map_err(|_| bad());
    }
    if let Ok(back) = length(trimmed.strip_suffix("ago").unwrap_or(trimmed)) {
        return Ok(now.before(back));
    }
    if let Ok(at) = trimmed.parse() {
        return Ok(at);
    }
    time_of_day(trimmed, now).ok_or_else(bad)
}

/// `03:12Z`, `03:12:30+01:00`: on the day of `now`, or the day before when that would lie in the future.
fn time_of_day(text: &str, now: WallTime) -> Option<WallTime> {
    let zone = text.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = text.split_at(zone);
    let clock = if clock.len() == 5 { format!("{clock}:00") } else { clock.to_owned() };
    let today: String = now.to_string().chars().take(10).collect();
    let at: WallTime = format!("{today}T{clock}{zone}").parse().ok()?;
    Some(if at > now { at.before(Duration::from_secs(86_400)) } else { at })
}

/// `TIME±LENGTH` (or `TIME+-LENGTH`): the window of that length on both sides.
pub fn around(text: &str, now: WallTime) -> Result<Window, InvalidWhen> {
    let (at, by) = text
        .split_once('±')
        .or_else(|| text.split_once("+-"))
        .or_else(|| text.split_once("+/-"))
        .ok_or_else(|| InvalidWhen::Around(text.chars().take(64).collect()))?;
    let (at, by) = (time(at, now)?, length(by)?);
    Ok(Window::new(at.before(by), at.after(by))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> WallTime {
        "2026-11-23T03:14:00Z".parse().unwrap()
    }

    #[test]
    fn times_are_read_as_people_type_them() {
        for (text, meant) in [
            ("now", "2026-11-23T03:14:00Z"),
            ("10m", "2026-11-23T03:04:00Z"),
            ("10m ago", "2026-11-23T03:04:00Z"),
            ("1h30m ago", "2026-11-23T01:44:00Z"),
            ("+5m", "2026-11-23T03:19:00Z"),
            ("03:12Z", "2026-11-23T03:12:00Z"),
            ("23:50Z", "2026-11-22T23:50:00Z"),
            ("04:10:30+01:00", "2026-11-23T03:10:30Z"),
            ("2026-11-23T04:00:00+01:00", "2026-11-23T03:00:00Z"),
        ] {
            assert_eq!(time(text, now()).unwrap().to_string(), meant, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_time_is_refused_and_not_guessed() {
        for bad in [
            "",
            "yesterday",
            "03:12",
            "2026-11-23 03:12",
            "10",
            "10x",
            "-5m",
            "0m",
            "99999999999999999999d",
            "25:00Z",
            "ago",
        ] {
            assert!(time(bad, now()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_window_around_a_time_has_the_length_on_both_sides() {
        for text in ["03:00Z±15m", "03:00Z+-15m"] {
            assert_eq!(around(text, now()).unwrap().to_string(), "[2026-11-23T02:45:00Z, 2026-11-23T03:15:00Z)");
        }
        assert!(around("03:00Z", now()).is_err());
    }
}
