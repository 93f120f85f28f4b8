//! Names of things that are secret: whether `DB_PASSWORD`, `clientSecret` or `X-Api-Key` is one, and `password_reset`,
//! `tokenType` or `max_tokens` is none.
//!
//! A name counts by how it ends: what stands before says whose secret it is, what stands behind makes it something else.

use std::ops::Range;

use super::rule::{Value, is_word};

/// The most bytes of a name that are looked at on either side of what was found.
const REACH: usize = 64;

/// Shorter names are also the end of ordinary words (`bypass`, `compass`) and must be words of their own.
const SHORT: usize = 4;

/// What may follow without changing what is named: `password_confirmation`, `secret_key_base`, `tokenValue`.
const TRAILERS: &[&str] = &[
    "value",
    "hash",
    "text",
    "plaintext",
    "string",
    "base",
    "base64",
    "b64",
    "encoded",
    "raw",
    "old",
    "new",
    "current",
    "confirm",
    "confirmation",
    "again",
    "repeat",
    "prod",
    "dev",
    "staging",
    "primary",
    "secondary",
    "override",
];

/// A name that a rule looks for.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    /// In lower case, without what joins its words: `apikey`.
    pub(crate) letters: Vec<u8>,
    /// Words that make it harmless when they stand before it: `page` for `token`.
    pub(crate) except: Vec<Vec<u8>>,
    pub(crate) rule: usize,
    pub(crate) value: Value,
}

/// The names of all rules.
#[derive(Debug)]
pub(crate) struct Names {
    /// By their last letter, the longest first.
    by_last: Vec<Vec<Name>>,
}

impl Names {
    pub(crate) fn new(names: Vec<Name>) -> Self {
        let mut by_last = vec![Vec::new(); 256];
        for name in names {
            if let Some(last) = name.letters.last() {
                by_last[usize::from(*last)].push(name);
            }
        }
        by_last.iter_mut().for_each(|names| names.sort_by_key(|n| usize::MAX - n.letters.len()));
        Self { by_last }
    }
}

/// The ways in which the words of a name are joined in writing.
pub(crate) fn spellings(name: &str) -> Vec<String> {
    if name.contains('-') {
        ["", "_", "-", ".", " "].iter().map(|joint| name.replace('-', joint)).collect()
    } else {
        vec![name.to_owned()]
    }
}

/// A name as it stands in a text.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) range: Range<usize>,
    /// Whether it begins with a dash, as options of commands do.
    pub(crate) is_option: bool,
    /// Whether it is written as environment variables are.
    pub(crate) is_variable: bool,
}

impl Written {
    /// Something that is known to be a name.
    pub(crate) fn plain(range: Range<usize>) -> Self {
        Self { range, is_option: false, is_variable: false }
    }

    /// The name around something that was found in it.
    pub(crate) fn around(text: &[u8], found: Range<usize>) -> Self {
        let before =
            text[found.start.saturating_sub(REACH)..found.start].iter().rev().take_while(|b| in_name(**b)).count();
        let mut start = found.start - before;
        // The letter of an escape is not a part of the name: `\npassword`.
        if start < found.start && start > 0 && text[start - 1] == b'\\' && matches!(text[start], b'n' | b't' | b'r') {
            start += 1;
        }
        let after = text[found.end..].iter().take(REACH).take_while(|b| in_name(**b)).count();
        let mut end = found.end + after;
        // `password.` and `password->` end with the word.
        while end > found.end && matches!(text[end - 1], b'.' | b'-' | b'/') {
            end -= 1;
        }
        let dashes = text[start..found.start].iter().take_while(|b| **b == b'-').count();
        let written = &text[start..end];
        Self {
            is_option: dashes > 0
                && (start == 0 || matches!(text[start - 1], b' ' | b'\t' | b'"' | b'\'' | b'[' | b',')),
            is_variable: written.contains(&b'_') && !written.iter().any(u8::is_ascii_lowercase),
            range: start + dashes..end,
        }
    }

    /// Whether nothing that begins with what was found can be a name: another word follows, which is no trailer. A longer
    /// name that goes on with it is found by itself.
    pub(crate) fn is_hopeless(text: &[u8], end: usize) -> bool {
        let rest = &text[end..];
        let rest = match rest {
            [b'_' | b'-' | b'.', rest @ ..] => rest,
            rest => rest,
        };
        let trailer = |t: &str| rest.get(..t.len()).is_some_and(|r| r.eq_ignore_ascii_case(t.as_bytes()));
        rest.first().is_some_and(u8::is_ascii_alphabetic) && !TRAILERS.iter().any(|t| trailer(t))
    }

    /// Which of the names it is: the longest that fits.
    pub(crate) fn which<'n>(&self, text: &[u8], names: &'n Names) -> Option<&'n Name> {
        let mut letters = [0_u8; 3 * REACH];
        let mut length = 0;
        // A bit for each letter that begins a word.
        let mut begins = [false; 3 * REACH];
        let mut last = b'_';
        for byte in text[self.range.clone()].iter().copied() {
            if is_word(byte) && byte != b'_' {
                if length == letters.len() {
                    return None;
                }
                begins[length] =
                    !is_word(last) || last == b'_' || (byte.is_ascii_uppercase() && !last.is_ascii_uppercase());
                letters[length] = byte.to_ascii_lowercase();
                length += 1;
            }
            last = byte;
        }
        let mut rest = &letters[..length];
        // Digits and trailers, but not all day.
        for _ in 0..3 {
            if let Some(name) = fits(rest, &begins, names) {
                return Some(name);
            }
            let digits = rest.iter().rev().take_while(|b| b.is_ascii_digit()).count();
            if digits > 0 {
                rest = &rest[..rest.len() - digits];
            } else if let Some(shorter) =
                TRAILERS.iter().filter_map(|t| rest.strip_suffix(t.as_bytes())).min_by_key(|r| r.len())
            {
                rest = shorter;
            } else {
                return None;
            }
        }
        fits(rest, &begins, names)
    }
}

fn fits<'n>(letters: &[u8], begins: &[bool], names: &'n Names) -> Option<&'n Name> {
    let last = usize::from(*letters.last()?);
    let name = names.by_last[last].iter().find(|n| letters.ends_with(&n.letters))?;
    let begin = letters.len() - name.letters.len();
    let alone = name.letters.len() > SHORT || begins[begin];
    let harmless = name.except.iter().any(|word| letters[..begin].ends_with(word));
    (alone && !harmless).then_some(name)
}

fn in_name(b: u8) -> bool {
    is_word(b) || matches!(b, b'-' | b'.' | b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn which(written: &str, found: &str) -> Option<usize> {
        let names: Vec<Name> = ["password", "pass", "token", "apikey", "secret"]
            .iter()
            .enumerate()
            .map(|(rule, letters)| Name {
                letters: letters.as_bytes().to_vec(),
                except: vec![b"page".to_vec()],
                rule,
                value: Value::Any,
            })
            .collect();
        let names = Names::new(names);
        let at = written.find(found)?;
        let written = written.as_bytes();
        Written::around(written, at..at + found.len()).which(written, &names).map(|n| n.rule)
    }

    #[test]
    fn a_name_counts_by_its_end() {
        for (written, found, rule) in [
            ("DB_PASSWORD", "PASSWORD", Some(0)),
            ("spring.datasource.password", "password", Some(0)),
            ("password_confirmation2", "password", Some(0)),
            ("userPass", "Pass", Some(1)),
            ("\\npass", "pass", Some(1)),
            ("compass", "pass", None),
            ("x-api-key", "api-key", Some(3)),
            ("accessToken", "Token", Some(2)),
            ("pageToken", "Token", None),
            ("token_type", "token", None),
            ("tokens", "token", None),
            ("password_reset", "password", None),
            ("secretName", "secret", None),
            ("password-file", "password", None),
        ] {
            assert_eq!(which(written, found), rule, "{written}");
        }
    }
}
