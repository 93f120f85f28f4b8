//! What a code or a record of a log means, for a person at three in the morning: what to do, whose opinion that is and as of
//! when, where opinions differ, what else to look at, and what it does not prove.
//!
//! Offline: everything comes from the built-in catalogues, and from an operator's own packs where there are any.

use std::fmt::Write;

use serde::Serialize;

use super::catalogue::{Catalogue, Opinion, Source, Weight, XidEntry, catalogue};
use super::signature::{Log, Signature};

/// What is explained.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'c> {
    /// An Xid code.
    Xid(u32),
    /// An SXid code.
    SXid(u32),
    /// A record without a number, or a signature by its name.
    Signature(&'c Signature),
}

impl PartialEq for Subject<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Xid(a), Self::Xid(b)) | (Self::SXid(a), Self::SXid(b)) => a == b,
            (Self::Signature(a), Self::Signature(b)) => a.id == b.id,
            _ => false,
        }
    }
}

/// What is to be done, in NVIDIA's word and in ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// NVIDIA's word, where it has one.
    pub word: Option<String>,
    /// What it means.
    pub text: String,
}

/// What somebody says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Said {
    /// Who, as of when, and where it was read.
    #[serde(flatten)]
    pub by: Source,
    /// How bad it is to them, in our reading; `None` where they do not say what is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<Weight>,
    /// What they say; `None`: what stands under meaning and advice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
}

/// What a code or a record means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `Xid 79`, or the signature's id.
    pub subject: String,
    /// What it is in a few words.
    pub title: String,
    /// The signature.
    pub id: String,
    /// NVIDIA's name.
    pub mnemonic: Option<String>,
    /// What it means.
    pub meaning: String,
    /// What to do at once.
    pub now: Option<Advice>,
    /// What to do then.
    pub then: Option<Advice>,
    /// What is affected.
    pub affects: Option<String>,
    /// What a reader should know besides.
    pub note: Option<String>,
    /// In which logs its records stand.
    pub streams: Vec<Log>,
    /// When it is over, in words.
    pub over_when: Option<String>,
    /// Whose records say that it is over: ids.
    pub recovers_with: Vec<String>,
    /// Who says so, first of all; then others.
    pub opinions: Vec<Said>,
    /// Where opinions differ in whether the GPU or the machine can be used: who counts it as what.
    pub differ: Option<String>,
    /// What else to look at.
    pub look_at: Vec<String>,
    /// What often stands beside it: ids.
    pub see_also: Vec<String>,
    /// What it does not prove.
    pub not_proof: Vec<String>,
    /// Names under which others know it.
    pub aliases: Vec<String>,
}

/// What a subject means; `None` for a code that no catalogue has.
pub fn explain(subject: Subject<'_>) -> Option<Explanation> {
    let all = catalogue();
    match subject {
        Subject::Xid(code) => xid(all, code),
        Subject::SXid(code) => sxid(all, code),
        Subject::Signature(signature) => Some(by_itself(all, signature)),
    }
}

fn xid(all: &Catalogue, code: u32) -> Option<Explanation> {
    let signature = all.signatures.iter().find(|s| s.is_of_xid(code))?;
    let catalogue = &all.xid;
    let nvidia = Source { who: NVIDIA.to_owned(), as_of: catalogue.as_of.clone(), source: catalogue.source.clone() };
    let mut out = blank(signature);
    out.subject = format!("Xid {code}");
    let now = match (catalogue.entry(code), catalogue.unused(code)) {
        (Some(entry), _) => {
            fill(&mut out, entry, |word| {
                Some(Advice { word: Some(word.to_owned()), text: catalogue.action(word)?.text.clone() })
            });
            let by = entry.source.as_ref().and_then(|key| catalogue.sources.get(key)).cloned().unwrap_or(nvidia);
            let weight = entry.now.as_ref().and_then(|word| catalogue.action(word)).map(|a| a.weight);
            out.opinions.push(Said { by, weight, says: None });
            entry.now.as_deref()
        }
        (None, Some(unused)) => {
            out.mnemonic = Some(unused.mnemonic.clone());
            out.meaning = "NVIDIA's catalogue calls this code unused on Ampere and newer GPUs.".to_owned();
            out.opinions.push(Said { by: nvidia, weight: None, says: None });
            if let (Some(before), Some(older)) = (&unused.before, catalogue.sources.get("older")) {
                let _infallible = write!(out.meaning, " On older ones: {before}");
                out.opinions.push(Said { by: older.clone(), weight: None, says: None });
            }
            None
        }
        (None, None) => return None,
    };
    for Opinion { who, as_of, source, weight, says, alias, .. } in catalogue.opinions(code, now) {
        let by = Source { who: who.clone(), as_of: as_of.clone(), source: source.clone() };
        out.opinions.push(Said { by, weight: Some(*weight), says: Some(says.clone()) });
        out.aliases.extend(alias.as_ref().map(|alias| format!("{} ({who})", alias.replace("{}", &code.to_string()))));
    }
    out.differ = differ(&out.opinions);
    Some(out)
}

const NVIDIA: &str = "NVIDIA";

fn fill(out: &mut Explanation, entry: &XidEntry, advice: impl Fn(&str) -> Option<Advice>) {
    out.mnemonic = Some(entry.mnemonic.clone());
    out.meaning.clone_from(&entry.meaning);
    out.now = entry.now.as_deref().and_then(&advice);
    out.then = entry.then.as_deref().and_then(&advice);
    out.note.clone_from(&entry.note);
    out.aliases.extend(entry.driver_name.as_ref().map(|name| format!("{name} (driver)")));
}

fn sxid(all: &Catalogue, code: u32) -> Option<Explanation> {
    let signature = all.signatures.iter().find(|s| s.is_of_sxid())?;
    let (entry, class) = all.sxid.entry(code)?;
    let mut out = blank(signature);
    out.subject = format!("SXid {code}");
    out.title.clone_from(&entry.name);
    let meaning = entry.meaning.as_ref().unwrap_or(&class.meaning);
    let mut letters = meaning.chars();
    out.meaning =
        letters.next().map(|first| first.to_uppercase().chain(letters).chain(['.']).collect()).unwrap_or_default();
    out.now = Some(Advice { word: None, text: entry.now.as_ref().unwrap_or(&class.now).clone() });
    out.affects = Some(entry.impact.as_ref().unwrap_or(&class.impact).clone());
    let by = Source { who: NVIDIA.to_owned(), as_of: all.sxid.as_of.clone(), source: all.sxid.source.clone() };
    out.opinions.push(Said { by, weight: Some(class.weight), says: None });
    Some(out)
}

fn by_itself(all: &Catalogue, signature: &Signature) -> Explanation {
    let mut out = blank(signature);
    out.subject.clone_from(&signature.id);
    out.meaning = signature.meaning.clone().unwrap_or_else(|| by_numbers(all, signature));
    out.now = signature.now.clone().map(|text| Advice { word: None, text });
    let said = signature.opinions.iter().cloned();
    out.opinions.extend(said.map(|j| Said { by: j.by, weight: Some(j.weight), says: j.says }));
    out.differ = differ(&out.opinions);
    out
}

/// What a signature of numbers means as a whole: which those are.
fn by_numbers(all: &Catalogue, signature: &Signature) -> String {
    if signature.driver.sxid {
        return "Every SXid, an error of an NVSwitch: casefile explain sxid NUMBER says what the number means."
            .to_owned();
    }
    if signature.driver.any_xid {
        return "Every Xid that no other signature is about: casefile explain xid NUMBER says what the number means."
            .to_owned();
    }
    let named = |code: &u32| all.xid_name(*code).map_or_else(|| code.to_string(), |name| format!("{code} ({name})"));
    let codes: Vec<_> = signature.driver.xids.iter().map(named).collect();
    format!("One of these Xids, each with a meaning of its own (casefile explain xid NUMBER): {}.", codes.join(", "))
}

/// An explanation with what the signature says.
fn blank(signature: &Signature) -> Explanation {
    Explanation {
        subject: String::new(),
        title: signature.title.clone(),
        id: signature.id.clone(),
        mnemonic: None,
        meaning: String::new(),
        now: None,
        then: None,
        affects: None,
        note: None,
        streams: signature.logs.clone(),
        over_when: signature.over_when.clone(),
        recovers_with: signature.recovers_with.clone(),
        opinions: Vec::new(),
        differ: None,
        look_at: signature.look_at.clone(),
        see_also: signature.see_also.clone(),
        not_proof: signature.not_proof.clone(),
        aliases: signature.aliases.clone(),
    }
}

/// Who counts it as what, where one says that the GPU or the machine cannot be used and another that it can.
fn differ(opinions: &[Said]) -> Option<String> {
    let of = |weight| -> Vec<_> {
        opinions.iter().filter(|o| o.weight == Some(weight)).map(|o| o.by.who.as_str()).collect()
    };
    if of(Weight::Fatal).is_empty() || (of(Weight::Info).is_empty() && of(Weight::Warning).is_empty()) {
        return None;
    }
    let groups = [
        (Weight::Info, "nothing is to be done"),
        (Weight::Warning, "a warning"),
        (Weight::Error, "people are to look"),
        (Weight::Fatal, "the GPU or the node cannot be used as it is"),
    ];
    let parts: Vec<_> = groups
        .into_iter()
        .filter(|(weight, _)| !of(*weight).is_empty())
        .map(|(weight, what)| format!("{}: {what}", of(weight).join(", ")))
        .collect();
    Some(parts.join("; "))
}

/// What is said of a code that no catalogue has: which ones there are.
pub fn unknown(subject: Subject<'_>) -> String {
    let all = catalogue();
    match subject {
        Subject::Xid(code) => format!(
            "Xid {code} is not in the catalogue: codes {} to {} are (NVIDIA's of {}, and names of the driver's own)",
            all.xid.range().start(),
            all.xid.range().end(),
            all.xid.as_of,
        ),
        Subject::SXid(code) => format!(
            "SXid {code} is not in the catalogue: {} codes between {} and {} are (NVIDIA's of {})",
            all.sxid.sxid.len(),
            all.sxid.range().start(),
            all.sxid.range().end(),
            all.sxid.as_of,
        ),
        Subject::Signature(signature) => format!("nothing is known of {}", signature.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: u32) -> Explanation {
        explain(Subject::Xid(code)).unwrap_or_else(|| panic!("{code}"))
    }

    #[test]
    fn whoever_says_something_is_named_with_the_day() {
        let explained = of(79);
        assert_eq!(explained.id, "gpu.xid.79.fallen_off_bus");
        assert_eq!(explained.now.as_ref().unwrap().word.as_deref(), Some("RESTART_BM"));
        let who: Vec<_> = explained.opinions.iter().map(|o| (o.by.who.as_str(), o.by.as_of.as_str())).collect();
        assert_eq!(
            who,
            [
                ("NVIDIA", "2025-10-29"),
                ("EKS node monitoring agent", "2026-08-18"),
                ("gpud", "2026-08-22"),
                ("NVSentinel", "2025")
            ]
        );
        assert_eq!(explained.differ, None, "all agree on 79");
        assert!(
            explained.aliases.contains(&"NvidiaXID79Error (EKS node monitoring agent)".to_owned()),
            "{explained:?}"
        );
    }

    #[test]
    fn where_vendors_disagree_it_is_said_who_counts_it_as_what() {
        let differ = of(63).differ.unwrap();
        assert!(
            differ.starts_with("NVIDIA, NVSentinel: nothing is to be done; EKS node monitoring agent, gpud: the GPU"),
            "{differ}"
        );
        let differ = of(94).differ.unwrap();
        assert!(differ.contains("NVIDIA, EKS node monitoring agent: a warning"), "{differ}");
        assert_eq!(of(13).differ, None);
    }

    #[test]
    fn a_code_that_nobody_knows_is_not_explained() {
        for code in [0, 177, 999, u32::MAX] {
            assert_eq!(explain(Subject::Xid(code)), None);
            assert!(unknown(Subject::Xid(code)).contains("1 to 176"));
        }
        assert_eq!(explain(Subject::SXid(79)), None);
    }
}
