//! The same input gives the same bytes, and what an earlier version sealed still verifies.
//!
//! `testdata/v1` holds an archive that is never made anew: when its form changes there will be a `v2` beside it. The text
//! that a person reads is compared; `UPDATE_GOLDEN=1` writes it.

#![expect(clippy::unwrap_used, reason = "what helps a test may panic as the test does")]

mod sample;

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use casefile_evidence::archive::layout::{self, IncidentFile};
use casefile_evidence::archive::reader::{Archive, Limits};
use casefile_evidence::archive::sign::AllowedSigners;
use casefile_evidence::archive::verify::SignatureState;
use casefile_evidence::archive::writer::ArchiveWriter;
use casefile_proto::coverage::Coverage;
use casefile_proto::units::Bytes;
use sha2::{Digest, Sha256};

use sample::{content, contents, coverage, key, path, seal, title};

const SMALL: Bytes = Bytes::kib(64);

fn testdata() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/v1")
}

#[test]
fn the_same_incident_sealed_twice_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(dir.path());
    for key in [None, Some(&key)] {
        let (first, sealed) = seal(&contents(key), key);
        assert!(first == seal(&contents(key), key).0);
        assert_eq!(sealed.size, first.len() as u64);
        assert_eq!(sealed.entries, contents(key).len() as u64);
        // Whether content comes as chunks or as bytes makes no difference either, where it is compressed.
        let mut writer = ArchiveWriter::new(Vec::new(), title(), key).unwrap();
        let mut expected = contents(key);
        expected.retain(|c| c.pack == casefile_evidence::archive::chunk::Pack::Deflate);
        for content in &expected {
            writer.add(&path(&content.path), &mut content.bytes.as_slice()).unwrap();
        }
        assert!(writer.seal().unwrap().1 == seal(&expected, key).0);
    }
}

#[test]
fn an_archive_of_version_1_still_verifies_and_says_what_it_said() {
    let file = testdata().join(format!("{}.tar.gz", title().name()));
    let signers = testdata().join("allowed_signers");
    if !file.exists() {
        assert!(std::env::var_os("UPDATE_GOLDEN").is_some(), "{} is missing", file.display());
        let dir = tempfile::tempdir().unwrap();
        let key = key(dir.path());
        fs::create_dir_all(testdata()).unwrap();
        fs::write(&file, seal(&contents(Some(&key)), Some(&key)).0).unwrap();
        fs::write(&signers, key.allowed_signer() + "\n").unwrap();
    }
    let mut archive = Archive::open(&file, Limits::default()).unwrap();
    let signers = AllowedSigners::parse(&String::from_utf8(fs::read(signers).unwrap()).unwrap());
    let found = archive.verify(&signers);
    assert!(found.is_intact(), "{:#?}", found.problems);
    let SignatureState::Good { fingerprint } = found.signature else { panic!("{:?}", found.signature) };
    let incident: IncidentFile =
        serde_json::from_slice(&archive.read(&layout::path(layout::INCIDENT), SMALL).unwrap()).unwrap();
    assert_eq!(
        incident,
        IncidentFile { signing_key: Some(fingerprint), ..IncidentFile::new(&title(), &coverage(), None) }
    );
    let read: Coverage =
        serde_json::from_slice(&archive.read(&layout::path(layout::COVERAGE), SMALL).unwrap()).unwrap();
    assert_eq!(read, coverage());
    for content in contents(None).iter().filter(|c| c.path != layout::INCIDENT) {
        assert!(archive.read(&path(&content.path), SMALL).unwrap() == content.bytes, "{}", content.path);
    }
}

#[test]
fn what_a_person_reads_in_an_archive_is_as_it_was_agreed() {
    let dir = tempfile::tempdir().unwrap();
    let file = sample::write_small(dir.path(), None);
    let mut archive = Archive::open(&file, Limits::default()).unwrap();
    for name in ["README.txt", "bag-info.txt", layout::INCIDENT, layout::COVERAGE] {
        let found = String::from_utf8(archive.read(&path(name), SMALL).unwrap()).unwrap();
        let golden = testdata().join("unsigned").join(name.replace('/', "_"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(golden.parent().unwrap()).unwrap();
            fs::write(&golden, &found).unwrap();
        }
        let expected = String::from_utf8(fs::read(&golden).unwrap_or_default()).unwrap();
        assert_eq!(found, expected, "{name}: UPDATE_GOLDEN=1 writes it; read the difference");
    }
}

#[test]
fn an_entry_can_be_read_from_any_byte_on_with_and_without_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let chunk = casefile_evidence::archive::chunk::MAX_PLAIN;
    let bytes: Vec<u8> = (0..2 * chunk + 1_000).map(|i| u8::try_from(i * i % 251).unwrap()).collect();
    let large = content("data/large", casefile_evidence::archive::chunk::Pack::Deflate, bytes.clone());
    let (file, _) = seal(&[large], None);
    for (name, len) in [("whole", file.len()), ("without its index", file.len() - 100)] {
        let path = dir.path().join(name);
        fs::write(&path, &file[..len]).unwrap();
        let mut archive = Archive::open(&path, Limits::default()).unwrap();
        let large = "data/large".parse().unwrap();
        for from in [0, 1, chunk - 1, chunk, chunk + 1, 2 * chunk, bytes.len() - 1, bytes.len(), bytes.len() + 1] {
            let mut read = Vec::new();
            archive.entry_from(&large, from as u64).unwrap().read_to_end(&mut read).unwrap();
            assert!(read == bytes[from.min(bytes.len())..], "{name} from {from}");
        }
        let digest = archive.indexed().then(|| casefile_proto::item::Digest(Sha256::digest(&bytes).into()));
        assert_eq!((archive.digest(&large), archive.indexed()), (digest, name == "whole"));
        assert_eq!(archive.digest(&"data/none".parse().unwrap()), None);
    }
}
