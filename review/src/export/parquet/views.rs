//! `views.sql`: a view for each table, rates that respect boots, resets and holes, and a view for each metric with its labels
//! as columns. Every name in it comes out of the case file and is quoted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::super::cells::{Cell, Table};

/// Its name.
pub(super) const FILE: &str = "views.sql";

/// The table that the views of metrics are made of.
pub(super) const METRICS: &str = "metrics";

/// A rate over more ticks than this would say something of a time at which nothing was read (`seriesset` has the same).
const MAX_TICKS: u32 = 20;

/// The names that a view of a metric has besides its labels.
const TAKEN: [&str; 6] = ["time", "node", "boot", "source", "value", "per_second"];

/// The metrics of which something was read: their labels, whatever source has them.
#[derive(Debug, Default)]
pub(super) struct Metrics(BTreeMap<String, (bool, BTreeSet<String>)>);

impl Metrics {
    /// Out of a row of the table of metrics.
    pub(super) fn take(&mut self, cells: &[Cell<'_>]) {
        let [Cell::Text(metric), _, Cell::Text(kind), _, _, Cell::Integer(series), Cell::Text(labels), ..] = cells
        else {
            return;
        };
        if *series == 0 {
            return;
        }
        let labels: Vec<String> = serde_json::from_str(labels).unwrap_or_default();
        let (counter, known) = self.0.entry((*metric).to_owned()).or_default();
        *counter |= *kind == "counter";
        known.extend(labels);
    }
}

/// The file.
pub(super) fn sql(title: &str, tables: &[&Table], metrics: &Metrics) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let mut line = |text: String| {
        let _infallible = writeln!(out, "{text}");
    };
    line(format!("-- {title}"));
    line("-- In this directory: duckdb -init views.sql".to_owned());
    line("-- Times are UTC on the collector's clock. Labels are JSON: labels->>'cpu'. Try:".to_owned());
    line(
        "--   FROM gaps;   FROM metrics;   FROM rates WHERE metric LIKE 'node_disk%';   FROM metric.node_load1;"
            .to_owned(),
    );
    line("SET TimeZone = 'UTC';".to_owned());
    line(String::new());
    for table in tables {
        line(format!("-- A row is {}.", table.about));
        line(format!("CREATE OR REPLACE VIEW {0} AS FROM read_parquet('{0}.parquet');", table.name));
    }
    if !tables.iter().any(|table| table.name == METRICS) {
        return out;
    }
    line(String::new());
    line("-- Counters as rates: between two values of one boot, never over a reset, never over a hole.".to_owned());
    line(format!(
        "CREATE OR REPLACE VIEW readings AS
SELECT * EXCLUDE (before, seconds, every_seconds), CASE
  WHEN kind = 'counter' AND seconds > 0 AND value >= before AND seconds <= {MAX_TICKS} * every_seconds
  THEN (value - before) / seconds END AS per_second
FROM (
  SELECT s.*, m.every_seconds, lag(value) OVER one AS before,
         (epoch_ns(time) - epoch_ns(lag(time) OVER one)) / 1e9 AS seconds
  FROM samples AS s
  JOIN (SELECT metric, source, max(every_seconds) AS every_seconds FROM metrics GROUP BY ALL) AS m USING (metric, source)
  WINDOW one AS (PARTITION BY node, boot, source, metric, labels ORDER BY time)
);
CREATE OR REPLACE VIEW rates AS SELECT * EXCLUDE (kind, value) FROM readings WHERE per_second IS NOT NULL;"
    ));
    line(String::new());
    line("-- A view for each metric, with its labels as columns; of a counter also its rate.".to_owned());
    line("CREATE SCHEMA IF NOT EXISTS metric;".to_owned());
    // DuckDB takes names that differ in case only for one.
    let mut named = BTreeSet::new();
    for (metric, (counter, labels)) in &metrics.0 {
        if !named.insert(metric.to_lowercase()) {
            continue;
        }
        line(view(metric, *counter, labels));
    }
    out
}

fn view(metric: &str, counter: bool, labels: &BTreeSet<String>) -> String {
    let mut columns = String::new();
    let mut named = BTreeSet::new();
    for label in labels {
        let mut name = label.clone();
        if TAKEN.contains(&name.to_lowercase().as_str()) {
            name.insert_str(0, "label_");
        }
        if named.insert(name.to_lowercase()) {
            // JSON Pointer (RFC 6901), in which only these two are special.
            let pointer = format!("/{}", label.replace('~', "~0").replace('/', "~1"));
            let _infallible =
                write!(columns, "json_extract_string(labels, {}) AS {}, ", literal(&pointer), identifier(&name));
        }
    }
    let (name, only) = (identifier(metric), literal(metric));
    let (from, rate) = if counter { ("readings", ", per_second") } else { ("samples", "") };
    format!(
        "CREATE OR REPLACE VIEW metric.{name} AS SELECT time, node, boot, source, {columns}value{rate} FROM {from} WHERE metric = {only};"
    )
}

/// A name, quoted.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text, quoted.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_out_of_the_case_file_stays_a_name() {
        let mut metrics = Metrics::default();
        let labels = "[\"a\\\" b'; DROP\",\"time\",\"~/\"]";
        let text = Cell::Text;
        metrics.take(&[
            text("m'\"; --"),
            text("s"),
            text("gauge"),
            text("count"),
            Cell::Real(1.0),
            Cell::Integer(1),
            text(labels),
        ]);
        let made = view("m'\"; --", false, &metrics.0["m'\"; --"].1);
        assert_eq!(
            made,
            "CREATE OR REPLACE VIEW metric.\"m'\"\"; --\" AS SELECT time, node, boot, source, \
             json_extract_string(labels, '/a\" b''; DROP') AS \"a\"\" b'; DROP\", \
             json_extract_string(labels, '/time') AS \"label_time\", \
             json_extract_string(labels, '/~0~1') AS \"~/\", value FROM samples WHERE metric = 'm''\"; --';"
        );
    }
}
