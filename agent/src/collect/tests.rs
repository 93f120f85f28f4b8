//! Collections over a small tree, and steps that hang, panic and find nobody to deliver to.

use std::path::Path;
use std::sync::{Condvar, Mutex};

use casefile_proto::time::WallTime;

use super::*;
use crate::redaction::Masking;

/// Keeps what it was given; refuses chunks when told to.
#[derive(Default)]
struct Sink {
    items: Vec<(ItemNumber, ItemHead, Vec<u8>, Option<ItemTail>)>,
    refuses: bool,
}

impl ItemSink for Sink {
    fn begin(&mut self, number: ItemNumber, head: &ItemHead) -> Result<(), SinkError> {
        self.items.push((number, head.clone(), vec![], None));
        Ok(())
    }
    fn chunk(&mut self, chunk: Chunk) -> Result<(), SinkError> {
        if self.refuses {
            return Err(SinkError(std::io::Error::other("no space")));
        }
        let mut plain = vec![];
        chunk.check(&mut plain).unwrap();
        self.items.last_mut().unwrap().2.extend(plain);
        Ok(())
    }
    fn end(&mut self, tail: &ItemTail) -> Result<(), SinkError> {
        self.items.last_mut().unwrap().3 = Some(tail.clone());
        Ok(())
    }
    fn progress(&mut self, _source: &str, _records: u64, _bytes: u64) {}
}

fn window() -> Window {
    Window::new(WallTime::from_secs(1_795_405_000), WallTime::from_secs(1_795_405_600)).unwrap()
}

fn ask() -> Ask {
    Ask {
        window: window(),
        budget: Bytes::mib(64),
        deadline: Duration::from_secs(60),
        sources: vec![],
        select: Selection::default(),
        clock: None,
    }
}

/// A machine with one log file that has a line before, two in and one after the window.
fn machine() -> (tempfile::TempDir, Context) {
    let tmp = tempfile::tempdir().unwrap();
    let logs = tmp.path().join("var/log");
    std::fs::create_dir_all(&logs).unwrap();
    std::fs::create_dir_all(tmp.path().join("proc")).unwrap();
    let line = |secs| format!("{} line {secs}\n", WallTime::from_secs(secs));
    let text = [1_795_404_999, 1_795_405_000, 1_795_405_599, 1_795_405_600].map(line).concat();
    std::fs::write(logs.join("app.log"), text).unwrap();
    let host = Host::new(tmp.path()).unwrap();
    let clock = crate::clock::system();
    let context = Context {
        boot: BootId::from_bytes([7; 16]),
        host,
        node: "n-1".parse().unwrap(),
        clock,
        ring_dir: None,
        sources: vec!["cpu", "memory"],
        logs: LogConfig::builtin(),
        redaction: Arc::new(Redaction::open(Masking::default(), tmp.path().join("redaction.key")).unwrap()),
        left_behind: LeftBehind::default(),
    };
    (tmp, context)
}

fn names(collected: &Collected, kind: SourceKind) -> Vec<&str> {
    collected.sources.iter().filter(|r| r.kind == kind).map(|r| r.source.as_str()).collect()
}

#[test]
fn everything_that_was_asked_has_a_row_whether_it_is_there_or_not() {
    let (_tmp, context) = machine();
    let mut sink = Sink::default();
    let collected = collect(&context, &ask(), &AtomicBool::new(false), &mut sink);
    assert_eq!(names(&collected, SourceKind::Metrics), ["cpu", "memory"]);
    let state: Vec<_> = std::iter::once(INVENTORY).chain(state::ALL.iter().map(|s| s.name)).collect();
    assert_eq!(names(&collected, SourceKind::State), state);
    assert_eq!(names(&collected, SourceKind::Logs), logs::ALL.iter().map(|s| s.name).collect::<Vec<_>>());
    assert!(collected.sources.iter().filter(|r| r.kind == SourceKind::Metrics).all(|r| !r.gaps.is_empty()));
    assert_eq!(collected.gaps[0].reason, GapReason::NotRecorded);
    // Numbered in order, whole, and as large as they say.
    for (index, (number, head, bytes, tail)) in sink.items.iter().enumerate() {
        let tail = tail.as_ref().unwrap_or_else(|| panic!("{} was not ended", head.path));
        assert_eq!((number.0 as usize, bytes.len() as u64), (index, tail.size), "{}", head.path);
    }
    let log = sink.items.iter().find(|(_, head, ..)| head.path.as_str().contains("app.log")).expect("the log");
    assert_eq!(log.3.as_ref().unwrap().records, 2);
    let row = collected.sources.iter().find(|r| r.source == "files").unwrap();
    assert_eq!((row.records, row.items, row.covered.as_slice()), (2, 1, [window()].as_slice()));
}

#[test]
fn only_what_is_asked_is_collected_and_an_unknown_name_is_told() {
    let (_tmp, context) = machine();
    let mut sink = Sink::default();
    let asked = Ask { sources: vec!["files".to_owned(), "inventory".to_owned(), "ouija".to_owned()], ..ask() };
    let collected = collect(&context, &asked, &AtomicBool::new(false), &mut sink);
    let rows: Vec<_> = collected.sources.iter().map(|r| r.source.as_str()).collect();
    assert_eq!(rows, ["inventory", "files"]);
    assert!(collected.gaps.iter().any(|g| g.reason == GapReason::SourceAbsent && g.detail.contains("ouija")));
    assert_eq!(sink.items[0].1.path.as_str(), NODE_ITEM);
    let node: serde_json::Value = serde_json::from_slice(&sink.items[0].2).unwrap();
    assert_eq!(node["node"], "n-1");
}

#[test]
fn a_budget_that_is_used_up_and_a_collection_that_was_cancelled_are_gaps() {
    let (_tmp, context) = machine();
    let small = Ask { budget: Bytes(10), sources: vec!["files".to_owned()], ..ask() };
    let mut sink = Sink::default();
    let collected = collect(&context, &small, &AtomicBool::new(false), &mut sink);
    assert_eq!(sink.items[0].2.len(), 0);
    assert!(collected.sources[0].gaps.iter().any(|g| g.reason == GapReason::Budget), "{:?}", collected.sources);

    let mut sink = Sink::default();
    let collected = collect(&context, &ask(), &AtomicBool::new(true), &mut sink);
    assert!(sink.items.is_empty());
    assert!(collected.sources.iter().all(|r| r.gaps[0].reason == GapReason::Cancelled));

    let over = Ask { deadline: Duration::ZERO, ..ask() };
    let collected = collect(&context, &over, &AtomicBool::new(false), &mut sink);
    assert!(collected.sources.iter().all(|r| r.gaps[0].reason == GapReason::TimedOut));
}

#[test]
fn a_receiver_that_is_gone_ends_the_collection() {
    let (_tmp, context) = machine();
    let mut sink = Sink { refuses: true, ..Sink::default() };
    let collected = collect(&context, &ask(), &AtomicBool::new(false), &mut sink);
    assert!(collected.gaps.iter().any(|g| g.detail.contains("no space")), "{:?}", collected.gaps);
    assert_eq!(sink.items.len(), 1);
}

/// A record of exactly 50 bytes in the archive.
fn record(n: u64) -> String {
    format!("2026-11-23T{:02}:{:02}:{:02}Z stdout {n:021}\n", n / 3600, n / 60 % 60, n % 60)
}

/// What each of these logs, by the number of its records, is given of a budget: `files` and `pods` in one collection.
fn given(files: &[u64], pods: &[u64], budget: u64) -> (Vec<u64>, Vec<u64>) {
    let (tmp, mut context) = machine();
    let root = tmp.path();
    std::fs::remove_file(root.join("var/log/app.log")).unwrap();
    for (n, records) in files.iter().enumerate() {
        let text: String = (0..*records).map(record).collect();
        std::fs::write(root.join(format!("var/log/{n}.log")), text).unwrap();
    }
    for (n, records) in pods.iter().enumerate() {
        let dir = root.join(format!("var/log/pods/shop_pod-{n}_u/app"));
        std::fs::create_dir_all(&dir).unwrap();
        let text: String = (0..*records).map(|r| record(r).replace("stdout ", "stdout F ")).collect();
        std::fs::write(dir.join("0.log"), text).unwrap();
    }
    context.host = Host::new(root).unwrap();
    let day = Window::new("2026-11-23T00:00:00Z".parse().unwrap(), "2026-11-24T00:00:00Z".parse().unwrap()).unwrap();
    let sources = vec!["files".to_owned(), "pods".to_owned()];
    let ask = Ask { window: day, budget: Bytes(budget), sources, ..ask() };
    let mut sink = Sink::default();
    let collected = collect(&context, &ask, &AtomicBool::new(false), &mut sink);
    assert_eq!(names(&collected, SourceKind::Logs), ["files", "pods"], "rows stand in the order of the list");
    let total: u64 = sink.items.iter().map(|i| i.2.len() as u64).sum();
    assert!(total <= budget, "{total} of {budget}");
    let records = |path: String, has: u64| {
        let Some((_, _, bytes, tail)) = sink.items.iter().find(|i| i.1.path.as_str() == path) else { return 0 };
        let tail = tail.as_ref().unwrap();
        assert_eq!(bytes.len() as u64, tail.records * 50, "{path} is cut within a record");
        let left_out = tail.gaps.iter().find(|g| g.reason == GapReason::Budget);
        // What is left out is said, with its number, its bytes and from when on.
        assert_eq!(left_out.and_then(|g| g.count), (tail.records < has).then_some(has - tail.records), "{path}");
        if let Some(gap) = left_out {
            assert!(gap.detail.contains(&format!("{} records, ", has - tail.records)), "{gap:?}");
            assert_eq!(gap.interval.map(|i| i.from()), Some(day.from().after(Duration::from_secs(tail.records))));
        }
        tail.records
    };
    let in_files = files.iter().enumerate().map(|(n, has)| records(format!("logs/files/var/log/{n}.log"), *has));
    let in_files = in_files.collect();
    let in_pods = pods.iter().enumerate().map(|(n, has)| records(format!("logs/pods/shop_pod-{n}_u/app.log"), *has));
    (in_files, in_pods.collect())
}

#[test]
fn one_log_source_leaves_to_the_other_what_it_does_not_need() {
    // Nine tenths and a hundredth, either way: all of it fits.
    assert_eq!(given(&[900], &[10], 50_000), (vec![900], vec![10]));
    assert_eq!(given(&[10], &[900], 50_000), (vec![10], vec![900]));
    // One log of one source and many of the other: one level for all of them.
    let (files, pods) = given(&[2000], &[10; 99], 50_000);
    assert_eq!((pods, files[0]), (vec![10; 99], 10));
    let (files, pods) = given(&[40; 9], &[40, 5000], 100_000);
    assert_eq!((files, pods[0]), (vec![40; 9], 40));
    assert!((1590..=1600).contains(&pods[1]), "{pods:?}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]

    #[test]
    fn a_log_that_needs_no_more_than_its_fair_share_over_all_log_sources_is_whole(
        files in proptest::collection::vec(1_u64..200, 0..5),
        pods in proptest::collection::vec(1_u64..200, 0..6),
        budget in 0_u64..60_000,
    ) {
        let (in_files, in_pods) = given(&files, &pods, budget);
        // The level of sizes as they lie on the disk: two bytes more for each record of a pod.
        let mut sizes: Vec<u64> = files.iter().map(|n| n * 50).chain(pods.iter().map(|n| n * 52)).collect();
        sizes.sort_unstable();
        let fits = |level: u64| sizes.iter().map(|s| level.min(*s)).sum::<u64>() <= budget;
        let level = (0..=budget).rev().find(|level| fits(*level)).unwrap_or(0);
        for (has, got) in files.iter().zip(&in_files) {
            proptest::prop_assert!(*got >= (*has).min(level / 50), "{got} of {has} in files, the level is {level}");
        }
        for (has, got) in pods.iter().zip(&in_pods) {
            proptest::prop_assert!(*got >= (*has).min(level / 52), "{got} of {has} in pods, the level is {level}");
        }
    }
}

fn head(path: &str) -> ItemHead {
    ItemHead {
        kind: ItemKind::State,
        path: path.parse().unwrap(),
        source: "x".to_owned(),
        method: String::new(),
        times: None,
    }
}

#[test]
fn a_step_that_hangs_is_left_behind_with_what_it_gave() {
    static GATE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
    let wait = || {
        drop(GATE.1.wait_while(GATE.0.lock().unwrap(), |open| !*open).unwrap());
        step::Result::default()
    };
    let stop = AtomicBool::new(false);
    let until =
        Until { stop: &stop, deadline: Instant::now() + Duration::from_millis(20), grace: Duration::from_millis(5) };
    let left_behind = LeftBehind::default();
    let mut sink = Sink::default();
    let mut delivery = Delivery::new(&mut sink, left_behind.clone());
    let hanging = move |feed: &Feed| {
        feed.begin(head("state/a.jsonl")).unwrap();
        wait()
    };
    assert!(matches!(delivery.run("a", &until, hanging), Ok(Went::Hangs { bytes: 0 })));
    let later = Until { deadline: Instant::now() + Duration::from_secs(60), ..until.clone() };
    let redactor = Redaction::for_once(Masking::default(), Path::new("/nonexistent")).unwrap().current();
    let fine = move |feed: &Feed| {
        let mut content = Content::text(feed, head("state/b.jsonl"), Bytes(10), &redactor);
        content.write_all(b"{}").unwrap();
        content.write_all(b"\n").unwrap();
        assert!(content.write_all(b"too much\n").is_err());
        let bytes = content.bytes;
        content.finish(1, None, vec![]);
        step::Result { bytes, ..Default::default() }
    };
    assert!(matches!(delivery.run("b", &later, fine), Ok(Went::Done(step::Result { bytes: 3, .. }))));
    assert!(matches!(delivery.run("c", &later, |_| panic!("a bug")), Ok(Went::Panicked { .. })));
    for _ in 0..7 {
        assert!(!left_behind.is_full());
        assert!(matches!(delivery.run("d", &until, move |_| wait()), Ok(Went::Hangs { .. })));
    }
    assert!(left_behind.is_full());
    *GATE.0.lock().unwrap() = true;
    GATE.1.notify_all();
    while left_behind.is_full() {
        std::thread::yield_now();
    }
    let items: Vec<_> = sink
        .items
        .iter()
        .map(|(n, head, bytes, tail)| (n.0, head.path.as_str(), bytes.len(), tail.is_some()))
        .collect();
    assert_eq!(items, [(0, "state/a.jsonl", 0, false), (1, "state/b.jsonl", 3, true)]);
}

#[test]
fn secrets_are_masked_in_logs_and_tables_and_counted_in_the_rows() {
    let (tmp, context) = machine();
    let at = WallTime::from_secs(1_795_405_100);
    let log = format!("{at} dial postgres://app:hunter2-hunter2@db/shop\n{at} password=hunter2-hunter2\n");
    std::fs::write(tmp.path().join("var/log/app.log"), log).unwrap();
    std::fs::write(tmp.path().join("proc/cmdline"), "root=/dev/vda ks=http://u:hunter2-hunter2@boot/ks.cfg\n").unwrap();
    let mut sink = Sink::default();
    let collected = collect(&context, &ask(), &AtomicBool::new(false), &mut sink);
    for (_, head, bytes, _) in &sink.items {
        let text = String::from_utf8_lossy(bytes);
        assert!(!text.contains("hunter2"), "{}: {text}", head.path);
    }
    let tokens: std::collections::BTreeSet<_> = sink
        .items
        .iter()
        .flat_map(|(_, _, bytes, _)| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let ids: Vec<_> = text
                .split("[redacted:")
                .skip(1)
                .filter_map(|t| t.split([':', ']']).nth(1).map(str::to_owned))
                .collect();
            ids
        })
        .collect();
    assert_eq!(tokens.len(), 1, "one secret is one token, whatever rule found it: {tokens:?}");
    let masked = |source: &str| {
        let row = collected.sources.iter().find(|row| row.source == source).unwrap();
        row.redaction.as_ref().map(|r| r.rules.values().sum::<u64>())
    };
    assert_eq!((masked("files"), masked("inventory")), (Some(2), Some(1)));
    // Nothing found is not the same as not looked at.
    assert_eq!(masked("pods"), Some(0));
}

#[test]
fn a_line_of_a_table_is_masked_however_it_is_written() {
    let redactor = Redaction::for_once(Masking::default(), Path::new("/nonexistent")).unwrap().current();
    let mut sink = Sink::default();
    let (stop, left_behind) = (AtomicBool::new(false), LeftBehind::default());
    let until = Until { stop: &stop, deadline: Instant::now() + Duration::from_secs(60), grace: Duration::ZERO };
    let head = ItemHead {
        kind: ItemKind::State,
        path: "state/a.jsonl".parse().unwrap(),
        source: STATE.to_owned(),
        method: String::new(),
        times: None,
    };
    let step = move |feed: &Feed| {
        let mut content = Content::text(feed, head, Bytes(1000), &redactor);
        for piece in "{\"a\":\"password=hunter2-hunter2\"}\n{\"b\":1}\n".as_bytes().chunks(3) {
            content.write_all(piece).unwrap();
        }
        content.write_all(b"no line end password=hunter2-hunter2").unwrap();
        content.flush().unwrap();
        assert_eq!(content.lines, 2);
        content.finish(3, None, vec![]);
        step::Result::default()
    };
    assert!(matches!(Delivery::new(&mut sink, left_behind).run("a", &until, step), Ok(Went::Done(_))));
    let text = String::from_utf8(sink.items.remove(0).2).unwrap();
    assert_eq!(text.matches("[redacted:").count(), 2);
    assert!(!text.contains("hunter2") && text.contains("{\"b\":1}\n"), "{text}");
}
