//! The host door over a small tree with everything in it that must not be opened.

use super::*;

fn fixture() -> (tempfile::TempDir, Host, Host) {
    let tmp = tempfile::tempdir().unwrap();
    let root = tmp.path();
    std::fs::create_dir_all(root.join("proc/1")).unwrap();
    std::fs::create_dir_all(root.join("var/log/pods")).unwrap();
    std::fs::write(root.join("proc/stat"), "cpu 1 2\n").unwrap();
    std::fs::write(root.join("var/log/pods/0.log"), "line\n").unwrap();
    std::os::unix::fs::symlink("1", root.join("proc/self")).unwrap();
    std::os::unix::fs::symlink("0.log", root.join("var/log/pods/link.log")).unwrap();
    std::os::unix::fs::symlink("log", root.join("var/link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.join("proc/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let (a, b) = (Host::new(root).unwrap(), Host::walking(root));
    (tmp, a, b)
}

#[test]
fn a_kept_file_is_read_again_from_its_beginning_without_allocating() {
    let (tmp, host, _) = fixture();
    let file = host.keep("proc/stat").unwrap();
    let mut buf = Vec::new();
    file.read(&mut buf, 1 << 20).unwrap();
    assert_eq!(buf, b"cpu 1 2\n");
    let before = (buf.as_ptr(), buf.capacity());
    std::fs::write(tmp.path().join("proc/stat"), "cpu 10 20 30\n").unwrap();
    file.read(&mut buf, 1 << 20).unwrap();
    assert_eq!(buf, b"cpu 10 20 30\n");
    file.read_record(&mut buf, 1 << 20).unwrap();
    assert_eq!(buf, b"cpu 10 20 30\n");
    assert_eq!(before, (buf.as_ptr(), buf.capacity()));
}

#[test]
fn a_file_at_its_cap_is_read_and_one_byte_more_is_too_large() {
    let (tmp, host, _) = fixture();
    let mut buf = Vec::new();
    for size in [0, 1, 4095, 4096, 4097, 20_000] {
        std::fs::write(tmp.path().join("proc/big"), vec![b'x'; size]).unwrap();
        host.read("proc/big", &mut buf, size).unwrap();
        assert_eq!(buf.len(), size);
        if size > 0 {
            let error = host.read("proc/big", &mut buf, size - 1).unwrap_err();
            assert!(matches!(error, HostError::TooLarge { .. }), "{size}: {error}");
        }
    }
}

#[test]
fn a_pipe_a_directory_and_a_link_are_refused_without_blocking() {
    let (_tmp, a, b) = fixture();
    for host in [a, b] {
        let mut buf = Vec::new();
        for (path, file) in [("proc/pipe", "no regular file"), ("proc/1", "no regular file")] {
            let error = host.read(path, &mut buf, 10).unwrap_err();
            assert!(error.to_string().contains(file), "{error}");
        }
        let pods = host.strict_dir("var/log/pods").unwrap();
        pods.read("0.log", &mut buf, 10).unwrap();
        assert!(matches!(pods.read("link.log", &mut buf, 10), Err(HostError::Refused { .. })));
        assert!(matches!(host.strict_dir("var/link/pods"), Err(HostError::Refused { .. })));
        assert!(matches!(host.strict_dir("var/../var"), Err(HostError::Refused { .. })));
        assert!(matches!(pods.read("../pods/../../../etc/passwd", &mut buf, 10), Err(HostError::Refused { .. })));
    }
}

#[test]
fn names_and_links_are_listed_again_and_again() {
    let (_tmp, host, _) = fixture();
    let mut dir = host.dir("proc").unwrap();
    for _ in 0..2 {
        let mut found = Vec::new();
        dir.each(&mut |name, kind| found.push((name.to_str().unwrap().to_owned(), kind))).unwrap();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let kinds = [EntryKind::Dir, EntryKind::Other, EntryKind::Link, EntryKind::File];
        let expected: Vec<_> = ["1", "pipe", "self", "stat"].into_iter().map(str::to_owned).zip(kinds).collect();
        assert_eq!(found, expected);
    }
    assert_eq!(host.link("proc/self").unwrap(), Path::new("1"));
    assert!(host.list("proc/none").unwrap_err().is_not_found());
    assert!(!host.is_live() && Host::new(Path::new("/")).unwrap().is_live());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a process of our own that can go away")]
fn a_process_that_has_gone_is_not_found() {
    let host = Host::new(Path::new("/")).unwrap();
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let file = host.keep(format!("proc/{}/stat", child.id())).unwrap();
    let mut buf = Vec::new();
    file.read_record(&mut buf, 4096).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(file.read_record(&mut buf, 4096).unwrap_err().is_not_found());
}
