//! What an item found, how it is judged, and how it is told to people and machines.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::item::{Ask, Item, Whose};
use crate::machine::Machine;

/// Faults that are told in words; the rest are counted.
const MAX_TOLD: usize = 12;

/// How a report looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// What an item found: figures for the reader, faults that make it fail.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    figures: Vec<(String, Value)>,
    faults: Vec<String>,
    untold: u64,
    /// Promises of time that were not kept on a machine that is shared.
    late: Vec<String>,
    is_shared: bool,
}

impl Findings {
    /// Of an item that looks at time.
    pub(crate) fn of(ask: &Ask) -> Self {
        Self { is_shared: ask.machine == Whose::Shared, ..Self::default() }
    }

    /// A fault unless this holds, which is about time or CPU: on a shared machine it is only told.
    pub(crate) fn in_time(&mut self, holds: bool, what: impl FnOnce() -> String) {
        match (holds, self.is_shared) {
            (true, _) => {}
            (false, true) => self.late.push(what()),
            (false, false) => self.fault(what()),
        }
    }

    /// A figure, in the order in which they are told.
    pub(crate) fn figure(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.figures.push((name.into(), value.into()));
    }

    /// Something is not as it was promised.
    pub(crate) fn fault(&mut self, what: impl Into<String>) {
        if self.faults.len() < MAX_TOLD {
            self.faults.push(what.into());
        } else {
            self.untold += 1;
        }
    }

    /// A fault unless this holds.
    pub(crate) fn require(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fault(what());
        }
    }

    /// Takes the faults of a part, each with what the part was.
    pub(crate) fn take_faults(&mut self, what: &str, part: Self) {
        for fault in part.faults {
            self.fault(format!("{what}: {fault}"));
        }
        self.untold += part.untold;
    }

    fn passed(&self) -> bool {
        self.faults.is_empty()
    }
}

/// How an item went.
enum Verdict {
    /// It ran to its end.
    Judged(Findings),
    /// It could not be run to its end, which is no pass.
    Broke(String),
    /// The machine has not what it needs.
    Skipped(String),
}

/// An item that was run.
pub(crate) struct Examined {
    name: &'static str,
    times: u64,
    counts: &'static str,
    seed: u64,
    took: Duration,
    verdict: Verdict,
}

impl Examined {
    /// Runs it. A panic in it is a failure of the item, and the next one is still run.
    pub(crate) fn run(item: &Item, ask: Ask) -> Self {
        let begun = Instant::now();
        let missing: Vec<String> = item.needs.iter().filter_map(|need| need.missing()).collect();
        let verdict = if missing.is_empty() {
            match catch_unwind(AssertUnwindSafe(|| (item.run)(&ask))) {
                Ok(Ok(findings)) => Verdict::Judged(findings),
                Ok(Err(error)) => Verdict::Broke(format!("{error:#}")),
                Err(panic) => Verdict::Broke(said(panic.as_ref())),
            }
        } else {
            Verdict::Skipped(missing.join("; "))
        };
        Self { name: item.name, times: ask.times, counts: item.counts, seed: ask.seed, took: begun.elapsed(), verdict }
    }

    fn word(&self) -> &'static str {
        match &self.verdict {
            Verdict::Judged(findings) if findings.passed() => "PASS",
            Verdict::Judged(_) | Verdict::Broke(_) => "FAIL",
            Verdict::Skipped(_) => "SKIPPED",
        }
    }

    fn passed(&self) -> bool {
        match &self.verdict {
            Verdict::Judged(findings) => findings.passed(),
            Verdict::Broke(_) => false,
            Verdict::Skipped(_) => std::env::var_os("CASEFILE_ALLOW_NO_SKIP").is_none(),
        }
    }

    /// One line, then its figures, then its faults.
    pub(crate) fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let (name, times, seed, secs) = (self.name, self.times, self.seed, self.took.as_secs_f64());
        writeln!(out, "{:<8} {name:<14} {times} {}, seed {seed}, {secs:.1} s", self.word(), self.counts)?;
        match &self.verdict {
            Verdict::Judged(findings) => {
                for (name, value) in &findings.figures {
                    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    writeln!(out, "    {name:<58} {value}")?;
                }
                for late in &findings.late {
                    writeln!(out, "  ~ {late}")?;
                }
                for fault in &findings.faults {
                    writeln!(out, "  ! {fault}")?;
                }
                if findings.untold > 0 {
                    writeln!(out, "  ! and {} more", findings.untold)?;
                }
            }
            Verdict::Broke(why) => writeln!(out, "  ! could not be run to its end: {why}")?,
            Verdict::Skipped(why) => writeln!(out, "    {why}")?,
        }
        out.flush()
    }

    fn json(&self) -> Value {
        let mut told = Map::new();
        told.insert("name".to_owned(), self.name.into());
        told.insert("verdict".to_owned(), self.word().to_lowercase().into());
        told.insert("times".to_owned(), self.times.into());
        told.insert("counts".to_owned(), self.counts.into());
        told.insert("seed".to_owned(), self.seed.into());
        told.insert("seconds".to_owned(), json!((self.took.as_secs_f64() * 10.0).round() / 10.0));
        match &self.verdict {
            Verdict::Judged(findings) => {
                let figures: Vec<Value> =
                    findings.figures.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
                told.insert("figures".to_owned(), figures.into());
                told.insert("late".to_owned(), findings.late.clone().into());
                told.insert("faults".to_owned(), findings.faults.clone().into());
                told.insert("faults_untold".to_owned(), findings.untold.into());
            }
            Verdict::Broke(why) | Verdict::Skipped(why) => {
                told.insert("why".to_owned(), why.clone().into());
            }
        }
        Value::Object(told)
    }
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".to_owned())
}

/// All items that were run, and where.
pub(crate) struct Report {
    machine: Machine,
    begun: Instant,
    items: Vec<Examined>,
}

impl Report {
    /// Before the first item.
    pub(crate) fn begin() -> Self {
        Self { machine: Machine::here(), begun: Instant::now(), items: Vec::new() }
    }

    /// An item was run.
    pub(crate) fn add(&mut self, examined: Examined) {
        self.items.push(examined);
    }

    /// Whether nothing failed, and nothing was skipped where that is not allowed.
    pub(crate) fn passed(&self) -> bool {
        self.items.iter().all(Examined::passed)
    }

    /// Where and when.
    pub(crate) fn print_head(&self) -> io::Result<()> {
        let Machine { date, cores, cpu, kernel, memory_mib, commit, build, command } = &self.machine;
        let memory = memory_mib.map_or_else(|| "memory not told".to_owned(), |mib| format!("{mib} MiB"));
        let commit = commit.as_deref().unwrap_or("not known");
        let mut out = io::stdout().lock();
        writeln!(out, "casefile-tests {command}")?;
        writeln!(out, "{date}, {cores} cores ({cpu}), {memory}, {kernel}, {build} build, commit {commit}\n")
    }

    /// How many of which, and how long it took.
    pub(crate) fn print_summary(&self) -> io::Result<()> {
        let count = |word: &str| self.items.iter().filter(|item| item.word() == word).count();
        let (passed, failed, skipped) = (count("PASS"), count("FAIL"), count("SKIPPED"));
        let secs = self.begun.elapsed().as_secs_f64();
        writeln!(io::stdout().lock(), "\n{passed} passed, {failed} failed, {skipped} skipped in {secs:.0} s")
    }

    /// For machines.
    pub(crate) fn json(&self) -> Result<String> {
        let items: Vec<Value> = self.items.iter().map(Examined::json).collect();
        let whole = json!({ "machine": self.machine.json(), "passed": self.passed(), "items": items });
        Ok(format!("{}\n", serde_json::to_string_pretty(&whole)?))
    }

    /// [`Report::json`] on standard output.
    pub(crate) fn print_json(&self) -> Result<()> {
        Ok(io::stdout().lock().write_all(self.json()?.as_bytes())?)
    }
}

/// Names the items.
pub(crate) fn list(items: &[Item]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for item in items {
        writeln!(out, "{:<14} {}", item.name, item.proves)?;
        let needs: Vec<&str> = item.needs.iter().map(|need| need.word()).collect();
        let needs = if needs.is_empty() { String::new() } else { format!("; needs {}", needs.join(", ")) };
        writeln!(out, "{:<14} {} {} (short), {} (full){needs}", "", item.short, item.counts, item.full)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASK: Ask = Ask { times: 1, seed: 1, machine: Whose::Ours };

    fn item(run: fn(&Ask) -> Result<Findings>) -> Item {
        Item { name: "x", proves: "", counts: "times", short: 1, full: 1, needs: &[], run }
    }

    #[test]
    fn a_fault_an_error_and_a_panic_are_failures_and_nothing_else_is() {
        let word = |run| Examined::run(&item(run), ASK).word();
        assert_eq!(word(|_| Ok(Findings::default())), "PASS");
        assert_eq!(
            word(|_| {
                let mut findings = Findings::default();
                findings.require(false, || "one is missing".to_owned());
                Ok(findings)
            }),
            "FAIL"
        );
        assert_eq!(word(|_| anyhow::bail!("no room")), "FAIL");
        assert_eq!(word(|_| panic!("a defect")), "FAIL");
    }

    #[test]
    fn what_is_late_is_a_fault_unless_the_machine_is_shared() {
        for (machine, word) in [(Whose::Ours, "FAIL"), (Whose::Shared, "PASS")] {
            let run = |ask: &Ask| {
                let mut findings = Findings::of(ask);
                findings.in_time(false, || "late".to_owned());
                Ok(findings)
            };
            assert_eq!(Examined::run(&item(run), Ask { machine, ..ASK }).word(), word);
        }
    }

    #[test]
    fn faults_beyond_those_that_are_told_still_count() {
        let mut findings = Findings::default();
        (0..MAX_TOLD + 3).for_each(|n| findings.fault(n.to_string()));
        assert_eq!((findings.faults.len(), findings.untold), (MAX_TOLD, 3));
    }

    #[test]
    fn a_tool_that_is_not_there_skips_the_item_and_says_so() {
        let needs = &[crate::item::Need::Tool("no-such-tool")];
        let examined = Examined::run(&Item { needs, ..item(|_| panic!("it ran")) }, ASK);
        assert_eq!(examined.word(), "SKIPPED");
        assert_eq!(examined.json()["why"], "no-such-tool is not installed");
    }
}
