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

fn shown(args: &Extract, form: console::Form) -> (String, String, console::Shown) {
    let plan = plan(args, &around()).unwrap();
    assert!(plan.is_for_a_console());
    let (mut out, mut talk) = (Vec::new(), Vec::new());
    let shown = console::show(&plan, form, &AtomicBool::new(false), &mut out, &mut talk);
    (String::from_utf8(out).unwrap(), String::from_utf8(talk).unwrap(), shown)
}

#[test]
fn a_console_gets_the_records_alone_and_is_told_on_the_side_what_they_are() {
    let tmp = machine();
    fs::write(tmp.path().join("host/var/log/app.log"), "2026-11-23T03:36:41Z hello \x1b[31mred\n").unwrap();
    let args = Extract { output: "-".into(), sources: vec!["files".to_owned()], ..args(tmp.path()) };
    let (out, talk, whole) = shown(&args, console::Form::Plain);
    assert_eq!(out, "2026-11-23T03:36:41Z hello \x1b[31mred\n");
    assert!(talk.starts_with("==> logs/files/var/log/app.log: /var/log/app.log, times with a zone"), "{talk}");
    assert!(talk.contains("files: 1 records in 1 items") && talk.contains("missing (not-recorded)"), "{talk}");
    assert!(!whole.coverage.is_whole() && !whole.reader_left);
    assert_eq!(shown(&args, console::Form::Harmless).0, "2026-11-23T03:36:41Z hello \\x1b[31mred\n");
    // Nothing was written beside it.
    assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 1);
}

#[test]
fn a_reader_that_leaves_ends_the_extraction_and_is_no_failure() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let tmp = machine();
    let args = Extract { output: "-".into(), sources: vec!["files".to_owned()], ..args(tmp.path()) };
    let plan = plan(&args, &around()).unwrap();
    assert!(console::show(&plan, console::Form::Plain, &AtomicBool::new(false), &mut Gone, &mut Gone).reader_left);
}

#[test]
fn a_console_takes_text_and_the_kernel_log_is_text_though_a_source_of_metrics_has_its_name() {
    let tmp = machine();
    let asked = |sources: &[&str]| {
        let sources = sources.iter().map(|s| (*s).to_owned()).collect();
        plan(&Extract { output: "-".into(), sources, ..args(tmp.path()) }, &around()).err()
    };
    for sources in [&[][..], &["recording"], &["files", "cpu"]] {
        let error = asked(sources).unwrap();
        assert!(
            error.is_usage() && error.to_string().contains("say with --source which of inventory, state"),
            "{error}"
        );
    }
    assert!(asked(&["kernel"]).is_none() && asked(&["state", "pods"]).is_none());
}
