//! Truncated archives: of a file that was cut off anywhere, every member that is whole in it is given, and verifying says
//! that the file is truncated.
//!
//! Two judges: where the members lie in the file, by its index, and what GNU tar makes of the same file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use casefile_evidence::archive::extract::extract;
use casefile_evidence::archive::reader::{Archive, Limits, OpenError};
use casefile_evidence::archive::sign::AllowedSigners;
use casefile_proto::item::EntryPath;
use casefile_proto::units::Bytes;
use casefile_tests::program::tool;

use crate::archives::{Subject, subjects};
use crate::item::{Ask, Item, Need};
use crate::random::Random;
use crate::report::Findings;

/// The item.
pub(crate) const ITEM: Item = Item {
    name: "truncated",
    proves: "Of an archive that was cut off anywhere, every whole member is recovered, by us and by stock tar",
    counts: "truncated archives",
    short: 50,
    full: 1_000,
    needs: &[Need::Tool("tar"), Need::Tool("gzip")],
    run: run_item,
};

/// A member larger than this is not in these archives.
const MEMBER: Bytes = Bytes::mib(64);

#[derive(Default)]
struct Seen {
    whole: u64,
    recovered: u64,
    by_tar: u64,
    unopened: u64,
}

fn run_item(ask: &Ask) -> Result<Findings> {
    let dir = tempfile::tempdir()?;
    let mut random = Random::new(ask.seed);
    let subjects = subjects(dir.path(), &mut random)?;
    let originals = subjects.iter().map(|s| originals(dir.path(), s)).collect::<Result<Vec<_>>>()?;
    let (mut findings, mut seen) = (Findings::default(), Seen::default());
    for number in 0..ask.times {
        let which = random.index(subjects.len());
        let (subject, originals) = (&subjects[which], &originals[which]);
        let cut = random.index(subject.bytes.len());
        let one = dir.path().join(number.to_string());
        fs::create_dir(&one)?;
        try_one(&one, subject, originals, cut, &mut seen, &mut findings)
            .with_context(|| format!("cut {number}, at {cut} of {}", subject.name))?;
        fs::remove_dir_all(&one)?;
    }
    findings.figure("whole members in what was left", seen.whole);
    findings.figure("of those recovered, byte for byte", seen.recovered);
    findings.figure("members that tar gave whole, each given by us too", seen.by_tar);
    findings.figure("cut before the first member: nothing to open", seen.unopened);
    findings.require(seen.recovered == seen.whole, || format!("{} were not recovered", seen.whole - seen.recovered));
    Ok(findings)
}

/// Every member of an undamaged archive.
fn originals(dir: &Path, subject: &Subject) -> Result<BTreeMap<String, Vec<u8>>> {
    let file = dir.join("whole.tar.gz");
    fs::write(&file, &subject.bytes)?;
    let mut archive = Archive::open(&file, Limits::default())?;
    subject
        .parts
        .members
        .iter()
        .map(|m| Ok((m.path.clone(), archive.read(&m.path.parse::<EntryPath>()?, MEMBER)?)))
        .collect()
}

fn try_one(
    dir: &Path,
    subject: &Subject,
    originals: &BTreeMap<String, Vec<u8>>,
    cut: usize,
    seen: &mut Seen,
    findings: &mut Findings,
) -> Result<()> {
    let what = format!("{} cut at {cut}", subject.name);
    let file = dir.join("cut.tar.gz");
    fs::write(&file, &subject.bytes[..cut])?;
    let whole: Vec<_> = subject.parts.members.iter().filter(|m| m.content.end <= cut).collect();
    seen.whole += whole.len() as u64;
    let mut archive = match Archive::open(&file, Limits::default()) {
        Ok(archive) => archive,
        Err(OpenError::Refused { .. }) if whole.is_empty() => {
            seen.unopened += 1;
            return Ok(());
        }
        Err(error) => {
            findings.fault(format!("{what}: it cannot be opened: {error}"));
            return Ok(());
        }
    };
    findings.require(archive.truncated(), || format!("{what}: it is not called truncated"));
    let intact = archive.verify(&AllowedSigners::parse(&subject.signer)).is_intact();
    findings.require(!intact, || format!("{what}: it is called intact"));
    for member in &whole {
        let read = archive.read(&member.path.parse::<EntryPath>()?, MEMBER);
        match read {
            Ok(bytes) if Some(&bytes) == originals.get(&member.path) => seen.recovered += 1,
            Ok(_) => findings.fault(format!("{what}: {} is given with another content", member.path)),
            Err(error) => findings.fault(format!("{what}: {} is not given: {error}", member.path)),
        }
    }
    // As a user would: unpacked, each file that is complete is what was sealed.
    let (ours, theirs) = (dir.join("ours"), dir.join("theirs"));
    fs::create_dir(&ours)?;
    fs::create_dir(&theirs)?;
    let unpacked = extract(&mut archive, &ours)?;
    let mut tar = tool("tar").context("tar")?;
    // It complains of the end, as it should; what it wrote until then counts.
    tar.args(["-xzf"]).arg(&file).arg("-C").arg(&theirs).output().context("run tar")?;
    for (path, content) in originals {
        let theirs = fs::read(theirs.join(archive.name()).join(path)).ok();
        let ours = fs::read(unpacked.dir.join(path)).ok();
        if theirs.as_ref() == Some(content) {
            seen.by_tar += 1;
            findings
                .require(ours.as_ref() == Some(content), || format!("{what}: tar gives {path} whole, and we do not"));
        }
        let right = ours.as_ref().is_none_or(|bytes| content.starts_with(bytes));
        findings.require(right, || format!("{what}: what is unpacked of {path} is not its beginning"));
    }
    Ok(())
}
