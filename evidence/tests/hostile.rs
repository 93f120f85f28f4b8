//! Archives made to harm whoever opens them: refused with a reason, streamed within limits, nothing outside the target.

#![expect(clippy::unwrap_used, reason = "what helps a test may panic as the test does")]

#[expect(dead_code, reason = "other test crates use the rest")]
mod sample;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use casefile_evidence::archive::chunk::Pack;
use casefile_evidence::archive::extract::{ExtractError, extract};
use casefile_evidence::archive::reader::{Archive, Limits, OpenError};
use casefile_evidence::archive::sign::AllowedSigners;
use casefile_proto::units::Bytes;
use flate2::read::DeflateDecoder;
use sha2::{Digest, Sha256};

use proptest::prelude::*;
use sample::{content, path, seal, write_small};

const FRAME: usize = 5;

/// A ustar header as Casefile writes it, with anything in it.
fn header(name: &str, kind: u8, size: &str, link: &str) -> Vec<u8> {
    let mut b = vec![0u8; 512];
    let mut put = |at: usize, bytes: &[u8]| b[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\x000000000\x000000000");
    put(124, size.as_bytes());
    put(136, b"00000000001");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    seal_header(&mut b);
    b
}

fn seal_header(b: &mut [u8]) {
    b[148..156].copy_from_slice(b"        ");
    let sum: u32 = b[..512].iter().copied().map(u32::from).sum();
    b[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn file(name: &str, body: &[u8]) -> Vec<u8> {
    let mut out = header(name, b'0', &format!("{:011o}", body.len()), "");
    out.extend_from_slice(body);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn stored(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in plain.chunks(65_535) {
        let len = u16::try_from(piece.len()).unwrap();
        out.push(0);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&(!len).to_le_bytes());
        out.extend_from_slice(piece);
    }
    out
}

/// A gzip member with this tar file in it, and its right checksum.
fn gzip(tar: &[u8]) -> Vec<u8> {
    let mut out = b"\x1f\x8b\x08\0\0\0\0\0\0\xff".to_vec();
    out.extend_from_slice(&stored(tar));
    out.extend_from_slice(b"\x01\0\0\xff\xff");
    out.extend_from_slice(&crc32fast::hash(tar).to_le_bytes());
    out.extend_from_slice(&u32::try_from(tar.len()).unwrap().to_le_bytes());
    out
}

fn with_end(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut tar = entries.concat();
    tar.extend_from_slice(&[0u8; 1024]);
    tar
}

fn save(dir: &Path, bytes: &[u8]) -> PathBuf {
    let path = dir.join("hostile.tar.gz");
    fs::write(&path, bytes).unwrap();
    path
}

/// Opening must fail; gives the reason.
fn refused(bytes: &[u8], limits: Limits) -> String {
    let dir = tempfile::tempdir().unwrap();
    match Archive::open(&save(dir.path(), bytes), limits) {
        Err(OpenError::Refused { why, .. }) => why,
        Err(other) => panic!("{other:?}"),
        Ok(archive) => panic!("opened, with {:?}", archive.entries()),
    }
}

#[test]
fn a_tar_file_of_regular_files_without_an_index_is_opened() {
    // The control: what the other tests refuse differs from this in one thing.
    let dir = tempfile::tempdir().unwrap();
    let archive = gzip(&with_end(&[file("top/data/a", b"one"), file("top/data/b", b"two")]));
    let mut archive = Archive::open(&save(dir.path(), &archive), Limits::default()).unwrap();
    assert_eq!(archive.entries().len(), 2);
    assert_eq!(archive.read(&path("data/b"), Bytes(10)).unwrap(), b"two");
    assert_eq!(archive.read(&path("data/a"), Bytes(10)).unwrap(), b"one");
    let found = archive.verify(&AllowedSigners::default());
    assert!(found.problems.iter().any(|p| p.entry.as_deref() == Some("manifest-sha256.txt")));
}

#[test]
fn what_our_archives_never_contain_is_refused_with_its_name() {
    let good = || file("top/data/a", b"one");
    let zero = "00000000000";
    for (entry, expected) in [
        (header("top/data/l", b'2', zero, "/etc/passwd"), "a symbolic link"),
        (header("top/data/l", b'1', zero, "top/data/a"), "a hard link"),
        (header("top/dev", b'3', zero, ""), "a character device"),
        (header("top/dev", b'4', zero, ""), "a block device"),
        (header("top/fifo", b'6', zero, ""), "a FIFO"),
        (header("top/data/", b'5', zero, ""), "a directory"),
        (header("top/data/s", b'S', zero, ""), "a sparse file"),
        (header("././@LongLink", b'L', zero, ""), "a GNU long name"),
        (header("pax_global_header", b'g', zero, ""), "a global PAX header"),
        (header("top/data/x", b'Z', zero, ""), "an entry of an unknown type"),
        (file("top/../etc/passwd", b"x"), "points elsewhere"),
        (file("top/data/../../x", b"x"), "points elsewhere"),
        (file("../x", b"x"), "not below the one top directory"),
        (file("/etc/passwd", b"x"), "not below the one top directory"),
        (file("top//etc/passwd", b"x"), "absolute, empty"),
        (file("top/C:\\x", b"x"), "not allowed"),
        (file("other/data/b", b"x"), "not below the one top directory"),
        (file(".ssh/authorized_keys", b"x"), "not below the one top directory"),
        (file("top", b"x"), "absolute, empty"),
        (file("top/data/a", b"again"), "two entries data/a"),
        (file("top/data/\x1b[2Jx", b"x"), "the name"),
    ] {
        let why = refused(&gzip(&with_end(&[good(), entry])), Limits::default());
        assert!(why.contains(expected), "{expected}: {why}");
        assert!(!why.contains('\u{1b}'), "{why:?}");
    }
}

#[test]
fn a_header_that_readers_could_take_in_two_ways_is_refused() {
    let pax = |body: &str| {
        let mut out = header("PaxHeaders/entry", b'x', &format!("{:011o}", body.len()), "");
        out.extend_from_slice(body.as_bytes());
        out.resize(out.len().next_multiple_of(512), 0);
        out
    };
    let small = file("top/data/a", b"one");
    let mut mode = small.clone();
    mode[100..107].copy_from_slice(b"0004755");
    seal_header(&mut mode);
    let mut base256 = small.clone();
    base256[124] = 0x80;
    seal_header(&mut base256);
    let mut gnu = small.clone();
    gnu[257..265].copy_from_slice(b"ustar  \0");
    seal_header(&mut gnu);
    for entry in [
        mode,
        base256,
        gnu,
        [pax("17 path=top/data/b\n"), small.clone()].concat(),
        [pax("19 path=top/data/b\n"), small.clone()].concat(),
        [pax("10 size=9\n"), small.clone()].concat(),
        [pax("16 linkpath=/etc\n"), small.clone()].concat(),
        [pax("99 path=x\n"), small.clone()].concat(),
        [pax("19 path=top/data/b\n"), pax("19 path=top/data/b\n"), small.clone()].concat(),
        header("PaxHeaders/entry", b'x', "77777777777", ""),
        header("PaxHeaders/entry", b'x', "00000000000", ""),
    ] {
        let why = refused(&gzip(&with_end(&[file("top/data/0", b""), entry])), Limits::default());
        assert!(why.contains("it contains"), "{why}");
    }
}

#[test]
fn a_huge_claim_is_refused_before_anything_is_read_for_it() {
    let limits = Limits { entries: 3, entry_bytes: Bytes::mib(1), total_bytes: Bytes::mib(2) };
    let claim = |size: u64| header("top/data/huge", b'0', &format!("{size:011o}"), "");
    assert!(refused(&gzip(&claim((1 << 20) + 1)), limits).contains("claims"));
    assert!(
        refused(&gzip(&claim(0o777_7777_7777)), Limits { total_bytes: Bytes(u64::MAX), ..limits }).contains("claims")
    );
    let many: Vec<_> = (0..4).map(|i| file(&format!("top/data/{i}"), b"")).collect();
    assert!(refused(&gzip(&with_end(&many)), limits).contains("more than 3 entries"));
    let large: Vec<_> = (0..3).map(|i| file(&format!("top/data/{i}"), &vec![1; 1 << 20])).collect();
    assert!(refused(&gzip(&with_end(&large)), limits).contains("of content"));
}

#[test]
fn a_bomb_behind_the_end_of_the_tar_file_is_not_inflated() {
    let mut tar = with_end(&[file("top/data/a", b"one")]);
    tar.resize(tar.len() + (8 << 20), 0);
    assert!(refused(&gzip(&tar), Limits::default()).contains("behind the end"));
}

#[test]
fn what_is_no_archive_is_refused_as_such() {
    for bytes in [&b""[..], b"\x1f\x8b", b"hello, world", b"\x1f\x8b\x08\x08\0\0\0\0\0\x03name\0", &[0u8; 4096]] {
        assert!(!refused(bytes, Limits::default()).is_empty());
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Archive::open(dir.path(), Limits::default()), Err(OpenError::Refused { .. })));
    assert!(matches!(Archive::open(&dir.path().join("none"), Limits::default()), Err(OpenError::Io { .. })));
    assert!(matches!(Archive::open(Path::new("/dev/zero"), Limits::default()), Err(OpenError::Refused { .. })));
}

proptest! {
    #[test]
    fn any_bytes_that_begin_like_an_archive_open_or_do_not(bytes in prop::collection::vec(any::<u8>(), 0..3000), tar: bool) {
        let dir = tempfile::tempdir().unwrap();
        let mut all = b"\x1f\x8b\x08\0\0\0\0\0\0\xff".to_vec();
        if tar {
            all.extend_from_slice(&stored(&file("top/data/a", b"one")));
        }
        all.extend_from_slice(&bytes);
        let opened = Archive::open(&save(dir.path(), &all), Limits::default());
        prop_assert_eq!(opened.is_ok(), tar, "what was whole before the noise is there, and noise is nothing");
        if let Ok(mut archive) = opened {
            prop_assert_eq!(archive.read(&path("data/a"), Bytes(10)).unwrap(), b"one");
            prop_assert!(!archive.verify(&AllowedSigners::default()).is_intact());
        }
    }
}

#[test]
fn an_archive_that_would_unpack_a_hidden_directory_is_refused() {
    assert!(!refused(&gzip(&with_end(&[file(".ssh/authorized_keys", b"x")])), Limits::default()).is_empty());
    assert!(!refused(&gzip(&with_end(&[file("-rf/x", b"x")])), Limits::default()).is_empty());
}

/// An archive of ours with another index text, sealed anew: framing, digests and locator are right.
fn with_index(bytes: &[u8], change: impl Fn(&str) -> String) -> Vec<u8> {
    let end = FRAME + 1024 + 5 + 8;
    let locator = String::from_utf8(bytes[bytes.len() - end - 512..bytes.len() - end].to_vec()).unwrap();
    let number =
        |key: &str| -> usize { locator.lines().find_map(|l| l.strip_prefix(key)).unwrap().trim().parse().unwrap() };
    let (index_at, text_len) = (number("index-entry-at"), number("index-text-bytes"));
    let text_at = index_at + FRAME + 512 + FRAME;
    assert!(text_len < 65_535, "one stored block");
    let text = change(std::str::from_utf8(&bytes[text_at..text_at + text_len]).unwrap());
    let mut padded = text.clone().into_bytes();
    padded.resize(padded.len().next_multiple_of(512), b'\n');
    let hex = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut lines = format!(
        "casefile-locator 1\nindex-entry-at {index_at:020}\nindex-text-bytes {:020}\n\
         sha256-of-the-file-before-the-index-entry {}\nsha256-of-the-index-text {}\n",
        text.len(),
        hex(&bytes[..index_at]),
        hex(text.as_bytes()),
    );
    lines += &format!("crc32-of-the-lines-above {:08x}\n", crc32fast::hash(lines.as_bytes()));
    let mut locator = lines.into_bytes();
    locator.resize(512, b'\n');
    let mut head = bytes[index_at + FRAME..index_at + FRAME + 512].to_vec();
    head[124..135].copy_from_slice(format!("{:011o}", padded.len() + 512).as_bytes());
    seal_header(&mut head);
    let mut out =
        [&bytes[..index_at], &stored(&head), &stored(&padded), &stored(&locator), &bytes[bytes.len() - end..]].concat();
    let mut plain = Vec::new();
    DeflateDecoder::new(&out[10..]).read_to_end(&mut plain).unwrap();
    let trailer = out.len() - 8;
    out[trailer..trailer + 4].copy_from_slice(&crc32fast::hash(&plain).to_le_bytes());
    out[trailer + 4..].copy_from_slice(&u32::try_from(plain.len()).unwrap().to_le_bytes());
    out
}

#[test]
fn an_index_that_contradicts_itself_is_refused() {
    let bytes = seal(&sample::contents(None), None).0;
    let dir = tempfile::tempdir().unwrap();
    Archive::open(&save(dir.path(), &with_index(&bytes, str::to_owned)), Limits::default()).unwrap();
    let line = |text: &str, path: &str| text.lines().find(|l| l.ends_with(path)).unwrap().to_owned();
    let on_entry = |change: fn(&str) -> String| {
        move |text: &str| {
            let old = line(text, "data/coverage.json");
            text.replace(&old, &change(&old))
        }
    };
    let changes: [&dyn Fn(&str) -> String; 11] = [
        &|_| String::new(),
        &|t| t.replace("casefile-index 1", "casefile-index 2"),
        &|t| t.replace("top INC", "top ../INC"),
        &on_entry(|l| l.replace("data/coverage.json", "../coverage.json")),
        &on_entry(|l| l.replace("data/coverage.json", "data/incident.json")),
        &on_entry(|l| l.replacen("entry ", "entry 1", 1)),
        &on_entry(|l| format!("{l}\nchunk 5 00000000 4294967295 00000000")),
        &on_entry(|l| format!("{l}\nchunk 4294967295 00000000 1 00000000")),
        &on_entry(|l| format!("{l}\nchunk 18446744073709551615 00000000 1 00000000")),
        &|t| t.replace("chunk ", "chunk 0"),
        &|t| t.lines().take(6).map(|l| format!("{l}\n")).collect(),
    ];
    for change in changes {
        let why = refused(&with_index(&bytes, change), Limits::default());
        assert!(why.contains("its index is not to be followed"), "{why}");
    }
    for limits in [
        Limits { entries: 3, ..Limits::default() },
        Limits { entry_bytes: Bytes(100), ..Limits::default() },
        Limits { total_bytes: Bytes(100), ..Limits::default() },
    ] {
        assert!(!refused(&bytes, limits).is_empty());
    }
}

#[test]
fn changed_content_with_a_fitting_index_is_noticed_by_the_manifest() {
    // Whoever changes content can write an index that fits; the manifests and the signature are not of its making.
    let dir = tempfile::tempdir().unwrap();
    let of = |text: &str| seal(&[content("data/verdict", Pack::Store, text)], None).0;
    let (good, evil) = (of("innocent"), of("guilty!!"));
    let at = good.windows(8).position(|w| w == b"innocent").unwrap();
    let mut forged = good.clone();
    forged[at..at + 8].copy_from_slice(b"guilty!!");
    let lines = |bytes: &[u8]| {
        let at = bytes.windows(16).rposition(|w| w == b"casefile-index 1").unwrap();
        let text = String::from_utf8_lossy(&bytes[at..]).into_owned();
        let mut lines = text.lines().skip_while(|l| !l.ends_with("data/verdict"));
        format!("{}\n{}\n", lines.next().unwrap(), lines.next().unwrap())
    };
    let (old, new) = (lines(&good), lines(&evil));
    let forged = with_index(&forged, |text| text.replace(&old, &new));
    let mut archive = Archive::open(&save(dir.path(), &forged), Limits::default()).unwrap();
    assert_eq!(archive.read(&path("data/verdict"), Bytes(100)).unwrap(), b"guilty!!");
    let found = archive.verify(&AllowedSigners::default());
    assert_eq!(found.problems.len(), 1, "{found:#?}");
    assert_eq!(found.problems[0].entry.as_deref(), Some("data/verdict"));
    assert!(found.problems[0].what.contains("manifest-sha256.txt"));
    // A whole other archive is a right one: only a signature tells them apart.
    assert!(
        Archive::open(&save(dir.path(), &evil), Limits::default())
            .unwrap()
            .verify(&AllowedSigners::default())
            .is_intact()
    );
}

#[test]
fn unpacking_writes_beneath_a_new_directory_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let archive = write_small(dir.path(), None);
    let dest = dir.path().join("dest");
    fs::create_dir(&dest).unwrap();
    let mut archive = Archive::open(&archive, Limits::default()).unwrap();
    let done = extract(&mut archive, &dest).unwrap();
    assert!(done.problems.is_empty());
    assert_eq!(done.files, archive.entries().len() as u64);
    for content in sample::contents(None) {
        assert!(fs::read(done.dir.join(&content.path)).unwrap() == content.bytes, "{}", content.path);
    }
    // A second time nothing is touched.
    assert!(matches!(extract(&mut archive, &dest), Err(ExtractError::Exists(_))));
    assert_eq!(fs::read_dir(&dest).unwrap().count(), 1);
    // Neither is whatever a link in its place points to.
    let (other, target) = (dir.path().join("other"), dir.path().join("target"));
    fs::create_dir(&other).unwrap();
    fs::create_dir(&target).unwrap();
    std::os::unix::fs::symlink(&target, other.join(archive.name())).unwrap();
    assert!(matches!(extract(&mut archive, &other), Err(ExtractError::Exists(_))));
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    assert!(matches!(extract(&mut archive, &dir.path().join("none")), Err(ExtractError::Io { .. })));
}

#[test]
fn a_file_where_a_directory_must_be_is_reported_and_the_rest_is_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let entries = [
        file("top/data/a", b"one"),
        file("top/data/a/b", b"two"),
        file("top/data/c/d", b"three"),
        file("top/data/c", b"four"),
    ];
    let mut archive = Archive::open(&save(dir.path(), &gzip(&with_end(&entries))), Limits::default()).unwrap();
    let done = extract(&mut archive, dir.path()).unwrap();
    let named: Vec<_> = done.problems.iter().map(|p| p.entry.as_deref().unwrap()).collect();
    assert_eq!((done.files, named), (2, vec!["data/a/b", "data/c"]));
    assert_eq!(fs::read(done.dir.join("data/a")).unwrap(), b"one");
    assert_eq!(fs::read(done.dir.join("data/c/d")).unwrap(), b"three");
}

#[test]
fn unpacking_a_damaged_archive_keeps_what_was_whole_and_says_what_was_not() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = seal(&[content("data/a", Pack::Store, "damaged"), content("data/b", Pack::Store, "whole")], None).0;
    let at = bytes.windows(7).position(|w| w == b"damaged").unwrap();
    let mut damaged = bytes.clone();
    damaged[at] ^= 1;
    let mut archive = Archive::open(&save(dir.path(), &damaged), Limits::default()).unwrap();
    let done = extract(&mut archive, dir.path()).unwrap();
    assert_eq!(done.problems.len(), 1, "{:#?}", done.problems);
    assert_eq!(done.problems[0].entry.as_deref(), Some("data/a"));
    assert_eq!(fs::read(done.dir.join("data/b")).unwrap(), b"whole");
    assert_eq!(fs::read(done.dir.join("data/a")).unwrap(), b"");
}
