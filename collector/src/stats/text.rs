//! The text that a Prometheus server reads, version 0.0.4 of its exposition format. Pure.
//!
//! By hand and not by a crate: the whole format is three kinds of lines, and all our labels but one are closed lists, so
//! that counting is an addition without a lock or a map of labels (`prometheus.io/docs/instrumenting/exposition_formats`).

use std::fmt::{Display, Write};

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A text that grows by one family after the other.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// Begins a family. One of which no sample is written leaves only its description, which is allowed.
    pub fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &str) -> Family<'a> {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing into a text does not fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {}\n", kind.word());
        Family { text: &mut self.0, name }
    }

    /// A family of one gauge without labels; nothing at all when the value is not known: missing is not zero.
    pub fn gauge(&mut self, name: &str, help: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.family(name, Kind::Gauge, help).sample("", &[], value);
        }
    }

    /// The same for a counter.
    pub fn counter(&mut self, name: &str, help: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.family(name, Kind::Counter, help).sample("", &[], value);
        }
    }

    /// The whole text.
    pub fn into_text(self) -> String {
        self.0
    }
}

/// The samples of one family.
pub struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
}

impl Family<'_> {
    /// Writes one sample. The suffix is empty but for histograms.
    pub fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        // Writing into a text does not fail.
        let _ = write!(self.text, "{}{suffix}", self.name);
        for (n, (name, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{name}=\"{value}\"", if n == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_its_description_and_its_samples() {
        let mut text = Exposition::default();
        let mut family = text.family("casefile_x_total", Kind::Counter, "counts \\ and\nmore");
        family.sample("", &[("reason", "a \"b\" \\ c\nd"), ("n", "1")], 7);
        text.gauge("casefile_y", "is known", Some(0.5));
        text.gauge("casefile_z", "is not known", None::<u64>);
        let expected = "# HELP casefile_x_total counts \\\\ and\\nmore\n# TYPE casefile_x_total counter\n\
                        casefile_x_total{reason=\"a \\\"b\\\" \\\\ c\\nd\",n=\"1\"} 7\n\
                        # HELP casefile_y is known\n# TYPE casefile_y gauge\ncasefile_y 0.5\n";
        assert_eq!(text.into_text(), expected);
    }
}
