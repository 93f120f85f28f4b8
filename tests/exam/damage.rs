//! Damage: whatever happens to the bytes of an archive is noticed by verifying it.
//!
//! The judge is not the verifier: a changed file of which verifying says that it is intact is read member by member and
//! compared with what was sealed. When a member differs, or one is missing or more, that is a fault. When none does, the
//! change was harmless, and is counted apart with where it was.

mod mutation;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Context, Result};
use casefile_evidence::archive::reader::{Archive, Limits};
use casefile_evidence::archive::sign::AllowedSigners;
use casefile_evidence::archive::verify::SignatureState;
use casefile_proto::units::Bytes;
use casefile_tests::program::run;

use crate::archives::{Subject, subjects};
use crate::item::{Ask, Item};
use crate::random::Random;
use crate::report::Findings;
use mutation::Mutation;

/// The item.
pub(crate) const ITEM: Item = Item {
    name: "damage",
    proves: "Any flip, cut or reordering of an archive's bytes is noticed by verifying it",
    counts: "damaged archives",
    short: 2_000,
    full: 100_000,
    needs: &[],
    run: run_item,
};

/// One in so many is also given to `casefile verify`, a process each.
const BY_PROGRAM: u64 = 100;

/// A member larger than this is not in these archives.
const MEMBER: Bytes = Bytes::mib(64);

/// The exit code of `casefile verify` for damage.
const DAMAGED: i32 = 3;

/// What one thread has seen.
#[derive(Default)]
struct Seen {
    by_kind: BTreeMap<String, u64>,
    detected: u64,
    by_program: u64,
    harmless: BTreeMap<String, u64>,
    faults: Vec<String>,
}

fn run_item(ask: &Ask) -> Result<Findings> {
    let dir = tempfile::tempdir()?;
    let mut random = Random::new(ask.seed);
    let subjects = subjects(dir.path(), &mut random)?;
    let mut findings = Findings::default();
    for subject in &subjects {
        let file = dir.path().join("whole.tar.gz");
        std::fs::write(&file, &subject.bytes)?;
        let believed = Archive::open(&file, Limits::default())?.verify(&AllowedSigners::parse(&subject.signer));
        let good = believed.is_intact() && matches!(believed.signature, SignatureState::Good { .. });
        findings.require(good, || format!("undamaged, {} is not intact and signed: {believed:?}", subject.name));
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let base = random.next();
    let seen = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|first| {
                let (subjects, dir) = (&subjects, dir.path());
                let numbers = (first..ask.times).step_by(usize::try_from(threads).unwrap_or(1));
                scope.spawn(move || try_all(subjects, &dir.join(format!("damaged-{first}.tar.gz")), base, numbers))
            })
            .collect();
        running
            .into_iter()
            .map(|t| t.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
            .collect::<Result<Vec<_>>>()
    })?;
    let mut all = Seen::default();
    for one in seen {
        all.detected += one.detected;
        all.by_program += one.by_program;
        one.by_kind.into_iter().for_each(|(kind, n)| *all.by_kind.entry(kind).or_default() += n);
        one.harmless.into_iter().for_each(|(place, n)| *all.harmless.entry(place).or_default() += n);
        one.faults.into_iter().for_each(|fault| findings.fault(fault));
    }
    findings.figure("archives that were damaged", subjects.len());
    findings.figure("bytes of them", subjects.iter().map(|s| s.bytes.len()).sum::<usize>());
    findings.figure("changes tried", ask.times);
    findings.figure("changes detected", all.detected);
    findings.figure("also given to casefile verify, which exits with 3", all.by_program);
    findings.figure("harmless: intact, and every member as it was sealed", all.harmless.values().sum::<u64>());
    for (place, n) in &all.harmless {
        findings.figure(format!("  harmless, {place}"), *n);
    }
    for (kind, n) in &all.by_kind {
        findings.figure(format!("  {kind}"), *n);
    }
    let judged = all.detected + all.harmless.values().sum::<u64>();
    findings.require(judged == ask.times, || format!("{} changes were not detected", ask.times - judged));
    Ok(findings)
}

fn try_all(subjects: &[Subject], file: &Path, base: u64, numbers: impl Iterator<Item = u64>) -> Result<Seen> {
    let mut seen = Seen::default();
    for number in numbers {
        // Of its number alone, so that it is the same however many threads there are.
        let mut random = Random::new(base ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        let (subject, kind, bytes) = loop {
            let subject = random.pick(subjects).context("an archive")?;
            let kind = Mutation::choose(&mut random);
            if let Some(bytes) = kind.apply(subject, &mut random) {
                break (subject, kind, bytes);
            }
        };
        std::fs::write(file, &bytes).context("write the damaged archive")?;
        *seen.by_kind.entry(format!("{kind:?}")).or_default() += 1;
        let what = || format!("change {number}, {kind:?} of the archive of {}", subject.name);
        match catch_unwind(AssertUnwindSafe(|| judge(file, subject))) {
            Err(_) => seen.faults.push(format!("{}: verifying panicked", what())),
            Ok(Judged::Detected) => seen.detected += 1,
            Ok(Judged::Harmless) => {
                let at = bytes.iter().zip(&subject.bytes).position(|(a, b)| a != b).unwrap_or(subject.bytes.len());
                *seen.harmless.entry(format!("{kind:?} in {}", subject.parts.owner(at))).or_default() += 1;
            }
            Ok(Judged::Believed(why)) => seen.faults.push(format!("{}: it is called intact, and {why}", what())),
        }
        if number % BY_PROGRAM == 0 {
            let verified = run("casefile", &["verify", file.to_str().context("a path that is text")?]);
            seen.by_program += 1;
            if verified.status.code() != Some(DAMAGED) {
                seen.faults.push(format!("{}: casefile verify ends with {}", what(), verified.status));
            }
        }
    }
    Ok(seen)
}

/// What became of a changed archive.
enum Judged {
    /// It is refused, or a problem is named.
    Detected,
    /// It is called intact, and nothing of it differs from what was sealed.
    Harmless,
    /// It is called intact, and it is not.
    Believed(String),
}

fn judge(file: &Path, subject: &Subject) -> Judged {
    let Ok(mut archive) = Archive::open(file, Limits::default()) else { return Judged::Detected };
    if !archive.verify(&AllowedSigners::parse(&subject.signer)).is_intact() {
        return Judged::Detected;
    }
    match members(&mut archive) {
        Err(why) => Judged::Believed(why),
        Ok(found) => {
            let sealed = file.with_extension("sealed");
            let original = std::fs::write(&sealed, &subject.bytes)
                .map_err(|e| e.to_string())
                .and_then(|()| Archive::open(&sealed, Limits::default()).map_err(|e| e.to_string()))
                .and_then(|mut archive| members(&mut archive));
            match original {
                Ok(original) if original == found => Judged::Harmless,
                Ok(_) => Judged::Believed("its members are not those that were sealed".to_owned()),
                Err(why) => Judged::Believed(why),
            }
        }
    }
}

fn members(archive: &mut Archive) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let paths: Vec<_> = archive.entries().iter().map(|entry| entry.path.clone()).collect();
    let read = |path: casefile_proto::item::EntryPath| {
        let bytes = archive.read(&path, MEMBER).map_err(|e| e.to_string())?;
        Ok((path.to_string(), bytes))
    };
    paths.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use casefile_evidence::archive::sign::SigningKey;

    use super::*;
    use crate::archives::made;

    #[test]
    fn an_archive_that_is_intact_and_not_the_one_that_was_sealed_is_a_fault() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::load_or_create(&dir.path().join("key")).unwrap();
        let mut random = Random::new(1);
        let subjects = ["one", "other"].map(|name| made(&dir.path().join(name), 1, &key, &mut random).unwrap());
        let [one, other] = subjects.map(|bytes| Subject::new("x".to_owned(), bytes, key.allowed_signer()).unwrap());
        let file = dir.path().join("case.tar.gz");
        let judged = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            judge(&file, &one)
        };
        assert!(matches!(judged(&one.bytes), Judged::Harmless));
        assert!(matches!(judged(&other.bytes), Judged::Believed(_)));
        assert!(matches!(judged(&one.bytes[1..]), Judged::Detected));
    }

    #[test]
    fn every_kind_of_change_changes_something_and_the_same_again_with_the_same_seed() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::load_or_create(&dir.path().join("key")).unwrap();
        let bytes = made(dir.path(), 2, &key, &mut Random::new(1)).unwrap();
        let subject = Subject::new("x".to_owned(), bytes, key.allowed_signer()).unwrap();
        for (kind, _) in Mutation::ALL {
            let changed = |seed: u64| (0..20).find_map(|n| kind.apply(&subject, &mut Random::new(seed + n)));
            assert!(changed(7).is_some_and(|changed| changed != subject.bytes), "{kind:?}");
            assert_eq!(changed(7), changed(7), "{kind:?}");
        }
    }
}
