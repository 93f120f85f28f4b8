//! The runbook's questions, answered from a case file: how the cluster is, and what the pods behind a service use.
//!
//! The same code over an archive of last year and over one that was sealed a moment ago for the purpose.

mod endpoints;
pub mod health;
pub mod pods;
pub mod resources;

/// A text behind a head, in lines of which none is wider than [`WIDTH`]; those after the first begin below the text.
pub(crate) fn wrapped(head: &str, text: &str) -> String {
    let indent = head.chars().count();
    let (mut out, mut used) = (head.to_owned(), indent);
    let next = |out: &mut String| {
        out.push('\n');
        out.push_str(&" ".repeat(indent));
    };
    for word in text.split_whitespace() {
        let mut rest = word;
        if used > indent && used + 1 + rest.chars().count() > WIDTH {
            next(&mut out);
            used = indent;
        } else if used > indent {
            out.push(' ');
            used += 1;
        }
        // A word that is longer than a line, such as an image's name.
        while used + rest.chars().count() > WIDTH {
            let room = WIDTH.saturating_sub(used).max(1);
            let cut = rest.char_indices().nth(room).map_or(rest.len(), |(at, _)| at);
            out.push_str(&rest[..cut]);
            rest = &rest[cut..];
            next(&mut out);
            used = indent;
        }
        out.push_str(rest);
        used += rest.chars().count();
    }
    out
}

/// `1 pod`, `3 pods`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// A text in so many columns, with `…` where it is longer.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(std::iter::once('…')).collect()
}

/// How wide a table is at most.
pub(crate) const WIDTH: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_it_may_be_and_no_letter_is_lost() {
        let words = "one two three ".repeat(40);
        for text in ["", "a", &words, &"x".repeat(275), &format!("ab {} 0123 ä ö", "y".repeat(99))] {
            for head in ["", "  ", "PROBLEM  "] {
                let out = wrapped(head, text);
                assert!(out.starts_with(head) && out.lines().all(|line| line.chars().count() <= WIDTH), "{out}");
                let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
                assert_eq!(letters(&out), letters(head) + &letters(text));
            }
        }
        assert_eq!(wrapped("PROBLEM  ", &"w".repeat(92)).lines().nth(1), Some("         w"));
        assert_eq!(cut("abcdef", 4), "abc…");
    }
}
