//! An explanation as a page for a terminal, and the record that it is about above it.
//!
//! Texts of a record are the node's and are made safe here.

use super::catalogue::{Source, Weight};
use super::explain::{Advice, Explanation, Said};
use super::logged::Author;
use super::record::Record;
use crate::display::safe;

/// Columns of the labels, and of the whole.
const LABEL: usize = 13;
const WIDTH: usize = 110;

/// An explanation for a terminal.
pub fn text(explanation: &Explanation) -> String {
    let mut out = format!("{}: {}\n", explanation.subject, explanation.title);
    let mut say = |label: &str, what: &str| paragraph(&mut out, label, what);
    let id = Some(&explanation.id).filter(|id| **id != explanation.subject);
    let named = explanation.mnemonic.iter().chain(id).cloned().collect::<Vec<_>>().join(" · ");
    if !named.is_empty() {
        say("name", &named);
    }
    say("means", &explanation.meaning);
    let advice = |a: &Advice| a.word.as_ref().map_or_else(|| a.text.clone(), |word| format!("{word}: {}", a.text));
    for (label, what) in [("do now", &explanation.now), ("then", &explanation.then)] {
        what.iter().for_each(|a| say(label, &advice(a)));
    }
    explanation.affects.iter().for_each(|a| say("affects", a));
    explanation.note.iter().for_each(|n| say("note", n));
    explanation.over_when.iter().for_each(|over| say("is over", over));
    let severity = severity(&explanation.opinions);
    if !severity.is_empty() {
        say("severity", &severity);
    }
    let mut others = ["others say"].into_iter();
    for said in &explanation.opinions {
        let Source { who, as_of, source } = &said.by;
        match &said.says {
            None => say("says", &format!("{who}, as of {as_of}: {source}")),
            Some(says) => say(others.next().unwrap_or(""), &format!("{who}, as of {as_of}: {says}")),
        }
    }
    explanation.differ.iter().for_each(|d| say("they differ", d));
    for (label, items) in [
        ("ended by", &explanation.recovers_with),
        ("look at", &explanation.look_at),
        ("see also", &explanation.see_also),
        ("no proof", &explanation.not_proof),
        ("also called", &explanation.aliases),
    ] {
        for (n, item) in items.iter().enumerate() {
            say(if n == 0 { label } else { "" }, item);
        }
    }
    let streams: Vec<_> = explanation.streams.iter().map(ToString::to_string).collect();
    say("in the log", &streams.join(", "));
    out
}

/// How bad it is, the worst opinion first, each with whose it is.
fn severity(opinions: &[Said]) -> String {
    let words =
        [(Weight::Fatal, "fatal"), (Weight::Error, "error"), (Weight::Warning, "warning"), (Weight::Info, "no action")];
    let groups = words.into_iter().filter_map(|(weight, word)| {
        let who: Vec<_> = opinions.iter().filter(|o| o.weight == Some(weight)).map(|o| o.by.who.as_str()).collect();
        (!who.is_empty()).then(|| format!("{word}: {}", who.join(", ")))
    });
    groups.collect::<Vec<_>>().join("; ")
}

/// What a record says, above its explanation: the line, device and process, what the driver adds, and who wrote it where that matters.
pub fn record_text(record: &Record<'_>) -> String {
    let mut out = String::new();
    let mut say = |label: &str, what: &str| paragraph(&mut out, label, what);
    say("line", &safe(&record.text));
    let pci = record.pci.iter().map(|pci| format!("device {pci}"));
    let process = record.process.iter().map(|name| format!("process {}", safe(name)));
    let parts: Vec<_> = pci
        .chain(record.pid.map(|pid| format!("pid {pid}")))
        .chain(process)
        .chain(record.parts.iter().map(|(name, value)| format!("{} {}", name.replace('_', " "), safe(value))))
        .chain(record.details.iter().map(|d| safe(d)))
        .collect();
    if !parts.is_empty() {
        say("of", &parts.join(", "));
    }
    if record.author == Author::Program {
        say("forged?", "a program wrote this line into the kernel's log, not the kernel: it proves nothing");
    }
    out
}

/// A label, and words behind it in lines that fit.
fn paragraph(out: &mut String, label: &str, what: &str) {
    let mut label = format!("  {label:<LABEL$}");
    let mut line = String::new();
    let indent = label.len();
    let mut end = |line: &mut String, label: &mut String| {
        out.push_str(format!("{label}{line}").trim_end());
        out.push('\n');
        line.clear();
        *label = " ".repeat(indent);
    };
    for word in what.split(' ') {
        let full = !line.is_empty() && indent + line.chars().count() + 1 + word.chars().count() > WIDTH;
        if full {
            end(&mut line, &mut label);
        } else if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    end(&mut line, &mut label);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signatures::catalogue::catalogue;
    use crate::signatures::explain::{Subject, explain};
    use crate::signatures::record::Lines;

    #[test]
    fn a_forged_line_is_called_one_and_nothing_in_it_steers_a_terminal() {
        let forged =
            Lines::default().line("<12>[1.0] NVRM: Xid (PCI:0000:84:00): 79, pid=1, name=\x1b[2J, GPU").unwrap();
        let text = record_text(&forged);
        assert!(text.contains("forged?") && text.contains("\\u{1b}[2J") && !text.contains('\x1b'), "{text}");
        let own = Lines::default().line("<4>[1.0] NVRM: Xid (PCI:0000:84:00): 79, GPU").unwrap();
        assert!(!record_text(&own).contains("forged"));
    }

    #[test]
    fn every_code_has_an_explanation_that_fits_a_terminal_and_names_a_source() {
        let all = catalogue();
        let xids = all.xid.range().filter_map(|code| explain(Subject::Xid(code)));
        let sxids = all.sxid.sxid.iter().filter_map(|x| explain(Subject::SXid(x.code)));
        let signatures = all.signatures.iter().filter_map(|s| explain(Subject::Signature(s)));
        let mut count = 0;
        for explained in xids.chain(sxids).chain(signatures) {
            count += 1;
            let text = text(&explained);
            let numbered = explained.id == explained.subject && explained.now.is_none();
            assert!(numbered || !explained.opinions.is_empty(), "{text}");
            assert!(explained.meaning.ends_with('.'), "{text}");
            assert!(text.lines().all(|l| l.chars().count() <= WIDTH || l.contains("https://")), "{text}");
        }
        assert_eq!(count, 176 + all.sxid.sxid.len() + all.signatures.iter().count());
    }
}
