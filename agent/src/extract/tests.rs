//! The whole verb over a small tree, and everything that it refuses.

use casefile_evidence::archive::reader::{Archive, Limits};
use casefile_evidence::archive::sign::AllowedSigners;
use casefile_evidence::archive::verify::SignatureState;

use super::*;

fn args(dir: &Path) -> Extract {
    Extract {
        since_time: WallTime::from_secs(1_795_405_000),
        until_time: Some(WallTime::from_secs(1_795_405_600)),
        sources: vec![],
        namespaces: vec![],
        pods: vec![],
        units: vec![],
        output: dir.join("out.tar.gz"),
        force: false,
        config: None,
        host_root: Some(dir.join("host")),
        ring: Some(dir.join("no-ring")),
        max_mib: 64,
        reason: "a test".to_owned(),
    }
}

fn around() -> Surroundings {
    Surroundings { node: Some("n-1".to_owned()), hostname: None }
}

fn machine() -> tempfile::TempDir {
    let tmp = tempfile::tempdir().unwrap();
    let logs = tmp.path().join("host/var/log");
    fs::create_dir_all(&logs).unwrap();
    fs::write(logs.join("app.log"), "2026-11-23T03:36:41Z hello\n").unwrap();
    tmp
}

#[test]
fn an_extraction_is_a_whole_unsigned_archive_of_one_node() {
    let tmp = machine();
    let plan = plan(&args(tmp.path()), &around()).unwrap();
    let done = run(&plan, &AtomicBool::new(false)).unwrap();
    assert!(!done.is_whole(), "there is no ring, and that shows");
    let mut archive = Archive::open(&done.path, Limits::default()).unwrap();
    let verified = archive.verify(&AllowedSigners::default());
    assert_eq!((verified.problems, verified.signature), (vec![], SignatureState::Unsigned));
    let entries: Vec<_> = archive.entries().iter().map(|e| e.path.as_str().to_owned()).collect();
    for wanted in ["data/coverage.json", "data/incident.json", "data/nodes/n-1/node.json"] {
        assert!(entries.iter().any(|e| e == wanted), "{wanted} is not in {entries:?}");
    }
    assert!(entries.iter().any(|e| e.starts_with("data/nodes/n-1/logs/files/")), "{entries:?}");
    // Nothing but the archive is left, and nobody else may read it.
    let left: Vec<_> = fs::read_dir(tmp.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&done.path).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn an_archive_that_is_there_is_not_replaced_unless_told_to() {
    let tmp = machine();
    let args = args(tmp.path());
    fs::write(&args.output, "precious").unwrap();
    assert!(matches!(plan(&args, &around()), Err(ExtractError::Exists(_))));
    let plan = plan(&Extract { force: true, ..args }, &around()).unwrap();
    run(&plan, &AtomicBool::new(false)).unwrap();
    assert_ne!(fs::read(&plan.output).unwrap(), b"precious");
}

#[test]
fn a_window_that_cannot_be_is_refused_before_anything_is_done() {
    let tmp = machine();
    let at = |since, until| {
        let (since_time, until_time) = (WallTime::from_secs(since), Some(WallTime::from_secs(until)));
        plan(&Extract { since_time, until_time, ..args(tmp.path()) }, &around()).err()
    };
    assert!(matches!(at(10, 10), Some(ExtractError::Window(InvalidWindow::Empty(_)))));
    assert!(matches!(at(20, 10), Some(ExtractError::Window(InvalidWindow::Reversed { .. }))));
    assert!(matches!(at(9_000_000_000, 9_000_000_010), Some(ExtractError::Future { .. })));
    assert!(at(10, 20).is_none(), "before all records is no error: the gaps say it");
}

#[test]
fn a_source_that_nobody_knows_is_refused_with_those_that_there_are() {
    let tmp = machine();
    let asked = |names: &[&str]| {
        let sources = names.iter().map(|n| (*n).to_owned()).collect();
        plan(&Extract { sources, ..args(tmp.path()) }, &around()).err().map(|e| e.to_string())
    };
    let refused = asked(&["pods", "nosuch", "cpus"]).unwrap();
    assert!(refused.contains("\"nosuch\", \"cpus\"") && refused.contains("kernel, "), "{refused}");
    assert_eq!(asked(&["pods", "cpu", "state", "sockets"]), None);
}

#[test]
fn what_was_interrupted_is_sealed_with_what_is_missing() {
    let tmp = machine();
    let plan = plan(&args(tmp.path()), &around()).unwrap();
    let done = run(&plan, &AtomicBool::new(true)).unwrap();
    assert!(done.coverage.nodes[0].sources.iter().all(|r| !r.gaps.is_empty()));
    assert!(done.to_string().contains("casefile show"));
}

#[test]
fn a_place_that_cannot_be_written_is_an_error_and_leaves_nothing() {
    let tmp = machine();
    let plan = plan(&Extract { output: tmp.path().join("none/out"), ..args(tmp.path()) }, &around()).unwrap();
    let error = run(&plan, &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(error, ExtractError::Io { .. }), "{error}");
}
