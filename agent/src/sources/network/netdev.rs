//! `/proc/net/dev`: bytes, packets, errors and drops of each interface, received and transmitted.

use casefile_proto::sample::MetricSpec;

use super::super::Measurement;
use super::super::spec::named;
use super::metrics::METRICS;
use crate::text::{self, BadLine, Fields, entries};

/// The columns in the kernel's order. The two for compressed packets (modems of the nineties) are not recorded.
const COLUMNS: [Option<&MetricSpec>; 16] = [
    Some(named(&METRICS, "node_network_receive_bytes_total")),
    Some(named(&METRICS, "node_network_receive_packets_total")),
    Some(named(&METRICS, "node_network_receive_errs_total")),
    Some(named(&METRICS, "node_network_receive_drop_total")),
    Some(named(&METRICS, "node_network_receive_fifo_total")),
    Some(named(&METRICS, "node_network_receive_frame_total")),
    None,
    Some(named(&METRICS, "node_network_receive_multicast_total")),
    Some(named(&METRICS, "node_network_transmit_bytes_total")),
    Some(named(&METRICS, "node_network_transmit_packets_total")),
    Some(named(&METRICS, "node_network_transmit_errs_total")),
    Some(named(&METRICS, "node_network_transmit_drop_total")),
    Some(named(&METRICS, "node_network_transmit_fifo_total")),
    Some(named(&METRICS, "node_network_transmit_colls_total")),
    Some(named(&METRICS, "node_network_transmit_carrier_total")),
    None,
];

/// One interface.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) device: &'a str,
    columns: [i64; COLUMNS.len()],
}

/// The interfaces, after two lines of heading, which have a `|`.
pub(super) fn parse(text: &[u8]) -> impl Iterator<Item = Result<Line<'_>, BadLine<'_>>> {
    entries(text, |line| {
        let mut fields = Fields::of(line);
        if line.contains(&b'|') && (line.starts_with(b"Inter-|") || line.starts_with(b" face |")) {
            return Ok(None);
        }
        // Before Linux 2.6.30 the first number may follow the colon without a blank.
        let colon = line.iter().rposition(|b| *b == b':').ok_or_else(|| fields.bad("no `:` after the name"))?;
        let device = text::name(line[..colon].trim_ascii()).ok_or_else(|| fields.bad("not a name"))?;
        fields = Fields::of(&line[colon + 1..]);
        let mut columns = [0; COLUMNS.len()];
        for column in &mut columns {
            *column = fields.number().map_err(|bad| BadLine { line, why: bad.why })?;
        }
        Ok(Some(Line { device, columns }))
    })
}

/// Its readings.
pub(super) fn emit(line: &Line<'_>, out: &mut Measurement) {
    for (metric, value) in COLUMNS.iter().zip(line.columns) {
        metric.iter().for_each(|metric| out.reading(metric, &[line.device], value));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_any_length_and_a_number_right_after_the_colon() {
        let text = b"Inter-|   Receive  |  Transmit\n face |bytes    packets|bytes\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\nveth94dc05cd:9 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        let got: Vec<_> = parse(text).map(Result::unwrap).collect();
        assert_eq!((got[0].device, got[0].columns[15]), ("lo", 16));
        assert_eq!((got[1].device, got[1].columns[0]), ("veth94dc05cd", 9));
    }

    #[test]
    fn a_line_that_is_cut_is_bad() {
        for bad in [&b"eth0: 1 2 3\n"[..], b"eth0 1 2\n", b": 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n", b"\n"] {
            assert!(parse(bad).all(|line| line.is_err()), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_bad(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes).for_each(drop);
            parse(&[b"eth0: ", &bytes[..], b"\n"].concat()).for_each(drop);
        }
    }
}
