//! Manifests: one line for each file, `digest  path`, as `sha256sum` writes and checks them and as RFC 8493 §2.1.3 wants.
//!
//! Paths need no escaping: [`EntryPath`] has no character that either of the two would escape.

use casefile_proto::item::{Digest, EntryPath};

/// Appends the line of one file.
pub(crate) fn put_line(path: &EntryPath, sha256: Digest, out: &mut String) {
    out.push_str(&format!("{sha256}  {path}\n"));
}

/// The lines of a manifest; says which line is none.
pub(crate) fn parse(text: &[u8]) -> Result<Vec<(EntryPath, Digest)>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is no text".to_owned())?;
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("its last line is cut".to_owned());
    }
    let read = |line: &str| {
        let (digest, path) = line.split_once("  ")?;
        Some((path.parse().ok()?, digest.parse().ok()?))
    };
    text.lines()
        .enumerate()
        .map(|(i, text)| read(text).ok_or_else(|| format!("its line {} is none of a manifest", i + 1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        let lines = [("data/a", 1u8), ("data/b/c=20d", 2)].map(|(p, d)| (p.parse().unwrap(), Digest([d; 32])));
        let mut text = String::new();
        lines.iter().for_each(|(path, digest)| put_line(path, *digest, &mut text));
        assert_eq!(parse(text.as_bytes()), Ok(lines.to_vec()));
        assert_eq!(parse(b""), Ok(vec![]));
        for bad in
            ["x", "00  data/a\n", &text[..text.len() - 1], &text.replace("  ", " "), &text.replace("data/a", "../a")]
        {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
