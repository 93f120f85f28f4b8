//! Whether a value is a secret: not empty, not a placeholder, not the next word of a sentence, not the name of something.
//!
//! What is doubtful counts as a secret where the name leaves no doubt (`password=`), and as none where the name is a word
//! of everyday logs (`token`, `secret`).

use std::sync::LazyLock;

use super::key::next_token;
use super::rule::{Value, is_word};
use super::value::{Found, Link};

/// What stands where a secret would stand, if there is none. In lower case.
static NOTHING: Words = Words(LazyLock::new(|| {
    sorted(
        concat!(
            "null|nil|none|<nil>|<none>|<null>|undefined|unset|empty|true|false|yes|no|on|off|enabled|disabled|redacted",
            "|[redacted]|<redacted>|filtered|[filtered]|hidden|<hidden>|masked|removed|[removed]|omitted|<omitted>",
            "|sensitive|(sensitive)|(sensitive value)|<sensitive>|secret|password|string|str|[]byte|bytes|object|int|bool",
            "|boolean|optional|required|n/a|na|tbd|todo|-|--|?|<set>|<unset>|not set|***redacted***|[[redacted]]",
            "|[sensitive]|[hidden]|[masked]|<secret>|<password>|<token>|base64|prompt|stdin|vault|env|default|unknown",
            "|bearer|basic|opaque",
        ),
        '|',
    )
}));

/// Words with which a sentence goes on. In lower case.
static WORDS: Words = Words(LazyLock::new(|| {
    sorted(
        concat!(
            "a about access after again against already an and are as at auth authentication be because been before but",
            " by can cannot can't change changed check configured could couldn't created deleted denied did does doesn't",
            " don't either error exceeded exists expected expired expires failed failure for found from get given got had",
            " has have http if in incorrect invalid is isn't issued it length less login malformed match matched may",
            " mismatch missing must network needs new no not of ok on only or passed permission please policy protected",
            " provided read refresh rejected request required reset retry rotation server should since status",
            " successfully that the then they this to too unable unauthorized unexpected update updated user using valid",
            " validation verification verified was wasn't were when which while will with without wrong you your",
        ),
        ' ',
    )
}));

/// The longest name of an object.
const MAX_NAME: usize = 512;

/// How a shorter value is told from words and numbers.
const SHORT: usize = 6;

/// Whether this value is to be masked.
pub(crate) fn is_secret(text: &[u8], found: &Found, kind: Value, strong: bool) -> bool {
    let value = &text[found.range.clone()];
    // What is masked in it already says nothing about the rest.
    let value = &value[..next_token(value, 0).map_or(value.len(), |t| t.start)];
    if is_nothing(value) {
        return false;
    }
    if value.len() <= 64 && (is_template(value) || is_pointer(value)) {
        return false;
    }
    if !found.quoted && kind != Value::Line && value.len() <= MAX_NAME && is_path(value) {
        return false;
    }
    let sentence = value.split(|b| matches!(b, b' ' | b',' | b'.' | b';' | b':')).next().unwrap_or_default();
    let goes_on = is_sentence(sentence);
    match found.link {
        Link::Sign => {
            if found.quoted && goes_on && value.contains(&b' ') {
                return false;
            }
        }
        Link::Colon if goes_on => return false,
        Link::Colon => {}
        Link::Blank if goes_on || value.starts_with(b"-") => return false,
        Link::Blank if strong => {}
        Link::Blank if kind == Value::Line => return false,
        // A name and a word: only what cannot be a word.
        Link::Blank => {
            let enough = if kind == Value::Opaque { 16 } else { SHORT };
            return (found.quoted && kind == Value::Any)
                || value.len() >= enough && is_mixed(value) && !is_object_name(value) && !value.contains(&b'=');
        }
    }
    match kind {
        Value::Any => true,
        // A switch or a count, such as `tcp_syncookies = 1`: nothing that opens a door is as short as that.
        Value::Line => value.len() > 3 || !value.iter().all(u8::is_ascii_digit),
        Value::Opaque => is_opaque(value),
    }
}

/// Words before a credential that say how it is to be used.
static SCHEMES: Words = Words(LazyLock::new(|| {
    sorted("bearer basic token digest negotiate ntlm apikey bot geniekey ssws aws4-hmac-sha256", ' ')
}));

/// The length of the scheme that a value begins with, with the blanks behind it; the whole of it if it is one.
pub(crate) fn scheme(value: &[u8]) -> usize {
    let word = value.iter().take(20).take_while(|b| b.is_ascii_alphanumeric() || **b == b'-').count();
    if !SCHEMES.hold(&value[..word]) || !matches!(value.get(word), None | Some(b' ' | b'+')) {
        return 0;
    }
    word + value[word..].iter().take_while(|b| **b == b' ').count()
}

/// Whether this is a word with which sentences go on.
pub(crate) fn is_sentence(word: &[u8]) -> bool {
    WORDS.hold(word)
}

/// Whether nothing secret can be in this: empty, masked already, or a word that stands for a missing value.
pub(crate) fn is_nothing(value: &[u8]) -> bool {
    let stars = value.iter().all(|b| matches!(b, b'*' | b'.' | b'x' | b'X' | b'-' | b'_' | b'#' | b'?'));
    stars || NOTHING.hold(value)
}

/// Words to be looked up without regard to case.
struct Words(LazyLock<Vec<&'static [u8]>>);

impl Words {
    /// The longest word that is looked up.
    const LONGEST: usize = 24;

    fn hold(&self, word: &[u8]) -> bool {
        let mut folded = [0; Self::LONGEST];
        let Some(folded) = folded.get_mut(..word.len()) else { return false };
        folded.copy_from_slice(word);
        folded.make_ascii_lowercase();
        self.0.binary_search(&&*folded).is_ok()
    }
}

fn sorted(list: &'static str, joint: char) -> Vec<&'static [u8]> {
    let mut words: Vec<_> = list.split(joint).map(str::as_bytes).collect();
    words.sort_unstable();
    words
}

/// `${VAR}`, `$(cmd)`, `{{ .Values.x }}`, `%s`, `%{x}`, `<your-token>`, `$VAR`.
fn is_template(value: &[u8]) -> bool {
    match value {
        [b'$', b'{' | b'(', rest @ ..] => {
            rest.iter().all(|b| is_word(*b) || matches!(b, b'}' | b')' | b'.' | b'-' | b':'))
        }
        [b'{', b'{', ..] | [b'%', b'{' | b'(', ..] | [b'{', .., b'}'] | [b'<', .., b'>'] => true,
        [b'<', rest @ ..] => rest.iter().all(|b| is_word(*b) || *b == b'-'),
        [b'{'] | [b'['] | [b'&'] | [b'|'] | [b'>'] => true,
        [b'%', b's' | b'v' | b'q' | b'd'] => true,
        [b'$', rest @ ..] => !rest.is_empty() && rest.iter().all(|b| b.is_ascii_uppercase() || *b == b'_'),
        _ => false,
    }
}

/// `0xc000124000`: where something lies in memory.
fn is_pointer(value: &[u8]) -> bool {
    let digits = value.strip_prefix(b"&").unwrap_or(value).strip_prefix(b"0x").unwrap_or_default();
    (6..=16).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit)
}

/// A path of a file or an address of a service: two parts or more, none of them like a secret.
fn is_path(value: &[u8]) -> bool {
    let scheme = value.iter().take(16).take_while(|b| b.is_ascii_lowercase() || matches!(b, b'+' | b'-')).count();
    if scheme > 1 && value[scheme..].starts_with(b"://") {
        return true;
    }
    let begins =
        value.starts_with(b"/") || value.starts_with(b"./") || value.starts_with(b"~/") || value.starts_with(b"../");
    begins
        && value.len() > 1
        && value.split(|b| *b == b'/').all(|part| !is_mixed_case(part) || part.len() < 12)
        && !value.contains(&b'+')
}

/// Has a digit and a letter, or something that is neither.
fn is_mixed(value: &[u8]) -> bool {
    let digit = value.iter().any(u8::is_ascii_digit);
    let letter = value.iter().any(u8::is_ascii_alphabetic);
    digit && letter
}

fn is_mixed_case(value: &[u8]) -> bool {
    value.iter().any(u8::is_ascii_digit)
        && value.iter().any(u8::is_ascii_uppercase)
        && value.iter().any(u8::is_ascii_lowercase)
}

/// A value that no person would have thought of as a word or a name.
fn is_opaque(value: &[u8]) -> bool {
    if value.len() < SHORT || is_object_name(value) {
        return false;
    }
    if value.iter().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'v')) {
        return value.len() >= 2 * SHORT || value.iter().all(u8::is_ascii_digit);
    }
    let cases = value.iter().any(u8::is_ascii_uppercase) && value.iter().any(u8::is_ascii_lowercase);
    is_mixed(value) || (value.len() >= 16 && cases && !value.contains(&b' ')) || value.len() >= 32
}

/// The name of an object of Kubernetes or of a file, a class, a topic: parts in letters, one of which can be spoken.
pub(crate) fn is_object_name(value: &[u8]) -> bool {
    let plain = value.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'/' | b'_' | b':' | b'@'));
    let joined = value.iter().any(|b| matches!(b, b'-' | b'.' | b'/' | b':'));
    // Nothing of the length of a key is a part of a name.
    let short = value.split(|b| !b.is_ascii_alphanumeric()).all(|part| part.len() < 16 || !is_mixed(part));
    value.len() <= MAX_NAME
        && plain
        && joined
        && short
        && (is_label(value) || value.split(|b| !b.is_ascii_alphanumeric()).any(is_spoken))
}

/// `tls-2djhr`: small parts in small letters and digits, one of them a word.
fn is_label(value: &[u8]) -> bool {
    let mut parts = value.split(|b| *b == b'-');
    let small = |p: &[u8]| p.len() <= 10 && p.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    parts.clone().all(small) && parts.any(|p| p.len() >= 3 && p.iter().all(u8::is_ascii_lowercase))
}

/// Three letters or more of one case, with a vowel.
fn is_spoken(part: &[u8]) -> bool {
    let rest = part.get(1..).unwrap_or_default();
    part.len() >= 3
        && part.iter().all(u8::is_ascii_alphabetic)
        && (rest.iter().all(u8::is_ascii_lowercase) || part.iter().all(u8::is_ascii_uppercase))
        && part.iter().any(|b| matches!(b.to_ascii_lowercase(), b'a' | b'e' | b'i' | b'o' | b'u' | b'y'))
}

/// Bits of entropy of a byte of this text, by how often each of its bytes occurs.
pub(crate) fn entropy(text: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    text.iter().for_each(|b| counts[usize::from(*b)] += 1);
    let total = text.len() as f64;
    counts.iter().filter(|c| **c > 0).map(|c| f64::from(*c) / total).map(|p| -p * p.log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_names_are_told_from_secrets() {
        for name in
            ["default-token-x7k2p", "kube-system/registry-creds", "com.example.Foo", "projects/x/secrets/y/versions/1"]
        {
            assert!(!is_opaque(name.as_bytes()), "{name}");
        }
        for secret in
            ["550e8400-e29b-41d4-a716-446655440000", "9f8e7d6c5b4a39281706", "aZbYcXdWeVfUgThSiR", "a1b2c3d4", "483920"]
        {
            assert!(is_opaque(secret.as_bytes()), "{secret}");
        }
        assert!(is_path(b"/var/run/secrets/token") && !is_path(b"/aB3dEfGhIjKlMn/x"));
        assert!(is_pointer(b"0xc0001240a0") && !is_pointer(b"0xyz"));
        assert!((entropy(b"aabb") - 1.0).abs() < 1e-9 && entropy(b"") == 0.0);
    }
}
