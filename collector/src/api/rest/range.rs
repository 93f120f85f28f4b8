//! Which part of a file is wanted (RFC 9110 §13 and §14): `Range` with one range of bytes, `If-Range`, `If-None-Match`. Pure.
//!
//! A range that makes no sense, and more than one, are as if none was asked: the whole is answered, which the RFC allows. What
//! is served never changes under its tag, the digest of its bytes, so the tag is a strong one.

use std::ops::Range;

use axum::http::header::{self, HeaderMap};

use super::single;

/// What is to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Everything.
    Whole,
    /// This part; never empty.
    Part(Range<u64>),
    /// A part that there is not.
    Nowhere,
    /// Nothing: whoever asks has it.
    Known,
}

/// What these headers want of a file of this size with this tag.
pub(super) fn wanted(headers: &HeaderMap, size: u64, tag: &str) -> Wanted {
    if let Some(known) = single(headers, header::IF_NONE_MATCH)
        && known.split(',').map(str::trim).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
    {
        return Wanted::Known;
    }
    // The part of another file than the one that the rest is of would be worse than the whole.
    if headers.contains_key(header::IF_RANGE) && single(headers, header::IF_RANGE) != Some(tag) {
        return Wanted::Whole;
    }
    let range = single(headers, header::RANGE).and_then(|range| {
        let (unit, range) = range.split_once('=')?;
        unit.trim().eq_ignore_ascii_case("bytes").then_some(range.trim())?.split_once('-')
    });
    let Some((from, until)) = range else { return Wanted::Whole };
    match (number(from), number(until)) {
        (Some(Some(from)), Some(last)) if last.is_none_or(|last| from <= last) => {
            let until = last.map_or(size, |last| last.saturating_add(1).min(size));
            if from < until { Wanted::Part(from..until) } else { Wanted::Nowhere }
        }
        (Some(None), Some(Some(last))) => {
            let from = size.saturating_sub(last);
            if from < size { Wanted::Part(from..size) } else { Wanted::Nowhere }
        }
        _ => Wanted::Whole,
    }
}

/// A number, or nothing where nothing is said. `None`: it is neither.
fn number(text: &str) -> Option<Option<u64>> {
    match text.trim() {
        "" => Some(None),
        text if text.bytes().all(|b| b.is_ascii_digit()) => Some(Some(text.parse().unwrap_or(u64::MAX))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "\"abc\"";

    fn asked(size: u64, headers: &[(&'static str, &str)]) -> Wanted {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        wanted(&map, size, TAG)
    }

    #[test]
    fn one_range_is_answered_as_the_rfc_says() {
        let range = |text| asked(100, &[("range", text)]);
        for (text, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=0-99", 0..100),
            ("bytes=10-", 10..100),
            ("bytes=99-1000", 99..100),
            ("bytes=-1", 99..100),
            ("bytes=-1000", 0..100),
            ("Bytes= 5 - 9 ", 5..10),
            ("bytes=0-99999999999999999999999999", 0..100),
        ] {
            assert_eq!(range(text), Wanted::Part(part), "{text}");
        }
        for text in ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=99999999999999999999999999-"] {
            assert_eq!(range(text), Wanted::Nowhere, "{text}");
        }
        for text in ["bytes=", "bytes=-", "bytes=9-5", "bytes=a-b", "bytes=0-1,5-6", "lines=0-1", "0-1", "bytes=+1-2"] {
            assert_eq!(range(text), Wanted::Whole, "{text}");
        }
        assert_eq!(asked(0, &[("range", "bytes=0-")]), Wanted::Nowhere);
        assert_eq!(asked(100, &[("range", "bytes=0-1"), ("range", "bytes=2-3")]), Wanted::Whole);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_asked_the_part_lies_within_the_file(text in "(bytes)?=?[0-9a-z ,=-]{0,40}", size in 0u64..200) {
            if let Wanted::Part(part) = asked(size, &[("range", &text)]) {
                proptest::prop_assert!(part.start < part.end && part.end <= size);
            }
        }
    }

    #[test]
    fn a_part_is_given_only_of_the_file_that_the_rest_is_of() {
        let part = Wanted::Part(0..2);
        assert_eq!(asked(9, &[("range", "bytes=0-1"), ("if-range", TAG)]), part);
        for other in ["\"abd\"", "W/\"abc\"", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            assert_eq!(asked(9, &[("range", "bytes=0-1"), ("if-range", other)]), Wanted::Whole, "{other}");
        }
        for known in [TAG, "*", "W/\"abc\"", "\"x\", \"abc\""] {
            assert_eq!(asked(9, &[("if-none-match", known)]), Wanted::Known, "{known}");
        }
        assert_eq!(asked(9, &[("if-none-match", "\"x\"")]), Wanted::Whole);
    }
}
