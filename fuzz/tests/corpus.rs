//! Every seed of every target, whole, cut short and with bytes changed: what the fuzzer found once stays found, without
//! a fuzzer.

use casefile_fuzz::{ALL, seeds};

/// As many places of a seed are tried with each change; more of them is the fuzzer's business.
const PLACES: usize = 40;

#[test]
fn every_seed_whole_cut_and_changed_is_taken_by_its_target() {
    for target in ALL {
        let seeds = seeds(target);
        assert!(!seeds.is_empty(), "{} has no seed", target.name);
        for (name, bytes) in seeds {
            let tried = std::panic::catch_unwind(|| {
                (target.run)(&bytes);
                let step = (bytes.len() / PLACES).max(1);
                for at in (0..bytes.len()).step_by(step) {
                    (target.run)(&bytes[..at]);
                    let mut changed = bytes.clone();
                    changed[at] ^= 1 << (at % 8);
                    (target.run)(&changed);
                }
            });
            assert!(tried.is_ok(), "{}: its seed {name}, or a change of it", target.name);
        }
    }
}
