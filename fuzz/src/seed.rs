//! Seeds as text: bytes that are printable stand for themselves, all others are escaped, line ends count for nothing, and
//! lines that begin with `#` are for people. So a seed can be read, compared and written by hand.

/// As wide as a line of a seed gets.
const WIDTH: usize = 110;

/// Bytes as the text of a seed.
pub fn print(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut width = 0;
    for &b in bytes {
        let piece = match b {
            b'\n' => "\\n".to_owned(),
            b'\t' => "\\t".to_owned(),
            b'\r' => "\\r".to_owned(),
            b'\\' => "\\\\".to_owned(),
            // A line that begins with it would be for people, and one that ends with a blank would lose it to an editor.
            b'#' if width == 0 => "\\x23".to_owned(),
            b' ' if width == 0 || width + 1 >= WIDTH => "\\x20".to_owned(),
            b' '..=b'~' => char::from(b).to_string(),
            _ => format!("\\x{b:02x}"),
        };
        width += piece.len();
        out.push_str(&piece);
        if b == b'\n' || width >= WIDTH {
            out.push('\n');
            width = 0;
        }
    }
    if width > 0 {
        if out.ends_with(' ') {
            out.pop();
            out.push_str("\\x20");
        }
        out.push('\n');
    }
    out
}

/// The bytes of a seed, or what is wrong with its text.
pub fn parse(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        let wrong = |what: &str| format!("line {}: {what}", number + 1);
        let mut rest = line.bytes();
        while let Some(b) = rest.next() {
            bytes.push(match b {
                b'\\' => match rest.next() {
                    Some(b'n') => b'\n',
                    Some(b't') => b'\t',
                    Some(b'r') => b'\r',
                    Some(b'\\') => b'\\',
                    Some(b'x') => {
                        let digit = |d: Option<u8>| char::from(d?).to_digit(16);
                        let (high, low) = (digit(rest.next()), digit(rest.next()));
                        let value = high.zip(low).and_then(|(h, l)| u8::try_from(h * 16 + l).ok());
                        value.ok_or_else(|| wrong("two digits must follow \\x"))?
                    }
                    _ => return Err(wrong("no such escape")),
                },
                b' '..=b'~' => b,
                _ => return Err(wrong("a byte that is not printable")),
            });
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back_and_can_be_kept_in_a_repository() {
        let all: Vec<u8> = (0..=255).cycle().take(3000).chain(*b"# x \n# y\n  \n ").collect();
        for bytes in [&all[..], b"", b" ", b"#", b"\n\n# \\", b"x\n"] {
            let text = print(bytes);
            assert_eq!(parse(&text).as_deref(), Ok(bytes), "{text}");
            assert!(text.is_ascii() && text.lines().all(|l| l == l.trim_end() && l.len() < WIDTH + 4), "{text}");
        }
        assert!(parse("a\\q").is_err() && parse("\\x4").is_err() && parse("\u{e4}").is_err());
        assert_eq!(parse("# for people\na\nb"), Ok(b"ab".to_vec()));
    }
}
