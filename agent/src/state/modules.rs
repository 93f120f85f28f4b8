//! Kernel modules: `/proc/modules`. Addresses of the kernel's memory are left out.

use std::io::Write;

use serde::Serialize;

use super::rows::Rows;
use super::{StateSpec, Table};
use crate::host::Host;
use crate::lossy;
use crate::text::{BadLine, Fields};

/// The table.
pub(super) const SPEC: StateSpec = StateSpec {
    name: "modules",
    about: "kernel modules with size, users and taint, from /proc/modules",
    file: "state/modules.jsonl",
    write,
};

const MAX_ROWS: u64 = 8_192;

#[derive(Serialize)]
struct Row {
    name: String,
    size_bytes: i64,
    /// How many hold it.
    references: i64,
    /// The modules that do.
    used_by: Vec<String>,
    /// `Live`, `Loading` or `Unloading`.
    state: String,
    /// The letters of what it makes the kernel be called tainted by (`OE`); absent for a module of the kernel's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    taint: Option<String>,
}

fn write(host: &Host, out: &mut dyn Write) -> std::io::Result<Table> {
    let mut rows = Rows::new(out, MAX_ROWS);
    rows.each_line(host, "proc/modules", &mut |rows, line| match parse(line) {
        Ok(row) => rows.row(&row),
        Err(bad) => {
            rows.unparsed("proc/modules", bad.line, bad.why);
            Ok(())
        }
    })?;
    Ok(rows.end())
}

fn parse(line: &[u8]) -> Result<Row, BadLine<'_>> {
    let mut fields = Fields::of(line);
    let name = lossy::capped(fields.word()?, 256);
    let (size_bytes, references) = (fields.number()?, fields.number()?);
    let users = fields.word()?;
    let used_by = users.split(|b| *b == b',').filter(|u| !u.is_empty() && *u != b"-");
    let used_by = used_by.map(|user| lossy::capped(user, 256)).collect();
    let state = lossy::capped(fields.word()?, 32);
    let taint = fields.last().and_then(|last| last.strip_prefix(b"(")?.strip_suffix(b")"));
    Ok(Row { name, size_bytes, references, used_by, state, taint: taint.map(|t| lossy::capped(t, 64)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn users_and_taint_are_read_and_the_address_is_not() {
        let line = b"nf_conntrack 172032 3 nf_nat,xt_conntrack, Live 0xffffffffc0a00000 (OE)";
        let shown = serde_json::to_string(&parse(line).unwrap()).unwrap();
        assert_eq!(
            shown,
            r#"{"name":"nf_conntrack","size_bytes":172032,"references":3,"used_by":["nf_nat","xt_conntrack"],"state":"Live","taint":"OE"}"#
        );
        assert_eq!(parse(b"loop 40960 0 - Live 0x0").unwrap().used_by, Vec::<String>::new());
        assert!(parse(b"loop x 0 - Live 0x0").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
