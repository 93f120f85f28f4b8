//! `casefile top`, `vmstat`, `iostat`, `sar`, `dmesg`, `ss` and `df`: a machine as it was, in the shapes that people know.

use std::io::BufReader;
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::{Context, Result};
use casefile_evidence::archive::layout;
use casefile_proto::ids::NodeName;
use casefile_proto::item::EntryPath;
use casefile_proto::sample::{MetricDef, SourceDef};
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;
use casefile_review::casefile::CaseFile;
use casefile_review::display::safe;
use casefile_review::gpu::pods::Pods;
use casefile_review::past::table::{Layout, Table};
use casefile_review::past::{self, Kind, df as filesystems, dmesg as kernel, iostat as disks, pods, sar as reports};
use casefile_review::past::{ss as sockets, top as processes, vmstat as virtual_memory};
use casefile_review::seriesset::SeriesSet;
use casefile_review::{summary, when};

use crate::args::Format;
use crate::args::past::{DfArgs, DmesgArgs, Order, SarArgs, SarReport, SsArgs, TableArgs, TopArgs};
use crate::args::source::{NodeArg, PartArgs};
use crate::output::{self, Printing, Stream, talk};
use crate::{Ended, source};

/// The kernel's name of the machine is told every ten seconds.
const UNAME: &str = "node_uname_info";

/// Rows of a table of processes that fit a screen.
const SCREEN: usize = 20;

/// `node.json` is a document, and no recording.
const MAX_NODE: Bytes = Bytes::mib(16);

/// Processes, or pods, at an instant.
pub(crate) fn top(args: &TopArgs) -> Result<Ended> {
    let mut casefile = source::open(&args.source)?;
    let node = source::node(&casefile, args.node.node.as_ref())?;
    let at = source::instant(&casefile, args.at.as_deref())?;
    let by = match args.by {
        Order::Cpu => processes::By::Cpu,
        Order::Memory => processes::By::Memory,
        Order::Io => processes::By::Io,
    };
    let before = Window::new(at.before(past::BEFORE), at).map_err(when::InvalidWhen::from)?;
    let wants = if args.pods { pods::wants } else { processes::wants };
    let set = SeriesSet::load_within(&mut casefile, &node, Some(before), &wants)?;
    let names = Pods::known(&mut casefile, &node);
    let shown = args.count.unwrap_or(if args.output.format == Format::Table { SCREEN } else { usize::MAX });
    head(args.output.format, &node, &at.to_string())?;
    let whole = if args.pods {
        let all = pods::at(&set, at, by, &names);
        let first = all.get(..shown).unwrap_or(&all);
        output::list_or(args.output.format, first, || pods::text(&all, shown))?;
        !all.is_empty()
    } else {
        let mut top = processes::at(&set, at, by, &names);
        let read = !top.processes.is_empty();
        if args.output.format != Format::Table {
            top.processes.truncate(shown);
        }
        output::one(args.output.format, &top, || top.text(shown))?;
        read
    };
    ended(&casefile, &set, &node, whole, Some(at))
}

/// Run queue, memory, swap, I/O and CPU.
pub(crate) fn vmstat(args: &TableArgs) -> Result<Ended> {
    let made = Made::new(args, &|source, metric| virtual_memory::KIND.wants(source, metric) || metric.name == UNAME)?;
    let machine = made.machine();
    let table = virtual_memory::table(&made.set, &made.steps, machine.as_deref());
    made.print(&table, Layout::Lines, args.output.format)
}

/// Disks.
pub(crate) fn iostat(args: &TableArgs) -> Result<Ended> {
    of_kind(args, &disks::KIND, Layout::Blocks)
}

/// One report of `sar`.
pub(crate) fn sar(args: &SarArgs) -> Result<Ended> {
    let report = match args.report {
        SarReport::Cpu => reports::Report::Cpu,
        SarReport::Memory => reports::Report::Memory,
        SarReport::Paging => reports::Report::Paging,
        SarReport::Disk => reports::Report::Disk,
        SarReport::Network => reports::Report::Network,
        SarReport::Load => reports::Report::Load,
        SarReport::Pressure => reports::Report::Pressure,
    };
    let format = args.table.output.format;
    let kind = report.kind();
    let made = Made::new(&args.table, &|source, metric| kind.wants(source, metric))?;
    let mut table = past::table(&made.set, kind, &made.steps);
    if report == reports::Report::Network && format == Format::Table {
        match reports::without_idle(&mut table) {
            0 => {}
            idle => talk!("{idle} interface(s) over which nothing went are left out (-o json has them)"),
        }
    }
    made.print(&table, Layout::Lines, format)
}

fn of_kind(args: &TableArgs, kind: &'static Kind, layout: Layout) -> Result<Ended> {
    let made = Made::new(args, &|source, metric| kind.wants(source, metric))?;
    let table = past::table(&made.set, kind, &made.steps);
    made.print(&table, layout, args.output.format)
}

/// What a table over time is made of.
struct Made {
    casefile: CaseFile,
    node: NodeName,
    set: SeriesSet,
    steps: Vec<Window>,
    part: Window,
}

impl Made {
    fn new(args: &TableArgs, wants: &dyn Fn(&SourceDef, &MetricDef) -> bool) -> Result<Self> {
        let casefile = source::open(&args.source)?;
        Self::of(casefile, &args.node, &args.part, args.every.as_deref(), wants)
    }

    fn of(
        mut casefile: CaseFile,
        node: &NodeArg,
        part: &PartArgs,
        every: Option<&str>,
        wants: &dyn Fn(&SourceDef, &MetricDef) -> bool,
    ) -> Result<Self> {
        let node = source::node(&casefile, node.node.as_ref())?;
        let every = every.map(when::length).transpose()?;
        let at_once = part.at.is_some();
        let part = source::part(&casefile, part, every.unwrap_or(past::MOMENT))?;
        let steps = match every {
            // One step that ends at the instant.
            _ if at_once => vec![part],
            Some(every) => past::steps(part, every)?,
            None => past::steps(part, past::every(part))?,
        };
        let read = Window::new(part.from().before(past::BEFORE), part.until()).map_err(when::InvalidWhen::from)?;
        let set = SeriesSet::load_within(&mut casefile, &node, Some(read), wants)?;
        Ok(Self { casefile, node, set, steps, part })
    }

    fn print(&self, table: &Table, layout: Layout, format: Format) -> Result<Ended> {
        head(format, &self.node, &summary::window(self.part))?;
        match format {
            Format::Table => output::text_out(&table.text(layout))?,
            Format::Json | Format::Jsonl => {
                let mut out = Stream::new(format);
                table.rows.iter().try_for_each(|row| out.push(row, String::new))?;
                out.finish()?;
            }
        }
        if !table.left_out.is_empty() && !table.columns.is_empty() {
            talk!("not recorded here, and left out: {}", table.left_out.join(" "));
        }
        ended(&self.casefile, &self.set, &self.node, table.is_whole(), None)
    }

    /// What `uname -m` says, which decides how large a page is.
    fn machine(&self) -> Option<String> {
        self.set.of(UNAME).find_map(|series| series.label("machine")).map(str::to_owned)
    }
}

/// The kernel's log.
pub(crate) fn dmesg(args: &DmesgArgs) -> Result<Ended> {
    let mut casefile = source::open(&args.source)?;
    let node = source::node(&casefile, args.node.node.as_ref())?;
    let whole = casefile.incident.window;
    let part = match &args.part.at {
        // All that had been logged until then.
        Some(at) => Window::new(whole.from(), when::time(at, whole.until())?).map_err(when::InvalidWhen::from)?,
        None => source::part(&casefile, &args.part, past::MOMENT)?,
    };
    let takes = |line: &kernel::Line| {
        args.levels.is_empty() || line.level.is_some_and(|level| args.levels.iter().any(|wanted| wanted == level))
    };
    let mut out = Stream::new(args.output.format);
    let mut shown = 0_u64;
    let damaged = if kernel::has_log(&casefile, &node) {
        let mut printing = Printing::default();
        // The window has no bound when all of it is meant: then lines without a time belong to it too.
        let range = (part != whole).then_some(part);
        let told = kernel::of_log(&mut casefile, &node, range, &mut |line| {
            if !takes(&line) {
                return ControlFlow::Continue(());
            }
            shown += 1;
            printing.did(out.push(&line, || line.shown()))
        })?;
        printing.done()?;
        told.damaged.iter().for_each(|(entry, why)| talk!("damaged: {entry}: {}", safe(why)));
        if told.gaps > 0 {
            talk!("{} gap(s) in this log: what is not here may still have happened", told.gaps);
        }
        !told.damaged.is_empty()
    } else {
        talk!("the case file has no kernel log of {}: these are the records that it streamed", safe(node.as_str()));
        let set = SeriesSet::load_within(&mut casefile, &node, Some(part), &|_, _| false)?;
        let lines = kernel::of_events(&set, part);
        for line in lines.iter().filter(|line| takes(line)) {
            shown += 1;
            out.push(line, || line.shown())?;
        }
        let holes = set.holes.len();
        if holes > 0 {
            talk!("{holes} hole(s) in the recording: what is not here may still have happened");
        }
        !source::tell_damage(&set)
    };
    out.finish()?;
    if shown == 0 {
        talk!("no line of the kernel in this part of the window");
    }
    let whole = source::tell_truncated(&casefile);
    Ok(if damaged || !whole { Ended::Damage } else { Ended::Done })
}

/// Sockets, or how many there were.
pub(crate) fn ss(args: &SsArgs) -> Result<Ended> {
    let table = &args.table;
    let mut casefile = source::open(&table.source)?;
    if args.summary {
        let part = PartArgs { at: table.at.clone(), since: table.since.clone(), until: table.until.clone() };
        let wants = |source: &SourceDef, metric: &MetricDef| sockets::SUMMARY.wants(source, metric);
        let made = Made::of(casefile, &table.node, &part, table.every.as_deref(), &wants)?;
        let summary = past::table(&made.set, &sockets::SUMMARY, &made.steps);
        return made.print(&summary, Layout::Lines, table.output.format);
    }
    let node = source::node(&casefile, table.node.node.as_ref())?;
    let entry = item(&node, "state/sockets.jsonl")?;
    if casefile.entries.find(&entry).is_none() {
        talk!(
            "the case file has no table of sockets of {} (-s shows how many there were, casefile show {} what is missing)",
            safe(node.as_str()),
            table.source.file
        );
        return Ok(Ended::Partial);
    }
    let collected = collected_at(&mut casefile, &node);
    let when = collected.map_or_else(|| "when the case file was gathered".to_owned(), |at| at.to_seconds_text());
    talk!("{}: sockets at collection time, {when}, which is not the time of the incident", safe(node.as_str()));
    let read = casefile.entries.entry(&entry)?;
    let (mut all, bad) = sockets::sockets(BufReader::new(read)).with_context(|| format!("read {entry}"))?;
    let wanted = sockets::Selection {
        listening: args.listening,
        all: args.all,
        tcp: args.tcp,
        udp: args.udp,
        raw: args.raw,
        unix: args.unix,
    };
    all.retain(|socket| wanted.takes(socket));
    output::list_or(table.output.format, &all, || sockets::text(&all))?;
    if bad > 0 {
        talk!("{bad} row(s) of {entry} are none that can be read, or are too many");
        return Ok(Ended::Damage);
    }
    Ok(Ended::Done)
}

/// File systems at an instant.
pub(crate) fn df(args: &DfArgs) -> Result<Ended> {
    let mut casefile = source::open(&args.source)?;
    let node = source::node(&casefile, args.node.node.as_ref())?;
    let at = source::instant(&casefile, args.at.as_deref())?;
    let before = Window::new(at.before(past::BEFORE), at).map_err(when::InvalidWhen::from)?;
    let set = SeriesSet::load_within(&mut casefile, &node, Some(before), &filesystems::wants)?;
    let all = filesystems::at(&set, at);
    head(args.output.format, &node, &at.to_string())?;
    let of = match (args.human, args.inodes) {
        (false, false) => filesystems::Of::Kibibytes,
        (true, false) => filesystems::Of::Human,
        (false, true) => filesystems::Of::Inodes,
        (true, true) => filesystems::Of::HumanInodes,
    };
    output::list_or(args.output.format, &all, || filesystems::text(&all, of))?;
    ended(&casefile, &set, &node, !all.is_empty(), Some(at))
}

/// Which node, which day: above what people read, whose rows have the time of day alone.
fn head(format: Format, node: &NodeName, when: &str) -> Result<()> {
    match format {
        Format::Table => output::text_out(&format!("{}  {when}\n\n", safe(node.as_str()))),
        Format::Json | Format::Jsonl => Ok(()),
    }
}

/// How it ended: what could not be read is said.
fn ended(casefile: &CaseFile, set: &SeriesSet, node: &NodeName, whole: bool, at: Option<WallTime>) -> Result<Ended> {
    let undamaged = source::tell_damage(set);
    if !source::tell_truncated(casefile) || !undamaged {
        return Ok(Ended::Damage);
    }
    if whole {
        return Ok(Ended::Done);
    }
    let when =
        at.map_or_else(|| "in a part of the steps".to_owned(), |at| format!("right before {}", at.to_seconds_text()));
    talk!(
        "of {} nothing of this was read {when}: recorded is {}",
        safe(node.as_str()),
        recorded(set).map_or_else(|| "nothing near it".to_owned(), summary::window)
    );
    Ok(Ended::Partial)
}

fn recorded(set: &SeriesSet) -> Option<Window> {
    let (first, last) = (set.ticks.first()?, set.ticks.last()?);
    Window::new(first.at, last.at.after(Duration::from_nanos(1))).ok()
}

/// When the node was asked, on the collector's clock; `None` where its case file does not say.
fn collected_at(casefile: &mut CaseFile, node: &NodeName) -> Option<WallTime> {
    let entry = item(node, layout::NODE_ITEM).ok()?;
    let text = casefile.entries.read(&entry, MAX_NODE).ok()?;
    let document: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let at: WallTime = document["collected_at"]["wall"].as_str()?.parse().ok()?;
    let ahead = casefile.clock(node).and_then(casefile_proto::time::ClockOffset::apart).unwrap_or(0);
    Some(at.offset(ahead.saturating_neg()))
}

fn item(node: &NodeName, path: &str) -> Result<EntryPath> {
    Ok(layout::node_item(node, &path.parse()?)?)
}
