//! What became of an archive after it was sealed: any byte changed, cut off or appended is noticed, and where.

#![expect(clippy::unwrap_used, reason = "what helps a test may panic as the test does")]

mod sample;

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use casefile_evidence::archive::chunk::Pack;
use casefile_evidence::archive::reader::{Archive, Limits, OpenError};
use casefile_evidence::archive::sign::AllowedSigners;
use casefile_evidence::archive::verify::{SignatureState, Verification};

use proptest::prelude::*;
use sample::{content, path, seal, write_small};

fn verify(file: &Path) -> Verification {
    Archive::open(file, Limits::default()).unwrap().verify(&AllowedSigners::default())
}

/// The entry that owns each byte of an archive, found without the code under test: a stored block that holds a ustar
/// header begins an entry. `None`: the file as a whole.
fn owners(bytes: &[u8]) -> Vec<Option<String>> {
    let mut owners = vec![None; bytes.len()];
    let (mut current, mut pax) = (None::<String>, None::<String>);
    for at in 0..bytes.len() {
        let header = bytes.get(at..at + 5 + 512).filter(|b| b[..1] == [0] && &b[5 + 257..5 + 262] == b"ustar");
        if let Some(header) = header {
            let text = |field: &[u8]| String::from_utf8(field.split(|b| *b == 0).next().unwrap().to_vec()).unwrap();
            let block = &header[5..];
            let whole = match text(&block[345..500]) {
                prefix if prefix.is_empty() => text(&block[..100]),
                prefix => format!("{prefix}/{}", text(&block[..100])),
            };
            if block[156] == b'x' {
                let body = text(&bytes[at + 5 + 512..at + 5 + 1024]);
                pax = Some(body.lines().next().unwrap().split_once("path=").unwrap().1.to_owned());
            }
            let whole = pax.clone().unwrap_or(whole);
            if block[156] == b'0' {
                pax = None;
            }
            current = Some(whole.split_once('/').unwrap().1.to_owned());
        }
        owners[at].clone_from(&current);
    }
    let end = bytes.len() - (5 + 1024 + 5 + 8);
    owners[end..].fill(None);
    owners
}

/// Changes each of these bytes of the archive, one after the other.
fn change_each(dir: &Path, bytes: &[u8], positions: impl Iterator<Item = usize>) {
    let owners = owners(bytes);
    let file = dir.join(format!("{:?}.tar.gz", std::thread::current().id()));
    fs::write(&file, bytes).unwrap();
    let handle = OpenOptions::new().write(true).open(&file).unwrap();
    for at in positions {
        // Another bit for each byte, so that all eight are tried everywhere.
        handle.write_all_at(&[bytes[at] ^ (1 << (at % 8))], at as u64).unwrap();
        let found = verify(&file);
        handle.write_all_at(&bytes[at..=at], at as u64).unwrap();
        let owner = owners[at].as_deref();
        let named: Vec<_> = found.problems.iter().map(|p| p.entry.as_deref()).collect();
        assert!(named.contains(&owner), "byte {at} of {owner:?}: {:#?}", found.problems);
        // Nothing else is reported, but for the checksum over everything, where the index cannot be believed.
        let index = owner == Some("casefile-index");
        let rightly = named.iter().all(|n| *n == owner || index && n.is_none());
        assert!(rightly, "byte {at} of {owner:?}: {:#?}", found.problems);
    }
    assert!(verify(&file).is_intact());
}

#[test]
fn any_changed_byte_is_noticed_and_its_entry_named() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = fs::read(write_small(dir.path(), None)).unwrap();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for first in 0..threads {
            let (bytes, dir) = (&bytes, dir.path());
            scope.spawn(move || change_each(dir, bytes, (first..bytes.len()).step_by(threads)));
        }
    });
}

#[test]
fn any_changed_byte_of_what_is_signed_and_of_the_signature_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let key = sample::key(dir.path());
    let file = write_small(dir.path(), Some(&key));
    let bytes = fs::read(&file).unwrap();
    let owners = owners(&bytes);
    let of = |name: &str| owners.iter().position(|o| o.as_deref() == Some(name)).unwrap();
    // Checking an unoptimised curve takes its time: every seventh byte; the test above has tried each byte of its kind.
    change_each(dir.path(), &bytes, (of("tagmanifest-sha256.txt")..of("casefile-index")).step_by(7));
    let mut archive = Archive::open(&file, Limits::default()).unwrap();
    let good = archive.verify(&AllowedSigners::parse(&key.allowed_signer())).signature;
    assert_eq!(good, SignatureState::Good { fingerprint: key.fingerprint() });
    let unknown = archive.verify(&AllowedSigners::default()).signature;
    assert_eq!(unknown, SignatureState::UnknownKey { fingerprint: key.fingerprint() });
}

#[test]
fn a_signature_that_was_taken_from_another_archive_is_broken() {
    let dir = tempfile::tempdir().unwrap();
    let key = sample::key(dir.path());
    let signed = seal(&sample::contents(Some(&key)), Some(&key)).0;
    let other = seal(&[content("data/other", Pack::Store, "other")], Some(&key)).0;
    // Both signatures have the same length and are stored or compressed alone, so that one file can hold the other's.
    let range = |bytes: &[u8]| {
        let owners = owners(bytes);
        let of = |name: &str| owners.iter().position(|o| o.as_deref() == Some(name)).unwrap();
        of("tagmanifest-sha256.txt.sig")..of("casefile-index")
    };
    let (from, to) = (range(&other), range(&signed));
    let forged = [&signed[..to.start], &other[from], &signed[to.end..]].concat();
    let file = dir.path().join("forged.tar.gz");
    fs::write(&file, forged).unwrap();
    let found = verify(&file);
    assert!(found.problems.iter().any(|p| p.entry.as_deref() == Some("tagmanifest-sha256.txt.sig")), "{found:#?}");
    assert!(matches!(found.signature, SignatureState::Broken { .. }));
}

#[test]
fn every_damaged_entry_is_reported_and_not_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let file = write_small(dir.path(), None);
    let bytes = fs::read(&file).unwrap();
    let owners = owners(&bytes);
    let mut damaged = bytes.clone();
    let mut begin = 0;
    while begin < owners.len() {
        let name = owners[begin].as_deref();
        let len = owners[begin..].iter().take_while(|o| o.as_deref() == name).count();
        // In the last part of the index stands its locator; that one is tried below.
        damaged[begin + if name == Some("casefile-index") { 2 } else { len - 1 }] ^= 0x10;
        begin += len;
    }
    fs::write(&file, &damaged).unwrap();
    let found = verify(&file);
    for name in &owners {
        assert!(found.problems.iter().any(|p| p.entry == *name), "{name:?}: {:#?}", found.problems);
    }
    assert_eq!(found.problems.iter().filter(|p| p.entry.is_none()).count(), 2, "both ends of the file");
}

#[test]
fn damage_is_still_found_when_the_index_is_damaged_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = write_small(dir.path(), None);
    let bytes = fs::read(&file).unwrap();
    let owners = owners(&bytes);
    let of = |name: &str| owners.iter().position(|o| o.as_deref() == Some(name)).unwrap();
    // The stored recording: its content can be changed without breaking the deflate stream.
    let content_at = of("data/nodes/n-1/recording/window.seg") + 5 + 512 + 5 + 100;
    for index_at in [of("casefile-index") + 5 + 512 + 5 + 30, bytes.len() - (5 + 1024 + 5 + 8) - 300] {
        let mut damaged = bytes.clone();
        damaged[content_at] ^= 1;
        damaged[index_at] ^= 1;
        fs::write(&file, &damaged).unwrap();
        let found = verify(&file);
        for name in ["casefile-index", "data/nodes/n-1/recording/window.seg"] {
            assert!(found.problems.iter().any(|p| p.entry.as_deref() == Some(name)), "{name}: {:#?}", found.problems);
        }
    }
}

#[test]
fn a_file_cut_at_any_byte_opens_with_what_was_whole() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = fs::read(write_small(dir.path(), None)).unwrap();
    let contents = sample::contents(None);
    let owners = owners(&bytes);
    let file = dir.path().join("cut.tar.gz");
    fs::write(&file, &bytes).unwrap();
    let handle = OpenOptions::new().write(true).open(&file).unwrap();
    let ends = |path: &str| owners.iter().rposition(|o| o.as_deref() == Some(path)).unwrap();
    let ends: Vec<usize> = contents.iter().map(|c| ends(&c.path)).collect();
    for len in (0..bytes.len()).rev() {
        handle.set_len(len as u64).unwrap();
        let mut archive = match Archive::open(&file, Limits::default()) {
            Ok(archive) => archive,
            // Only before the first header is whole is there nothing to open.
            Err(OpenError::Refused { .. }) if len < 10 + 5 + 512 => continue,
            Err(e) => panic!("cut at {len}: {e:?}"),
        };
        assert!(archive.truncated(), "cut at {len}");
        for (content, end) in contents.iter().zip(&ends).filter(|(_, end)| **end < len) {
            let mut read = Vec::new();
            archive.entry(&path(&content.path)).unwrap().read_to_end(&mut read).unwrap();
            assert!(read == content.bytes, "{} before {end}, cut at {len}", content.path);
        }
        if len % 16 == 0 {
            let found = archive.verify(&AllowedSigners::default());
            assert!(!found.is_intact() && found.signature != SignatureState::Unsigned, "cut at {len}");
        }
    }
}

#[test]
fn a_cut_or_damaged_entry_is_given_up_to_there_and_then_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("large.tar.gz");
    let log = b"2026-11-23T02:44:10.000000001Z stdout F GET /api/v1/orders/8211 200 17ms\n".repeat(50_000);
    let bytes = seal(&[content("data/a.log", Pack::Store, log.clone()), content("data/b", Pack::Store, "b")], None).0;
    let read = |bytes: &[u8], name: &str| {
        fs::write(&file, bytes).unwrap();
        let mut archive = Archive::open(&file, Limits::default()).unwrap();
        let mut out = Vec::new();
        let end = archive.entry(&path(name)).unwrap().read_to_end(&mut out);
        (out, end.map_err(|e| e.kind()))
    };
    let cut = read(&bytes[..2_500_000], "data/a.log");
    assert!(cut.0.len() > 2 << 20 && log.starts_with(&cut.0));
    assert_eq!(cut.1, Err(std::io::ErrorKind::UnexpectedEof));
    let mut damaged = bytes.clone();
    damaged[2_500_000] ^= 1;
    let broken = read(&damaged, "data/a.log");
    assert_eq!(broken.0.len(), 2 << 20, "the two chunks before the damaged one");
    assert_eq!(broken.1, Err(std::io::ErrorKind::InvalidData));
    assert_eq!(read(&damaged, "data/b"), (b"b".to_vec(), Ok(1)));
    let found = verify(&file);
    assert_eq!(found.problems.len(), 1, "{:#?}", found.problems);
    assert!(found.problems[0].what.contains("1 of its 4 chunks"), "{:#?}", found.problems);
}

#[test]
fn bytes_behind_the_end_are_noticed_and_hide_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = fs::read(write_small(dir.path(), None)).unwrap();
    let other = seal(&[content("data/other", Pack::Store, "other")], None).0;
    let file = dir.path().join("appended.tar.gz");
    for appended in [&b"\0"[..], b"more", &[0u8; 5000], &other, &bytes] {
        fs::write(&file, [&bytes, appended].concat()).unwrap();
        let found = verify(&file);
        assert_eq!(found.problems.len(), 1, "{:#?}", found.problems);
        assert_eq!(found.problems[0].entry, None);
        assert!(found.problems[0].what.contains(&format!("{} bytes follow", appended.len())));
        let mut archive = Archive::open(&file, Limits::default()).unwrap();
        assert!(!archive.truncated());
        assert!(archive.find(&path("data/other")).is_none());
        assert_eq!(archive.entry(&path("data/incident.json")).unwrap().read(&mut [0u8; 1]).unwrap(), 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn whatever_was_done_to_a_file_is_noticed_or_it_does_not_open(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..600, prop::collection::vec(any::<u8>(), 0..40)), 1..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let bytes = seal(&[content("data/a", Pack::Deflate, "evidence\n".repeat(9)), content("data/b", Pack::Store, "b")], None).0;
        let mut changed = bytes.clone();
        for (at, removed, inserted) in edits {
            let at = at.index(changed.len());
            let end = (at + removed).min(changed.len());
            changed.splice(at..end, inserted);
            changed.push(0);
        }
        prop_assume!(changed != bytes);
        let file = dir.path().join("changed.tar.gz");
        fs::write(&file, &changed).unwrap();
        if let Ok(mut archive) = Archive::open(&file, Limits::default()) {
            prop_assert!(!archive.verify(&AllowedSigners::default()).is_intact());
            for entry in archive.entries().to_vec() {
                // Any content or error; what is asked is only that reading ends.
                let _: Result<std::io::Result<u64>, _> = archive.entry(&entry.path).map(|mut r| std::io::copy(&mut r, &mut std::io::sink()));
            }
        }
    }
}
