//! What a Prometheus server and a kubelet ask: plain HTTP, and a strict reader of the text of `/metrics`.
//!
//! The reader refuses what Prometheus or `promtool check metrics` would complain about: samples without a description,
//! families or series twice, counters that are not called so, units that are not base units, buckets that shrink.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};

use crate::SOON;

/// The most of an answer.
const MAX_ANSWER: u64 = 4 << 20;

/// An answer over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// All headers, as they came.
    pub head: String,
    /// The body.
    pub body: String,
}

/// Asks for a path with these further header lines, each ended.
pub fn get(from: SocketAddr, path: &str, headers: &str) -> Result<Answer> {
    raw(from, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n"))
}

/// Sends these bytes and reads the answer to its end.
pub fn raw(to: SocketAddr, request: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&to, SOON).context("connect")?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(request.as_bytes()).context("ask")?;
    let mut text = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut text).context("read the answer")?;
    let (head, body) = text.split_once("\r\n\r\n").context("an answer has a head and a body")?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).context("an answer has a status")?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// Scrapes `/metrics`; panics on any text that is not in order.
pub fn metrics(from: SocketAddr) -> Metrics {
    let answer = get(from, "/metrics", "").expect("scrape");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.head.contains("text/plain; version=0.0.4"), "{}", answer.head);
    Metrics::parse(&answer.body).unwrap_or_else(|e| panic!("{e:#}\n{}", answer.body))
}

/// The samples of one scrape.
#[derive(Debug, Default)]
pub struct Metrics {
    /// By series as it is written: `name{label="value"}`.
    samples: BTreeMap<String, f64>,
    kinds: BTreeMap<String, String>,
}

impl Metrics {
    /// The value of a series as it is written.
    pub fn get(&self, series: &str) -> Option<f64> {
        self.samples.get(series).copied()
    }

    /// The value of a series that must be there.
    pub fn of(&self, series: &str) -> f64 {
        self.get(series).unwrap_or_else(|| panic!("{series} is not there:\n{:#?}", self.samples.keys()))
    }

    /// The series of a family, with their labels as they are written.
    pub fn family<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.samples.iter().filter_map(move |(series, value)| {
            let labels = series.strip_prefix(name)?.strip_prefix('{')?.strip_suffix('}')?;
            Some((labels, *value))
        })
    }

    /// The sum of a family over all its labels.
    pub fn sum(&self, name: &str) -> f64 {
        self.family(name).map(|(_, value)| value).sum()
    }

    /// Reads a text; an error says which line is not in order, and why.
    pub fn parse(text: &str) -> Result<Self> {
        ensure!(text.ends_with('\n'), "the last line does not end");
        let (mut all, mut family, mut described) = (Self::default(), Family::default(), BTreeSet::new());
        for line in text.lines() {
            let read = || -> Result<Line<'_>> {
                if let Some(help) = line.strip_prefix("# HELP ") {
                    let (name, help) = help.split_once(' ').context("HELP without a text")?;
                    ensure!(!help.trim().is_empty(), "HELP without a text");
                    return Ok(Line::Help(name));
                }
                if let Some(kind) = line.strip_prefix("# TYPE ") {
                    let (name, kind) = kind.split_once(' ').context("TYPE without a kind")?;
                    return Ok(Line::Type(name, kind));
                }
                ensure!(!line.starts_with('#') && !line.is_empty(), "neither a description nor a sample");
                sample(line)
            };
            let taken = read().and_then(|read| match read {
                Line::Help(name) => {
                    family.end(&all)?;
                    ensure!(described.insert(name.to_owned()), "a second family of this name");
                    family = Family { name: name.to_owned(), ..Family::default() };
                    Ok(())
                }
                Line::Type(name, kind) => {
                    ensure!(name == family.name && family.kind.is_empty(), "TYPE does not follow its HELP");
                    check_name(name, kind)?;
                    family.kind = kind.to_owned();
                    all.kinds.insert(name.to_owned(), kind.to_owned());
                    Ok(())
                }
                Line::Sample { name, labels, value, series } => {
                    family.take(name, &labels, value)?;
                    ensure!(all.samples.insert(series.to_owned(), value).is_none(), "a series twice");
                    Ok(())
                }
            });
            taken.with_context(|| format!("line {line:?}"))?;
        }
        family.end(&all)?;
        ensure!(!all.samples.is_empty(), "there is nothing in it");
        Ok(all)
    }
}

enum Line<'a> {
    Help(&'a str),
    Type(&'a str, &'a str),
    Sample { name: &'a str, labels: Vec<(String, String)>, value: f64, series: &'a str },
}

/// The family that is being read.
#[derive(Default)]
struct Family {
    name: String,
    kind: String,
    samples: usize,
    /// Of a histogram: the last bucket of each set of other labels, its bound and its count.
    buckets: BTreeMap<String, (f64, f64)>,
    counts: BTreeMap<String, f64>,
}

impl Family {
    fn take(&mut self, name: &str, labels: &[(String, String)], value: f64) -> Result<()> {
        let suffix = name.strip_prefix(self.name.as_str()).context("a sample of another family")?;
        ensure!(!self.kind.is_empty(), "a sample before its TYPE");
        self.samples += 1;
        let bound = labels.iter().find(|(label, _)| label == "le").map(|(_, bound)| bound.as_str());
        let rest = labels.iter().filter(|(label, _)| label != "le").map(|(l, v)| format!("{l}={v},")).collect();
        match (self.kind.as_str(), suffix, bound) {
            ("counter", "", None) => ensure!(value >= 0.0, "a counter below zero"),
            ("gauge", "", None) | ("histogram", "_sum", None) => {}
            ("histogram", "_count", None) => drop(self.counts.insert(rest, value)),
            ("histogram", "_bucket", Some(bound)) => {
                let bound = number(bound)?;
                if let Some((before, count)) = self.buckets.insert(rest, (bound, value)) {
                    ensure!(bound > before && value >= count, "buckets do not grow");
                }
            }
            _ => bail!("no such sample of a {}", self.kind),
        }
        Ok(())
    }

    fn end(&self, _all: &Metrics) -> Result<()> {
        if self.name.is_empty() {
            return Ok(());
        }
        ensure!(self.samples > 0, "{} has no sample", self.name);
        for (labels, (bound, count)) in &self.buckets {
            ensure!(bound.is_infinite(), "{}: the last bucket is not +Inf", self.name);
            ensure!(self.counts.get(labels) == Some(count), "{}: the count is not its last bucket", self.name);
        }
        ensure!(
            self.kind != "histogram" || self.buckets.len() == self.counts.len(),
            "{}: parts are missing",
            self.name
        );
        Ok(())
    }
}

/// Units that have a base unit to be used instead.
const NOT_BASE: &[&str] = &[
    "milliseconds",
    "ms",
    "microseconds",
    "nanoseconds",
    "nanos",
    "minutes",
    "hours",
    "days",
    "kib",
    "mib",
    "gib",
    "kilobytes",
    "megabytes",
    "bits",
    "percent",
];

fn check_name(name: &str, kind: &str) -> Result<()> {
    ensure!(name.starts_with("casefile_") || name.starts_with("process_"), "a name without our prefix");
    ensure!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "an odd name");
    let mut words = name.split('_');
    ensure!(!words.clone().any(|word| NOT_BASE.contains(&word) || word.is_empty()), "no base unit");
    match kind {
        "counter" => ensure!(name.ends_with("_total"), "a counter is called _total"),
        "gauge" => ensure!(!name.ends_with("_total"), "a gauge is not called _total"),
        "histogram" => ensure!(name.ends_with("_seconds") || name.ends_with("_bytes"), "a histogram without a unit"),
        _ => bail!("no such kind"),
    }
    let unit = words.position(|word| word == "seconds" || word == "bytes");
    let after: Vec<_> = name.split('_').skip(unit.map_or(usize::MAX, |at| at + 1)).collect();
    ensure!(after.is_empty() || after == ["total"], "the unit is not last");
    ensure!(!["bucket", "sum", "count"].iter().any(|s| name.ends_with(&format!("_{s}"))), "a name like a sample's");
    Ok(())
}

fn sample(line: &str) -> Result<Line<'_>> {
    let (series, value) = line.rsplit_once(' ').context("no value")?;
    let (name, labels) = match series.split_once('{') {
        None => (series, Vec::new()),
        Some((name, rest)) => (name, labels(rest.strip_suffix('}').context("labels do not end")?)?),
    };
    Ok(Line::Sample { name, labels, value: number(value)?, series })
}

fn labels(mut text: &str) -> Result<Vec<(String, String)>> {
    let mut labels: Vec<(String, String)> = Vec::new();
    loop {
        let (name, rest) = text.split_once("=\"").context("a label without a value")?;
        ensure!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "an odd label");
        ensure!(labels.iter().all(|(other, _)| other != name), "a label twice");
        let (mut value, mut chars) = (String::new(), rest.char_indices());
        let end = loop {
            match chars.next().context("a value does not end")? {
                (at, '"') => break at,
                (_, '\\') => match chars.next().context("a value does not end")?.1 {
                    'n' => value.push('\n'),
                    c @ ('\\' | '"') => value.push(c),
                    _ => bail!("no such escape"),
                },
                (_, c) => value.push(c),
            }
        };
        labels.push((name.to_owned(), value));
        text = match &rest[end + 1..] {
            "" => return Ok(labels),
            more => more.strip_prefix(',').context("labels are not parted")?,
        };
    }
}

fn number(text: &str) -> Result<f64> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        _ if text.bytes().all(|b| b.is_ascii_digit() || b".-+e".contains(&b)) => text.parse().context("no number"),
        _ => bail!("no number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP casefile_x_seconds x\n# TYPE casefile_x_seconds histogram\n\
                        casefile_x_seconds_bucket{a=\"b\",le=\"1\"} 1\ncasefile_x_seconds_bucket{a=\"b\",le=\"+Inf\"} 2\n\
                        casefile_x_seconds_sum{a=\"b\"} 3.5\ncasefile_x_seconds_count{a=\"b\"} 2\n\
                        # HELP casefile_y_total y\n# TYPE casefile_y_total counter\ncasefile_y_total 7\n";

    #[test]
    fn what_is_in_order_is_read_and_every_kind_of_disorder_is_refused() {
        let good = Metrics::parse(GOOD).unwrap();
        assert_eq!((good.of("casefile_y_total"), good.of("casefile_x_seconds_count{a=\"b\"}")), (7.0, 2.0));
        for (from, to) in [
            ("# HELP casefile_y_total y\n", ""),
            ("# HELP casefile_y_total y\n", "# HELP casefile_y_total \n"),
            ("# TYPE casefile_y_total counter\n", ""),
            ("casefile_y_total counter", "casefile_y_total gauge"),
            ("casefile_y_total", "casefile_y"),
            ("casefile_y_total", "casefile_y_ms_total"),
            ("casefile_y_total", "casefile_bytes_y_total"),
            ("casefile_y_total", "y_total"),
            ("casefile_y_total", "casefile_x_seconds"),
            ("casefile_y_total 7\n", ""),
            ("casefile_y_total 7\n", "casefile_y_total 7\ncasefile_y_total 8\n"),
            ("casefile_y_total 7\n", "casefile_y_total 7"),
            ("casefile_y_total 7\n", "casefile_y_total seven\n"),
            ("casefile_y_total 7\n", "casefile_y_total{a=\"b} 7\n"),
            ("casefile_y_total 7\n", "casefile_y_total{a=\"b\",a=\"c\"} 7\n"),
            ("casefile_y_total 7\n", "casefile_y_total -7\n"),
            ("le=\"1\"} 1", "le=\"1\"} 3"),
            ("_count{a=\"b\"} 2", "_count{a=\"b\"} 1"),
            ("casefile_x_seconds_count{a=\"b\"} 2\n", ""),
        ] {
            let bad = GOOD.replace(from, to);
            assert!(bad != GOOD && Metrics::parse(&bad).is_err(), "{from:?} as {to:?} was taken");
        }
    }
}
