//! A case file that something happened to: cut off, a bit changed, bytes behind its end. `verify` says so and exits with
//! 3; whatever else opens it gives what is whole or a clear error, and never more than that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;
use std::time::Duration;

use casefile_tests::host::fixtures;
use casefile_tests::now;
use casefile_tests::program::{run, said, stdout};

/// A small case file, made once, and where the damaged ones go.
fn case_file() -> &'static (tempfile::TempDir, PathBuf) {
    static MADE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("case.tar.gz");
        let since = now().before(Duration::from_secs(3600)).to_string();
        let root = fixtures().join("plain-vm");
        let args =
            ["extract", "--since-time", &since, "--ring", "/nowhere", "--host-root", root.to_str().unwrap(), "-o"];
        let made = run("casefile-agent", &[&args[..], &[file.to_str().unwrap()]].concat());
        assert_eq!(made.status.code(), Some(5), "{}", said(&made));
        (dir, file)
    })
}

/// The verbs that open a case file, over this one.
fn opened(file: &Path, into: &Path) -> Vec<(&'static str, Output)> {
    let file = file.to_str().unwrap();
    let mut all = vec![];
    for verb in ["show", "ls", "series", "logs", "dmesg", "top", "vmstat", "df"] {
        all.push((verb, run("casefile", &[verb, file])));
    }
    all.push(("cat", run("casefile", &["cat", file, "data/coverage.json"])));
    all.push(("extract", run("casefile", &["extract", file, "--into", into.to_str().unwrap()])));
    all
}

/// Each either did what it should or said why not; nothing panicked.
fn clear(what: &str, all: &[(&str, Output)]) {
    for (verb, output) in all {
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!told.contains("panicked"), "{verb}, {what}: {}", said(output));
        match output.status.code() {
            Some(0) => {}
            Some(1 | 3 | 5) => {
                assert!(!told.trim().is_empty(), "{verb}, {what}: it does not say why: {}", said(output));
            }
            _ => panic!("{verb}, {what}: {}", said(output)),
        }
    }
}

fn damage(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> (tempfile::TempDir, PathBuf) {
    let mut bytes = fs::read(&case_file().1).unwrap();
    change(&mut bytes);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(format!("{name}.tar.gz"));
    fs::write(&file, bytes).unwrap();
    (dir, file)
}

fn size() -> usize {
    usize::try_from(fs::metadata(&case_file().1).unwrap().len()).unwrap()
}

#[test]
fn the_file_that_the_others_are_made_from_is_intact() {
    let (dir, file) = case_file();
    assert!(run("casefile", &["verify", file.to_str().unwrap()]).status.success());
    let into = dir.path().join("into");
    fs::create_dir(&into).unwrap();
    for (verb, output) in opened(file, &into) {
        // There is no recording in it, and what needs one says so.
        let code = match verb {
            "series" => 1,
            "top" | "vmstat" | "df" => 5,
            _ => 0,
        };
        assert_eq!(output.status.code(), Some(code), "{verb}: {}", said(&output));
    }
}

#[test]
fn a_file_cut_off_anywhere_is_damage_and_gives_what_is_whole() {
    let cuts = [0, 1, 9, 10, 100, 600, size() / 4, size() / 2, size() * 3 / 4, size() - 600, size() - 8, size() - 1];
    let mut given = 0;
    for cut in cuts {
        let (dir, file) = damage("cut", |bytes| bytes.truncate(cut));
        let verified = run("casefile", &["verify", file.to_str().unwrap()]);
        assert_eq!(verified.status.code(), Some(3), "cut at {cut}: {}", said(&verified));
        let all = opened(&file, dir.path());
        clear(&format!("cut at {cut}"), &all);
        given += usize::from(all.iter().any(|(verb, o)| *verb == "ls" && stdout(o).contains("data/coverage.json")));
    }
    assert!(given >= 5, "what was whole is given from where it is: {given} of {}", cuts.len());
}

#[test]
fn any_bit_that_changed_is_damage_and_named() {
    for turn in 0..40 {
        let at = turn * (size() - 1) / 39;
        let (_dir, file) = damage("flipped", |bytes| bytes[at] ^= 1 << (turn % 8));
        let verified = run("casefile", &["verify", file.to_str().unwrap(), "-o", "json"]);
        assert_eq!(verified.status.code(), Some(3), "byte {at}: {}", said(&verified));
        let found: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
        assert!(!found["problems"].as_array().unwrap().is_empty(), "byte {at}: {found}");
        if turn % 4 == 0 {
            let into = tempfile::tempdir().unwrap();
            clear(&format!("byte {at}"), &opened(&file, into.path()));
        }
    }
}

#[test]
fn bytes_behind_the_end_are_damage_and_hide_nothing() {
    let again = fs::read(&case_file().1).unwrap();
    for more in [&b"x"[..], &[0; 4096], &again] {
        let (dir, file) = damage("longer", |bytes| bytes.extend_from_slice(more));
        let verified = run("casefile", &["verify", file.to_str().unwrap()]);
        assert_eq!(verified.status.code(), Some(3), "{}", said(&verified));
        assert!(stdout(&verified).contains("follow"), "{}", said(&verified));
        let all = opened(&file, dir.path());
        clear("longer", &all);
        let shown = all.iter().find(|(verb, _)| *verb == "show").unwrap();
        assert!(shown.1.status.success(), "{}", said(&shown.1));
    }
}

#[test]
fn what_is_no_case_file_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    for text in [&b""[..], b"hello", &[0; 100_000], b"\x1f\x8b\x08\0", b"PK\x03\x04 zip"] {
        fs::write(&file, text).unwrap();
        clear("no case file", &opened(&file, dir.path()));
        assert_ne!(run("casefile", &["show", file.to_str().unwrap()]).status.code(), Some(0));
    }
    // A directory, a pipe that nobody writes to, and nothing at all.
    for path in [dir.path(), Path::new("/dev/null"), &dir.path().join("none")] {
        let shown = run("casefile", &["verify", path.to_str().unwrap()]);
        assert!(matches!(shown.status.code(), Some(1 | 3)), "{}: {}", path.display(), said(&shown));
        assert!(!said(&shown).contains("panicked"), "{}", said(&shown));
    }
}

#[test]
fn a_recording_with_changed_bytes_is_read_as_far_as_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let empty = run("casefile", &["replay", dir.path().to_str().unwrap()]);
    assert_eq!(empty.status.code(), Some(1), "{}", said(&empty));
    for bytes in [&b""[..], b"garbage that is no segment", &[0xff; 5000]] {
        fs::write(dir.path().join("00000001.seg"), bytes).unwrap();
        fs::write(dir.path().join("tail"), bytes).unwrap();
        let replayed = run("casefile", &["replay", dir.path().to_str().unwrap()]);
        assert!(!said(&replayed).contains("panicked"), "{}", said(&replayed));
        assert!(replayed.status.code().is_some_and(|code| code <= 5), "{}", said(&replayed));
    }
}
