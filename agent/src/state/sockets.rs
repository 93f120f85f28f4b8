//! Sockets in the network namespace of pid 1, with the process that has them open: `/proc/1/net/{tcp,udp,raw,unix,packet}`
//! and the links in `/proc/PID/fd`.
//!
//! Sockets of other network namespaces (most pods) are not here: their files are below their own processes.

use std::collections::HashMap;
use std::io::Write;

use casefile_proto::gap::{Gap, GapReason};
use serde::Serialize;

use super::address::with_port;
use super::rows::Rows;
use super::{StateSpec, Table};
use crate::details::MAX_DESCRIPTORS;
use crate::host::{Dir, Host};
use crate::lossy;
use crate::pid;
use crate::text::{self, BadLine, Fields};

/// The table.
pub(super) const SPEC: StateSpec = StateSpec {
    name: "sockets",
    about: "TCP, UDP, raw, packet and Unix sockets in the network namespace of pid 1 with addresses, state, queues and owner, from /proc/1/net and /proc/PID/fd",
    file: "state/sockets.jsonl",
    write,
};

/// Rows of all kinds together.
const MAX_ROWS: u64 = 131_072;

/// Sockets whose owner is remembered while the table is written: about 5 MiB.
const MAX_OWNED: usize = 65_536;

const COMM_CAP: usize = 256;
const PATH_CAP: usize = 512;

/// One socket. A key that is absent is one that this kind does not have.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Row {
    /// `tcp`, `tcp6`, `udp`, `udp6`, `udplite`, `udplite6`, `raw`, `raw6`, `packet`, `unix`.
    kind: &'static str,
    /// `LISTEN`, `ESTABLISHED`, …; the kernel's number where it has no name here.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<String>,
    /// Absent where it is not connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<String>,
    /// Of a Unix socket; an abstract name begins with `@`.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// Of a Unix socket: `stream`, `datagram`, `seqpacket`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    form: Option<String>,
    /// Bytes that are sent and not acknowledged; of a listening TCP socket, the longest its queue may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    send_queue: Option<i64>,
    /// Bytes that the process has not read; of a listening TCP socket, connections that it has not accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    receive_queue: Option<i64>,
    /// Times that the segment on its way was sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retransmits: Option<i64>,
    /// Datagrams that it lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    drops: Option<i64>,
    /// Of a packet socket: the number of the interface, 0 for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    interface_index: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<i64>,
    /// 0 for one that no process has open any more (`TIME_WAIT`).
    inode: i64,
    /// The first process that has it open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comm: Option<String>,
    /// Other processes that have it open too.
    #[serde(skip_serializing_if = "is_zero")]
    shared_with: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

type Parse = fn(&'static str, &[u8]) -> Result<Option<Row>, BadLine<'static>>;

/// Every file, with its kind and how its lines are read.
const FILES: [(&str, Parse); 10] = [
    ("tcp", internet),
    ("tcp6", internet),
    ("udp", internet),
    ("udp6", internet),
    ("udplite", internet),
    ("udplite6", internet),
    ("raw", internet),
    ("raw6", internet),
    ("packet", packet),
    ("unix", unix),
];

fn write(host: &Host, out: &mut dyn Write) -> std::io::Result<Table> {
    let mut rows = Rows::new(out, MAX_ROWS);
    let owners = Owners::find(host, &mut rows);
    for (kind, parse) in FILES {
        let file = format!("proc/1/net/{kind}");
        // A kernel without IPv6, UDP-Lite or packet sockets has no such file: that is no row, and no gap.
        let optional = kind.ends_with('6') || matches!(kind, "udplite" | "packet");
        if optional && host.keep(&file).is_err_and(|error| error.is_not_found()) {
            continue;
        }
        rows.each_line(host, &file, &mut |rows, line| match parse(kind, line) {
            Ok(Some(mut row)) => {
                owners.complete(&mut row);
                rows.row(&row)
            }
            Ok(None) => Ok(()),
            Err(bad) => {
                rows.unparsed(&file, line, bad.why);
                Ok(())
            }
        })?;
    }
    Ok(rows.end())
}

/// `sl: local remote state tx:rx tr:when retransmits uid timeout inode … drops`; the first line is the heading.
fn internet(kind: &'static str, line: &[u8]) -> Result<Option<Row>, BadLine<'static>> {
    let bad = |why| BadLine { line: b"", why };
    let mut fields = Fields::of(line);
    let first = fields.next().ok_or(bad("is empty"))?;
    if first == b"sl" {
        return Ok(None);
    }
    let mut word = || fields.next().ok_or(bad("has too few fields"));
    let local = with_port(word()?).ok_or(bad("the local address is none"))?;
    let remote = with_port(word()?).ok_or(bad("the remote address is none"))?;
    let state = text::hex(word()?).map_err(bad)?;
    let (send, receive) = two(word()?).ok_or(bad("the queues are none"))?;
    word()?;
    let retransmits = text::hex(word()?).map_err(bad)?;
    let uid = text::number(word()?).map_err(bad)?;
    word()?;
    let inode = text::number(word()?).map_err(bad)?;
    let is_tcp = kind.starts_with("tcp");
    // Of the datagram files the last field is what was lost; of TCP it is another thing.
    let drops = fields.last().filter(|_| !is_tcp).map(text::number).transpose().map_err(bad)?;
    let connected = remote.port() != 0 || !remote.ip().is_unspecified();
    Ok(Some(Row {
        kind,
        state: Some(state_name(is_tcp, state)),
        local: Some(local.to_string()),
        remote: Some(remote).filter(|_| connected).map(|remote| remote.to_string()),
        send_queue: Some(send),
        receive_queue: Some(receive),
        retransmits: Some(retransmits).filter(|_| is_tcp),
        drops,
        uid: Some(uid),
        inode,
        ..Row::default()
    }))
}

/// The names of include/net/tcp_states.h. Datagram sockets use two of them: 1 connected, 7 not.
fn state_name(is_tcp: bool, state: i64) -> String {
    let name = match (is_tcp, state) {
        (_, 1) => "ESTABLISHED",
        (false, 7) => "UNCONNECTED",
        (true, 2) => "SYN_SENT",
        (true, 3) => "SYN_RECV",
        (true, 4) => "FIN_WAIT1",
        (true, 5) => "FIN_WAIT2",
        (true, 6) => "TIME_WAIT",
        (true, 7) => "CLOSE",
        (true, 8) => "CLOSE_WAIT",
        (true, 9) => "LAST_ACK",
        (true, 10) => "LISTEN",
        (true, 11) => "CLOSING",
        (true, 12) => "NEW_SYN_RECV",
        _ => return state.to_string(),
    };
    name.to_owned()
}

fn two(field: &[u8]) -> Option<(i64, i64)> {
    let colon = field.iter().position(|b| *b == b':')?;
    Some((text::hex(&field[..colon]).ok()?, text::hex(&field[colon + 1..]).ok()?))
}

/// `sk RefCnt Type Proto Iface R Rmem User Inode`.
fn packet(kind: &'static str, line: &[u8]) -> Result<Option<Row>, BadLine<'static>> {
    let bad = |why| BadLine { line: b"", why };
    let mut fields = Fields::of(line);
    if fields.next().ok_or(bad("is empty"))? == b"sk" {
        return Ok(None);
    }
    let mut word = || fields.next().ok_or(bad("has too few fields"));
    word()?;
    let form = lossy::capped(word()?, 16);
    word()?;
    let interface_index = text::number(word()?).map_err(bad)?;
    word()?;
    let receive = text::number(word()?).map_err(bad)?;
    let uid = text::number(word()?).map_err(bad)?;
    let inode = text::number(word()?).map_err(bad)?;
    Ok(Some(Row {
        kind,
        form: Some(form),
        interface_index: Some(interface_index),
        receive_queue: Some(receive),
        uid: Some(uid),
        inode,
        ..Row::default()
    }))
}

/// `Num RefCount Protocol Flags Type St Inode Path`; the path may hold blanks, and anything else.
fn unix(kind: &'static str, line: &[u8]) -> Result<Option<Row>, BadLine<'static>> {
    let bad = |why| BadLine { line: b"", why };
    let mut fields = Fields::of(line);
    if fields.next().ok_or(bad("is empty"))? == b"Num" {
        return Ok(None);
    }
    let mut word = || fields.next().ok_or(bad("has too few fields"));
    let (_, _) = (word()?, word()?);
    let flags = text::hex(word()?).map_err(bad)?;
    let form = match text::hex(word()?).map_err(bad)? {
        1 => "stream".to_owned(),
        2 => "datagram".to_owned(),
        5 => "seqpacket".to_owned(),
        other => other.to_string(),
    };
    let state = text::hex(word()?).map_err(bad)?;
    let inode_field = word()?;
    let inode = text::number(inode_field).map_err(bad)?;
    // What follows the inode and one blank is the path, blanks and all.
    let after = offset_of(line, inode_field) + inode_field.len() + 1;
    let path = line.get(after..).filter(|path| !path.is_empty()).map(|path| lossy::capped(path, PATH_CAP));
    /// `__SO_ACCEPTCON`: it listens.
    const LISTENS: i64 = 0x1_0000;
    // Numbers of enum socket_state in linux/net.h.
    let state = match state {
        _ if flags & LISTENS != 0 => "LISTEN".to_owned(),
        1 => "UNCONNECTED".to_owned(),
        2 => "CONNECTING".to_owned(),
        3 => "CONNECTED".to_owned(),
        4 => "DISCONNECTING".to_owned(),
        other => other.to_string(),
    };
    Ok(Some(Row { kind, state: Some(state), path, form: Some(form), inode, ..Row::default() }))
}

/// Where a part of a line begins in it.
fn offset_of(line: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr() - line.as_ptr().addr()
}

/// Which process has a socket open.
struct Owners {
    by_inode: HashMap<i64, Owner>,
    names: HashMap<u32, String>,
}

#[derive(Debug, Clone, Copy)]
struct Owner {
    pid: u32,
    /// The last process that was seen to have it, so that one with several descriptors of it counts once.
    last: u32,
    others: u32,
}

impl Owners {
    fn find(host: &Host, rows: &mut Rows<'_>) -> Self {
        let mut owners = Self { by_inode: HashMap::new(), names: HashMap::new() };
        let mut proc = match host.dir("proc") {
            Ok(proc) => proc,
            Err(error) => {
                rows.unreadable(&error);
                return owners;
            }
        };
        let mut pids = Vec::new();
        if let Err(error) = proc.each(&mut |name, _| pids.extend(pid::from_name(name.as_encoded_bytes()))) {
            rows.unreadable(&error);
        }
        pids.sort_unstable();
        let (mut refused, mut left, mut left_out, mut buf) = (0u64, MAX_DESCRIPTORS, 0u64, Vec::new());
        for pid in pids {
            let sockets = match host.details().sockets(&proc, pid, left) {
                Ok(sockets) => sockets,
                Err(error) => {
                    if error.is_permission() {
                        refused += 1;
                    } else if !error.is_not_found() {
                        rows.unreadable(&error);
                    }
                    continue;
                }
            };
            left = left.saturating_sub(u32::try_from(sockets.looked_at).unwrap_or(u32::MAX));
            left_out += sockets.left_out.unsigned_abs();
            for inode in sockets.inodes {
                if !owners.add(inode, pid) {
                    left_out += 1;
                }
            }
            owners.name(pid, &proc, &mut buf);
        }
        if refused > 0 {
            let why = "processes whose open files may not be read: their sockets have no owner here (CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH)";
            rows.gap(Gap::new(GapReason::PermissionDenied, why).counting(refused));
        }
        if left_out > 0 {
            let why =
                format!("open files beyond {MAX_DESCRIPTORS}, or sockets beyond {MAX_OWNED}, whose owner is not known");
            rows.gap(Gap::new(GapReason::Budget, why).counting(left_out));
        }
        owners
    }

    /// Whether there was room for it.
    fn add(&mut self, inode: i64, pid: u32) -> bool {
        let room = self.by_inode.len() < MAX_OWNED;
        match self.by_inode.get_mut(&inode) {
            Some(owner) if owner.last == pid => true,
            Some(owner) => {
                owner.last = pid;
                owner.others = owner.others.saturating_add(1);
                true
            }
            None if room => {
                self.by_inode.insert(inode, Owner { pid, last: pid, others: 0 });
                true
            }
            None => false,
        }
    }

    /// Remembers the name of a process that has sockets.
    fn name(&mut self, pid: u32, proc: &Dir, buf: &mut Vec<u8>) {
        // Not from `comm`, whose own line end cannot be told from one in the name.
        if proc.read(format!("{pid}/stat"), buf, 4096).is_ok()
            && let Ok(stat) = pid::stat::parse(buf)
        {
            self.names.insert(pid, lossy::capped(stat.comm, COMM_CAP));
        }
    }

    fn complete(&self, row: &mut Row) {
        if let Some(owner) = self.by_inode.get(&row.inode).filter(|_| row.inode != 0) {
            row.pid = Some(owner.pid);
            row.comm = self.names.get(&owner.pid).cloned();
            row.shared_with = owner.others;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(row: Result<Option<Row>, BadLine<'_>>) -> String {
        serde_json::to_string(&row.unwrap().unwrap()).unwrap()
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_listening_socket_has_no_other_end() {
        let line = b"   0: 0100007F:B089 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 587407 1 000000002679afaf 100 0 0 10 0";
        assert_eq!(
            shown(internet("tcp", line)),
            r#"{"kind":"tcp","state":"LISTEN","local":"127.0.0.1:45193","send_queue":0,"receive_queue":3,"retransmits":0,"uid":0,"inode":587407}"#
        );
        assert_eq!(internet("tcp", b"  sl  local_address rem_address   st"), Ok(None));
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_datagram_socket_says_what_it_lost() {
        let line = b" 1410: 0100007F:0143 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 21345 2 000000005f6e1f5c 42";
        assert_eq!(
            shown(internet("udp", line)),
            r#"{"kind":"udp","state":"UNCONNECTED","local":"127.0.0.1:323","send_queue":0,"receive_queue":0,"drops":42,"uid":101,"inode":21345}"#
        );
    }

    #[test]
    fn the_path_of_a_unix_socket_may_hold_anything() {
        let line = b"0000000078425493: 00000003 00000000 00010000 0001 01  1056 /run/a b\x1b[31m";
        assert_eq!(
            shown(unix("unix", line)),
            "{\"kind\":\"unix\",\"state\":\"LISTEN\",\"path\":\"/run/a b\\u001b[31m\",\"type\":\"stream\",\"inode\":1056}"
        );
        let unnamed = unix("unix", b"0000000054afb6c7: 00000003 00000000 00000000 0002 03  1055").unwrap().unwrap();
        assert_eq!((unnamed.path, unnamed.form.as_deref()), (None, Some("datagram")));
    }

    #[test]
    fn an_owner_with_several_descriptors_counts_once() {
        let mut owners = Owners { by_inode: HashMap::new(), names: HashMap::from([(7, "x".to_owned())]) };
        for pid in [7, 7, 8, 8, 9] {
            assert!(owners.add(5, pid));
        }
        let mut row = Row { inode: 5, ..Row::default() };
        owners.complete(&mut row);
        assert_eq!((row.pid, row.comm.as_deref(), row.shared_with), (Some(7), Some("x"), 2));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = (internet("tcp", &bytes), internet("udp6", &bytes), packet("packet", &bytes), unix("unix", &bytes));
        }
    }
}
