//! `casefile series` and `casefile replay`: what a recording says, out of a case file or a directory of segments.

use std::fmt::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use casefile_evidence::recording::reader::Recording;
use casefile_proto::ids::NodeName;
use casefile_proto::time::{WallTime, Window};
use casefile_review::display::safe;
use casefile_review::replay::{self, Overview};
use casefile_review::series::{self, MetricInfo, Point, Selector};
use casefile_review::{summary, when};

use crate::args::source::SourceArgs;
use crate::args::{Format, ReplayWindow};
use crate::output::{Printing, Stream};
use crate::{Ended, output, source};

/// One metric out of a case file, or the list of metrics.
pub(crate) fn series(
    from: &SourceArgs,
    metric: Option<String>,
    node: Option<&NodeName>,
    labels: Vec<(String, String)>,
    format: Format,
) -> Result<Ended> {
    let mut casefile = source::open(from)?;
    let recordings = casefile.recordings(node);
    if recordings.is_empty() {
        let whose = node.map_or_else(String::new, |n| format!(" of node {n}"));
        bail!("the case file holds no recording{whose} (casefile show {} says why)", from.file);
    }
    let Some(metric) = metric else {
        let mut all = std::collections::BTreeSet::new();
        for (_, entry) in &recordings {
            all.extend(series::metrics(&mut casefile.recording(entry)?)?);
        }
        return list_metrics(&all.into_iter().collect::<Vec<_>>(), format);
    };
    let selector = Selector { metric, labels };
    let mut out = Stream::new(format);
    let mut found = 0;
    for (_, entry) in &recordings {
        found += write_points(&mut casefile.recording(entry)?, None, &selector, &mut out)?;
    }
    out.finish()?;
    nothing_found(found, &selector, "casefile series FILE");
    Ok(Ended::Done)
}

/// A directory of segments: the overview, one metric, or the events.
pub(crate) fn replay(
    dir: &Path,
    metric: Option<String>,
    labels: Vec<(String, String)>,
    events: bool,
    window: &ReplayWindow,
    format: Format,
) -> Result<Ended> {
    let window = replay_window(window)?;
    let mut recording = Recording::open_dir(dir)?;
    if let Some(metric) = metric {
        let selector = Selector { metric, labels };
        let mut out = Stream::new(format);
        let found = write_points(&mut recording, window, &selector, &mut out)?;
        out.finish()?;
        nothing_found(found, &selector, "casefile replay DIR");
        return Ok(Ended::Done);
    }
    if events {
        return write_events(&mut recording, window, format);
    }
    let overview = replay::overview(&mut recording, window)?;
    output::one(format, &overview, || overview_text(&overview))?;
    Ok(Ended::Done)
}

fn write_points(
    recording: &mut Recording,
    window: Option<Window>,
    selector: &Selector,
    out: &mut Stream,
) -> Result<u64> {
    let mut printing = Printing::default();
    let found =
        series::points(recording, window, selector, &mut |point| printing.did(out.push(point, || point_text(point))))?;
    printing.done()?;
    Ok(found)
}

fn write_events(recording: &mut Recording, window: Option<Window>, format: Format) -> Result<Ended> {
    let mut out = Stream::new(format);
    let mut printing = Printing::default();
    replay::events(recording, window, &mut |event| {
        let text = || {
            let kind = serde_json::to_value(&event.kind).ok();
            let kind = kind.as_ref().and_then(|k| k["kind"].as_str()).unwrap_or("event").to_owned();
            format!("{} {kind:<13} {}", event.at.wall, safe(&event.text))
        };
        printing.did(out.push(event, text))
    })?;
    printing.done()?;
    out.finish()?;
    Ok(Ended::Done)
}

fn point_text(point: &Point<'_>) -> String {
    let labels: Vec<_> = point.labels.iter().map(|(k, v)| format!("{}={}", safe(k), safe(v))).collect();
    format!("{} {} {} {}", point.time, safe(point.node.as_str()), point.value, labels.join(" ")).trim_end().to_owned()
}

fn list_metrics(metrics: &[MetricInfo], format: Format) -> Result<Ended> {
    output::list(format, &["METRIC", "SOURCE", "KIND", "UNIT", "WHAT IT IS", "LABELS"], metrics, |m| {
        [&m.metric, &m.source, m.kind, m.unit, &m.help, &m.labels.join(",")].into_iter().map(safe).collect()
    })?;
    Ok(Ended::Done)
}

fn nothing_found(found: u64, selector: &Selector, list: &str) {
    if found == 0 {
        crate::output::talk!(
            "no reading of {} in it ({list} without a metric says what there is)",
            safe(&selector.metric)
        );
    }
}

fn overview_text(overview: &Overview) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let mut line = |text: String| {
        let _infallible = writeln!(out, "{text}");
    };
    line(format!(
        "node      {}",
        overview.node.as_ref().map_or_else(|| "(nothing recorded)".to_owned(), |n| safe(n.as_str()))
    ));
    for boot in &overview.boots {
        line(format!(
            "boot      {}: {} to {}, {} frames, agent {}",
            boot.boot,
            boot.first.to_seconds_text(),
            boot.last.to_seconds_text(),
            boot.frames,
            safe(&boot.agent_versions.join(", "))
        ));
    }
    line(format!("events    {} (--events shows them)", overview.events));
    line(format!("holes     {}", overview.holes.len() as u64 + overview.more_holes));
    for gap in &overview.holes {
        let when = gap.interval.map_or_else(|| "(time unknown)".to_owned(), summary::window);
        line(format!("  {:<18} {when}  {}", gap.reason, safe(&gap.detail)));
    }
    line("sources".to_owned());
    for (name, source) in &overview.sources {
        let trouble = source.last_trouble.as_deref().map(|t| format!("  last: {}", safe(t))).unwrap_or_default();
        line(format!(
            "  {:<12} {:<24} {:>10} readings{trouble}",
            safe(name),
            summary::counts(&source.outcomes),
            source.readings
        ));
    }
    out
}

fn replay_window(window: &ReplayWindow) -> Result<Option<Window>> {
    let Some(since) = &window.since else { return Ok(None) };
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).context("this machine's clock is before 1970")?;
    let now = WallTime::from_secs(0).after(elapsed);
    let until = window.until.as_deref().map_or(Ok(WallTime::MAX), |text| when::time(text, now))?;
    Ok(Some(Window::new(when::time(since, now)?, until).map_err(when::InvalidWhen::from)?))
}
