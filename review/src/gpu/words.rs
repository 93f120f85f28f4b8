//! Codes of NVML in words: why clocks are held back, states, modes, ways of recovery. The numbers are those of `nvml.h` of driver 575.

/// Bits of `nvmlClocksEventReason…`, lowest first.
const REASONS: [&str; 9] = [
    "idle",
    "application clocks",
    "software power cap",
    "hardware slowdown",
    "sync boost",
    "software thermal",
    "hardware thermal",
    "power brake",
    "display clocks",
];

/// Why the clocks are not as high as they could be; a bit that is not known by its number. `none` for no bit.
pub fn reasons(bits: u64) -> String {
    if bits == 0 {
        return "none".to_owned();
    }
    let set = (0..u64::BITS).filter(|bit| bits >> bit & 1 == 1);
    let named = |bit: u32| usize::try_from(bit).ok().and_then(|n| REASONS.get(n)).map(|name| (*name).to_owned());
    let words: Vec<_> = set.map(|bit| named(bit).unwrap_or_else(|| format!("bit {bit}"))).collect();
    words.join(", ")
}

/// `casefile_gpu_state`.
pub fn state(code: i64) -> String {
    let word = match code {
        1 => "answers",
        2 => "lost: NVML says that it fell off the bus",
        3 => "needs a reset",
        4 => "vanished: NVML does not list it any more",
        5 => "on the PCI bus, never listed by NVML",
        6 => "listed by NVML, which gives no handle to it",
        _ => return format!("state {code}"),
    };
    word.to_owned()
}

/// The state in one word, for a column.
pub fn state_word(code: i64) -> String {
    match code {
        1 => "ok".to_owned(),
        2 => "LOST".to_owned(),
        3 => "NEEDS RESET".to_owned(),
        4 => "VANISHED".to_owned(),
        5 => "NOT LISTED".to_owned(),
        6 => "NO HANDLE".to_owned(),
        _ => format!("STATE {code}"),
    }
}

/// `casefile_gpu_recovery_action`, `nvmlDeviceGpuRecoveryAction_t`.
pub fn recovery_action(code: i64) -> String {
    let words = [
        "none",
        "reset the GPU",
        "reboot the node",
        "drain P2P",
        "drain and reset",
        "recover the IMEX domain",
        "reset the bus",
        "reboot the system",
    ];
    of(&words, code, "action")
}

/// `casefile_gpu_fabric_state`, `nvmlGpuFabricState_t`.
pub fn fabric_state(code: i64) -> String {
    of(&["not supported", "not started", "in progress", "completed"], code, "state")
}

/// `DCGM_FI_DEV_COMPUTE_MODE`, `nvmlComputeMode_t`.
pub fn compute_mode(code: i64) -> String {
    of(&["shared", "one thread", "prohibited", "one process"], code, "mode")
}

/// On or off.
pub fn switch(code: i64) -> String {
    of(&["off", "on"], code, "")
}

/// The code that a value is; `None` for what is none.
pub fn whole(value: f64) -> Option<i64> {
    // Below 2^53 every whole number is exact: codes and bit masks are.
    const MOST: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "a whole number within what is exact")]
    (value.fract() == 0.0 && value.abs() < MOST).then_some(value as i64)
}

fn of(words: &[&str], code: i64, what: &str) -> String {
    let word = usize::try_from(code).ok().and_then(|n| words.get(n));
    word.map_or_else(|| format!("{what} {code}").trim().to_owned(), |word| (*word).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_word_and_an_unknown_one_its_number() {
        assert_eq!(reasons(0), "none");
        assert_eq!(reasons(1), "idle");
        assert_eq!(reasons(0x4 | 0x40), "software power cap, hardware thermal");
        assert_eq!(reasons(0x80), "power brake");
        assert_eq!(reasons(1 << 40), "bit 40");
        assert_eq!(reasons(u64::MAX).matches(", ").count(), 63);
    }

    #[test]
    fn only_a_whole_number_that_is_exact_is_a_code() {
        assert_eq!((whole(132.0), whole(-1.0), whole(0.0)), (Some(132), Some(-1), Some(0)));
        for none in [0.5, f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(whole(none), None, "{none}");
        }
    }

    #[test]
    fn a_code_that_is_not_known_is_shown_as_it_is() {
        assert_eq!(recovery_action(4), "drain and reset");
        assert_eq!((recovery_action(9), recovery_action(-1)), ("action 9".to_owned(), "action -1".to_owned()));
        assert_eq!((state(7), state_word(2)), ("state 7".to_owned(), "LOST".to_owned()));
        assert_eq!(
            (switch(1), switch(2), compute_mode(3), fabric_state(3)),
            ("on".into(), "2".into(), "one process".into(), "completed".into())
        );
    }
}
