//! Limits of the kernel that a node can run into, each with what is used of it: open files, tasks, connections that are
//! tracked, asynchronous I/O, keys, promised memory.

use std::io::Write;

use casefile_proto::gap::{Gap, GapReason};
use serde::Serialize;

use super::rows::{Rows, optional};
use super::{StateSpec, Table};
use crate::host::Host;
use crate::text::{self, Fields};

/// The table.
pub(super) const SPEC: StateSpec = StateSpec {
    name: "limits",
    about: "limits of the kernel with what is used of them, from /proc/sys, /proc/loadavg, /proc/meminfo, /proc/key-users",
    file: "state/limits.jsonl",
    write,
};

/// Users that have keys in the kernel's keyrings.
const MAX_ROWS: u64 = 1_024;

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    /// Of whom, where a limit is not the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<i64>,
    used: i64,
    limit: i64,
    /// What one is.
    unit: &'static str,
}

fn write(host: &Host, out: &mut dyn Write) -> std::io::Result<Table> {
    let mut rows = Rows::new(out, MAX_ROWS);
    let read = |rows: &mut Rows<'_>, path: &str| optional(host, path, &mut Vec::new(), rows);
    let nth = |text: Option<String>, at: usize| {
        text.and_then(|text| text.split_ascii_whitespace().nth(at).and_then(|word| word.parse::<i64>().ok()))
    };

    let files = read(&mut rows, "proc/sys/fs/file-nr");
    pair(&mut rows, "open-files", "files", nth(files.clone(), 0), nth(files, 2))?;

    // `running/all`: the fourth word of the load averages.
    let load = read(&mut rows, "proc/loadavg");
    let tasks = load.and_then(|l| l.split_ascii_whitespace().nth(3)?.split_once('/')?.1.parse::<i64>().ok());
    let threads_max = read(&mut rows, "proc/sys/kernel/threads-max");
    pair(&mut rows, "threads", "tasks", tasks, nth(threads_max, 0))?;
    let pid_max = read(&mut rows, "proc/sys/kernel/pid_max");
    pair(&mut rows, "pids", "tasks", tasks, nth(pid_max, 0))?;

    let tracked = read(&mut rows, "proc/sys/net/netfilter/nf_conntrack_count");
    let tracked_max = read(&mut rows, "proc/sys/net/netfilter/nf_conntrack_max");
    pair(&mut rows, "conntrack", "connections", nth(tracked, 0), nth(tracked_max, 0))?;

    let aio = read(&mut rows, "proc/sys/fs/aio-nr");
    let aio_max = read(&mut rows, "proc/sys/fs/aio-max-nr");
    pair(&mut rows, "asynchronous-io", "requests", nth(aio, 0), nth(aio_max, 0))?;

    let memory = read(&mut rows, "proc/meminfo");
    let kib = |key: &str| {
        memory.as_deref().and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            line.split_ascii_whitespace().next()?.parse::<i64>().ok()?.checked_mul(1024)
        })
    };
    // Only enforced where vm.overcommit_memory is 2; the ratio tells of overcommitment in any case.
    pair(&mut rows, "committed-memory", "bytes", kib("Committed_AS"), kib("CommitLimit"))?;

    if let Some(users) = read(&mut rows, "proc/key-users") {
        for line in users.lines() {
            let Some(Keys { uid, keys, bytes }) = keys(line.as_bytes()) else {
                rows.unparsed("proc/key-users", line.as_bytes(), "is not of the form the manual page has");
                continue;
            };
            rows.row(&Row { name: "keys", uid: Some(uid), used: keys.0, limit: keys.1, unit: "keys" })?;
            rows.row(&Row { name: "key-bytes", uid: Some(uid), used: bytes.0, limit: bytes.1, unit: "bytes" })?;
        }
    }
    if rows.count() == 0 {
        rows.gap(Gap::new(GapReason::SourceAbsent, "/proc has none of the limits that are read"));
    }
    Ok(rows.end())
}

fn pair(
    rows: &mut Rows<'_>,
    name: &'static str,
    unit: &'static str,
    used: Option<i64>,
    limit: Option<i64>,
) -> std::io::Result<()> {
    match (used, limit) {
        (Some(used), Some(limit)) => rows.row(&Row { name, uid: None, used, limit, unit }),
        // Half of a pair says nothing; a kernel without the subject has neither.
        _ => Ok(()),
    }
}

/// What one user has of keys, and may have.
#[derive(Debug, PartialEq, Eq)]
struct Keys {
    uid: i64,
    keys: (i64, i64),
    bytes: (i64, i64),
}

/// `uid: usage nkeys/nikeys qnkeys/maxkeys qnbytes/maxbytes`, keyrings(7).
fn keys(line: &[u8]) -> Option<Keys> {
    let mut fields = Fields::of(line);
    let uid = text::number(fields.next()?.strip_suffix(b":")?).ok()?;
    let mut of = |at: usize| {
        let field = fields.nth(at)?;
        let slash = field.iter().position(|b| *b == b'/')?;
        Some((text::number(&field[..slash]).ok()?, text::number(&field[slash + 1..]).ok()?))
    };
    Some(Keys { uid, keys: of(2)?, bytes: of(0)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_users_keys_are_the_third_and_fourth_figure() {
        assert_eq!(
            keys(b"    0:     9 8/8 3/1000000 40/25000000"),
            Some(Keys { uid: 0, keys: (3, 1_000_000), bytes: (40, 25_000_000) })
        );
        assert_eq!(keys(b"0: 9 8/8 3"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = keys(&bytes);
        }
    }
}
