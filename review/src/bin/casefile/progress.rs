//! The live node × source table of a collection, on standard error: redrawn on a terminal, one line a change elsewhere.

use std::io::{IsTerminal, Write};

use casefile_proto::incident::{IncidentState, IncidentView, NodePhase};
use casefile_review::display::safe;

/// Rows that fit a small terminal with the head; further nodes are counted in the last line.
const MAX_ROWS: usize = 18;

/// Draws what has changed.
pub(crate) struct Progress {
    terminal: bool,
    drawn: usize,
    last: String,
}

impl Progress {
    /// Nothing is drawn yet.
    pub(crate) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), drawn: 0, last: String::new() }
    }

    /// Draws the incident as it is now.
    pub(crate) fn show(&mut self, view: &IncidentView) {
        let text = if self.terminal { table(view) } else { line(view) };
        if text == self.last {
            return;
        }
        let mut out = std::io::stderr().lock();
        let up = if self.terminal && self.drawn > 0 { format!("\x1b[{}A\x1b[J", self.drawn) } else { String::new() };
        // A progress line that cannot be written is no reason to stop collecting.
        let _lost = write!(out, "{up}{text}").and_then(|()| out.flush());
        self.drawn = text.lines().count();
        self.last = text;
    }
}

fn table(IncidentView { incident, nodes }: &IncidentView) -> String {
    let mut out = format!("{} {}\n", incident.id, incident.state.name());
    let mut rows = nodes.iter().flat_map(|node| {
        let head = format!("  {:<28} {}\n", safe(node.node.as_str()), node.phase.name());
        let sources = node.sources.iter().map(|s| {
            let state = if s.done { "done" } else { "…" };
            let gaps = if s.gaps == 0 { String::new() } else { format!("  {} gap(s)", s.gaps) };
            format!("    {:<26} {:>9} records {:>11}  {state}{gaps}\n", safe(&s.source), s.records, s.bytes.to_string())
        });
        std::iter::once(head).chain(sources)
    });
    out.extend(rows.by_ref().take(MAX_ROWS));
    match rows.count() {
        0 => {}
        more => out.push_str(&format!("  … and {more} more rows\n")),
    }
    out
}

fn line(IncidentView { incident, nodes }: &IncidentView) -> String {
    let answered = nodes.iter().filter(|n| n.phase >= NodePhase::Answered).count();
    let bytes: u64 = nodes.iter().flat_map(|n| &n.sources).map(|s| s.bytes.0).sum();
    let waits = if incident.state == IncidentState::Gathering {
        format!(", {answered} of {} node(s), {}", nodes.len(), casefile_proto::units::Bytes(bytes))
    } else {
        String::new()
    };
    format!("{} {}{waits}\n", incident.id, incident.state.name())
}
