//! Untrusted text made safe for a terminal: the one function through which every byte from a node or an archive goes.
//!
//! An attacker wrote the log line, the process name and perhaps the archive; a terminal obeys escape codes. What is for
//! a file or a pipe is written raw elsewhere (`casefile cat`), never through here.

use std::fmt::Write;

/// The text with everything that a terminal could obey, or that reorders or hides text, as `\u{…}`; tabs stay.
///
/// Escaped are control characters (C0, DEL, C1: among them ESC and CR), bidirectional controls, zero-width characters
/// and the invisible "tag" characters (Unicode TR 36 §2.5, CVE-2021-42574).
pub fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            // Writing to a String does not fail.
            let _infallible = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// [`safe`] for bytes: what is not UTF-8 becomes U+FFFD first.
pub fn safe_bytes(bytes: &[u8]) -> String {
    safe(&String::from_utf8_lossy(bytes))
}

fn is_unsafe(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_survives() {
        let hostile = "a\x1b[2J\x1b]0;owned\x07b\r\nc\u{9b}31m\u{202e}txt.exe\u{200b}\u{e0041}\0";
        let shown = safe(hostile);
        assert!(!shown.chars().any(is_unsafe), "{shown:?}");
        assert!(shown.starts_with("a\\u{1b}[2J"), "{shown}");
        assert!(shown.contains("\\u{202e}"));
    }

    #[test]
    fn ordinary_text_in_any_language_stays() {
        for text in ["plain\ttext", "größer → 日本語 🚀", ""] {
            assert_eq!(safe(text), text);
        }
        assert_eq!(safe_bytes(b"ok\xff"), "ok\u{fffd}");
    }
}
