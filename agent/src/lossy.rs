//! Bytes that somebody else chose (a process's name, a cgroup's directory, a mount point) as text for labels and rows.
//!
//! Text made here is still untrusted: it may hold control characters, and whoever shows it escapes it.

use std::borrow::Cow;

/// Any bytes as text: what is UTF-8 stays as it is, control characters too; every byte that is not becomes `\xNN`.
///
/// A backslash that was there stays one backslash, because systemd's unit names are full of `\x2d` and must be
/// recognised; so the text is for reading and comparing, and cannot always be turned back into the bytes.
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    Cow::Owned(out)
}

/// The same, cut at a character so that it has at most `cap` bytes.
pub fn capped(bytes: &[u8], cap: usize) -> String {
    // No byte becomes fewer than one, so what lies behind `cap` cannot be in the result; the last character that begins
    // before may take three more.
    let mut text = text(&bytes[..bytes.len().min(cap.saturating_add(3))]).into_owned();
    text.truncate(text.floor_char_boundary(cap));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_that_are_no_utf8_become_escapes_and_the_rest_stays() {
        assert_eq!(text(b"a\xff\xfeb\\x2d\n\x1b"), "a\\xff\\xfeb\\x2d\n\u{1b}");
        assert_eq!(text("süß".as_bytes()), "süß");
        assert_eq!(capped("süß".as_bytes(), 2), "s", "a character is not cut in two");
    }

    proptest! {
        #[test]
        fn any_bytes_become_text_within_the_cap(bytes: Vec<u8>, cap in 0usize..64) {
            prop_assert!(capped(&bytes, cap).len() <= cap);
        }
    }
}
