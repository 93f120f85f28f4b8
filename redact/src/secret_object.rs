//! The values of a Kubernetes Secret that was printed: JSON at any depth of quoting, YAML in one record, and the dump of
//! the Go struct. The names of its keys say nothing, so all values go.

use std::ops::Range;
use std::sync::LazyLock;

use regex::bytes::Regex;

use super::name::Written;
use super::rule::is_word;
use super::value;
use super::verdict::is_nothing;

/// Where the values begin: `"data":{`, `\"stringData\": {`, `Data:map[string][]byte{`, or a line `data:` of YAML.
static DATA: LazyLock<Regex> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "a constant, read by the tests")]
    Regex::new(r#"(?-u)(?i)\b(?:string)?data\\*"?[ \t]*:[ \t]*(?:(?:map\[string\][\w\[\]]*)?(\{)|(\r?\n))"#)
        .expect("a regular expression")
});

/// Gives every value of every Secret in a text.
pub(crate) fn values(text: &[u8], take: &mut dyn FnMut(Range<usize>)) {
    let mut done = 0;
    for found in DATA.captures_iter(text) {
        let Some(whole) = found.get(0) else { continue };
        if whole.start() < done {
            continue;
        }
        done = if found.get(1).is_some() {
            braces(text, whole.end(), take)
        } else {
            indented(text, whole.start(), whole.end(), take)
        };
    }
}

/// The values up to the closing brace. Gives where it stands.
fn braces(text: &[u8], begin: usize, take: &mut dyn FnMut(Range<usize>)) -> usize {
    let mut at = begin;
    while let Some(byte) = text.get(at) {
        match byte {
            b'}' => return at,
            b':' => at = one(text, at, take),
            _ => at += 1,
        }
    }
    at
}

/// The values of the lines that are indented deeper than the line `data:`.
fn indented(text: &[u8], data: usize, begin: usize, take: &mut dyn FnMut(Range<usize>)) -> usize {
    let indent = |line: &[u8]| line.iter().take_while(|b| **b == b' ').count();
    let outer = text[..data].iter().rev().take_while(|b| **b == b' ').count();
    let mut at = begin;
    while at < text.len() {
        let end = memchr::memchr(b'\n', &text[at..]).map_or(text.len(), |n| at + n);
        let line = &text[at..end];
        if indent(line) <= outer {
            return at;
        }
        if let Some(colon) = memchr::memchr(b':', line) {
            one(text, at + colon, take);
        }
        at = (end + 1).min(text.len());
    }
    at
}

/// The value behind the colon here. Gives where it ends.
fn one(text: &[u8], colon: usize, take: &mut dyn FnMut(Range<usize>)) -> usize {
    let key = text[..colon].iter().rev().take(256).take_while(|b| !is_word(**b)).count();
    match value::after(text, &Written::plain(colon.saturating_sub(key + 1)..colon - key), false) {
        Some(found) => {
            let end = found.range.end.max(colon + 1);
            if !is_nothing(&text[found.range.clone()]) {
                take(found.range);
            }
            end
        }
        None => colon + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        let mut all = vec![];
        values(text.as_bytes(), &mut |r| all.push(&text[r]));
        all
    }

    #[test]
    fn every_value_of_a_secret_is_found_and_nothing_else_of_it() {
        for text in [
            r#"{"kind":"Secret","data":{"a.conf":"QQ==","tls":"Qg=="},"metadata":{"name":"x"}}"#,
            r#"{"m":"{\"data\":{\"a.conf\":\"QQ==\",\"tls\":\"Qg==\"},\"kind\":\"Secret\"}"}"#,
            "apiVersion: v1\ndata:\n  a.conf: QQ==\n  tls: Qg==\nkind: Secret\nmetadata:\n  name: x\n",
            "&Secret{ObjectMeta:{x},Data:map[string][]byte{a.conf: QQ==,tls: Qg==,},Type:Opaque,}",
        ] {
            assert_eq!(found(text), ["QQ==", "Qg=="], "{text}");
        }
        assert_eq!(found("&Secret{Data:map[string][]uint8{\"a\":[]uint8{0x31, 0x32}}}"), ["[]uint8{0x31, 0x32}"]);
    }
}
