//! Passwords in addresses: `scheme://user:password@host`, and tokens that stand there alone.

use std::ops::Range;

use super::key::token_at;
use super::verdict::is_nothing;

/// The longest part of an address before its host.
const MAX_AUTHORITY: usize = 512;

/// A user name that is longer than this and has letters and digits is a token.
const TOKEN: usize = 20;

/// The secret of the address whose `://` ends at `at`.
pub(crate) fn secret(text: &[u8], at: usize) -> Option<Range<usize>> {
    let rest = &text[at..text.len().min(at + MAX_AUTHORITY)];
    let word = rest
        .iter()
        .position(|b| *b <= b' ' || matches!(b, b'"' | b'\'' | b'`' | b'<' | b'>' | b'\\'))
        .unwrap_or(rest.len());
    let word = &rest[..word];
    // A `#` or `?` before the last `@` is rather a part of a password than the end of a host.
    let last = memchr::memrchr(b'@', word).unwrap_or(0);
    let ends_host = |(at, b): (usize, &u8)| *b == b'/' || (at > last && matches!(b, b'?' | b'#'));
    let host = word.iter().enumerate().position(ends_host).unwrap_or(word.len());
    let colon = word[..host].iter().position(|b| matches!(b, b':' | b'@'))?;
    let (begin, end) = if word[colon] == b'@' {
        (0, colon)
    } else {
        let sign = match memchr::memrchr(b'@', &word[..host]) {
            Some(sign) => sign,
            // A password with a `/` in it, unless the colon was that of a port.
            None if word[colon + 1..host].iter().all(u8::is_ascii_digit) => return None,
            None if word.first() == Some(&b'[') => return None,
            None => memchr::memrchr(b'@', word)?,
        };
        if sign < colon {
            return None;
        }
        (colon + 1, sign)
    };
    let secret = &word[begin..end];
    let token = begin > 0
        || secret.len() >= TOKEN
            && secret.iter().any(u8::is_ascii_digit)
            && secret.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let placeholder = is_nothing(secret)
        || token_at(secret).is_some()
        || matches!(secret, [b'$' | b'{' | b'<', ..] | [b'%', b's' | b'v']);
    (token && !placeholder).then_some(at + begin..at + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_an_address_is_found_and_no_port_or_path() {
        for (text, expected) in [
            ("postgres://app:hunter2@db:5432/x", Some("hunter2")),
            ("redis://:hunter2@cache", Some("hunter2")),
            ("amqp://u:p@ss@host/", Some("p@ss")),
            ("mysql://u:p/ss@host/", Some("p/ss")),
            ("mysql://u:p@s#s@host/", Some("p@s#s")),
            ("http://u:p@host/path/@x", Some("p")),
            ("https://0123456789abcdefghij0123@github.com/x", Some("0123456789abcdefghij0123")),
            ("https://git@github.com/x", None),
            ("http://host:8080/@scope/name", None),
            ("http://[::1]:8080/@x", None),
            ("http://host/a:b@c", None),
            ("http://u:***@host", None),
            ("http://u:${PASS}@host", None),
            ("http://%s:%s@host", None),
            ("http://u:[redacted:x:0123456789abcdef]@host", None),
        ] {
            let at = text.find("://").unwrap() + 3;
            assert_eq!(secret(text.as_bytes(), at).map(|r| &text[r]), expected, "{text}");
        }
    }
}
