//! All signatures: those that are built in, and those of an operator's own packs before them.
//!
//! A file is taken as a whole or not at all. What is checked here concerns several signatures, or what they recognise.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use regex::{Captures, Regex};

use super::logged::Stream;
use super::pack::{self, Whose};
use super::recogniser::Recogniser;
use super::record;
use super::signature::Signature;
use super::xid::NvidiaLine;

/// The packs that are built in, in the order in which their signatures are tried.
///
/// How to add one: a file in `packs/` and its line here. How to add a signature: see the head of `mod.rs`.
const BUILT_IN: [(&str, &str); 10] = [
    ("gpu.toml", include_str!("packs/gpu.toml")),
    ("kernel.toml", include_str!("packs/kernel.toml")),
    ("memory.toml", include_str!("packs/memory.toml")),
    ("hardware.toml", include_str!("packs/hardware.toml")),
    ("disk.toml", include_str!("packs/disk.toml")),
    ("filesystem.toml", include_str!("packs/filesystem.toml")),
    ("network.toml", include_str!("packs/network.toml")),
    ("limits.toml", include_str!("packs/limits.toml")),
    ("kubelet.toml", include_str!("packs/kubelet.toml")),
    ("kubernetes.toml", include_str!("packs/kubernetes.toml")),
];

/// Signatures, in the order in which they are tried.
#[derive(Debug)]
pub struct Signatures {
    all: Vec<Signature>,
    /// Made when the first line is read: who asks for an id does not wait for it.
    recogniser: OnceLock<Recogniser>,
}

impl Signatures {
    /// Those that are built in.
    pub(super) fn built_in() -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let all = ours(&mut problems);
        if problems.is_empty() { Ok(Self { all, recogniser: OnceLock::new() }) } else { Err(problems) }
    }

    /// Those of files (name and text) and, behind them, those that are built in.
    ///
    /// # Errors
    /// Every problem of every file.
    pub fn with(files: &[(String, String)]) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut all = Vec::new();
        for (name, text) in files {
            let mut of_file = Vec::new();
            all.extend(pack::read(text, Whose::Operators, &mut of_file));
            problems.extend(of_file.into_iter().map(|problem| format!("{name}: {problem}")));
        }
        let theirs = all.len();
        all.extend(ours(&mut problems));
        let recogniser = Recogniser::new(&all);
        let mut signatures = Self { all, recogniser: OnceLock::new() };
        problems.extend(signatures.names());
        match recogniser {
            Ok(recogniser) => {
                signatures.recogniser = OnceLock::from(recogniser);
                problems.extend(signatures.all.iter().take(theirs).flat_map(|s| signatures.samples(s)));
            }
            Err(why) => problems.push(why),
        }
        if problems.is_empty() { Ok(signatures) } else { Err(problems) }
    }

    /// All of them, in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &Signature> {
        self.all.iter()
    }

    /// The signature of a record of NVIDIA's driver: the first that says so.
    pub fn of_driver(&self, line: &NvidiaLine<'_>) -> Option<&Signature> {
        self.all.iter().find(|s| s.is_of(line))
    }

    /// The signature of any other record, and its parts.
    pub(super) fn of_text<'s, 't>(
        &'s self,
        text: &'t str,
        stream: Stream<'_>,
    ) -> Option<(&'s Signature, &'s Regex, Captures<'t>)> {
        let recogniser = self.recogniser.get_or_init(|| {
            #[expect(
                clippy::expect_used,
                reason = "constants, compiled by every test of this module; others were compiled before"
            )]
            Recogniser::new(&self.all).expect("the built-in signatures are sound")
        });
        recogniser.find(&self.all, text, stream)
    }

    /// What is wrong with the samples of a signature.
    pub(super) fn samples(&self, signature: &Signature) -> Vec<String> {
        let mut problems = Vec::new();
        let stream = signature.logs.first().map_or(Stream::Unknown, |log| log.stream());
        let mut wrong = |what: String| problems.push(format!("signature {:?}: {what}", signature.id));
        for sample in &signature.positive {
            match record::of_text(self, &sample.line, stream) {
                Some(found) if found.signature.id == signature.id => {
                    let parts = found.named();
                    if sample.parts.as_ref().is_some_and(|expected| *expected != parts) {
                        wrong(format!("finds {parts:?} in its positive sample {:?}", sample.line));
                    }
                }
                Some(found) => wrong(format!("its positive sample is {}: {:?}", found.signature.id, sample.line)),
                None => wrong(format!("does not recognise its positive sample {:?}", sample.line)),
            }
        }
        for sample in &signature.negative {
            let found = record::of_text(self, &sample.line, stream).map(|found| found.signature.id.clone());
            if found != sample.is {
                let is = found.as_deref().unwrap_or("recognised as nothing");
                wrong(format!("its negative sample is {is}: {:?}", sample.line));
            }
        }
        problems
    }

    /// What is wrong with ids and with what names them.
    pub(super) fn names(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut ids = BTreeSet::new();
        for signature in &self.all {
            if !ids.insert(signature.id.as_str()) {
                problems.push(format!("signature {:?}: there is another one of this id", signature.id));
            }
        }
        for signature in &self.all {
            let mut wrong = |what: String| problems.push(format!("signature {:?}: {what}", signature.id));
            for (field, named) in [("recovers_with", &signature.recovers_with), ("see_also", &signature.see_also)] {
                for id in named {
                    if !ids.contains(id.as_str()) {
                        wrong(format!("{field}: there is no signature {id:?}"));
                    } else if *id == signature.id {
                        wrong(format!("{field} names itself"));
                    }
                }
            }
            let mut once = BTreeSet::new();
            for alias in &signature.aliases {
                if ids.contains(alias.as_str()) {
                    wrong(format!("alias {alias:?} is an id"));
                } else if !once.insert(alias.to_ascii_lowercase()) {
                    wrong(format!("alias {alias:?} is there twice"));
                }
            }
        }
        problems
    }
}

fn ours(problems: &mut Vec<String>) -> Vec<Signature> {
    let mut all = Vec::new();
    for (name, text) in BUILT_IN {
        let mut of_file = Vec::new();
        all.extend(pack::read(text, Whose::Ours, &mut of_file));
        problems.extend(of_file.into_iter().map(|problem| format!("{name}: {problem}")));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signatures::record::Lines;

    const OURS: &str = r#"
        [sources.us]
        who = "the storage team"
        as_of = "2026-11-01"
        source = "runbook 12"

        [[signature]]
        id = "disk.array.slow"
        title = "The array is slow"
        match = ['^ourarray (?P<dev>[a-z0-9]+): slow']
        meaning = "The array says that it is slow."
        now = "ask the storage team"
        opinions = [{ by = "us", weight = "warning" }]
        see_also = ["disk.io_error"]
        positive = [{ line = "ourarray a1: slow", dev = "a1" }]
        negative = ["ourarray a1: fast", { line = "VFS: file-max limit 10 reached", is = "limits.files" }]
    "#;

    fn with(text: &str) -> Result<Signatures, Vec<String>> {
        Signatures::with(&[("ours.toml".to_owned(), text.to_owned())])
    }

    #[test]
    fn signatures_of_an_operator_are_recognised_besides_ours() {
        let signatures = with(OURS).unwrap();
        let mut lines = Lines::new(&signatures);
        let found = lines.line("[12345.678901] ourarray a1: slow today").unwrap();
        assert_eq!((found.signature.id.as_str(), found.parts["dev"].as_str()), ("disk.array.slow", "a1"));
        assert_eq!(lines.line("VFS: file-max limit 10 reached").unwrap().signature.id, "limits.files");
        assert_eq!(lines.line("NVRM: Xid (PCI:0000:84:00): 79, GPU").unwrap().code, Some(79));
    }

    #[test]
    fn an_operator_knows_better_what_a_record_of_ours_means_on_his_machines() {
        let text = OURS.replace("^ourarray (?P<dev>[a-z0-9]+): slow", "^VFS: file-max limit (?P<dev>10) reached");
        let text = text.replace("{ line = \"ourarray a1: slow\", dev = \"a1\" }", "\"VFS: file-max limit 10 reached\"");
        let text = text.replace(", { line = \"VFS: file-max limit 10 reached\", is = \"limits.files\" }", "");
        let signatures = with(&text).unwrap();
        let id = |line| Lines::new(&signatures).line(line).unwrap().signature.id.as_str();
        assert_eq!(id("VFS: file-max limit 10 reached"), "disk.array.slow");
        assert_eq!(id("VFS: file-max limit 12 reached"), "limits.files");
    }

    #[test]
    fn what_concerns_several_signatures_and_the_samples_is_checked_too() {
        let text = OURS
            .replace("disk.array.slow", "disk.io_error")
            .replace("[\"disk.io_error\"]", "[\"disk.io_eror\"]\n aliases = [\"a\", \"A\", \"fs.readonly\"]")
            .replace("dev = \"a1\"", "dev = \"a2\"")
            .replace("a1: fast", "a1: slow")
            .replace("limits.files", "limits.file");
        let told = with(&text).unwrap_err();
        for part in [
            "there is another one of this id",
            "see_also: there is no signature \"disk.io_eror\"",
            "alias \"A\" is there twice",
            "alias \"fs.readonly\" is an id",
            "finds {\"dev\": \"a1\"} in its positive sample",
            "its negative sample is disk.io_error",
            "its negative sample is limits.files",
        ] {
            assert!(told.iter().any(|p| p.contains(part)), "{part}: {told:#?}");
        }
        assert_eq!(told.len(), 7, "{told:#?}");
        let other = with(&OURS.replace("positive = [{ line = \"ourarray a1", "positive = [{ line = \"my ourarray a1"))
            .unwrap_err();
        assert!(other[0].contains("does not recognise its positive sample"), "{other:#?}");
        let several = with("signature = 1\n[[x]]").unwrap_err();
        assert!(several.len() == 2 && several.iter().all(|p| p.starts_with("ours.toml: ")), "{several:#?}");
    }

    #[test]
    fn expressions_that_are_too_much_together_are_refused_and_end_nothing() {
        let entry = OURS.split_once("[[signature]]").unwrap();
        let many: String = (0..24)
            .map(|n| {
                let one = entry.1.replace("disk.array.slow", &format!("disk.array.n{n}"));
                format!("[[signature]]{}", one.replace("slow']", "slow\\w{20}']"))
            })
            .collect();
        let told = with(&format!("{}{many}", entry.0)).unwrap_err();
        assert!(told.len() == 1 && told[0].starts_with("all regular expressions together: "), "{told:?}");
    }
}
