//! Ports over a small tree, with the clock in hand: what closes and opens a breaker, and what is read meanwhile.

use std::path::PathBuf;

use proptest::prelude::*;

use super::super::breaker::FIRST_WAIT;
use super::*;
use crate::host::Host;
use crate::sources::Measurement;

struct Cards {
    root: tempfile::TempDir,
    host: Host,
    ports: Infiniband,
    out: Measurement,
}

impl Cards {
    /// `mlx5_0` at `0000:00:00.0`, `mlx5_1` at `0000:00:01.0`, …, each with one port.
    fn new(count: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        for n in 0..count {
            let device = root.path().join(DIR).join(format!("mlx5_{n}"));
            let port = device.join("ports/1");
            std::fs::create_dir_all(port.join("counters")).unwrap();
            std::fs::create_dir_all(port.join("hw_counters")).unwrap();
            std::os::unix::fs::symlink(format!("../../../0000:00:{n:02x}.0"), device.join("device")).unwrap();
            for (file, text) in [
                ("state", "4: ACTIVE\n"),
                ("phys_state", "5: LinkUp\n"),
                ("rate", "100 Gb/sec (4X EDR)\n"),
                ("link_layer", "InfiniBand\n"),
                ("counters/link_downed", "7\n"),
                ("hw_counters/out_of_sequence", "8\n"),
            ] {
                std::fs::write(port.join(file), text).unwrap();
            }
        }
        let host = Host::new(root.path()).unwrap();
        Self { root, host, ports: Infiniband::default(), out: Measurement::new(&METRICS) }
    }

    fn measure(&mut self, seconds: u64) {
        self.measure_round(seconds, Round::Quick);
    }

    fn measure_round(&mut self, seconds: u64, round: Round) {
        self.out.begin();
        let mut reader = Reader { host: &self.host, buf: &mut Vec::new(), out: &mut self.out };
        self.ports.measure(BootTime::from_nanos(seconds * 1_000_000_000), round, &mut reader);
    }

    /// The kernel log says that a card refused.
    fn complain(&self, card: usize) {
        self.host.stats().refusals.add(PciAddress::parse(&format!("0000:00:{card:02x}.0")).unwrap());
    }

    /// Of which cards the counters were read, and of which state and rate.
    fn read(&self) -> (Vec<String>, Vec<String>) {
        let (mut counters, mut states) = (Vec::new(), Vec::new());
        self.out.each(&mut |metric, labels, _| match metric.name {
            "node_infiniband_link_downed_total" => counters.push(labels[0].to_owned()),
            "node_infiniband_state_id" => states.push(labels[0].to_owned()),
            _ => {}
        });
        (counters, states)
    }

    fn gaps(&self) -> Vec<(GapReason, &str)> {
        self.out.gaps().iter().map(|gap| (gap.reason, &*gap.detail)).collect()
    }
}

const WAIT: u64 = FIRST_WAIT.as_secs();

#[test]
fn counters_are_left_alone_when_the_kernel_log_says_that_they_are_refused() {
    let mut cards = Cards::new(2);
    cards.measure(0);
    assert_eq!((cards.read().0, cards.gaps().len()), (vec!["mlx5_0".to_owned(), "mlx5_1".to_owned()], 0));
    cards.complain(1);
    for second in [10, 20, WAIT] {
        cards.measure(second);
        let (counters, states) = cards.read();
        assert_eq!((counters, states.len()), (vec!["mlx5_0".to_owned()], 2), "at {second}");
        let [(GapReason::PermissionDenied, detail), (GapReason::PermissionDenied, other)] = cards.gaps()[..] else {
            panic!("{:?}", cards.gaps())
        };
        assert!(other.contains("mlx5_1/ports/1: hw_counters are left alone"), "{other}");
        assert!(
            detail.starts_with("/sys/class/infiniband/mlx5_1/ports/1: counters are left alone for 10 min"),
            "{detail}"
        );
        assert!(detail.contains("0000:00:01.0"), "{detail}");
    }
}

#[test]
fn what_the_kernel_log_said_before_the_first_measurement_counts() {
    let mut cards = Cards::new(1);
    cards.complain(0);
    cards.measure(0);
    assert_eq!((cards.read().0.len(), cards.gaps().len()), (0, 2));
}

#[test]
fn after_the_wait_each_kind_is_tried_and_read_again_if_nobody_complains() {
    let mut cards = Cards::new(1);
    cards.complain(0);
    cards.measure(0);
    for (second, gaps) in [(WAIT, 1), (WAIT + 10, 0), (WAIT + 20, 0)] {
        cards.measure(second);
        assert_eq!((cards.read().0.len(), cards.gaps().len()), (1, gaps), "at {second}");
    }
}

#[test]
fn a_complaint_after_a_trial_leaves_what_was_tried_alone_for_twice_as_long() {
    let mut cards = Cards::new(1);
    cards.complain(0);
    cards.measure(0);
    cards.measure(WAIT);
    assert_eq!(cards.read().0.len(), 1);
    cards.complain(0);
    for second in [WAIT + 10, 2 * WAIT + 10, 3 * WAIT] {
        cards.measure(second);
        assert_eq!(cards.read().0.len(), 0, "at {second}");
        let [(_, detail)] = cards.gaps()[..] else { panic!("{:?}", cards.gaps()) };
        assert!(detail.contains(": counters are left alone for 20 min"), "{detail}");
    }
    cards.measure(3 * WAIT + 10);
    assert_eq!(cards.read().0.len(), 1);
}

#[test]
fn a_complaint_about_a_read_that_failed_closes_nothing_else() {
    let mut cards = Cards::new(1);
    cards.measure(0);
    cards.ports.devices.get_mut("mlx5_0").unwrap().was_refused = true;
    cards.complain(0);
    cards.measure(10);
    assert_eq!((cards.read().0.len(), cards.gaps().len()), (1, 0));
    cards.complain(0);
    cards.measure(20);
    assert_eq!((cards.read().0.len(), cards.gaps().len()), (0, 2));
}

#[test]
fn one_is_tried_at_a_time() {
    let mut cards = Cards::new(3);
    (0..3).for_each(|card| cards.complain(card));
    cards.measure(0);
    assert_eq!(cards.read().0.len(), 0);
    // Of each card first the port's own counters, then the driver's.
    for (turn, expected) in [1, 1, 2, 2, 3, 3].into_iter().enumerate() {
        cards.measure(WAIT + 10 * turn as u64);
        let (counters, states) = cards.read();
        assert_eq!((counters.len(), states.len(), cards.gaps().len()), (expected, 3, 5 - turn), "turn {turn}");
    }
}

#[test]
fn what_comes_after_its_card_is_found_and_an_open_breaker_stays_open() {
    let mut cards = Cards::new(2);
    let ports = cards.root.path().join(DIR).join("mlx5_0/ports");
    std::fs::rename(ports.join("1/counters"), cards.root.path().join("later")).unwrap();
    cards.complain(1);
    cards.measure(0);
    assert_eq!(cards.read().0.len(), 0);
    std::fs::rename(cards.root.path().join("later"), ports.join("1/counters")).unwrap();
    std::fs::create_dir_all(ports.join("2/hw_counters")).unwrap();
    std::fs::write(ports.join("2/hw_counters/rnr_nak_retry_err"), "5\n").unwrap();
    cards.measure(10);
    assert_eq!(cards.read().0.len(), 0);
    cards.measure_round(20, Round::Full);
    assert_eq!((cards.read().0, cards.gaps().len()), (vec!["mlx5_0".to_owned()], 2));
    assert_eq!(cards.out.find("node_infiniband_rnr_nak_retry_packets_received_total", &["mlx5_0", "2"]), Some(5));
}

#[test]
fn more_ports_than_are_read_are_a_gap_that_counts_them() {
    let mut cards = Cards::new(MAX_PORTS + 2);
    for round in [Round::Full, Round::Quick, Round::Full] {
        cards.measure_round(0, round);
        let gaps: Vec<_> = cards.out.gaps().iter().map(|gap| (gap.reason, gap.count)).collect();
        assert_eq!((cards.read().0.len(), gaps), (MAX_PORTS, vec![(GapReason::Budget, Some(2))]));
    }
}

#[test]
fn a_card_that_went_and_came_back_is_read_anew() {
    let mut cards = Cards::new(1);
    cards.measure(0);
    let (device, away): (PathBuf, PathBuf) =
        (cards.root.path().join(DIR).join("mlx5_0"), cards.root.path().join("away"));
    std::fs::rename(&device, &away).unwrap();
    cards.measure(10);
    assert_eq!((cards.read().0.len(), cards.out.find(DEVICES.name, &["infiniband"])), (0, Some(0)));
    std::fs::rename(&away, &device).unwrap();
    cards.measure(20);
    assert_eq!(cards.read().0.len(), 1);
}

/// `/proc/self/mem` is a regular file of which no byte can be read at offset 0: what a refused command looks like.
#[test]
fn a_read_that_fails_is_a_refusal() {
    let host = Host::new(std::path::Path::new("/")).unwrap();
    let mut out = Measurement::new(&METRICS);
    let mut reader = Reader { host: &host, buf: &mut Vec::new(), out: &mut out };
    let mut place = Place::new(&host, "proc/self".to_owned(), Hold::ByPath);
    let (reason, why) = ask(&mut place, "mem", port_counters::parse, &mut reader).unwrap_err();
    assert_eq!(reason, GapReason::SourceFailed);
    assert!(why.contains("/proc/self/mem"), "{why}");
    let mut guard = Guard::new();
    guard.refused(BootTime::from_nanos(0), (reason, why.clone()));
    guard.refused(BootTime::from_nanos(1), (GapReason::PermissionDenied, "later".to_owned()));
    let gap = guard.gap(&place, "counters").unwrap();
    assert_eq!(gap.reason, GapReason::SourceFailed);
    assert!(gap.detail.contains(&why), "{}", gap.detail);
    assert!(!guard.may_ask(BootTime::from_nanos(2), &mut 1));
    assert!(out.gaps().is_empty());
}

#[test]
fn errors_of_refused_commands_are_told_from_counters_that_are_not_there() {
    let of = |errno: Errno| {
        let source = std::io::Error::from_raw_os_error(errno.raw_os_error());
        refusal(&HostError::Io { doing: "read", path: PathBuf::new(), source }).map(|(reason, _)| reason)
    };
    assert_eq!(of(Errno::INVAL), Some(GapReason::PermissionDenied));
    assert_eq!(of(Errno::PERM), Some(GapReason::PermissionDenied));
    assert_eq!(of(Errno::IO), Some(GapReason::SourceFailed));
    for other in [Errno::NOENT, Errno::OPNOTSUPP, Errno::NODATA, Errno::ACCESS] {
        assert_eq!(of(other), None, "{other:?}");
    }
}

#[test]
fn states_and_rates_parse() {
    assert_eq!((parse_state(b"4: ACTIVE\n"), parse_state(b"3: Disabled\n")), (Ok(Some(4)), Ok(Some(3))));
    assert_eq!(parse_rate(b"100 Gb/sec (4X EDR)\n"), Ok(Some(1000)));
    assert_eq!(parse_rate(b"2.5 Gb/sec (1X SDR)\n"), Ok(Some(25)));
    assert!((RATE.scale.apply(25) - 312_500_000.0).abs() < 1.0);
    for bad in [&b""[..], b"\n", b"ACTIVE\n", b"x: ACTIVE\n", b"4: ACTIVE"] {
        assert!(parse_state(bad).is_err(), "{bad:?}");
    }
    for bad in [&b""[..], b"100\n", b"100 Mb/sec\n", b"x Gb/sec\n", b"100 Gb/sec"] {
        assert!(parse_rate(bad).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_parse_or_are_bad(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = parse_state(&bytes);
        let _ = parse_state(&[&bytes[..], b": ACTIVE\n"].concat());
        let _ = parse_rate(&bytes);
        let _ = parse_rate(&[&bytes[..], b" Gb/sec\n"].concat());
    }
}
