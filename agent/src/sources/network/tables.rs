//! Tables with a line for each CPU, in hexadecimal (softnet, connection tracking, the neighbour caches), and the ARP table.

use casefile_proto::sample::MetricSpec;

use super::super::spec::named;
use super::metrics::{CONNTRACK_ENTRIES, METRICS};
use crate::text::{self, BadLine, Fields, Unparsed, entries, lines, lines_after_heading};

/// The columns of `softnet_stat` that are recorded, by position.
pub(super) const SOFTNET: [&MetricSpec; 7] = [
    named(&METRICS, "node_softnet_processed_total"),
    named(&METRICS, "node_softnet_dropped_total"),
    named(&METRICS, "node_softnet_times_squeezed_total"),
    named(&METRICS, "node_softnet_cpu_collision_total"),
    named(&METRICS, "node_softnet_received_rps_total"),
    named(&METRICS, "node_softnet_flow_limit_count_total"),
    named(&METRICS, "node_softnet_backlog_len"),
];
/// Where they stand; the number of the CPU is in column 12 since Linux 5.10.
const SOFTNET_AT: [usize; SOFTNET.len()] = [0, 1, 2, 8, 9, 10, 11];
const SOFTNET_CPU_AT: usize = 12;
/// Linux 2.6 has the first nine.
const SOFTNET_LEAST: usize = 9;

/// One CPU's backlog of packets.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Softnet {
    /// Which CPU; `None` before Linux 5.10, where only the position of the line tells it.
    pub(super) cpu: Option<i64>,
    pub(super) columns: [Option<i64>; SOFTNET.len()],
}

/// `009527f7 00000000 00000001 …`, one line for each CPU that is online (`net/core/net-procfs.c`).
pub(super) fn parse_softnet(text: &[u8]) -> impl Iterator<Item = Result<Softnet, BadLine<'_>>> {
    entries(text, |line| {
        let fields = Fields::of(line);
        let mut softnet = Softnet { cpu: None, columns: [None; SOFTNET.len()] };
        let mut found = 0;
        for (position, field) in fields.clone().enumerate() {
            let value = text::hex(field).map_err(|why| fields.bad(why))?;
            found += 1;
            if position == SOFTNET_CPU_AT {
                softnet.cpu = Some(value);
            } else if let Some(column) = SOFTNET_AT.iter().position(|at| *at == position) {
                softnet.columns[column] = Some(value);
            }
        }
        if found < SOFTNET_LEAST { Err(fields.bad("too few fields")) } else { Ok(Some(softnet)) }
    })
}

/// The columns of `stat/nf_conntrack` that are recorded, by heading. The number of entries comes first.
pub(super) const CONNTRACK: [(&str, &MetricSpec); 8] = [
    ("entries", CONNTRACK_ENTRIES),
    ("found", named(&METRICS, "node_nf_conntrack_stat_found")),
    ("invalid", named(&METRICS, "node_nf_conntrack_stat_invalid")),
    ("insert", named(&METRICS, "node_nf_conntrack_stat_insert")),
    ("insert_failed", named(&METRICS, "node_nf_conntrack_stat_insert_failed")),
    ("drop", named(&METRICS, "node_nf_conntrack_stat_drop")),
    ("early_drop", named(&METRICS, "node_nf_conntrack_stat_early_drop")),
    ("search_restart", named(&METRICS, "node_nf_conntrack_stat_search_restart")),
];

/// The columns of `stat/arp_cache` and `stat/ndisc_cache` that are recorded.
pub(super) const NEIGHBOURS: [(&str, &MetricSpec); 3] = [
    ("entries", named(&METRICS, "casefile_neighbour_entries")),
    ("unresolved_discards", named(&METRICS, "casefile_neighbour_unresolved_discards_total")),
    ("table_fulls", named(&METRICS, "casefile_neighbour_table_full_total")),
];

/// Adds up the wanted columns of a table with headings and a line of hexadecimal numbers for each CPU. A column that
/// this kernel does not have is `None`. `entries` is the same number on every line, and is taken once. If any line is
/// bad there is no sum at all: it would be a wrong one.
pub(super) fn parse_per_cpu<const N: usize>(text: &[u8], wanted: [&str; N], bad: &mut Unparsed) -> [Option<i64>; N] {
    let mut all = lines(text);
    let Some(headings) = all.next().and_then(|line| bad.keep(line)) else {
        bad.lacks("line of headings");
        return [None; N];
    };
    let mut at = [None; N];
    let mut columns = 0;
    for (position, heading) in Fields::of(headings).enumerate() {
        columns += 1;
        if let Some(column) = wanted.iter().position(|name| name.as_bytes() == heading) {
            at[column] = Some(position);
        }
    }
    let mut sums = [None; N];
    for line in all {
        let summed = line.and_then(|line| add(line, columns, &wanted, &at, &mut sums));
        if bad.keep(summed).is_none() {
            return [None; N];
        }
    }
    sums
}

fn add<'a, const N: usize>(
    line: &'a [u8],
    columns: usize,
    wanted: &[&str; N],
    at: &[Option<usize>; N],
    sums: &mut [Option<i64>; N],
) -> Result<(), BadLine<'a>> {
    let fields = Fields::of(line);
    let mut found = 0;
    for (position, field) in fields.clone().enumerate() {
        let value = text::hex(field).map_err(|why| fields.bad(why))?;
        found += 1;
        let Some(column) = at.iter().position(|at| *at == Some(position)) else { continue };
        sums[column] = match sums[column] {
            Some(sum) if wanted[column] == "entries" => Some(sum),
            Some(sum) => Some(sum.checked_add(value).ok_or_else(|| fields.bad("a sum beyond 63 bits"))?),
            None => Some(value),
        };
    }
    if found == columns { Ok(()) } else { Err(fields.bad("has another number of fields than the headings")) }
}

/// How many entries each interface has in the ARP table, in order of first appearance. None at all if any line is bad:
/// a count without it would be a wrong one.
pub(super) fn parse_arp<'a>(text: &'a [u8], bad: &mut Unparsed) -> Vec<(&'a str, i64)> {
    let mut devices: Vec<(&str, i64)> = Vec::new();
    for line in lines_after_heading(text) {
        let device = line.and_then(|line| {
            let fields = Fields::of(line);
            fields.clone().nth(5).and_then(text::name).ok_or_else(|| fields.bad("no device"))
        });
        let Some(device) = bad.keep(device) else { return Vec::new() };
        match devices.iter_mut().find(|(name, _)| *name == device) {
            Some((_, entries)) => *entries += 1,
            None => devices.push((device, 1)),
        }
    }
    devices
}

#[cfg(test)]
mod tests {
    use casefile_proto::gap::GapReason;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn softnet_of_an_old_kernel_does_not_say_which_cpu() {
        let old = parse_softnet(b"0000000a 1 2 0 0 0 0 0 3 4\n").next().unwrap().unwrap();
        assert_eq!(old.cpu, None);
        assert_eq!(old.columns, [Some(10), Some(1), Some(2), Some(3), Some(4), None, None]);
        let new = parse_softnet(b"1 2 3 0 0 0 0 0 4 5 6 7 000000ff 0 0\n").next().unwrap().unwrap();
        assert_eq!((new.cpu, new.columns[6]), (Some(255), Some(7)));
        assert!(parse_softnet(b"1 2 3\n").next().unwrap().is_err());
    }

    #[test]
    fn columns_of_all_cpus_are_added_up_and_entries_taken_once() {
        let text = b"entries  clashres found drop\n0000000a 0 1 2\n0000000a 0 3 ff\n";
        let mut bad = Unparsed::default();
        assert_eq!(
            parse_per_cpu(text, ["entries", "found", "drop", "none"], &mut bad),
            [Some(10), Some(4), Some(257), None]
        );
        assert_eq!(bad.gap("x"), None);
    }

    #[test]
    fn a_sum_with_a_bad_line_is_no_sum() {
        for text in [&b"entries found\n1 2\n1\n"[..], b"entries found\n1 z\n", b"entries found\n1 2", b""] {
            let mut bad = Unparsed::default();
            assert_eq!(parse_per_cpu(text, ["entries", "found"], &mut bad), [None, None], "{text:?}");
            assert_eq!(bad.gap("x").unwrap().reason, GapReason::ParseFailed);
        }
    }

    #[test]
    fn arp_entries_are_counted_by_device() {
        let text = b"IP address HW type Flags HW address Mask Device\n192.0.2.1 0x1 0x2 02:fc:00:00:00:05 * eth0\n192.0.2.2 0x1 0x0 00:00:00:00:00:00 * eth0\n10.0.0.1 0x1 0x2 02:fc:00:00:00:06 * cni0\n";
        assert_eq!(parse_arp(text, &mut Unparsed::default()), [("eth0", 2), ("cni0", 1)]);
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_bad(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse_softnet(&bytes).for_each(drop);
            parse_per_cpu(&bytes, ["entries", "found"], &mut Unparsed::default());
            parse_per_cpu(&[b"entries found\n", &bytes[..], b"\n"].concat(), ["entries", "found"], &mut Unparsed::default());
            parse_arp(&[b"heading\n", &bytes[..]].concat(), &mut Unparsed::default());
        }
    }
}
