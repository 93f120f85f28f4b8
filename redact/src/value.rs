//! The value that belongs to a name: what may stand between the two, and how far the value goes, in all the ways in which
//! programs print pairs: `k=v`, `"k":"v"` at any depth of quoting, `k: v`, `--k v`, `k => v`, `<k>v</k>`, `{K:v}`,
//! `("k", "v")`, `name: k, value: v`, and bytes as numbers.

use std::ops::Range;

use super::key::{ends_with_token, token_at};
use super::name::Written;
use super::rule::is_word;
use super::verdict::is_sentence;

/// Blanks that are passed over in one place.
const BLANKS: usize = 32;

/// How far is looked ahead behind a sign that may end a value.
const LOOK_AHEAD: usize = 64;

/// What ties a value to its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// `=`, `:` and the like, or a structure that leaves no doubt.
    Sign,
    /// A colon and a blank, and no quotes: a pair, or the beginning of a sentence.
    Colon,
    /// Nothing but a blank.
    Blank,
}

/// A value as it stands in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) range: Range<usize>,
    pub(crate) link: Link,
    pub(crate) quoted: bool,
}

/// The value that stands behind a name. `to_line_end`: whether it may hold blanks without being quoted.
pub(crate) fn after(text: &[u8], written: &Written, to_line_end: bool) -> Option<Found> {
    let name = &written.range;
    let mut at = name.end;
    let key_quote = quote_at(text, at);
    if let Some(quote) = &key_quote {
        at += quote.slashes + 1;
    }
    if text.get(at) == Some(&b']') {
        at += 1;
    }
    let blank = blanks(text, at);
    let mut link = Link::Sign;
    let element =
        name.start > 0 && text[name.start - 1] == b'<' && text.get(at) == Some(&b'>') && text[name.start] != b'/';
    if element {
        at += 1;
        let end = at + memchr::memchr2(b'<', b'\n', &text[at..])?;
        return Some(Found { range: at..end, link, quoted: true });
    } else if let Some(value) = named_value(text, at) {
        at = value;
    } else if let Some(sign) = sign(text, at + blank) {
        at += blank + sign;
        let blank = blanks(text, at);
        if blank > 0 && text[at - 1] == b':' && key_quote.is_none() {
            link = Link::Colon;
        }
        at += blank;
    } else if let (Some(quote), Some(b',')) = (&key_quote, text.get(at + blank)) {
        // A pair in brackets, or two words of a command; a list of names has commas too.
        let before = name.start.checked_sub(quote.slashes + 2).map(|b| text[b]);
        if !written.is_option && before != Some(b'(') {
            return None;
        }
        at += blank + 1;
        at += blanks(text, at);
        quote_at(text, at)?;
    } else if blank > 0 && key_quote.is_none() {
        at += blank;
        at += filler(&text[at..]);
        link = Link::Blank;
    } else {
        return None;
    }
    if token_at(&text[at..]).is_some() {
        return None;
    }
    // The rest of a line is a lot to look at only to find that it is a sentence.
    let word = text[at..].iter().take(BLANKS).take_while(|b| b.is_ascii_alphabetic() || **b == b'\'').count();
    let pair = matches!(text.get(at + word), Some(b'=' | b':'));
    if to_line_end && link != Link::Sign && !pair && is_sentence(&text[at..at + word]) {
        return None;
    }
    let in_list = name.start > 0 && text[..name.start].trim_ascii_end().ends_with(b";");
    Some(extent(text, at, link, to_line_end, in_list))
}

/// How far the value goes that begins at `at`, whatever it is wrapped in.
pub(crate) fn extent(text: &[u8], at: usize, link: Link, to_line_end: bool, in_list: bool) -> Found {
    let at = unwrap(text, at);
    if let Some(end) = numbers(text, at) {
        return Found { range: at..end, link: Link::Sign, quoted: true };
    }
    // `b'…'`, `u"…"` of Python.
    let prefix =
        usize::from(matches!(text.get(at), Some(b'b' | b'u' | b'r')) && matches!(text.get(at + 1), Some(b'"' | b'\'')));
    if let Some(quote) = quote_at(text, at + prefix) {
        let begin = at + prefix + quote.slashes + 1;
        let end = closing(text, begin, &quote);
        let link = if link == Link::Colon { Link::Sign } else { link };
        return Found { range: begin..end, link, quoted: true };
    }
    let end = if to_line_end { line_value(text, at) } else { bare(text, at) };
    let end = if in_list { list_value(text, at, end) } else { end };
    Found { range: at..end, link, quoted: false }
}

/// What wraps a value and is not a part of it: `Some("…")`, `[…]` of a list with one element, `(`.
fn unwrap(text: &[u8], at: usize) -> usize {
    let mut at = at;
    for _ in 0..2 {
        let rest = &text[at..];
        if token_at(rest).is_some() {
            return at;
        }
        let word = rest.iter().take(BLANKS).take_while(|b| is_word(**b) || **b == b':').count();
        match rest.get(word) {
            Some(b'(') if quote_at(text, at + word + 1).is_some() => at += word + 1,
            Some(b'[') if word == 0 && !rest.get(1).is_some_and(|b| b.is_ascii_digit() || *b == b']') => at += 1,
            _ => return at,
        }
    }
    at
}

/// The end of bytes that are printed as numbers: `[104 117 110]`, `[]uint8{0x68, 0x75}`, `[104,117]`.
fn numbers(text: &[u8], at: usize) -> Option<usize> {
    let rest = &text[at..];
    let opening = match rest {
        [b'[', b'0'..=b'9', ..] => 1,
        [b'[', b']', ..] => 1 + rest.iter().take(BLANKS).position(|b| *b == b'{')?,
        _ => return None,
    };
    let inside =
        rest[opening..].iter().take_while(|b| b.is_ascii_hexdigit() || matches!(b, b' ' | b',' | b'x' | b'X')).count();
    let closed = matches!(rest.get(opening + inside), Some(b']' | b'}') | None);
    (inside > 0 && closed).then_some(at + (opening + inside + 1).min(rest.len()))
}

/// A quotation mark with the backslashes before it, which say how deep it is nested.
#[derive(Debug, Clone, Copy)]
struct Quote {
    mark: u8,
    slashes: usize,
}

fn quote_at(text: &[u8], at: usize) -> Option<Quote> {
    let slashes = text.get(at..)?.iter().take(BLANKS).take_while(|b| **b == b'\\').count();
    let mark = *text.get(at + slashes)?;
    matches!(mark, b'"' | b'\'' | b'`').then_some(Quote { mark, slashes })
}

/// Where the mark stands (with its backslashes) that closes a quotation; without one, the end of the line.
fn closing(text: &[u8], begin: usize, quote: &Quote) -> usize {
    let mut at = begin;
    while let Some(next) = memchr::memchr2(quote.mark, b'\n', &text[at..]) {
        let mark = at + next;
        if text[mark] == b'\n' {
            return mark;
        }
        let slashes = text[begin..mark].iter().rev().take_while(|b| **b == b'\\').count();
        // A backslash in a string of this depth is written with `2 * (depth + 1)`; what is left over escapes the mark.
        if slashes < quote.slashes || (slashes - quote.slashes).is_multiple_of(2 * (quote.slashes + 1)) {
            return mark - slashes.min(quote.slashes);
        }
        at = mark + 1;
    }
    text.len()
}

/// The end of a value without quotes that may hold blanks.
fn line_value(text: &[u8], at: usize) -> usize {
    let rest = &text[at..];
    let mut end = rest.iter().position(|b| matches!(b, b'\n' | b'\r' | b'"' | b'`')).unwrap_or(rest.len());
    while end > 0
        && matches!(rest[end - 1], b' ' | b'\\' | b'\'' | b']' | b'}' | b')')
        && !ends_with_token(&rest[..end])
    {
        end -= 1;
    }
    at + end
}

/// The length of what may stand between a name and a value in a sentence: `is `, `for bob: `.
fn filler(rest: &[u8]) -> usize {
    if rest.starts_with(b"is ") {
        return 3;
    }
    let Some(whom) = rest.strip_prefix(b"for ") else { return 0 };
    let word = whom.iter().take(LOOK_AHEAD).take_while(|b| is_word(**b) || matches!(b, b'-' | b'.' | b'@')).count();
    if word > 0 && whom[word..].starts_with(b": ") { 4 + word + 2 } else { 0 }
}

/// The end of a value in a list with semicolons, where values have blanks in them: `;Password=a b;`.
fn list_value(text: &[u8], at: usize, end: usize) -> usize {
    let rest = &text[at..text.len().min(at + 2 * LOOK_AHEAD)];
    match rest.iter().position(|b| matches!(b, b';' | b'=' | b'"' | b'\\' | b'\n')) {
        Some(sign) if rest[sign] == b';' => end.max(at + sign),
        _ => end,
    }
}

/// The end of a value without quotes. A sign that often stands behind a value ends it only if no more of the value seems
/// to follow: passwords have commas in them.
fn bare(text: &[u8], at: usize) -> usize {
    let mut end = at;
    while let Some(byte) = text.get(end) {
        match byte {
            0..=b' ' | 0x7f => break,
            _ if is_closing(text, end) && closes(text, end) => break,
            b'[' => end += token_at(&text[end..]).unwrap_or(1),
            _ => end += 1,
        }
    }
    end
}

/// Whether the sign here may end a value.
fn is_closing(text: &[u8], at: usize) -> bool {
    match text[at] {
        b'"' | b'\'' | b'`' | b',' | b';' | b'&' | b')' | b']' | b'}' | b'<' | b'>' | b'|' => true,
        b'\\' => matches!(text.get(at + 1), Some(b'"' | b'\'' | b'`' | b'n' | b'r' | b't' | b'\\')),
        _ => false,
    }
}

/// Whether what follows the sign is the end of something, a mark of quotation, or the next pair.
fn closes(text: &[u8], at: usize) -> bool {
    let rest = &text[at..text.len().min(at + LOOK_AHEAD)];
    let mut next = 0;
    while next < rest.len() && is_closing(text, at + next) {
        match rest[next] {
            b'"' | b'`' => return true,
            b'\\' if matches!(rest.get(next + 1), Some(b'n' | b'r' | b't')) => return true,
            b'\\' => next += 2,
            _ => next += 1,
        }
    }
    let Some(first) = rest.get(next) else { return true };
    if *first <= b' ' || *first == b'{' || *first == b'[' {
        return true;
    }
    let word = rest[next..].iter().take_while(|b| is_word(**b) || matches!(b, b'-' | b'.' | b' ')).count();
    word > 0 && matches!(rest.get(next + word), Some(b'=' | b':'))
}

/// The length of a sign that ties a value to a name.
fn sign(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at..)? {
        // A path of Rust or C++, not a pair.
        [b':', b':', ..] => None,
        [b':', b'=', ..] | [b'=', b'>' | b'=', ..] | [b'-' | b'+' | b'?', b'=' | b'>', ..] => Some(2),
        [b'=' | b':', ..] => Some(1),
        _ => None,
    }
}

/// Where the value begins in `name: k, value: v` and its like, if that is what follows.
fn named_value(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at;
    let between =
        text.get(at..)?.iter().take(BLANKS).take_while(|b| matches!(b, b',' | b' ' | b'\t' | b'\r' | b'\n')).count();
    at += between;
    if text.get(at..)?.starts_with(b"\\n") {
        at += 2;
        at += blanks(text, at);
    }
    if let Some(quote) = quote_at(text, at) {
        at += quote.slashes + 1;
    }
    let word = text.get(at..at + 5)?;
    if between == 0 || !word.eq_ignore_ascii_case(b"value") {
        return None;
    }
    at += 5;
    if let Some(quote) = quote_at(text, at) {
        at += quote.slashes + 1;
    }
    at += blanks(text, at);
    at += sign(text, at)?;
    Some(at + blanks(text, at))
}

pub(crate) fn blanks(text: &[u8], at: usize) -> usize {
    text.get(at..).unwrap_or_default().iter().take(BLANKS).take_while(|b| matches!(b, b' ' | b'\t')).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of the name `key` in this text.
    fn value(text: &str) -> Option<&str> {
        let at = text.find("key").unwrap();
        after(text.as_bytes(), &Written::around(text.as_bytes(), at..at + 3), false).map(|f| &text[f.range])
    }

    #[test]
    fn a_value_is_found_however_a_pair_is_written() {
        for (text, expected) in [
            ("key=abc", Some("abc")),
            ("key = abc, next=1", Some("abc")),
            ("key=ab,cd next", Some("ab,cd")),
            ("key=abc,next=1", Some("abc")),
            ("key=abc;Initial Catalog=x;", Some("abc")),
            ("?key=abc&next=1", Some("abc")),
            ("(key=abc) x", Some("abc")),
            ("key: abc", Some("abc")),
            ("key := \"abc\"", Some("abc")),
            ("key => 'a b'", Some("a b")),
            ("[key] => abc", Some("abc")),
            (r#"{"key":"a\"bc","x":1}"#, Some(r#"a\"bc"#)),
            (r#"{"key":"abc\\","x":1}"#, Some(r"abc\\")),
            (r#"{"m":"{\"key\":\"abc\",\"x\":1}"}"#, Some("abc")),
            (r#"{"m":"{\"key\":\"a\\\"bc\"}"}"#, Some(r#"a\\\"bc"#)),
            (r#"{"m":"{\"m\":\"{\\\"key\\\":\\\"abc\\\"}\"}"}"#, Some("abc")),
            (r#"{"m":"key=abc\nnext"}"#, Some("abc")),
            (r#"{"m":"key=abc"}"#, Some("abc")),
            ("{Key:1 key:abc}", Some("abc")),
            ("map[key:[abc] x:[y]]", Some("abc")),
            ("key: Some(\"abc\")", Some("abc")),
            ("{'key': b'abc'}", Some("abc")),
            ("('key', 'abc')", Some("abc")),
            ("[\"--key\",\"abc\"]", Some("abc")),
            ("{\"name\":\"key\",\"value\":\"abc\"}", Some("abc")),
            ("{Name:key,Value:abc,X:nil}", Some("abc")),
            ("- name: key\n  value: abc\n", Some("abc")),
            ("<key>abc</key>", Some("abc")),
            ("key:[104 117 110]", Some("[104 117 110]")),
            ("\"key\":[]uint8{0x68, 0x75}, x", Some("[]uint8{0x68, 0x75}")),
            ("--key abc", Some("abc")),
            ("key::abc", None),
            ("key", None),
            ("key\"", None),
            ("key=", Some("")),
            ("key=[redacted:x:0123456789abcdef]", None),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }
}
