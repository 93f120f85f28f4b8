//! Quantities as Kubernetes writes them: `100m`, `64Mi`, `1.5`, `2e3`, `12k`.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>

/// The number that a quantity is in the base unit: CPUs, bytes, pieces. `None`: it is none.
pub fn quantity(text: &str) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let (number, times) =
        SUFFIXES.iter().find_map(|(suffix, times)| Some((text.strip_suffix(suffix)?, *times))).unwrap_or((text, 1.0));
    // What Rust reads besides digits (`inf`, `nan`) is no quantity.
    let plain = number.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let value = number.parse::<f64>().ok().filter(|_| plain)? * times;
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_in_every_form_and_what_is_none_is_none() {
        for (text, value) in [
            ("100m", 0.1),
            ("64Mi", 67_108_864.0),
            ("1.5", 1.5),
            ("2e3", 2000.0),
            ("12k", 12_000.0),
            ("1E", 1e18),
            ("250000000n", 0.25),
            ("0", 0.0),
        ] {
            let read = quantity(text).unwrap();
            assert!((read - value).abs() <= value * 1e-12, "{text}: {read}");
        }
        for text in ["", "Mi", "inf", "nan", "1 Gi", "0x10", "1e999", "1Zi"] {
            assert_eq!(quantity(text), None, "{text}");
        }
    }
}
