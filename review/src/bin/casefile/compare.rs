//! `casefile compare` and `casefile diff`: one node against another, or against itself before.

use anyhow::{Result, bail, ensure};
use casefile_proto::ids::NodeName;
use casefile_review::casefile::CaseFile;
use casefile_review::compare::{self, Comparison, Row};
use casefile_review::display::safe;
use casefile_review::past::table::{Aligned, NOTHING, short_bytes};
use casefile_review::{summary, when};

use crate::args::Format;
use crate::args::compare::{CompareArgs, DiffArgs};
use crate::args::source::PartArgs;
use crate::output::{self, talk};
use crate::{Ended, source};

/// Of a text that may be long, such as a kernel's command line, what is shown in a table.
const MAX_SHOWN: usize = 200;

/// Two nodes of a case file.
pub(crate) fn run(args: &CompareArgs) -> Result<Ended> {
    let mut casefile = source::open(&args.source)?;
    let a = source::node(&casefile, Some(&args.a))?;
    let b = source::node(&casefile, Some(&args.b))?;
    ensure!(a != b, "{a} is alike to itself (casefile diff compares a node with itself before)");
    let part = PartArgs { at: None, since: args.since.clone(), until: args.until.clone() };
    let window = source::part(&casefile, &part, when::length("1s")?)?;
    let (comparison, damaged) = compare::of_nodes(&mut casefile, (&a, &b), window)?;
    let titles = Titles { a: safe(a.as_str()), b: safe(b.as_str()) };
    print(&comparison, &titles, args.count, args.output.format)?;
    ended(&[&casefile], &[&a, &b], &damaged)
}

/// A node and itself.
pub(crate) fn diff(args: &DiffArgs) -> Result<Ended> {
    let mut casefile = source::open(&args.source)?;
    let node = source::node(&casefile, args.node.node.as_ref())?;
    // What is looked at begins where what it is compared with ends.
    let part = PartArgs { at: None, since: args.before.clone(), until: args.until.clone() };
    let since = source::part(&casefile, &part, when::length("1s")?)?;
    let mut other = None;
    let (comparison, damaged, titles) = match &args.with {
        None => {
            let Some(before) = compare::before(since, casefile.incident.window.from()) else {
                bail!(
                    "the case file begins at {}: nothing in it lies before {} (--with FILE compares with another one)",
                    casefile.incident.window.from().to_seconds_text(),
                    since.from().to_seconds_text()
                );
            };
            let (comparison, damaged) = compare::of_times(&mut casefile, &node, since, before)?;
            (comparison, damaged, Titles { a: "since".to_owned(), b: "before".to_owned() })
        }
        Some(with) => {
            let other = other.insert(source::open_place(with, &args.source.collector)?);
            source::node(other, Some(&node))?;
            let window = other.incident.window;
            let (comparison, damaged) = compare::of_files((&mut casefile, since), (other, window), &node)?;
            (comparison, damaged, Titles { a: "here".to_owned(), b: "there".to_owned() })
        }
    };
    print(&comparison, &titles, args.count, args.output.format)?;
    let all: Vec<&CaseFile> = std::iter::once(&casefile).chain(&other).collect();
    ended(&all, &[&node], &damaged)
}

fn ended(casefiles: &[&CaseFile], nodes: &[&NodeName], damaged: &[(String, String)]) -> Result<Ended> {
    damaged.iter().for_each(|(entry, why)| talk!("damaged: {}: {}", safe(entry), safe(why)));
    // All of them are told of, and not the first alone.
    let cut = casefiles.iter().filter(|casefile| !source::tell_truncated(casefile)).count();
    if cut > 0 || !damaged.is_empty() {
        return Ok(Ended::Damage);
    }
    for (casefile, node) in casefiles.iter().flat_map(|casefile| nodes.iter().map(move |node| (casefile, node))) {
        if casefile.recordings(Some(node)).is_empty() {
            talk!("no recording of {} was gathered: nothing is known of its series", safe(node.as_str()));
            return Ok(Ended::Partial);
        }
    }
    Ok(Ended::Done)
}

/// What the two sides are called above columns.
struct Titles {
    a: String,
    b: String,
}

fn print(comparison: &Comparison, titles: &Titles, count: usize, format: Format) -> Result<()> {
    match format {
        Format::Table => output::text_out(&text(comparison, titles, count))?,
        Format::Json => output::one(format, comparison, String::new)?,
        Format::Jsonl => {
            output::list_or(format, &comparison.rows, String::new)?;
            output::list_or(format, &comparison.changes, String::new)?;
        }
    }
    if comparison.unnamed_pods > 0 {
        talk!(
            "{} pod(s) are known by their uid alone, because none of their logs is in the case file: they are not compared",
            comparison.unnamed_pods
        );
    }
    Ok(())
}

fn text(comparison: &Comparison, titles: &Titles, count: usize) -> String {
    let when = summary::window(comparison.window);
    let mut out = match comparison.b_window {
        None => format!("{} against {}  {when}\n", safe(&comparison.a), safe(&comparison.b)),
        Some(other) => format!(
            "{} {:<6}  {when}\n{} {:<6}  {}\n",
            safe(&comparison.a),
            titles.a,
            safe(&comparison.b),
            titles.b,
            summary::window(other)
        ),
    };
    let (ranked, missing): (Vec<&Row>, Vec<&Row>) = comparison.rows.iter().partition(|row| row.effect.is_some());
    if ranked.is_empty() {
        out.push_str(&format!("\nno series differs; {} are alike\n", comparison.alike));
    } else {
        out.push_str(&format!("\n{}", ranked_text(&ranked, titles, count)));
        let more = ranked.len().saturating_sub(count) + comparison.more;
        let rest = if more > 0 { format!("… and {more} more (-n shows them); ") } else { String::new() };
        out.push_str(&format!("{rest}{} series are alike\n", comparison.alike));
    }
    if comparison.too_few > 0 {
        out.push_str(&format!("{} were read too seldom in so short a time to be compared\n", comparison.too_few));
    }
    for (title, side) in [(&titles.a, Side::A), (&titles.b, Side::B)] {
        let only: Vec<_> = missing.iter().filter(|row| side.of(row).is_some()).collect();
        if only.is_empty() {
            continue;
        }
        out.push_str(&format!("\nThere is only {title}:\n"));
        let mut lines = Aligned::new(0);
        let cells = |row: &&&Row| vec![amount(side.of(row).map(|said| said.mean), &row.unit)];
        only.iter().take(count).for_each(|row| lines.measure(&cells(row)));
        for row in only.iter().take(count) {
            out.push_str(&format!("  {}  {}\n", lines.line(&cells(row)).trim_end(), series(row)));
        }
        if only.len() > count {
            out.push_str(&format!("  … and {} more\n", only.len() - count));
        }
    }
    if !comparison.changes.is_empty() {
        out.push_str("\nChanges:\n");
        for change in &comparison.changes {
            let shown = |value: &Option<String>| value.as_deref().map_or_else(|| NOTHING.to_owned(), short);
            out.push_str(&format!(
                "  {}\n    {}: {}\n    {}: {}\n",
                safe(&change.what),
                titles.a,
                shown(&change.a),
                titles.b,
                shown(&change.b)
            ));
        }
    }
    out
}

#[derive(Clone, Copy)]
enum Side {
    A,
    B,
}

impl Side {
    fn of(self, row: &Row) -> Option<compare::Said> {
        match self {
            Self::A => row.a,
            Self::B => row.b,
        }
    }
}

fn ranked_text(rows: &[&Row], titles: &Titles, count: usize) -> String {
    let head = [
        "EFFECT".to_owned(),
        format!("{} mean", titles.a),
        format!("{} mean", titles.b),
        format!("{} p95", titles.a),
        format!("{} p95", titles.b),
    ];
    let cells = |row: &Row| {
        let of = |side: Side, what: fn(compare::Said) -> f64| amount(side.of(row).map(what), &row.unit);
        vec![
            row.effect.map_or_else(|| NOTHING.to_owned(), |effect| format!("{effect:+.1}")),
            of(Side::A, |said| said.mean),
            of(Side::B, |said| said.mean),
            of(Side::A, |said| said.p95),
            of(Side::B, |said| said.p95),
        ]
    };
    let all: Vec<_> = rows.iter().take(count).map(|row| (cells(row), series(row))).collect();
    let mut lines = Aligned::new(0);
    lines.measure(&head);
    all.iter().for_each(|(cells, _)| lines.measure(cells));
    let mut out = format!("{}  SERIES\n", lines.line(&head).trim_end());
    all.iter().for_each(|(cells, series)| out.push_str(&format!("{}  {series}\n", lines.line(cells).trim_end())));
    out
}

/// `node_disk_io_time_seconds_total device=nvme0n1`.
fn series(row: &Row) -> String {
    let labels = row.labels.iter().map(|(name, value)| format!(" {}={}", safe(name), safe(value)));
    format!("{}{}", safe(&row.metric), labels.collect::<String>())
}

/// A number with its unit, short.
fn amount(value: Option<f64>, unit: &str) -> String {
    let Some(value) = value else { return NOTHING.to_owned() };
    let number = |value: f64| match value.abs() {
        0.0 => "0".to_owned(),
        size if !(0.001..1e7).contains(&size) => format!("{value:.2e}"),
        size if size < 10.0 => format!("{value:.3}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    };
    let (unit, per) = unit.strip_suffix("/second").map_or((unit, ""), |unit| (unit, "/s"));
    match unit {
        "bytes" if value >= 0.0 => format!("{}{per}", short_bytes(value)),
        // Seconds a second: a part of the time, or CPUs.
        "seconds" if per == "/s" => number(value),
        "seconds" => format!("{}s", number(value)),
        _ => format!("{}{per}", number(value)),
    }
}

fn short(text: &str) -> String {
    let shown: String = text.chars().take(MAX_SHOWN).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("{}{more}", safe(&shown))
}
