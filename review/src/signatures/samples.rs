//! What the heads of the built-in files promise, and their samples, as tests.

use std::collections::BTreeSet;

use super::catalogue::catalogue;
use super::record;

#[test]
fn every_sample_is_recognised_as_its_signature_and_with_its_parts() {
    for signature in &catalogue().signatures {
        assert!(!signature.positive.is_empty() && !signature.negative.is_empty(), "{} has no samples", signature.id);
        for sample in &signature.positive {
            let of = record::record(&sample.line).unwrap_or_else(|| panic!("{}: {}", signature.id, sample.line));
            let (pci, code) = (of.pci.as_ref().map(ToString::to_string), of.code);
            assert_eq!(of.signature.id, signature.id, "{}", sample.line);
            assert_eq!((pci.as_ref(), code), (sample.pci.as_ref(), sample.code), "{}", sample.line);
            assert_eq!((of.pid, of.process.as_ref()), (sample.pid, sample.process.as_ref()), "{}", sample.line);
        }
    }
}

#[test]
fn nothing_is_recognised_in_the_samples_that_are_no_records() {
    for signature in &catalogue().signatures {
        for line in &signature.negative {
            assert!(record::record(line).is_none(), "{}: {line}", signature.id);
        }
    }
}

#[test]
fn every_positive_sample_behind_other_words_is_recognised_no_more() {
    for sample in catalogue().signatures.iter().flat_map(|s| &s.positive) {
        for before in ["trainer said: ", "[gpu-health] XID: ", "\"", "> ", "kernel: ", " "] {
            let quoted = format!("{before}{}", sample.line);
            // A kernel says who crashed: whatever stands before the `[`, it is a name.
            let name = quoted.contains("segfault at") && !before.contains('[');
            assert!(name || record::record(&quoted).is_none(), "{quoted}");
        }
    }
}

#[test]
fn every_code_has_one_entry_in_order_and_a_sentence() {
    let catalogue = catalogue();
    let codes: Vec<_> = catalogue.xid.xid.iter().map(|x| x.code).collect();
    let unused: Vec<_> = catalogue.xid.unused.iter().map(|x| x.code).collect();
    assert!(codes.is_sorted() && unused.is_sorted());
    let all: BTreeSet<_> = codes.iter().chain(&unused).collect();
    assert_eq!(all.len(), codes.len() + unused.len(), "a code is there twice");
    assert_eq!(catalogue.xid.range(), 1..=176);
    assert_eq!(all.len(), 176, "no code of the range is left out");
    for entry in &catalogue.xid.xid {
        assert!(entry.meaning.ends_with('.') && entry.meaning.len() > 20, "{}", entry.code);
        assert!(
            entry.mnemonic.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || "_ /".contains(c)),
            "{}",
            entry.code
        );
        let source = entry.source.as_ref().is_none_or(|s| catalogue.xid.sources.contains_key(s));
        assert!(source, "{}: no such source", entry.code);
    }
    let sxids: BTreeSet<_> = catalogue.sxid.sxid.iter().map(|x| x.code).collect();
    assert_eq!(sxids.len(), catalogue.sxid.sxid.len(), "a code is there twice");
    assert!(sxids.iter().all(|code| catalogue.sxid.entry(*code).is_some()), "a class is missing");
}

#[test]
fn every_word_of_nvidia_is_explained_and_every_opinion_is_about_something() {
    let xid = &catalogue().xid;
    let mut used = BTreeSet::new();
    for word in xid.xid.iter().flat_map(|x| [&x.now, &x.then]).flatten() {
        assert!(xid.action(word).is_some(), "{word} is not explained");
        used.insert(word);
    }
    assert_eq!(used.len(), xid.actions.len(), "an action that nothing asks for, or one that is there twice");
    for opinion in &xid.opinions {
        assert!(
            opinion.codes.iter().all(|code| xid.entry(*code).is_some() || xid.unused(*code).is_some()),
            "{opinion:?}"
        );
        assert!(opinion.actions.iter().all(|word| xid.action(word).is_some()), "{opinion:?}");
        assert!(opinion.otherwise || !(opinion.codes.is_empty() && opinion.actions.is_empty()), "{opinion:?}");
        assert!(opinion.source.starts_with("https://"), "{opinion:?}");
    }
    // One says one thing of a code.
    for entry in &xid.xid {
        let who: Vec<_> = xid.opinions(entry.code, entry.now.as_deref()).map(|o| &o.who).collect();
        let once: BTreeSet<_> = who.iter().collect();
        assert_eq!(once.len(), who.len(), "{}", entry.code);
    }
}

#[test]
fn what_the_operators_own_lists_say_is_what_is_written_here() {
    // EKS's list as it stands in its source, and gpud's three best known disagreements with NVIDIA.
    let critical = [46, 48, 54, 62, 63, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, 142, 143, 151, 155, 156, 158];
    let xid = &catalogue().xid;
    for entry in &xid.xid {
        let eks = xid.opinions(entry.code, entry.now.as_deref()).find(|o| o.who.starts_with("EKS")).unwrap();
        assert_eq!(critical.contains(&entry.code), eks.alias.as_deref() == Some("NvidiaXID{}Error"), "{}", entry.code);
    }
    for code in [63, 94] {
        let gpud = xid.opinions(code, None).find(|o| o.who == "gpud").unwrap();
        assert!(gpud.says.starts_with("Fatal"), "{code}");
    }
}
