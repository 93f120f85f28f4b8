//! Every state table over every fixture host: rows are JSON objects, what is missing is said, and nothing that a node
//! wrote leaves its string. A golden text for each host holds all tables and gaps (`UPDATE_GOLDEN=1`, then read the
//! difference).
//!
//! How to add a host: a directory below `testdata/hosts`. How to add a table: nothing to do here.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};

use casefile_agent::host::Host;
use casefile_agent::state::{ALL, StateSpec, Table};
use proptest::prelude::*;
use serde_json::Value;

/// The hosts whose tables are compared; other hosts are there for other subjects, and are only looked through.
const GOLDEN: [&str; 3] = ["hostile-names", "pods-v1", "pods-v2"];

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

fn hosts() -> BTreeSet<String> {
    let entries = std::fs::read_dir(testdata().join("hosts")).unwrap();
    let hosts: BTreeSet<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(GOLDEN.iter().all(|host| hosts.contains(*host)), "{hosts:?}");
    hosts
}

fn host(name: &str) -> Host {
    Host::new(&testdata().join("hosts").join(name)).unwrap()
}

fn table(name: &str) -> &'static StateSpec {
    ALL.iter().find(|spec| spec.name == name).unwrap()
}

/// Writes a table and checks what holds for every table of every host.
fn written(spec: &StateSpec, host: &Host) -> (Vec<Value>, Table) {
    let mut out = Vec::new();
    let table = (spec.write)(host, &mut out).unwrap();
    let raw = out.iter().find(|b| **b < 0x20 && **b != b'\n');
    assert_eq!(raw, None, "{}: a control character that is not escaped", spec.name);
    let text = String::from_utf8(out).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{}: the last row has no end", spec.name);
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(rows.iter().all(Value::is_object), "{}", spec.name);
    assert_eq!(table.rows, u64::try_from(rows.len()).unwrap(), "{}", spec.name);
    (rows, table)
}

fn rows(name: &str, host_name: &str) -> Vec<Value> {
    written(table(name), &host(host_name)).0
}

/// The row in which `key` is `value`.
fn row<'a>(rows: &'a [Value], key: &str, value: impl Into<Value>) -> &'a Value {
    let value = value.into();
    rows.iter().find(|row| row[key] == value).unwrap_or_else(|| panic!("no row with {key} {value}: {rows:?}"))
}

#[test]
fn every_table_says_of_every_host_what_it_said_before() {
    for name in hosts() {
        let mut text = String::new();
        for spec in ALL {
            let (rows, table) = written(spec, &host(&name));
            writeln!(text, "== {} ({} rows)", spec.file, rows.len()).unwrap();
            rows.iter().for_each(|row| writeln!(text, "{row}").unwrap());
            for gap in table.gaps {
                let count = gap.count.map(|count| format!(" × {count}")).unwrap_or_default();
                writeln!(text, "gap {}{count}: {}", gap.reason, gap.detail).unwrap();
            }
        }
        if !GOLDEN.contains(&name.as_str()) {
            continue;
        }
        let path = testdata().join("golden/state").join(format!("{name}.txt"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let expected =
            std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}: run with UPDATE_GOLDEN=1", path.display()));
        let same = expected == text.as_bytes();
        assert!(same, "{} differs: run with UPDATE_GOLDEN=1, read the difference\n{text}", path.display());
    }
}

#[test]
fn tables_have_names_and_files_of_their_own() {
    let names: BTreeSet<_> = ALL.iter().map(|spec| spec.name).collect();
    assert_eq!(names.len(), ALL.len());
    let files: BTreeSet<_> = ALL.iter().map(|spec| spec.file).collect();
    assert_eq!(files.len(), ALL.len());
    for spec in ALL {
        let gpu = spec.name.starts_with("gpu");
        assert!(
            spec.file == format!("state/{}.jsonl", spec.name) || (gpu && spec.file.starts_with("gpu/")),
            "{}",
            spec.file
        );
        assert!(!spec.about.is_empty());
    }
}

#[test]
fn an_empty_tree_is_a_gap_in_every_table() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(dir.path()).unwrap();
    for spec in ALL {
        let (rows, table) = written(spec, &host);
        assert!(rows.is_empty() && !table.gaps.is_empty(), "{}: {rows:?}", spec.name);
    }
}

#[test]
fn a_process_is_shown_with_its_cgroup_and_where_its_threads_hang() {
    let processes = rows("processes", "pods-v1");
    let kubelet = row(&processes, "pid", 612);
    assert_eq!(
        kubelet["blocked_threads"],
        serde_json::json!([{"tid": 641, "comm": "kubelet", "wchan": "folio_wait_bit"}])
    );
    assert_eq!((&kubelet["open_files"], &kubelet["open_files_limit"]), (&Value::from(4), &Value::from(1024)));
    let nginx = row(&processes, "comm", "nginx");
    assert!(nginx["cgroup"].as_str().unwrap().starts_with("/kubepods/besteffort/pod"));
    let kworker = row(&rows("processes", "pods-v2"), "pid", 31).clone();
    assert_eq!((&kworker["state"], &kworker["wchan"]), (&Value::from("D"), &Value::from("blk_mq_get_tag")));
    assert!(kworker.get("resident_bytes").is_none(), "a thread of the kernel has no memory of its own, not zero bytes");
}

#[test]
fn a_socket_is_shown_with_the_process_that_has_it() {
    let sockets = rows("sockets", "pods-v2");
    let stuck = row(&sockets, "inode", 41_001);
    assert_eq!((&stuck["state"], &stuck["remote"]), (&Value::from("ESTABLISHED"), &Value::from("10.10.10.11:8080")));
    assert_eq!(
        (&stuck["retransmits"], &stuck["send_queue"], &stuck["comm"]),
        (&3.into(), &1460.into(), &"java".into())
    );
    let shared = row(&sockets, "inode", 40_500);
    assert_eq!((&shared["pid"], &shared["shared_with"], &shared["local"]), (&1.into(), &1.into(), &"[::]:443".into()));
    assert!(row(&sockets, "state", "TIME_WAIT").get("pid").is_none());
}

#[test]
fn names_and_paths_stay_data_whatever_they_hold() {
    let processes = rows("processes", "hostile-names");
    for comm in
        [") R 1 (x", "a\nUid:\t0", "\u{1b}[31mred\u{1b}[0m", "\\xff\\xfe\\x80", "", "\u{202e}gpj.exe", "a\\b\"c"]
    {
        assert_eq!(row(&processes, "comm", comm)["uid"], 1000);
    }
    assert!(processes.iter().all(|row| row["pid"] != 122), "what ended since the list was read is not there");
    assert_eq!(row(&rows("mounts", "hostile-names"), "id", 36)["mount_point"], "/mnt/\u{1b}[31m\\xff");
    assert_eq!(row(&rows("sockets", "hostile-names"), "inode", 30_001)["path"], "/tmp/\u{1b}[2J\\xff x");
}

#[test]
fn what_cannot_be_parsed_is_told_with_its_file() {
    for (name, file) in [
        ("processes", "/proc/120/stat"),
        ("sockets", "/proc/1/net/tcp"),
        ("neighbours", "/proc/1/net/arp"),
        ("routes", "/proc/1/net/route"),
        ("mounts", "/proc/1/mountinfo"),
        ("modules", "/proc/modules"),
        ("limits", "/proc/key-users"),
    ] {
        let (_, table) = written(table(name), &host("hostile-names"));
        let told = table.gaps.iter().any(|gap| gap.reason.name() == "parse-failed" && gap.detail.contains(file));
        assert!(told, "{name}: {:?}", table.gaps);
    }
}

#[test]
fn processes_that_are_hidden_are_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("proc/4242");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::copy(testdata().join("hosts/pods-v2/proc/1500/stat"), own.join("stat")).unwrap();
    let (rows, table) = written(table("processes"), &Host::new(dir.path()).unwrap());
    assert_eq!(rows.len(), 1);
    assert!(table.gaps.iter().any(|gap| gap.reason.name() == "permission-denied"), "{:?}", table.gaps);
}

#[test]
fn a_write_that_fails_ends_every_table() {
    struct Short(usize);
    impl Write for Short {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(buf.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(buf.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    // Of GPUs a fixture has none to write about; `tests/gpu.rs` has.
    for spec in ALL.iter().filter(|spec| !spec.name.starts_with("gpu")) {
        let error = (spec.write)(&host("pods-v2"), &mut Short(30)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{}", spec.name);
    }
}

#[test]
fn this_machine_and_this_test_are_in_its_tables() {
    let host = Host::new(Path::new("/")).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let local = listener.local_addr().unwrap().to_string();
    for spec in ALL {
        let (rows, table) = written(spec, &host);
        let garbled: Vec<_> = table.gaps.iter().filter(|gap| gap.reason.name() == "parse-failed").collect();
        assert!(garbled.is_empty(), "{}: {garbled:?}", spec.name);
        match spec.name {
            "processes" => {
                let own = row(&rows, "pid", std::process::id());
                assert!(own["open_files"].as_u64().unwrap() > 2 && own["resident_bytes"].as_u64().unwrap() > 0);
            }
            "sockets" => assert_eq!(row(&rows, "local", local.as_str())["pid"], std::process::id()),
            "mounts" => assert_eq!(row(&rows, "mount_point", "/proc")["type"], "proc"),
            "interfaces" => assert_eq!(row(&rows, "interface", "lo")["type"], 772),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    /// Any bytes in any files: no panic, and every row is still one JSON object on one line.
    #[test]
    fn no_content_of_any_file_breaks_a_table(
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..40)),
            60..120,
        ),
    ) {
        let copy = tempfile::tempdir().unwrap();
        let files = copied(&testdata().join("hosts/pods-v2"), copy.path());
        for (file, at, bytes) in &edits {
            let path = &files[file.index(files.len())];
            let mut content = std::fs::read(path).unwrap();
            let at = at.index(content.len() + 1);
            let end = (at + bytes.len() / 2).min(content.len());
            content.splice(at..end, bytes.iter().copied());
            std::fs::write(path, content).unwrap();
        }
        let host = Host::new(copy.path()).unwrap();
        for spec in ALL {
            written(spec, &host);
        }
    }
}

/// Copies a tree; the files that were copied.
fn copied(from: &Path, to: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let path = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files.extend(copied(&entry.path(), &path)),
            kind if kind.is_symlink() => {
                std::os::unix::fs::symlink(std::fs::read_link(entry.path()).unwrap(), path).unwrap();
            }
            _ => {
                std::fs::copy(entry.path(), &path).unwrap();
                files.push(path);
            }
        }
    }
    files.sort();
    files
}
