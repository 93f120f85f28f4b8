//! Case files that were made to harm whoever opens them, through the command line: nothing is written outside the target,
//! nothing of this machine is read through them, and none takes more than it may.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use casefile_tests::program::{command, run, said, stdout};
use flate2::Compression;
use flate2::write::GzEncoder;

/// A ustar header with anything in it.
fn header(name: &str, kind: u8, size: u64, link: &str) -> [u8; 512] {
    let mut block = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\x000000000\x000000000");
    put(124, format!("{size:011o}").as_bytes());
    put(136, b"00000000001\0        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().copied().map(u32::from).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// One entry of a tar file.
enum Entry<'a> {
    File(&'a str, &'a [u8]),
    Link(&'a str, u8, &'a str),
    /// So many zero bytes.
    Zeros(&'a str, u64),
}

/// Compressed as any tool would; the header of the file is as ours (level 6, no name, no time), or it would be refused
/// for that alone.
fn archive(dir: &Path, entries: &[Entry<'_>]) -> PathBuf {
    let path = dir.join("hostile.tar.gz");
    let mut out = GzEncoder::new(fs::File::create(&path).unwrap(), Compression::new(6));
    for entry in entries {
        match entry {
            Entry::File(name, body) => {
                out.write_all(&header(name, b'0', body.len() as u64, "")).unwrap();
                out.write_all(body).unwrap();
                out.write_all(&vec![0; body.len().next_multiple_of(512) - body.len()]).unwrap();
            }
            Entry::Link(name, kind, to) => out.write_all(&header(name, *kind, 0, to)).unwrap(),
            Entry::Zeros(name, mib) => {
                out.write_all(&header(name, b'0', mib << 20, "")).unwrap();
                let piece = vec![0; 1 << 20];
                for _ in 0..*mib {
                    out.write_all(&piece).unwrap();
                }
            }
        }
    }
    out.write_all(&[0; 1024]).unwrap();
    out.finish().unwrap();
    path
}

/// Everything below a directory, with what is in it.
fn listing(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = vec![];
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            all.extend(listing(&entry.path()));
        } else {
            assert!(!entry.file_type().unwrap().is_symlink(), "{} is a link", entry.path().display());
            all.push((entry.path(), fs::read(entry.path()).unwrap()));
        }
    }
    all.sort();
    all
}

#[test]
fn an_archive_that_leads_out_of_its_directory_writes_nothing_anywhere() {
    let good = || Entry::File("top/data/a", b"one");
    let outside = b"written outside";
    let cases: Vec<(&str, Vec<Entry<'_>>)> = vec![
        ("up", vec![good(), Entry::File("top/../../outside", outside)]),
        ("up in the middle", vec![good(), Entry::File("top/data/../../../outside", outside)]),
        ("absolute", vec![good(), Entry::File("/tmp/casefile-outside", outside)]),
        ("another top", vec![good(), Entry::File("outside", outside)]),
        ("top is up", vec![Entry::File("../outside", outside)]),
        (
            "symbolic link",
            vec![good(), Entry::Link("top/data/l", b'2', "../../.."), Entry::File("top/data/l/outside", outside)],
        ),
        ("link to a file", vec![Entry::Link("top/data/l", b'2', "/etc/passwd")]),
        ("hard link", vec![good(), Entry::Link("top/data/l", b'1', "/etc/passwd")]),
        ("character device", vec![good(), Entry::Link("top/data/d", b'3', "")]),
        ("block device", vec![good(), Entry::Link("top/data/d", b'4', "")]),
        ("pipe", vec![good(), Entry::Link("top/data/p", b'6', "")]),
        ("twice", vec![good(), Entry::File("top/data/a", outside)]),
        ("line end", vec![good(), Entry::File("top/data/a\nb", outside)]),
        ("backslash", vec![good(), Entry::File("top/data\\..\\outside", outside)]),
    ];
    // The control: what the others are refused for is the one thing in which they differ from this.
    let dir = tempfile::tempdir().unwrap();
    let file = archive(dir.path(), &[good()]);
    let done = run("casefile", &["extract", file.to_str().unwrap(), "--into", dir.path().to_str().unwrap()]);
    assert_eq!(fs::read(dir.path().join("top/data/a")).unwrap(), b"one", "{}", said(&done));
    for (what, entries) in cases {
        let dir = tempfile::tempdir().unwrap();
        let file = archive(dir.path(), &entries);
        let (file, into) = (file.to_str().unwrap(), dir.path().join("a/b/into"));
        fs::create_dir_all(&into).unwrap();
        let refused = run("casefile", &["extract", file, "--into", into.to_str().unwrap()]);
        assert!(matches!(refused.status.code(), Some(1 | 3)), "{what}: {}", said(&refused));
        assert!(!refused.stderr.is_empty() && !said(&refused).contains("panicked"), "{what}: {}", said(&refused));
        assert!(
            !said(&refused).contains("does not begin"),
            "{what} is refused for the wrong thing: {}",
            said(&refused)
        );
        let left = listing(dir.path());
        let stray: Vec<_> =
            left.iter().filter(|(path, _)| !path.starts_with(&into) && path != Path::new(file)).collect();
        assert!(stray.is_empty(), "{what}: {stray:?}");
        assert!(left.iter().all(|(_, bytes)| bytes != outside), "{what}: {left:?}");
        for verb in ["show", "ls", "verify", "logs", "series"] {
            let output = run("casefile", &[verb, file]);
            assert!(!said(&output).contains("panicked"), "{verb} {what}: {}", said(&output));
            let wanted = if verb == "verify" { Some(3) } else { Some(1) };
            assert_eq!(output.status.code(), wanted, "{verb} {what}: {}", said(&output));
        }
    }
    assert!(!Path::new("/tmp/casefile-outside").exists());
}

#[test]
fn a_directory_that_an_attacker_made_a_link_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let file = archive(dir.path(), &[Entry::File("top/data/a", b"one")]);
    let (into, elsewhere) = (dir.path().join("into"), dir.path().join("elsewhere"));
    fs::create_dir(&into).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, into.join("top")).unwrap();
    let refused = run("casefile", &["extract", file.to_str().unwrap(), "--into", into.to_str().unwrap()]);
    assert_ne!(refused.status.code(), Some(0), "{}", said(&refused));
    assert_eq!(listing(&elsewhere), []);
}

/// The most address space that a command may take over a bomb: its own text and stacks are in it.
const MEMORY: &str = "400000";

#[test]
fn a_bomb_takes_no_memory_and_a_document_that_is_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bombs = [
        archive_named(dir.path(), "document", &[Entry::Zeros("top/data/incident.json", 320)]),
        archive_named(dir.path(), "log", &[Entry::Zeros("top/data/nodes/n-1/logs/kernel.log", 320)]),
    ];
    for bomb in &bombs {
        assert!(fs::metadata(bomb).unwrap().len() < 4 << 20, "320 MiB in a few");
        for verb in ["show", "ls", "verify", "series"] {
            let output = limited(&[verb, bomb.to_str().unwrap()]);
            assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{verb} {}: {}", bomb.display(), said(&output));
            assert!(!said(&output).contains("panicked"), "{verb}: {}", said(&output));
        }
    }
    let content = limited(&["cat", bombs[1].to_str().unwrap(), "data/nodes/n-1/logs/kernel.log"]);
    assert_eq!((content.status.code(), content.stdout.len()), (Some(0), 320 << 20), "streamed");
    assert!(stdout(&run("casefile", &["ls", bombs[1].to_str().unwrap()])).contains("kernel.log"));
}

fn archive_named(dir: &Path, name: &str, entries: &[Entry<'_>]) -> PathBuf {
    let sub = dir.join(name);
    fs::create_dir(&sub).unwrap();
    archive(&sub, entries)
}

/// Runs `casefile` with little memory.
fn limited(args: &[&str]) -> std::process::Output {
    let own = command("casefile");
    let mut shell = casefile_tests::program::tool("sh").expect("a shell is everywhere");
    let script = format!("ulimit -v {MEMORY} && exec \"$0\" \"$@\"");
    shell.args(["-c", &script]).arg(own.get_program()).args(args).output().unwrap()
}
