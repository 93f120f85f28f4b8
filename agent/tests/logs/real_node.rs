//! The log directory of a real node (`testdata/logs`): what containerd and kubelet write when containers restart, run out
//! of memory, write long lines and are rotated in the middle of one.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use casefile_agent::logs::{LogAsk, Selection};
use casefile_proto::gap::GapReason;
use casefile_proto::time::WallTime;

use crate::tree::{Tree, ask, at, gzip, read, whole_day, window};

const GATEWAY: &str = "logs/pods/shop_api-gateway-54f59bc969-4q8vm_394930f6-a053-4b4a-a2ca-ee45b01f8b25/gateway.log";
const LONG_LINES: &str = "logs/pods/shop_longlines_74fafe87-2367-42f7-8c2e-59e3dfd31fcf/app.log";
const CRASHER: &str = "logs/pods/shop_crasher-546f4c8c5f-ndxm9_307a3af4-ad68-4919-9241-74193ba49cd7/app.log";

fn node() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/logs/kubernetes-1.36")
}

fn reading(ask: &LogAsk) -> crate::tree::Reading {
    read(&node(), "pods", ask, &mut |_, _| std::ops::ControlFlow::Continue(()))
}

/// What any reader of text would make of the files of a container, oldest first, none of them with partial lines.
fn by_hand(files: &[String], from: &str, until: &str) -> String {
    let lines = files.iter().flat_map(|f| f.lines()).filter(|l| {
        let time: WallTime = l.split(' ').next().unwrap().parse().unwrap();
        at(from) <= time && time < at(until)
    });
    lines.map(|l| format!("{}\n", l.replacen(" F ", " ", 1))).collect()
}

fn files_of(item: &str) -> Vec<String> {
    let dir = node().join("var").join(item.replacen("logs/", "log/", 1).trim_end_matches(".log"));
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    // `0.log` is the newest.
    names.sort_by_key(|n| (n.extension().is_some_and(|e| e == "log"), n.clone()));
    names.iter().map(|n| String::from_utf8(fs::read(n).unwrap()).unwrap()).collect()
}

/// The text of a file as it was before kubelet compressed it.
fn plain(file: &Path) -> Vec<u8> {
    let bytes = fs::read(file).unwrap();
    if file.extension().is_none_or(|e| e != "gz") {
        return bytes;
    }
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut text).unwrap();
    text
}

/// The lines of a container by way of another reader: all files in the order of their times, each line split at its
/// blanks, parts put behind the one that the same stream began.
fn joined(dir: &Path) -> Vec<u8> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort_by_key(|n| (n.extension().is_some_and(|e| e == "log"), n.clone()));
    let mut records: Vec<(Vec<u8>, Vec<u8>, bool)> = Vec::new();
    for file in files {
        let text = plain(&file);
        for line in text.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            let mut fields = line.splitn(4, |b| *b == b' ');
            let (time, stream, tag) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
            let (text, ended) = (fields.next().unwrap_or_default(), tag == b"F");
            match records.iter_mut().find(|(_, of, ended)| !ended && of == stream) {
                Some((record, _, whole)) => {
                    record.extend_from_slice(text);
                    *whole = ended;
                }
                None => records.push(([time, b" ", stream, b" ", text].concat(), stream.to_vec(), ended)),
            }
        }
    }
    records.into_iter().flat_map(|(record, ..)| [record, b"\n".to_vec()].concat()).collect()
}

#[test]
fn every_container_of_the_node_is_there_to_the_byte() {
    let reading = reading(&whole_day());
    let mut containers = 0;
    for pod in fs::read_dir(node().join("var/log/pods")).unwrap().map(|e| e.unwrap()) {
        for container in fs::read_dir(pod.path()).unwrap().map(|e| e.unwrap()) {
            let (pod, name) = (pod.file_name().into_string().unwrap(), container.file_name().into_string().unwrap());
            let item = reading.item(&format!("logs/pods/{pod}/{name}.log"));
            let given = item.records.iter().map(|(_, b)| b.as_slice()).collect::<Vec<_>>().concat();
            assert!(given == joined(&container.path()), "{pod}/{name}");
            containers += 1;
        }
    }
    assert_eq!((containers, reading.items.len()), (5, 5));
    assert!(reading.covered.gaps.is_empty(), "{:?}", reading.covered.gaps);
}

#[test]
fn both_restarts_that_kubelet_keeps_are_one_log_and_a_container_without_a_file_is_named() {
    let tree = Tree::new();
    let pods = "var/log/pods";
    // As on the node: a pod that could not be pulled, a container that has not written, one without a file.
    tree.path(&format!("{pods}/shop_nopull_4ffde201-4304-41d1-895f-4632c4644964/none"));
    tree.write(&format!("{pods}/shop_probe-vt74q_6c75473a-f2c3-43f2-ba33-df71461b3be7/p/0.log"), "");
    tree.path(&format!("{pods}/shop_probe-ddcvk_2fcc4fec-06ca-460e-8f95-56abc8d60f4e/p/none"));
    let crasher = format!("{pods}/shop_crasher-546f4c8c5f-ndxm9_307a3af4-ad68-4919-9241-74193ba49cd7/app");
    let real = fs::read(node().join(&crasher).join("4.log")).unwrap();
    tree.write(&format!("{crasher}/4.log"), &real);
    tree.write(
        &format!("{crasher}/3.log"),
        "2026-11-23T14:42:51.1Z stdout F starting\n2026-11-23T14:42:51.2Z stderr P panic: ",
    );
    let reading = tree.read("pods", &whole_day());
    let text = String::from_utf8(real).unwrap().replace(" F ", " ");
    // What the older one had begun when it died is not joined with what the newer one said.
    assert_eq!(
        reading.item(CRASHER).text(),
        format!("2026-11-23T14:42:51.1Z stdout starting\n2026-11-23T14:42:51.2Z stderr panic: \n{text}")
    );
    let silent = reading.item("logs/pods/shop_probe-vt74q_6c75473a-f2c3-43f2-ba33-df71461b3be7/p.log");
    assert!(silent.records.is_empty());
    assert_eq!(reading.items.len(), 2);
    assert!(
        reading.gap(GapReason::NotRecorded).unwrap().detail.contains("shop_probe-ddcvk"),
        "{:?}",
        reading.covered.gaps
    );
}

#[test]
fn every_line_of_a_rotated_log_is_there_once_and_in_order() {
    let files = files_of(GATEWAY);
    assert_eq!(files.len(), 3);
    let edges =
        ["2026-11-23T14:44:20Z", "2026-11-23T14:44:25.3Z", "2026-11-23T14:44:34.566609502Z", "2026-11-23T14:45:00Z"];
    for (i, from) in edges.iter().enumerate() {
        for until in &edges[i + 1..] {
            let reading = reading(&ask(window(from, until)));
            assert_eq!(reading.item(GATEWAY).text(), by_hand(&files, from, until), "[{from}, {until})");
        }
    }
    assert_eq!(reading(&whole_day()).item(GATEWAY).records.len(), 150);
}

#[test]
fn a_line_that_was_rotated_in_its_middle_is_joined() {
    let reading = reading(&whole_day());
    let item = reading.item(LONG_LINES);
    // Each of the four files but the last ends in the middle of a line.
    assert!(
        item.gaps.iter().all(|g| g.interval.is_none_or(|i| i.from() < at("2026-11-23T14:42:40.689780902Z"))),
        "{:#?}",
        item.gaps
    );
    let record = item.records.iter().find(|(t, _)| *t == at("2026-11-23T14:44:22.504131686Z")).unwrap();
    let text = String::from_utf8_lossy(&record.1).into_owned();
    assert!(text.starts_with(r"2026-11-23T14:44:22.504131686Z stdout no newline at end\033[31mred"), "{}", &text[..90]);
    assert_eq!(item.records.len(), 7 + 7 + 4);
    // Its last part lies in a file that holds nothing else of this window, and is read all the same.
    let narrow = window("2026-11-23T14:44:22Z", "2026-11-23T14:44:23Z");
    assert_eq!(crate::real_node::reading(&ask(narrow)).item(LONG_LINES).text(), text);
}

#[test]
fn a_restart_that_is_gone_is_said() {
    let reading = reading(&whole_day());
    let item = reading.item(CRASHER);
    assert_eq!(
        item.text(),
        "2026-11-23T14:43:41.457277485Z stdout starting\n\
         2026-11-23T14:43:41.457450433Z stderr panic: config key missing: DATABASE_URL\n"
    );
    let gap = item.gap(GapReason::RotatedAway).unwrap();
    assert_eq!(gap.interval, Some(window("2026-11-23T00:00:00Z", "2026-11-23T14:43:41.457277485Z")));
    assert_eq!(item.covered, Some(window("2026-11-23T14:43:41.457277485Z", "2026-11-24T00:00:00Z")));
}

#[test]
fn a_silent_container_has_an_empty_item_that_is_covered() {
    let quiet = window("2026-11-23T20:00:00Z", "2026-11-23T20:15:00Z");
    let reading = reading(&ask(quiet));
    assert_eq!(reading.items.len(), 5);
    for item in &reading.items {
        assert!(item.records.is_empty() && item.gaps.is_empty() && item.covered == Some(quiet), "{item:#?}");
    }
    assert_eq!(reading.covered.covered, [quiet]);
}

#[test]
fn a_selection_reads_nothing_else() {
    let select =
        Selection { namespaces: vec!["shop".to_owned()], pods: vec!["hungry".to_owned()], ..Selection::default() };
    let reading = reading(&LogAsk { select, ..whole_day() });
    assert_eq!(
        reading.items.iter().map(|i| i.text()).collect::<Vec<_>>(),
        ["2026-11-23T14:43:54.469178302Z stdout eating\n"]
    );
    let select = Selection { namespaces: vec!["kube-system".to_owned()], ..Selection::default() };
    let reading = crate::real_node::reading(&LogAsk { select, ..whole_day() });
    assert!(reading.items.is_empty());
    let gaps: Vec<_> = reading.covered.gaps.iter().map(|g| (g.reason.name(), g.detail.as_str())).collect();
    assert_eq!(
        gaps,
        [("source-absent", "no container of the selection (pod logs of namespace kube-system) has a log here")]
    );
}

#[test]
fn compressing_rotated_files_as_kubelet_does_changes_nothing() {
    let tree = Tree::new();
    let dir = GATEWAY.replacen("logs/", "var/log/", 1);
    let dir = dir.trim_end_matches(".log");
    for file in fs::read_dir(node().join(dir)).unwrap() {
        let (name, path) = file.map(|f| (f.file_name().into_string().unwrap(), f.path())).unwrap();
        let bytes = fs::read(path).unwrap();
        if name.ends_with("144425") {
            tree.write(&format!("{dir}/{name}.gz"), gzip(&bytes));
            // What kubelet is writing at the moment is no log yet.
            tree.write(&format!("{dir}/{name}.gz.tmp"), b"half");
        } else if name.ends_with("144434") {
            // Both are there until kubelet has removed the plain one.
            tree.write(&format!("{dir}/{name}"), &bytes);
            tree.write(&format!("{dir}/{name}.gz"), gzip(&bytes));
        } else {
            tree.write(&format!("{dir}/{name}"), &bytes);
        }
    }
    let narrow = ask(window("2026-11-23T14:44:25Z", "2026-11-23T14:44:34.55Z"));
    assert_eq!(tree.read("pods", &narrow).item(GATEWAY).text(), reading(&narrow).item(GATEWAY).text());
    assert_eq!(tree.read("pods", &whole_day()).item(GATEWAY).records.len(), 150);
}
