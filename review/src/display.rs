//! Untrusted text made safe for a terminal: the one function through which every byte from a node or an archive goes.
//!
//! An attacker wrote the log line, the process name and perhaps the archive; a terminal obeys escape codes. What is for
//! a file or a pipe is written raw elsewhere (`casefile cat`), never through here.

use std::fmt::Write;

/// The text with everything that a terminal could obey, or that reorders or hides text, as `\u{…}`; tabs stay.
///
/// Escaped are control characters (C0, DEL, C1: among them ESC and CR), bidirectional controls, and what nobody sees: zero-width
/// characters, soft hyphens, fillers, "tag" characters (Unicode TR 36 §2.5, CVE-2021-42574). The page does the same (`ui/dom.js`).
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

/// [`safe`] for a text of a log: what is not UTF-8 stays visible byte by byte, as `\xff`.
pub fn safe_text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for piece in bytes.utf8_chunks() {
        out.push_str(&safe(piece.valid()));
        for byte in piece.invalid() {
            let _infallible = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Bytes that are not UTF-8 as text from which they can be made again: such bytes as `\xff`, a backslash as `\\`.
pub fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for piece in bytes.utf8_chunks() {
        out.push_str(&piece.valid().replace('\\', "\\\\"));
        for byte in piece.invalid() {
            let _infallible = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// JSON that means the same and that no terminal obeys: what [`safe`] escapes is written as JSON has it, `\u202e`. Outside of
/// strings JSON is ASCII, so only texts change.
pub fn safe_json(json: String) -> String {
    if !json.chars().any(|c| !c.is_ascii_graphic() && is_unsafe(c) && c != '\n') {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        // A line end between two values is layout; within a string it is escaped already.
        if is_unsafe(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _infallible = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn is_unsafe(c: char) -> bool {
    (c.is_control() && c != '\t') || HIDDEN.iter().any(|(first, last)| (*first..=*last).contains(&c))
}

/// What reorders text or is not seen (Unicode: Bidi_Control, and of Default_Ignorable_Code_Point all but the selectors of variants that
/// ordinary emoji have), and the two separators at which some take a line for ended.
const HIDDEN: [(char, char); 16] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

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
    fn what_reorders_or_hides_text_is_shown_by_its_number() {
        for (first, last) in HIDDEN {
            for c in [first, last] {
                let shown = safe(&format!("invoice{c}fdp.exe"));
                assert_eq!(shown, format!("invoice\\u{{{:x}}}fdp.exe", u32::from(c)));
            }
        }
    }

    #[test]
    fn bytes_that_are_no_text_stay_visible_and_can_be_made_again() {
        assert_eq!(safe_text(b"a\xff\xc3(\x1b\\n"), "a\\xff\\xc3(\\u{1b}\\n");
        assert_eq!(escaped(b"a\xff\\xff"), "a\\xff\\\\xff");
        assert_eq!(escaped("größer".as_bytes()), "größer");
    }

    #[test]
    fn json_is_obeyed_by_no_terminal_and_means_the_same() {
        let value = serde_json::json!({ "t": "a\x1b[2J\u{9b}31m\u{202e}\u{e0041}\x7f größer\n" });
        for json in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
            let shown = safe_json(json);
            assert!(!shown.chars().any(|c| is_unsafe(c) && c != '\n'), "{shown:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }
        assert_eq!(safe_json("{\"a\":1}".to_owned()), "{\"a\":1}");
    }

    #[test]
    fn ordinary_text_in_any_language_stays() {
        for text in ["plain\ttext", "größer → 日本語 🚀 ❤\u{fe0f}", ""] {
            assert_eq!(safe(text), text);
        }
        assert_eq!(safe_bytes(b"ok\xff"), "ok\u{fffd}");
    }
}
