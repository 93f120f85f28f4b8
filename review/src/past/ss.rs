//! `ss`: the sockets as they were at collection time, and how many of them there were over time.
//!
//! Single sockets are read once, when a case file is gathered; what is recorded each second is how many there are.

use std::io::BufRead;

use serde::{Deserialize, Serialize};

use super::table::aligned;
use super::{Column, Kind, Step};
use crate::display::safe;

/// The most sockets that are looked at: what an agent writes is below it.
pub const MAX_SOCKETS: usize = 262_144;

/// One socket, as `state/sockets.jsonl` has it. Texts are the node's: escape before showing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Socket {
    /// `tcp`, `udp6`, `unix`, …
    pub kind: String,
    /// `LISTEN`, `ESTABLISHED`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Its own address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
    /// The other side's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// Of a Unix socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Of a Unix socket: `stream`, `datagram`, `seqpacket`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub form: Option<String>,
    /// Sent and not acknowledged; of a listening one, the longest its queue may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_queue: Option<i64>,
    /// Not read yet; of a listening one, connections that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive_queue: Option<i64>,
    /// Times that the segment on its way was sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<i64>,
    /// Datagrams that it lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drops: Option<i64>,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<i64>,
    /// Its inode.
    pub inode: i64,
    /// The first process that has it open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
    /// Other processes that have it open too.
    pub shared_with: u32,
}

/// Which sockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those that listen, instead of those that are connected.
    pub listening: bool,
    /// Both.
    pub all: bool,
    /// Of TCP; with none of the four, of every kind.
    pub tcp: bool,
    /// Of UDP.
    pub udp: bool,
    /// Raw and packet sockets.
    pub raw: bool,
    /// Unix sockets.
    pub unix: bool,
}

impl Selection {
    /// Whether a socket is one of them.
    pub fn takes(&self, socket: &Socket) -> bool {
        let any = self.tcp || self.udp || self.raw || self.unix;
        let of_kind = match socket.kind.as_str() {
            kind if kind.starts_with("tcp") => self.tcp,
            kind if kind.starts_with("udp") => self.udp,
            "unix" => self.unix,
            _ => self.raw,
        };
        (!any || of_kind) && (self.all || self.listening == socket.listens())
    }
}

impl Socket {
    /// Whether it waits for whoever comes: a listening one, and one of datagrams that is bound and not connected.
    pub fn listens(&self) -> bool {
        match self.kind.as_str() {
            "unix" => self.state.as_deref() == Some("LISTEN") || self.state.as_deref() == Some("LISTENING"),
            kind if kind.starts_with("tcp") => self.state.as_deref() == Some("LISTEN"),
            _ => self.remote.is_none(),
        }
    }
}

/// The sockets of a table, and how many lines of it could not be read.
pub fn sockets(table: impl BufRead) -> std::io::Result<(Vec<Socket>, usize)> {
    let (mut out, mut bad) = (Vec::new(), 0);
    for line in table.split(b'\n') {
        let line = line?;
        match serde_json::from_slice(&line) {
            _ if line.trim_ascii().is_empty() => {}
            Ok(socket) if out.len() < MAX_SOCKETS => out.push(socket),
            Ok(_) | Err(_) => bad += 1,
        }
    }
    Ok((out, bad))
}

/// The table as `ss -p` prints it.
pub fn text(sockets: &[Socket]) -> String {
    let number = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let row = |socket: &Socket| {
        let netid = match (socket.kind.as_str(), socket.form.as_deref()) {
            ("unix", Some("stream")) => "u_str",
            ("unix", Some("datagram")) => "u_dgr",
            ("unix", Some("seqpacket")) => "u_seq",
            (kind, _) => kind.strip_suffix('6').unwrap_or(kind),
        };
        let state = match socket.state.as_deref() {
            Some("ESTABLISHED" | "CONNECTED") => "ESTAB".to_owned(),
            // Only TCP has closed ones.
            Some("CLOSE" | "UNCONNECTED") if !netid.starts_with("tcp") => "UNCONN".to_owned(),
            Some(state) => safe(state).replace('_', "-"),
            None => "UNCONN".to_owned(),
        };
        let inode = socket.inode;
        let local = match (&socket.local, &socket.path) {
            (Some(local), _) => safe(local),
            (None, Some(path)) => format!("{} {inode}", safe(path)),
            (None, None) => format!("* {inode}"),
        };
        let owner = match (&socket.comm, socket.pid) {
            (Some(comm), Some(pid)) => format!("users:((\"{}\",pid={pid}))", safe(comm)),
            _ => String::new(),
        };
        let more = if socket.shared_with > 0 { format!(" and {} more", socket.shared_with) } else { String::new() };
        let queues = [number(socket.receive_queue), number(socket.send_queue)];
        let peer = socket.remote.as_deref().map_or_else(|| "*".to_owned(), safe);
        (vec![safe(netid), state], queues, vec![local, peer, format!("{owner}{more}")])
    };
    let mut rows = Vec::new();
    for socket in sockets {
        let (mut cells, queues, rest) = row(socket);
        cells.extend(queues);
        cells.extend(rest);
        rows.push(cells);
    }
    aligned(7, &["Netid", "State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port", "Process"], &rows)
}

/// How many there were, over time: what `ss -s` says of an instant.
pub const SUMMARY: Kind = Kind { subject: None, columns: &COLUMNS };

const STATES: &str = "node_tcp_connection_states";

const fn count(
    group: &'static str,
    heading: &'static str,
    key: &'static str,
    needs: &'static [&'static str],
    of: fn(&Step<'_>) -> Option<f64>,
) -> Column {
    Column { heading, key, group, per: 1.0, decimals: 0, needs, of }
}

macro_rules! state {
    ($heading:literal, $key:literal, $state:literal) => {
        count("TCP by state", $heading, $key, &[STATES], |s| s.gauge_with(STATES, &[("state", $state)]))
    };
}

macro_rules! level {
    ($group:literal, $heading:literal, $key:literal, $metric:literal) => {
        count($group, $heading, $key, &[$metric], |s| s.gauge($metric))
    };
}

static COLUMNS: [Column; 18] = [
    level!("all", "total", "sockets", "node_sockstat_sockets_used"),
    level!("TCP", "inuse", "tcp_in_use", "node_sockstat_TCP_inuse"),
    level!("TCP", "inuse6", "tcp6_in_use", "node_sockstat_TCP6_inuse"),
    level!("TCP", "orphan", "tcp_orphans", "node_sockstat_TCP_orphan"),
    level!("TCP", "timewait", "tcp_time_wait", "node_sockstat_TCP_tw"),
    level!("TCP", "alloc", "tcp_allocated", "node_sockstat_TCP_alloc"),
    state!("estab", "tcp_established", "established"),
    state!("syn-sent", "tcp_syn_sent", "syn_sent"),
    state!("syn-recv", "tcp_syn_recv", "syn_recv"),
    state!("fin-wait1", "tcp_fin_wait1", "fin_wait1"),
    state!("fin-wait2", "tcp_fin_wait2", "fin_wait2"),
    state!("close-wait", "tcp_close_wait", "close_wait"),
    state!("last-ack", "tcp_last_ack", "last_ack"),
    state!("listen", "tcp_listen", "listen"),
    level!("UDP", "inuse", "udp_in_use", "node_sockstat_UDP_inuse"),
    level!("UDP", "inuse6", "udp6_in_use", "node_sockstat_UDP6_inuse"),
    level!("other", "raw", "raw_in_use", "node_sockstat_RAW_inuse"),
    level!("other", "frag", "fragments", "node_sockstat_FRAG_inuse"),
];

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = br#"{"kind":"tcp","state":"LISTEN","local":"0.0.0.0:80","send_queue":511,"receive_queue":0,"inode":7,"pid":9,"comm":"ngi\u001b[2Jnx","shared_with":3}
{"kind":"tcp6","state":"TIME_WAIT","local":"[::1]:80","remote":"[::1]:5000","send_queue":0,"receive_queue":0,"inode":0}
{"kind":"udp","state":"CLOSE","local":"0.0.0.0:53","inode":8}
not a row
{"kind":"unix","state":"CONNECTED","type":"stream","inode":12}
"#;

    #[test]
    fn sockets_are_shown_as_ss_does_and_a_row_that_is_none_is_counted() {
        let (all, bad) = sockets(TABLE).unwrap();
        assert_eq!((all.len(), bad), (4, 1));
        let text = text(&all);
        assert!(text.contains(r#"users:(("ngi\u{1b}[2Jnx",pid=9)) and 3 more"#), "{text}");
        assert!(text.contains("TIME-WAIT") && text.contains("u_str ESTAB") && !text.contains('\u{1b}'), "{text}");
        let chosen = |selection: Selection| all.iter().filter(|s| selection.takes(s)).count();
        assert_eq!(chosen(Selection::default()), 2);
        assert_eq!(chosen(Selection { listening: true, ..Selection::default() }), 2);
        assert_eq!(chosen(Selection { all: true, tcp: true, ..Selection::default() }), 2);
        assert_eq!(chosen(Selection { unix: true, ..Selection::default() }), 1);
    }
}
