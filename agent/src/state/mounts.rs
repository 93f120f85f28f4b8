//! Mounts of pid 1, the machine's own mount namespace: `/proc/1/mountinfo`, proc_pid_mountinfo(5).
//!
//! Nothing is asked of a mounted file system itself: one that hangs would hang the table. How full they are, the
//! `filesystem` source says.

use std::io::Write;

use serde::Serialize;

use super::rows::{MAX_TEXT, Rows};
use super::{StateSpec, Table};
use crate::host::Host;
use crate::lossy;
use crate::text::{BadLine, Fields};

/// The table.
pub(super) const SPEC: StateSpec = StateSpec {
    name: "mounts",
    about: "mounts of pid 1 with type, source and options, from /proc/1/mountinfo; the file systems themselves are not asked",
    file: "state/mounts.jsonl",
    write,
};

/// A node with 250 pods has some thousand.
const MAX_ROWS: u64 = 65_536;

const FILE: &str = "proc/1/mountinfo";

#[derive(Serialize)]
struct Row {
    id: i64,
    parent: i64,
    /// `major:minor`.
    device: String,
    /// What of the file system is mounted here.
    root: String,
    mount_point: String,
    options: String,
    /// `shared:1`, `master:2`, ….
    #[serde(skip_serializing_if = "Vec::is_empty")]
    propagation: Vec<String>,
    #[serde(rename = "type")]
    kind: String,
    source: String,
    super_options: String,
}

fn write(host: &Host, out: &mut dyn Write) -> std::io::Result<Table> {
    let mut rows = Rows::new(out, MAX_ROWS);
    rows.each_line(host, FILE, &mut |rows, line| match parse(line) {
        Ok(row) => rows.row(&row),
        Err(bad) => {
            rows.unparsed(FILE, bad.line, bad.why);
            Ok(())
        }
    })?;
    Ok(rows.end())
}

fn parse(line: &[u8]) -> Result<Row, BadLine<'_>> {
    let mut fields = Fields::of(line);
    let (id, parent) = (fields.number()?, fields.number()?);
    let device = lossy::capped(fields.word()?, 64);
    let (root, mount_point, options) = (path(fields.word()?), path(fields.word()?), path(fields.word()?));
    let mut propagation = Vec::new();
    loop {
        // Optional fields, as many as there are, up to a lone hyphen.
        match fields.word()? {
            b"-" => break,
            field => propagation.push(lossy::capped(field, 64)),
        }
    }
    let (kind, source) = (path(fields.word()?), path(fields.word()?));
    // A file system without options of its own has an empty last field.
    let super_options = fields.next().map_or_else(String::new, path);
    Ok(Row { id, parent, device, root, mount_point, options, propagation, kind, source, super_options })
}

/// A field as text: blanks and the like stand in it as `\040`.
fn path(field: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(field.len().min(MAX_TEXT));
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', left @ ..] if first == b'\\' => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = left;
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    lossy::capped(&bytes, MAX_TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn optional_fields_and_octal_escapes_are_read() {
        let row = parse(b"36 35 98:0 /mnt1 /mnt\\0402\\134x rw,noatime shared:1 master:2 - ext3 /dev/root rw").unwrap();
        assert_eq!((row.id, row.parent, row.mount_point.as_str()), (36, 35, "/mnt 2\\x"));
        assert_eq!(
            (row.propagation, row.kind.as_str(), row.super_options.as_str()),
            (vec!["shared:1".to_owned(), "master:2".to_owned()], "ext3", "rw")
        );
        assert_eq!(parse(b"36 35 98:0 / / rw - tmpfs tmpfs").unwrap().super_options, "");
        assert!(parse(b"36 35 98:0 / / rw").is_err(), "no hyphen");
        assert_eq!(path(b"a\\9\\04"), "a\\9\\04", "no escape");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
            let _ = path(&bytes);
        }
    }
}
