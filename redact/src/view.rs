//! A text as it was meant: without colours and without the zero bytes of UTF-16, with `%2F`, `\u003d` and `\/` undone. A
//! secret that is hidden by how it was written is found in the view, and masked where it stands in the text.

use std::ops::Range;

use super::key::token_at;

/// A view of a text, and where each part of it comes from.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) text: Vec<u8>,
    /// Places in the view from which on the origin is another: place in the view, place in the text.
    turns: Vec<(u32, u32)>,
}

/// The memory that is kept from one text to the next.
const KEPT: usize = 64 << 10;

/// More backslashes in a row than any escape begins with.
const DEEPEST: usize = 16;

/// What stands at a place of a text.
enum Piece {
    /// A byte as it is.
    Plain,
    /// So many bytes mean this one.
    Means(u8, usize),
    /// So many bytes mean nothing.
    Nothing(usize),
}

impl View {
    /// Whether the view of this text is another text.
    pub(crate) fn differs(text: &[u8]) -> bool {
        memchr::memchr3_iter(0, 0x1b, b'%', text).any(|at| !matches!(piece(text, at), Piece::Plain))
            || memchr::memchr_iter(b'\\', text).any(|at| !matches!(piece(text, at), Piece::Plain))
    }

    /// Looks at another text.
    pub(crate) fn look(&mut self, text: &[u8]) {
        self.text.clear();
        self.turns.clear();
        let mut at = 0;
        // Where the view would go on in the text without a turn.
        let mut expected = usize::MAX;
        while at < text.len() {
            let (byte, length) = match piece(text, at) {
                Piece::Plain => (text[at], 1),
                Piece::Means(byte, length) => (byte, length),
                Piece::Nothing(length) => {
                    at += length;
                    continue;
                }
            };
            if at != expected {
                self.turns.push((place(self.text.len()), place(at)));
            }
            self.text.push(byte);
            at += length;
            expected = if length == 1 { at } else { usize::MAX };
        }
    }

    /// Where a part of the view stands in the text.
    pub(crate) fn origin(&self, text: &[u8], range: &Range<usize>) -> Range<usize> {
        let start = self.origin_of(range.start);
        let Some(last) = range.end.checked_sub(1).filter(|l| *l >= range.start) else { return start..start };
        let last = self.origin_of(last);
        let length = match piece(text, last) {
            Piece::Means(_, length) => length,
            Piece::Plain | Piece::Nothing(_) => 1,
        };
        start..text.len().min(last + length)
    }

    fn origin_of(&self, at: usize) -> usize {
        let turn = self.turns.partition_point(|(view, _)| *view as usize <= at);
        let (view, origin) = turn.checked_sub(1).map_or((0, 0), |t| self.turns[t]);
        origin as usize + (at - view as usize)
    }

    /// Gives back what a large text needed.
    pub(crate) fn shrink(&mut self) {
        self.text.clear();
        self.turns.clear();
        self.text.shrink_to(KEPT);
        self.turns.shrink_to(KEPT / 8);
    }
}

/// Records are a little more than 1 MiB at most; what lies beyond 4 GiB cannot be in one.
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn piece(text: &[u8], at: usize) -> Piece {
    let rest = &text[at..];
    match rest {
        [0, ..] => Piece::Nothing(1),
        [0x1b, ..] => Piece::Nothing(1 + control(&rest[1..])),
        [b'%', a, b, ..] => byte(*a, *b).map_or(Piece::Plain, |byte| Piece::Means(byte, 3)),
        // An escape that is itself escaped, at any depth, means the same.
        [b'\\', b'\\', ..] => {
            let slashes = rest.iter().take(DEEPEST).take_while(|b| **b == b'\\').count();
            if slashes == DEEPEST {
                return Piece::Plain;
            }
            match piece(text, at + slashes - 1) {
                Piece::Means(byte, length) => Piece::Means(byte, slashes - 1 + length),
                Piece::Nothing(length) => Piece::Nothing(slashes - 1 + length),
                Piece::Plain => Piece::Plain,
            }
        }
        [b'\\', b'/', ..] => Piece::Means(b'/', 2),
        [b'\\', b'u', b'0', b'0', b'1', b'b' | b'B', rest @ ..] => Piece::Nothing(6 + control(rest)),
        [b'\\', b'x', b'1', b'b' | b'B', rest @ ..] | [b'\\', b'0', b'3', b'3', rest @ ..] => {
            Piece::Nothing(4 + control(rest))
        }
        [b'\\', b'u', b'0', b'0', a, b, ..] => byte(*a, *b).map_or(Piece::Plain, |byte| Piece::Means(byte, 6)),
        _ => Piece::Plain,
    }
}

/// The length of a terminal's control sequence behind its escape: `[31m`, `]0;title` and its end.
fn control(rest: &[u8]) -> usize {
    match rest.first() {
        Some(b'[') if token_at(rest).is_none() => {
            let parameters = rest[1..].iter().take(32).take_while(|b| (0x20..0x40).contains(*b)).count();
            let end = rest.get(1 + parameters..).unwrap_or_default();
            // A token is no end of a sequence, although it begins like one.
            let ends = end.first().is_some_and(|b| (0x40..0x7f).contains(b)) && token_at(end).is_none();
            1 + parameters + usize::from(ends)
        }
        _ => 0,
    }
}

/// The byte of two hex digits, if it is one that is printed.
fn byte(a: u8, b: u8) -> Option<u8> {
    let digit = |d: u8| char::from(d).to_digit(16);
    let byte = u8::try_from(digit(a)? * 16 + digit(b)?).ok()?;
    (b' '..0x7f).contains(&byte).then_some(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_what_was_meant_and_every_part_of_it_has_its_place() {
        for (text, meant) in [
            (&b"\x1b[36mtoken\x1b[0m=abc"[..], &b"token=abc"[..]),
            (b"\\u001b[36mtoken\\u001b[0m=abc", b"token=abc"),
            (b"t\0o\0k\0e\0n\0", b"token"),
            (b"a%3Db%2fc%zz%", b"a=b/c%zz%"),
            (b"a\\u003db\\/c\\\\u0026d\\\\n", b"a=b/c&d\\\\n"),
        ] {
            let mut view = View::default();
            view.look(text);
            assert_eq!(view.text, meant);
            assert!(View::differs(text));
            let all = view.origin(text, &(0..view.text.len()));
            assert!(all.end <= text.len() && all.start < all.end);
            let last = view.text.len() - 1;
            let place = view.origin(text, &(last..last + 1));
            assert!(text[place.clone()].ends_with(&meant[last..]) || place.len() > 1, "{place:?}");
        }
        assert!(!View::differs(b"100% of \\\"plain\\\" text\\n"));
    }
}
