//! The exam: what Casefile promises, tried on its real programs, one command an item and one for all.
//!
//! Here: from the command line to the exit code. The list of items is in `item.rs`, what each does in a file of its name;
//! `README.md` says what each proves. Every judge in here stands outside the programs: it keeps what was issued and what
//! was acknowledged, and asks for that in the end.

mod apart;
mod archives;
mod args;
mod collection;
mod damage;
mod dead_node;
mod dial;
mod fleet;
mod fleet_wide;
mod floods;
mod frames;
mod hostile;
mod incidents;
mod item;
mod kills;
mod machine;
mod peer;
mod power;
mod processes;
mod programs;
mod proxy;
mod random;
mod recorded;
mod report;
mod restart;
mod simulation;
mod system_calls;
mod truncated;
mod world;

use std::process::ExitCode;

use anyhow::{Context, Result};
use args::Verb;
use item::{ALL, Ask, Item};
use report::{Examined, Form, Report};

/// An item failed, or was skipped where no skip is allowed.
const FOUND: u8 = 3;

fn main() -> ExitCode {
    match run(args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::List => {
            report::list(ALL)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Exam { tier, seed, json, machine } => {
            let report = examine(
                ALL.iter().filter(|item| item.times(tier) > 0),
                |item| Ask { times: item.times(tier), seed, machine },
                Form::Text,
            )?;
            if let Some(path) = json {
                let text = report.json()?;
                std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            }
            report.print_summary()?;
            Ok(code(&report))
        }
        Verb::One { item, times, seed, form, machine } => {
            let report = examine(std::iter::once(item), |_| Ask { times, seed, machine }, form)?;
            if form == Form::Json {
                report.print_json()?;
            }
            Ok(code(&report))
        }
    }
}

/// Runs items one after the other; each is told as soon as it has ended.
fn examine(items: impl Iterator<Item = &'static Item>, ask: impl Fn(&Item) -> Ask, form: Form) -> Result<Report> {
    programs::build()?;
    let mut report = Report::begin();
    if form == Form::Text {
        report.print_head()?;
    }
    for item in items {
        eprintln!("{} …", item.name);
        let examined = Examined::run(item, ask(item));
        if form == Form::Text {
            examined.print()?;
        }
        report.add(examined);
    }
    Ok(report)
}

fn code(report: &Report) -> ExitCode {
    if report.passed() { ExitCode::SUCCESS } else { ExitCode::from(FOUND) }
}
