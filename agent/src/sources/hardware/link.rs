//! How fast a PCIe link runs and how wide it is, against what it could do: the texts of `current_link_speed`,
//! `max_link_speed`, `current_link_width` and `max_link_width`.

use casefile_proto::sample::MetricSpec;

use super::metrics::METRICS;
use super::place::{Place, Reader};
use crate::sources::spec::named;
use crate::text::{self, BadLine};

const CURRENT_SPEED: &MetricSpec = named(&METRICS, "node_pcidevice_current_link_transfers_per_second");
const MAX_SPEED: &MetricSpec = named(&METRICS, "node_pcidevice_max_link_transfers_per_second");
const CURRENT_WIDTH: &MetricSpec = named(&METRICS, "node_pcidevice_current_link_width");
const MAX_WIDTH: &MetricSpec = named(&METRICS, "node_pcidevice_max_link_width");

/// The file that shows that there is a link.
pub(super) const OF_LINK: &str = "max_link_speed";

/// Speed and width as they are now.
pub(super) fn current(place: &mut Place, labels: &[&str], reader: &mut Reader<'_>) {
    speed(place, "current_link_speed", CURRENT_SPEED, labels, reader);
    width(place, "current_link_width", CURRENT_WIDTH, labels, reader);
}

/// And at best.
pub(super) fn best(place: &mut Place, labels: &[&str], reader: &mut Reader<'_>) {
    speed(place, OF_LINK, MAX_SPEED, labels, reader);
    width(place, "max_link_width", MAX_WIDTH, labels, reader);
}

fn speed(place: &mut Place, file: &str, metric: &'static MetricSpec, labels: &[&str], reader: &mut Reader<'_>) {
    if let Some(Some(tenths)) = reader.parsed(place, file, parse_speed) {
        reader.out.reading(metric, labels, tenths);
    }
}

fn width(place: &mut Place, file: &str, metric: &'static MetricSpec, labels: &[&str], reader: &mut Reader<'_>) {
    if let Some(Some(lanes)) = reader.parsed(place, file, parse_width) {
        reader.out.reading(metric, labels, lanes);
    }
}

/// `32.0 GT/s PCIe`, `8 GT/s` on older kernels: tenths of a gigatransfer a second. `Unknown` is what the kernel says of
/// a number that it does not know, and of a device that does not answer any more.
pub(crate) fn parse_speed(text: &[u8]) -> Result<Option<i64>, BadLine<'_>> {
    let line = text::single(text)?;
    let bad = |why| BadLine { line, why };
    let said = line.trim_ascii();
    if said == b"Unknown" || said == b"Unknown speed" {
        return Ok(None);
    }
    let number = said.strip_suffix(b" PCIe").unwrap_or(said).strip_suffix(b" GT/s").ok_or(bad("no speed of a link"))?;
    tenths(number).map(Some).map_err(bad)
}

/// Lanes. 255 is what the kernel says where it does not know.
pub(crate) fn parse_width(text: &[u8]) -> Result<Option<i64>, BadLine<'_>> {
    let lanes = text::single_number(text)?;
    Ok((lanes != UNKNOWN_WIDTH).then_some(lanes))
}

/// `PCIE_LNK_WIDTH_UNKNOWN`.
const UNKNOWN_WIDTH: i64 = 0xff;

/// `16` or `2.5`, as tenths.
pub(super) fn tenths(number: &[u8]) -> Result<i64, &'static str> {
    let dot = number.iter().position(|b| *b == b'.').unwrap_or(number.len());
    let (whole, part) = number.split_at(dot);
    let part = match part {
        [] => 0,
        [b'.', digit @ b'0'..=b'9'] => i64::from(digit - b'0'),
        _ => return Err("not a number with one decimal"),
    };
    text::number(whole)?.checked_mul(10).and_then(|n| n.checked_add(part)).ok_or("a number beyond 63 bits")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn speeds_of_all_generations_and_kernels_parse() {
        for (text, tenths) in [
            ("2.5 GT/s PCIe\n", Some(25)),
            ("8 GT/s\n", Some(80)),
            ("32.0 GT/s PCIe\n", Some(320)),
            ("64.0 GT/s PCIe\n", Some(640)),
            ("Unknown\n", None),
            ("Unknown speed\n", None),
        ] {
            assert_eq!(parse_speed(text.as_bytes()), Ok(tenths), "{text:?}");
        }
    }

    #[test]
    fn a_width_that_the_kernel_does_not_know_is_none() {
        assert_eq!(
            (parse_width(b"16\n"), parse_width(b"255\n"), parse_width(b"0\n")),
            (Ok(Some(16)), Ok(None), Ok(Some(0)))
        );
    }

    #[test]
    fn what_is_no_speed_is_bad() {
        for bad in [
            "",
            "\n",
            "GT/s\n",
            "8.0\n",
            "8.0 GT/s PC\n",
            "8.05 GT/s PCIe\n",
            "-8 GT/s\n",
            "8.0 GT/s PCIe",
            "8. GT/s\n",
        ] {
            assert!(parse_speed(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_bad(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse_speed(&bytes);
            let _ = parse_speed(&[&bytes[..], b" GT/s PCIe\n"].concat());
            let _ = parse_width(&bytes);
        }
    }
}
