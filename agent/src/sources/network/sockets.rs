//! How many sockets there are, each second (`/proc/net/sockstat`), and in which states those of TCP are, each minute
//! (`/proc/net/tcp`): the latter walks the kernel's whole table, and so it is not done where there are too many.

use casefile_proto::gap::{Gap, GapReason};

use super::super::Measurement;
use super::super::kept::unreadable;
use super::super::spec::ByKey;
use super::metrics::TCP_STATES;
use crate::host::{Host, HostError};
use crate::text::{self, BadLine, Fields, Unparsed, lines, lines_after_heading};

/// TCP sockets of one address family beyond which their states are not counted: the kernel takes about a microsecond
/// for each to write its line.
const MAX_SOCKETS: i64 = 6000;
/// The same in bytes: a line has 150, with IPv6 about 180.
const MAX_TABLE: usize = 1 << 20;

/// `node_sockstat_TCP_inuse` is `TCP: inuse`: looked up as `TCP_inuse`.
pub(super) fn key(name: &str) -> Option<String> {
    name.strip_prefix("node_sockstat_").map(str::to_owned)
}

/// TCP sockets in use of each address family, as far as it was said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct InUse {
    v4: Option<i64>,
    v6: Option<i64>,
    time_wait: Option<i64>,
}

/// Readings of `sockstat` or `sockstat6`.
pub(super) fn counts(text: &[u8], keys: &ByKey, file: &str, in_use: &mut InUse, out: &mut Measurement) {
    let mut bad = Unparsed::default();
    for line in lines(text) {
        let Some(line) = bad.keep(line) else { continue };
        let parsed = parse_line(line, &mut |key, value| {
            if let Some(metric) = keys.get(key) {
                out.reading(metric, &[], value);
            }
            match key {
                b"TCP_inuse" => in_use.v4 = Some(value),
                b"TCP6_inuse" => in_use.v6 = Some(value),
                b"TCP_tw" => in_use.time_wait = Some(value),
                _ => {}
            }
        });
        bad.keep(parsed);
    }
    bad.gap(file).into_iter().for_each(|gap| out.gap(gap));
}

/// `TCP: inuse 155 orphan 0 tw 0 alloc 155 mem 0`: gives `TCP_inuse` 155 and so on.
fn parse_line<'a>(line: &'a [u8], each: &mut dyn FnMut(&[u8], i64)) -> Result<(), BadLine<'a>> {
    let mut fields = Fields::of(line);
    let protocol = fields.word()?.strip_suffix(b":").ok_or_else(|| fields.bad("no `:` after the protocol"))?;
    let mut joined = [0; 64];
    while let Some(name) = fields.next() {
        let value = fields.number()?;
        let len = protocol.len() + 1 + name.len();
        let Some(key) = joined.get_mut(..len) else { return Err(fields.bad("a name that is too long")) };
        key[..protocol.len()].copy_from_slice(protocol);
        key[protocol.len()] = b'_';
        key[protocol.len() + 1..].copy_from_slice(name);
        each(key, value);
    }
    Ok(())
}

/// The states of `include/net/tcp_states.h`, by number less one, with node_exporter's names.
const STATES: [&str; 12] = [
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
    "new_syn_recv",
];

/// Counts the states of both address families together, as node_exporter does.
pub(super) fn states(host: &Host, in_use: InUse, out: &mut Measurement) {
    let mut sums = [0; STATES.len()];
    // The buffer may become large and is needed seldom: it is not kept.
    let mut buf = Vec::new();
    for (file, expected) in [("proc/1/net/tcp", in_use.v4), ("proc/1/net/tcp6", in_use.v6)] {
        let expected = expected.unwrap_or(0).saturating_add(in_use.time_wait.unwrap_or(0));
        if expected > MAX_SOCKETS {
            out.gap(too_many(expected));
            return;
        }
        match host.read(file, &mut buf, MAX_TABLE) {
            Ok(()) => {}
            Err(error) if error.is_not_found() => continue,
            Err(HostError::TooLarge { .. }) => {
                out.gap(too_many(MAX_SOCKETS));
                return;
            }
            Err(error) => {
                out.gap(unreadable(&error));
                return;
            }
        }
        let mut bad = Unparsed::default();
        for state in parse(&buf).filter_map(|state| bad.keep(state)) {
            sums[state] += 1;
        }
        if let Some(gap) = bad.gap(file) {
            // A sum without some of its lines would be a wrong number, not a smaller piece of evidence.
            out.gap(gap);
            return;
        }
    }
    for (state, sum) in STATES.iter().zip(sums) {
        out.reading(TCP_STATES, &[state], sum);
    }
}

fn too_many(sockets: i64) -> Gap {
    let detail = format!("states of TCP sockets are not counted: more than {MAX_SOCKETS} of them");
    Gap::new(GapReason::Budget, detail).counting(sockets.unsigned_abs())
}

/// The state of each socket, as an index into [`STATES`]; after one line of heading.
fn parse(text: &[u8]) -> impl Iterator<Item = Result<usize, BadLine<'_>>> {
    lines_after_heading(text).map(|line| {
        let line = line?;
        let mut fields = Fields::of(line);
        let (_slot, _local, _remote) = (fields.word()?, fields.word()?, fields.word()?);
        let state = text::hex(fields.word()?).map_err(|why| fields.bad(why))?;
        let index = usize::try_from(state - 1).ok().filter(|index| *index < STATES.len());
        index.ok_or_else(|| fields.bad("a state of TCP that is none"))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::metrics::METRICS;
    use super::*;

    #[test]
    fn states_are_counted_by_their_numbers() {
        let text = b"  sl  local_address rem_address   st tx_queue\n   0: 0100007F:B089 00000000:0000 0A 00000000\n   1: 0:1 0:0 01 0\n   2: 0:1 0:0 0D 0\n";
        let got: Vec<_> = parse(text).map(|state| state.map(|s| STATES[s]).map_err(|bad| bad.why)).collect();
        assert_eq!(got, [Ok("listen"), Ok("established"), Err("a state of TCP that is none")]);
    }

    #[test]
    fn beyond_the_cap_states_are_a_declared_gap() {
        let tmp = tempfile::tempdir().unwrap();
        let mut out = Measurement::new(&METRICS);
        let in_use = InUse { v4: Some(1), v6: None, time_wait: Some(MAX_SOCKETS) };
        states(&Host::new(tmp.path()).unwrap(), in_use, &mut out);
        assert_eq!((out.gaps()[0].reason, out.gaps()[0].count), (GapReason::Budget, Some(6001)));
        assert_eq!(out.find("node_tcp_connection_states", &["listen"]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_bad(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes).for_each(drop);
            let _ = parse_line(&bytes, &mut |_, _| {});
            let _ = parse_line(&[b"TCP: ", &bytes[..]].concat(), &mut |_, _| {});
        }
    }
}
