//! Comparisons of sets made here.

use super::*;
use crate::past::made::{add, counter, gauge, second, set};

fn window(from: i64, until: i64) -> Window {
    Window::new(second(from), second(until)).unwrap()
}

fn compared(a: &SeriesSet, b: &SeriesSet) -> Comparison {
    let pods = Pods::default();
    let side = |name: &str, set| Side {
        name: name.to_owned(),
        set,
        window: window(0, 120),
        pods: &pods,
        facts: Facts::default(),
    };
    compare(&side("n7", a), &side("n8", b), Machines::Two)
}

/// Something that varies a little, always in the same way.
fn noisy(n: u32) -> f64 {
    f64::from(n.wrapping_mul(2_654_435_761) >> 20) / 4096.0 - 0.5
}

#[test]
fn what_differs_by_more_than_it_varies_is_told_and_what_varies_as_much_is_not() {
    let (mut a, mut b) = (set(120), set(120));
    for (set, level) in [(&mut a, 30.0), (&mut b, 20.0)] {
        let kind = MetricKind::Gauge;
        add(set, "steady", kind, &[], |n| Some(level + noisy(n)));
        add(set, "wild", kind, &[], |n| Some(level / 10.0 + 40.0 * noisy(n)));
        add(set, "near", kind, &[], |_| Some(level / 10.0 + 97.0));
        counter(set, "node_cpu_seconds_total", &[("cpu", "0"), ("mode", "user")], level / 100.0);
        counter(set, "node_cpu_seconds_total", &[("cpu", "1"), ("mode", "user")], level / 100.0);
    }
    let done = compared(&a, &b);
    let told: Vec<_> = done.rows.iter().map(|row| (row.metric.as_str(), row.effect.map(|e| e > 0.0))).collect();
    assert_eq!(told, [("steady", Some(true)), ("node_cpu_seconds_total", Some(true))], "{:?}", done.rows);
    assert_eq!(done.alike, 2);
    let cpu = &done.rows[1];
    assert_eq!(cpu.labels, [("mode".to_owned(), "user".to_owned())].into(), "all CPUs together");
    assert!((cpu.a.unwrap().mean - 0.6).abs() < 1e-9 && (cpu.b.unwrap().mean - 0.4).abs() < 1e-9, "{cpu:?}");
    assert!((cpu.effect.unwrap() - 0.2 / (FLOOR * 0.6)).abs() < 1e-6, "what does not vary has the floor");
    assert_eq!(cpu.unit, "seconds/second");
    let back = compared(&b, &a);
    assert!(back.rows.iter().all(|row| row.effect.unwrap() < 0.0));
}

#[test]
fn what_one_side_does_not_have_is_missing_and_no_zero() {
    let (mut a, mut b) = (set(120), set(120));
    counter(&mut a, "only_here_total", &[("device", "nvme1n1")], 5.0);
    counter(&mut a, "idle_total", &[("device", "nvme1n1")], 0.0);
    gauge(&mut a, "both", &[], 1.0);
    gauge(&mut b, "both", &[], 1.0);
    let done = compared(&a, &b);
    assert_eq!(done.rows.len(), 1, "{:?}", done.rows);
    let row = &done.rows[0];
    assert_eq!((row.metric.as_str(), row.b, row.effect), ("only_here_total", None, None));
    assert_eq!((row.a.unwrap().mean, done.alike), (5.0, 1));
}

#[test]
fn a_source_that_was_not_recorded_on_one_side_is_said_once() {
    let (mut a, mut b) = (set(120), set(120));
    gauge(&mut a, "both", &[], 1.0);
    gauge(&mut b, "both", &[], 1.0);
    for metric in ["g1", "g2"] {
        gauge(&mut a, metric, &[], 1.0);
        a.series.last_mut().unwrap().source = "gpu".into();
    }
    let done = compared(&a, &b);
    assert_eq!(done.rows.len(), 0);
    let recorded = Some("recorded".to_owned());
    assert_eq!(done.changes, [Change { what: "source gpu".to_owned(), a: recorded, b: None }]);
}

#[test]
fn an_error_that_only_one_side_has_is_told_however_seldom_it_is() {
    let (mut a, mut b) = (set(120), set(120));
    add(&mut a, "errors_total", MetricKind::Counter, &[], |n| Some(f64::from(n / 30)));
    counter(&mut b, "errors_total", &[], 0.0);
    let done = compared(&a, &b);
    assert_eq!(done.rows.len(), 1);
    assert_eq!(done.rows[0].effect, Some(ONE_SIDED));
    // Once is not often enough to be more than an accident.
    let mut once = set(120);
    add(&mut once, "errors_total", MetricKind::Counter, &[], |n| Some(f64::from(n / 100)));
    assert_eq!(compared(&once, &b).rows.len(), 0);
}

#[test]
fn processes_are_put_together_by_name_and_not_by_pid() {
    let process = |set: &mut SeriesSet, pid: &str, comm: &str, cpus: f64, slot: u32| {
        let info = [("pid", pid), ("start", "7"), ("ppid", "1"), ("comm", comm), ("cgroup", "/"), ("uid", "0")];
        // At rest: read every ten seconds.
        add(set, "casefile_process_info", MetricKind::Info, &info, |n| (n % 10 == slot).then_some(1.0));
        let mode = [("pid", pid), ("start", "7"), ("mode", "user")];
        add(set, "casefile_process_cpu_seconds_total", MetricKind::Counter, &mode, |n| {
            (n % 10 == slot).then_some(f64::from(n) * cpus)
        });
    };
    let (mut a, mut b) = (set(120), set(120));
    process(&mut a, "10", "worker", 0.3, 1);
    process(&mut a, "11", "worker", 0.3, 4);
    process(&mut b, "99", "worker", 0.2, 7);
    process(&mut b, "98", "kworker/0:1", 0.2, 7);
    process(&mut a, "97", "kworker/3:2-events", 0.2, 2);
    let done = compared(&a, &b);
    assert_eq!(done.rows.len(), 1, "{:?}", done.rows);
    let row = &done.rows[0];
    assert_eq!(row.labels, [("comm".to_owned(), "worker".to_owned())].into());
    assert!((row.a.unwrap().max - 0.6).abs() < 1e-9 && (row.b.unwrap().mean - 0.2).abs() < 1e-9, "{row:?}");
}

#[test]
fn a_code_is_no_amount() {
    let (mut a, mut b) = (set(120), set(120));
    let code = |set: &mut SeriesSet, value: f64| {
        gauge(
            set,
            "DCGM_FI_DEV_CLOCKS_EVENT_REASONS",
            &[("gpu", "0"), ("UUID", if value > 131.0 { "x" } else { "y" })],
            value,
        );
        let series = set.series.last_mut().unwrap();
        let mut metric = (*series.metric).clone();
        metric.unit = Unit::Code;
        series.metric = std::sync::Arc::new(metric);
    };
    code(&mut a, 132.0);
    code(&mut b, 128.0);
    let done = compared(&a, &b);
    assert_eq!(done.rows.len(), 1, "three hundredths are another code all the same");
    assert_eq!(done.rows[0].labels, [("gpu".to_owned(), "0".to_owned())].into());
    assert_eq!(done.rows[0].effect, Some(1.0 / FLOOR));
}

#[test]
fn a_fact_that_changed_between_two_parts_of_a_window_is_told_and_a_reboot_too() {
    let mut set = set(100);
    let uname = |release: &'static str, boot: &'static str| [("release", release), ("boot_id", boot)];
    add(&mut set, "node_uname_info", MetricKind::Info, &uname("6.1", "x"), |n| (n < 50 && n % 10 == 0).then_some(1.0));
    add(&mut set, "node_uname_info", MetricKind::Info, &uname("6.2", "y"), |n| (n >= 50 && n % 10 == 0).then_some(1.0));
    let disk = |state: &'static str| [("device", "sda"), ("state", state)];
    add(&mut set, "casefile_disk_state_info", MetricKind::Info, &disk("running"), |n| (n < 70).then_some(1.0));
    add(&mut set, "casefile_disk_state_info", MetricKind::Info, &disk("offline"), |n| (n >= 70).then_some(1.0));
    let facts = |from, until, machines| Facts::of_series(&set, window(from, until), machines);
    let told = |machines| changes::between(&facts(50, 100, machines), &facts(0, 50, machines));
    let change =
        |what: &str, a: &str, b: &str| Change { what: what.to_owned(), a: Some(a.to_owned()), b: Some(b.to_owned()) };
    let disk = change("casefile_disk_state_info sda state", "offline", "running");
    let release = change("node_uname_info release", "6.2", "6.1");
    assert_eq!(told(Machines::Same), [disk.clone(), change("node_uname_info boot_id", "y", "x"), release.clone()]);
    assert_eq!(told(Machines::Two), [disk, release], "a boot id is of one machine alone");
}

#[test]
fn the_baseline_is_four_times_as_long_as_far_as_there_is_anything() {
    assert_eq!(before(window(100, 110), second(0)), Some(window(60, 100)));
    assert_eq!(before(window(100, 110), second(90)), Some(window(90, 100)));
    assert_eq!(before(window(100, 110), second(100)), None);
}
