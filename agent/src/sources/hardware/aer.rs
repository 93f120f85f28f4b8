//! What PCIe Advanced Error Reporting counted: the text of `aer_dev_correctable`, `aer_dev_nonfatal`, `aer_dev_fatal`
//! of a device, and the totals that a root port keeps of all messages that came up to it.
//!
//! `Documentation/ABI/testing/sysfs-bus-pci-devices-aer_stats`.

use casefile_proto::sample::MetricSpec;

use super::metrics::{METRICS, ROOT_PORT_ERRORS};
use super::place::{Place, Reader};
use crate::sources::spec::named;
use crate::text::{BadLine, Fields, Unparsed, entries};

const TOTAL: &MetricSpec = named(&METRICS, "casefile_pcie_aer_errors_total");
const BY_TYPE: &MetricSpec = named(&METRICS, "casefile_pcie_aer_errors_by_type_total");

/// Where each severity is counted, for a device and for what a root port was told.
const SEVERITIES: [(&str, &str, &str); 3] = [
    ("correctable", "aer_dev_correctable", "aer_rootport_total_err_cor"),
    ("nonfatal", "aer_dev_nonfatal", "aer_rootport_total_err_nonfatal"),
    ("fatal", "aer_dev_fatal", "aer_rootport_total_err_fatal"),
];

/// The file that shows that a device counts errors.
pub(super) const OF_DEVICE: &str = SEVERITIES[0].1;
/// The file that shows that it is a root port.
pub(super) const OF_ROOT_PORT: &str = SEVERITIES[0].2;

/// What a device counted of its own errors.
pub(super) fn device(place: &mut Place, address: &str, reader: &mut Reader<'_>) {
    for (severity, file, _) in SEVERITIES {
        let mut bad = Unparsed::default();
        if reader.glance(place, file).is_none() {
            continue;
        }
        let mut total = false;
        for count in parse(reader.buf).filter_map(|count| bad.keep(count)) {
            match count.kind {
                None => {
                    total = true;
                    reader.out.reading(TOTAL, &[address, severity], count.errors);
                }
                // Some twenty types, nearly always 0: where there is a total, a type that is not given is 0.
                Some(_) if count.errors == 0 => {}
                Some(kind) => reader.out.reading(BY_TYPE, &[address, severity, kind], count.errors),
            }
        }
        if !total {
            bad.lacks("total");
        }
        reader.gap(bad, place, file);
    }
}

/// What a root port was told by the devices below it.
pub(super) fn root_port(place: &mut Place, address: &str, reader: &mut Reader<'_>) {
    for (severity, _, file) in SEVERITIES {
        if let Some(errors) = reader.number(place, file) {
            reader.out.reading(ROOT_PORT_ERRORS, &[address, severity], errors);
        }
    }
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Count<'a> {
    /// `RxErr`, `BadTLP`, …; `None` is the total of all types.
    kind: Option<&'a str>,
    errors: i64,
}

/// `RxErr 0`, …, `TOTAL_ERR_COR 0`: a type and how many on each line.
pub(crate) fn parse(text: &[u8]) -> impl Iterator<Item = Result<Count<'_>, BadLine<'_>>> {
    entries(text, |line| {
        let mut fields = Fields::of(line);
        let (kind, errors) = (fields.name()?, fields.number()?);
        match fields.next() {
            None => Ok(Some(Count { kind: (!kind.starts_with("TOTAL_ERR_")).then_some(kind), errors })),
            Some(_) => Err(fields.bad("more than a type and a number")),
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn types_and_the_total_are_told_apart() {
        let counts: Vec<_> = parse(b"RxErr 2\nBadTLP 0\nTOTAL_ERR_COR 2\n").map(Result::unwrap).collect();
        let of = |kind, errors| Count { kind, errors };
        assert_eq!(counts, [of(Some("RxErr"), 2), of(Some("BadTLP"), 0), of(None, 2)]);
    }

    #[test]
    fn a_line_that_is_no_count_is_bad() {
        for bad in [&b"RxErr\n"[..], b"RxErr x\n", b"RxErr 1 2\n", b"RxErr 1", b"\n", b"RxErr -1\n"] {
            assert!(parse(bad).all(|line| line.is_err()), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_bad(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes).for_each(drop);
            parse(&[b"RxErr ", &bytes[..], b"\n"].concat()).for_each(drop);
        }
    }
}
