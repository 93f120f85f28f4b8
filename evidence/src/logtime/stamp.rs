//! Times as logs write them, read from the bytes at which they begin. Pure, and total on any bytes; nothing is invented
//! for what a time does not say: a year or a zone that is not there is left to [`super::style`].

use casefile_proto::time::{NANOS_PER_SEC, WallTime};

/// A date and time with a zone: RFC 3339, with any of `T`, `t` and a space before the time, `-` or `/` in the date, `.` or
/// `,` before the fraction, and a zone such as `Z`, ` UTC`, `+01:00`, ` +0100`. Gives the time and how many bytes it took.
///
/// `minute` and `nanos` are the last minute that was computed, as text and in nanoseconds; begin with zeros.
pub fn zoned(text: &[u8], minute: &mut [u8; 16], nanos: &mut i64) -> Option<(WallTime, usize)> {
    let head: &[u8; 16] = text.first_chunk()?;
    if head != minute {
        *nanos = minute_of(head)?.utc_nanos()?;
        *minute = *head;
    }
    let (second, used) = seconds(&text[16..])?;
    let used = 16 + used;
    let (offset, zone) = zone_offset(&text[used..])?;
    let at = nanos.checked_add(second)?.checked_sub(offset * NANOS_PER_SEC)?;
    Some((WallTime::from_nanos(at), used + zone))
}

/// Year to minute of some calendar; the ranges of hour and minute were checked, those of the day by [`Civil::is_date`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Civil {
    pub(super) year: i32,
    pub(super) month: u32,
    pub(super) day: u32,
    pub(super) hour: u32,
    pub(super) minute: u32,
}

/// A minute and the nanoseconds within it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Second {
    pub(super) minute: Civil,
    pub(super) nanos: i64,
}

impl Civil {
    pub(super) fn is_date(&self) -> bool {
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let days = match self.month {
            4 | 6 | 9 | 11 => 30,
            2 => 28 + u32::from(leap),
            1..=12 => 31,
            _ => 0,
        };
        (1..=days).contains(&self.day)
    }

    /// Days are counted from 1 March of year 0, so that the leap day is the last of its year.
    pub(super) fn utc_nanos(&self) -> Option<i64> {
        if !self.is_date() {
            return None;
        }
        let year = i64::from(self.year) - i64::from(self.month <= 2);
        let month = i64::from((self.month + 9) % 12);
        let day_of_year = (153 * month + 2) / 5 + i64::from(self.day) - 1;
        let day = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year;
        let since_1970 = day - 719_468;
        let minutes = (since_1970 * 24 + i64::from(self.hour)) * 60 + i64::from(self.minute);
        minutes.checked_mul(60 * NANOS_PER_SEC)
    }
}

/// `2026-11-23T02:44`.
fn minute_of(text: &[u8; 16]) -> Option<Civil> {
    let [a, b, c, d, y, m1, m2, e, d1, d2, t, h1, h2, colon, n1, n2] = *text;
    if !(matches!((y, e), (b'-', b'-') | (b'/', b'/')) && matches!(t, b'T' | b't' | b' ') && colon == b':') {
        return None;
    }
    let two = |a: u8, b: u8| Some(digit(a)? * 10 + digit(b)?);
    let (hour, minute) = (two(h1, h2)?, two(n1, n2)?);
    let civil = Civil {
        year: (two(a, b)? * 100 + two(c, d)?).cast_signed(),
        month: two(m1, m2)?,
        day: two(d1, d2)?,
        hour,
        minute,
    };
    (hour < 24 && minute < 60 && civil.is_date()).then_some(civil)
}

/// `:10.123456789` in nanoseconds, and its length. A leap second (60) counts as the second after 59.
fn seconds(text: &[u8]) -> Option<(i64, usize)> {
    let [b':', s1, s2, rest @ ..] = text else { return None };
    let whole = digit(*s1)? * 10 + digit(*s2)?;
    if whole > 60 {
        return None;
    }
    let (nanos, used) = fraction(rest);
    Some((i64::from(whole) * NANOS_PER_SEC + nanos, 3 + used))
}

/// `.123456789` in nanoseconds, and its length; digits after the ninth are passed over.
fn fraction(text: &[u8]) -> (i64, usize) {
    const POWERS: [i64; 10] = [1_000_000_000, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];
    let [b'.' | b',', digits @ ..] = text else { return (0, 0) };
    let (mut nanos, mut used) = (0, 0);
    for n in digits.iter().map_while(|b| digit(*b)) {
        if used < 9 {
            nanos = nanos * 10 + i64::from(n);
        }
        used += 1;
    }
    let nanos = nanos * POWERS[used.min(9)];
    if used == 0 { (0, 0) } else { (nanos, used + 1) }
}

/// A zone in seconds east of UTC, and its length.
pub(super) fn zone_offset(text: &[u8]) -> Option<(i64, usize)> {
    let space = usize::from(text.first() == Some(&b' '));
    let text = &text[space..];
    let ends = |after: usize| text.get(after).is_none_or(|b| !b.is_ascii_alphanumeric());
    let (east, used) = match text {
        [b'Z' | b'z', ..] if ends(1) => (0, 1),
        [b'U', b'T', b'C', ..] | [b'G', b'M', b'T', ..] if ends(3) => (0, 3),
        [sign @ (b'+' | b'-'), h1, h2, rest @ ..] => {
            let hours = digit(*h1)? * 10 + digit(*h2)?;
            let (minutes, used) = match rest {
                [b':', m1, m2, ..] => (digit(*m1)? * 10 + digit(*m2)?, 6),
                [m1, m2, ..] if digit(*m1).is_some() => (digit(*m1)? * 10 + digit(*m2)?, 5),
                // `02:44:10 -15 …` is a text that goes on, not a zone of hours.
                _ if space == 1 => return None,
                _ => (0, 3),
            };
            if hours > 18 || minutes > 59 || !ends(used) {
                return None;
            }
            let seconds = i64::from(hours * 3600 + minutes * 60);
            (if *sign == b'-' { -seconds } else { seconds }, used)
        }
        _ => return None,
    };
    Some((east, space + used))
}

/// `2026-11-23 02:44:10,123`.
pub(super) fn date_time(text: &[u8]) -> Option<(Second, usize)> {
    let minute = minute_of(text.first_chunk()?)?;
    let (nanos, used) = seconds(&text[16..])?;
    Some((Second { minute, nanos }, 16 + used))
}

/// `Nov  3 02:44:10`, perhaps with a fraction. The length is without the fraction. The year is to be found.
pub(super) fn syslog(text: &[u8]) -> Option<(Second, usize)> {
    const MONTHS: [&[u8; 3]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let [m1, m2, m3, b' ', d1, d2, b' ', h1, h2, b':', n1, n2, rest @ ..] = text else { return None };
    let month = MONTHS.iter().zip(1..).find(|(name, _)| ***name == [*m1, *m2, *m3])?.1;
    let day = if *d1 == b' ' { 0 } else { digit(*d1)? * 10 } + digit(*d2)?;
    let (hour, minute) = (digit(*h1)? * 10 + digit(*h2)?, digit(*n1)? * 10 + digit(*n2)?);
    let (nanos, _) = seconds(rest)?;
    let civil = Civil { year: 2000, month, day, hour, minute };
    (hour < 24 && minute < 60 && civil.is_date()).then_some((Second { minute: civil, nanos }, 15))
}

/// `I1123 02:44:10.123456`.
pub(super) fn klog(text: &[u8]) -> Option<Second> {
    let [b'I' | b'W' | b'E' | b'F', m1, m2, d1, d2, b' ', h1, h2, b':', n1, n2, rest @ ..] = text else { return None };
    let two = |a: u8, b: u8| Some(digit(a)? * 10 + digit(b)?);
    let (hour, minute) = (two(*h1, *h2)?, two(*n1, *n2)?);
    let minute = Civil { year: 2000, month: two(*m1, *m2)?, day: two(*d1, *d2)?, hour, minute };
    let (nanos, used) = seconds(rest)?;
    (used > 3 && minute.hour < 24 && minute.minute < 60 && minute.is_date()).then_some(Second { minute, nanos })
}

/// 10, 13, 16 or 19 digits; after 10 a fraction. Times from 2001 to 2096.
pub(super) fn epoch(text: &[u8]) -> Option<WallTime> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let number = text[..digits].iter().try_fold(0_i64, |n, b| n.checked_mul(10)?.checked_add(i64::from(b - b'0')))?;
    let rest = &text[digits..];
    if rest.first().is_some_and(u8::is_ascii_alphanumeric) || !(b'1'..=b'3').contains(text.first()?) {
        return None;
    }
    let nanos = match digits {
        10 => number.checked_mul(NANOS_PER_SEC)?.checked_add(fraction(rest).0)?,
        13 => number.checked_mul(1_000_000)?,
        16 => number.checked_mul(1_000)?,
        19 => number,
        _ => return None,
    };
    Some(WallTime::from_nanos(nanos))
}

fn digit(b: u8) -> Option<u32> {
    let n = b.wrapping_sub(b'0');
    (n < 10).then_some(u32::from(n))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::*;

    proptest! {
        #[test]
        fn every_time_that_can_be_written_is_read_back(nanos in 0_i64..4_102_444_800_000_000_000) {
            let time = WallTime::from_nanos(nanos);
            let text = format!("{time} x");
            let (read, used) = zoned(text.as_bytes(), &mut [0; 16], &mut 0).unwrap();
            assert_eq!((read, used), (time, text.len() - 2));
        }
    }
}
