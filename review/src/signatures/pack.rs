//! A pack: a file of signatures, ours or an operator's. Reads and checks it, and names every problem, not the first.
//!
//! A file has tables `[sources.NAME]` (who, as_of, source) and entries `[[signature]]`; `packs/memory.toml` is an example of all
//! that an entry can say. What concerns several entries is checked in `set.rs`.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::catalogue::{Source, Weight};
use super::signature::{Driver, Judgement, Log, Negative, Sample, Signature};

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// One of ours: its signatures may be about records of NVIDIA's driver by their numbers.
    Ours,
    /// An operator's.
    Operators,
}

/// A file is no larger, and holds no more signatures and regular expressions than somebody wrote.
pub const MAX_FILE: usize = 1 << 20;
const MAX_SIGNATURES: usize = 1000;
const MAX_PATTERN: usize = 2000;

/// What one regular expression may take when it is compiled: ours take a tenth of it.
const MAX_COMPILED: usize = 1 << 20;

/// Reads a file; what is wrong goes to `problems`, the signatures that can be read come back.
pub(super) fn read(text: &str, whose: Whose, problems: &mut Vec<String>) -> Vec<Signature> {
    if text.len() > MAX_FILE {
        problems.push(format!("{} bytes, and the most is {MAX_FILE}", text.len()));
        return Vec::new();
    }
    let table = match text.parse::<Table>() {
        Ok(table) => table,
        Err(e) => {
            problems.push(e.to_string().trim_end().replace('\n', " "));
            return Vec::new();
        }
    };
    let mut file = Fields { table, at: String::new(), problems };
    let sources: BTreeMap<String, Source> = file
        .optional::<BTreeMap<String, Value>>("sources")
        .into_iter()
        .flatten()
        .fold(BTreeMap::new(), |mut all, (name, value)| {
            all.extend(file.as_a::<Source>(&format!("sources.{name}"), value).map(|source| (name, source)));
            all
        });
    let entries: Vec<Table> = file.needed("signature").unwrap_or_default();
    file.end();
    if entries.len() > MAX_SIGNATURES {
        problems.push(format!("{} signatures, and the most are {MAX_SIGNATURES}", entries.len()));
        return Vec::new();
    }
    let numbered = entries.into_iter().enumerate();
    numbered.filter_map(|(n, entry)| signature(entry, n + 1, &sources, whose, problems)).collect()
}

/// A regular expression within our limits, anchored where it begins.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    if !pattern.starts_with('^') {
        return Err(format!(
            "{pattern:?}: a regular expression begins with ^, so that who quotes a record is not taken for it"
        ));
    }
    if pattern.len() > MAX_PATTERN {
        return Err(format!("a regular expression of {} bytes, and the most is {MAX_PATTERN}", pattern.len()));
    }
    RegexBuilder::new(pattern).size_limit(MAX_COMPILED).build().map_err(|e| e.to_string().trim_end().replace('\n', " "))
}

/// A table of which each field is taken once; what is left at the end is not known.
struct Fields<'p> {
    table: Table,
    /// What is said before a problem.
    at: String,
    problems: &'p mut Vec<String>,
}

impl Fields<'_> {
    fn wrong(&mut self, what: &str) {
        self.problems.push(format!("{}{what}", self.at));
    }

    fn as_a<T: DeserializeOwned>(&mut self, name: &str, value: Value) -> Option<T> {
        value
            .try_into()
            .map_err(|e| self.wrong(&format!("{name}: {}", e.to_string().trim_end().replace('\n', " "))))
            .ok()
    }

    fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let value = self.table.remove(name)?;
        self.as_a(name, value)
    }

    fn needed<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        if !self.table.contains_key(name) {
            self.wrong(&format!("{name} is missing"));
        }
        self.optional(name)
    }

    /// A text that says something.
    fn words(&mut self, name: &str) -> Option<String> {
        let text: String = self.optional(name)?;
        if text.trim().is_empty() {
            self.wrong(&format!("{name} is empty"));
            return None;
        }
        Some(text)
    }

    fn list(&mut self, name: &str) -> Vec<String> {
        let list: Vec<String> = self.optional(name).unwrap_or_default();
        if list.iter().any(|text| text.trim().is_empty()) {
            self.wrong(&format!("{name} has an empty text"));
        }
        list
    }

    fn end(mut self) {
        for name in std::mem::take(&mut self.table).keys() {
            self.wrong(&format!("{name} is not known here"));
        }
    }
}

fn signature(
    entry: Table,
    number: usize,
    sources: &BTreeMap<String, Source>,
    whose: Whose,
    problems: &mut Vec<String>,
) -> Option<Signature> {
    let before = problems.len();
    let named = entry.get("id").and_then(Value::as_str);
    let at = named.map_or_else(|| format!("signature {number}: "), |id| format!("signature {id:?}: "));
    let mut fields = Fields { table: entry, at, problems };
    let id: Option<String> = fields.needed("id");
    if id.as_deref().is_some_and(|id| !is_id(id)) {
        fields.wrong("an id is domain.subject.slug: small letters, digits and _, with dots between");
    }
    let title = fields.needed::<String>("title").filter(|title| !title.trim().is_empty());
    let logs = logs(&mut fields);
    let driver = driver(&mut fields, whose);
    let patterns = fields.list("match");
    // Ours are compiled by a test, and once a line is read: who asks for an id does not wait for it.
    for why in patterns.iter().filter(|_| whose == Whose::Operators).filter_map(|pattern| compile(pattern).err()) {
        fields.wrong(&format!("match: {why}"));
    }
    if patterns.is_empty() == (driver == Driver::default()) {
        fields.wrong(if patterns.is_empty() { "match is missing" } else { "it is of the driver: match is not for it" });
    }
    let signature = Signature {
        driver,
        patterns,
        logs,
        meaning: fields.words("meaning"),
        now: fields.words("now"),
        over_when: fields.words("over_when"),
        recovers_with: fields.list("recovers_with"),
        opinions: judgements(&mut fields, sources),
        aliases: fields.list("aliases"),
        look_at: fields.list("look_at"),
        see_also: fields.list("see_also"),
        not_proof: fields.list("not_proof"),
        positive: positive(&mut fields),
        negative: negative(&mut fields),
        id: id.unwrap_or_default(),
        title: title.unwrap_or_default(),
    };
    if signature.title.is_empty() {
        fields.wrong("title is empty");
    }
    if !signature.is_numbered() {
        for (name, missing) in [
            ("meaning", signature.meaning.is_none()),
            ("now", signature.now.is_none()),
            ("opinions", signature.opinions.is_empty()),
        ] {
            if missing {
                fields.wrong(&format!("{name} is missing"));
            }
        }
    }
    for (name, missing) in [("positive", signature.positive.is_empty()), ("negative", signature.negative.is_empty())] {
        if missing {
            fields.wrong(&format!("{name} is missing: a line that it must, and one that it must not recognise"));
        }
    }
    fields.end();
    (problems.len() == before).then_some(signature)
}

/// `mem.oom.memcg`: at least two parts.
fn is_id(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    text.contains('.') && text.split('.').all(part)
}

/// Without `stream` a signature is one of the kernel's log.
fn logs(fields: &mut Fields<'_>) -> Vec<Log> {
    let named: Vec<String> = match fields.table.remove("stream") {
        None => return vec![Log::Kernel],
        Some(Value::String(one)) => vec![one],
        Some(other) => fields.as_a("stream", other).unwrap_or_default(),
    };
    let mut logs = Vec::new();
    for name in &named {
        match Log::parse(name) {
            Some(log) => logs.push(log),
            None => {
                fields.wrong(&format!(
                    "stream {name:?}: it is kernel, k8s, or journal: and the name of a unit or program"
                ));
            }
        }
    }
    logs
}

fn driver(fields: &mut Fields<'_>, whose: Whose) -> Driver {
    if whose == Whose::Operators {
        // Whatever is there is said to be unknown at the end: the numbers are all taken.
        return Driver::default();
    }
    Driver {
        xids: fields.optional("xids").unwrap_or_default(),
        any_xid: fields.optional("any_xid").unwrap_or_default(),
        sxid: fields.optional("sxid").unwrap_or_default(),
        event: fields.optional("event"),
    }
}

/// `{ by = "kernel", weight = "error", says = "…" }`, where `by` is a name of `[sources]`.
fn judgements(fields: &mut Fields<'_>, sources: &BTreeMap<String, Source>) -> Vec<Judgement> {
    let tables: Vec<Table> = fields.optional("opinions").unwrap_or_default();
    let mut all = Vec::new();
    for table in tables {
        let at = format!("{}opinions: ", fields.at);
        let mut one = Fields { table, at, problems: fields.problems };
        let by: Option<String> = one.needed("by");
        let weight: Option<Weight> = one.needed("weight");
        let says = one.words("says");
        let source = by.as_ref().and_then(|by| sources.get(by));
        if let (Some(by), None) = (&by, source) {
            one.wrong(&format!("by {by:?}: there is no [sources.{by}]"));
        }
        one.end();
        if let (Some(by), Some(weight)) = (source.cloned(), weight) {
            all.push(Judgement { by, weight, says });
        }
    }
    all
}

/// A line, or a table of a line and all the parts that must be found in it.
fn positive(fields: &mut Fields<'_>) -> Vec<Sample> {
    let mut samples = Vec::new();
    for value in fields.optional::<Vec<Value>>("positive").unwrap_or_default() {
        match value {
            Value::String(line) => samples.push(Sample { line, parts: None }),
            Value::Table(mut table) => match table.remove("line") {
                Some(Value::String(line)) => {
                    let parts = table.into_iter().map(|(name, value)| (name, plain(value))).collect();
                    samples.push(Sample { line, parts: Some(parts) });
                }
                _ => fields.wrong("positive: a sample has a line"),
            },
            _ => fields.wrong("positive: a sample is a line, or a table with a line and its parts"),
        }
    }
    samples
}

/// A line, or a table of a line and of what it is instead.
fn negative(fields: &mut Fields<'_>) -> Vec<Negative> {
    let mut samples = Vec::new();
    for value in fields.optional::<Vec<Value>>("negative").unwrap_or_default() {
        match value {
            Value::String(line) => samples.push(Negative { line, is: None }),
            Value::Table(table) => {
                let at = format!("{}negative: ", fields.at);
                let mut one = Fields { table, at, problems: fields.problems };
                let (line, is) = (one.needed("line"), one.words("is"));
                one.end();
                samples.extend(line.map(|line| Negative { line, is }));
            }
            _ => fields.wrong("negative: a sample is a line, or a table with a line and what it is"),
        }
    }
    samples
}

/// Numbers are written as they stand in a record.
fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        read(text, Whose::Operators, &mut problems);
        problems
    }

    const SOUND: &str = r#"
        [sources.us]
        who = "the storage team"
        as_of = "2026-11-01"
        source = "runbook 12"

        [[signature]]
        id = "disk.ours.slow"
        title = "Our array is slow"
        match = ['^ourarray (?P<dev>\S+): slow']
        meaning = "The array says that it is slow."
        now = "ask the storage team"
        opinions = [{ by = "us", weight = "warning" }]
        positive = [{ line = "ourarray a1: slow", dev = "a1" }]
        negative = ["ourarray a1: fast"]
    "#;

    #[test]
    fn a_sound_file_has_no_problems() {
        let mut problems = Vec::new();
        let all = read(SOUND, Whose::Operators, &mut problems);
        assert_eq!(problems, [""; 0]);
        let [one] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((one.logs.as_slice(), one.opinions[0].by.who.as_str()), (&[Log::Kernel][..], "the storage team"));
    }

    #[test]
    fn every_problem_of_a_file_is_named_at_once() {
        let text = SOUND
            .replace("disk.ours.slow", "Disk")
            .replace("'^our", "'our")
            .replace("by = \"us\"", "by = \"them\"")
            .replace("meaning", "meanign")
            .replace("weight = \"warning\"", "weight = \"dreadful\"")
            + "\nxids = [79]\nstream = \"syslog\"\n[extra]\n";
        let told = problems(&text);
        for (part, why) in [
            ("an id is domain.subject.slug", "id"),
            ("begins with ^", "match"),
            ("there is no [sources.them]", "by"),
            ("meanign is not known here", "a wrong key"),
            ("meaning is missing", "meaning"),
            ("weight: unknown variant", "weight"),
            ("xids is not known here", "numbers of the driver"),
            ("stream \"syslog\"", "stream"),
            ("extra is not known here", "a wrong table"),
        ] {
            assert!(told.iter().any(|p| p.contains(part)), "{why}: {told:#?}");
        }
        assert!(
            told.iter().filter(|p| !p.starts_with("extra")).all(|p| p.starts_with("signature \"Disk\": ")),
            "{told:#?}"
        );
    }

    #[test]
    fn what_is_no_file_of_signatures_is_refused() {
        for (text, part) in [
            ("signature", "expected"),
            ("", "signature is missing"),
            ("signature = 3", "signature: "),
            ("[[signature]]", "signature 1: id is missing"),
            ("[sources.us]\nwho = \"x\"\n[[signature]]", "sources.us: missing field"),
        ] {
            let told = problems(text);
            assert!(told.iter().any(|p| p.contains(part)), "{text:?}: {told:#?}");
        }
        let long = "#".repeat(MAX_FILE + 1);
        assert!(problems(&long)[0].contains("the most is"));
        let pattern = format!("^{}", "a".repeat(MAX_PATTERN));
        assert!(compile(&pattern).unwrap_err().contains("the most is"));
        assert!(compile("^(a{1000}){1000}").unwrap_err().contains("size limit"));
        assert!(compile("^(a").is_err());
    }
}
