//! `dmesg -T -x`: the kernel's log, with who wrote a line and how bad that one thought it.
//!
//! Out of `logs/kernel.log`, else out of the kernel's records in the recording. Times are the collector's. A line that a program
//! wrote into the kernel's log is called that.

use std::ops::ControlFlow;

use casefile_proto::event::EventKind;
use casefile_proto::ids::NodeName;
use casefile_proto::time::{WallTime, Window};
use serde::Serialize;

use crate::casefile::{CaseFile, CaseFileError};
use crate::display::safe;
use crate::logs::{self, Selector, Told};
use crate::seriesset::SeriesSet;

/// The levels, as `dmesg` calls them: the worst first.
pub const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];

/// Where a line was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// In the log of the kernel that was gathered.
    Log,
    /// Among the events of the recording.
    Recording,
    /// In what an earlier boot left, when the agent started.
    PreviousBoot,
}

/// One line. Texts are the node's: escape before showing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// When, on the collector's clock; `None`: it bears no time that is understood.
    pub at: Option<WallTime>,
    /// `kern`, `user`, `daemon`, …; `None` where it is not said.
    pub facility: Option<String>,
    /// One of [`LEVELS`]; `None` where it is not said.
    pub level: Option<&'static str>,
    /// Whether a program wrote it, and not the kernel.
    pub user: bool,
    /// The kernel's own number.
    pub seq: Option<u64>,
    /// What it says.
    pub text: String,
    /// Where it was found.
    pub found: Found,
}

/// Calls `each` for every line of a node's `kernel.log` in the part of the window, in order.
///
/// # Errors
/// When the log cannot be sorted.
pub fn of_log(
    casefile: &mut CaseFile,
    node: &NodeName,
    range: Option<Window>,
    each: &mut dyn FnMut(Line) -> ControlFlow<()>,
) -> Result<Told, CaseFileError> {
    let selector =
        Selector { nodes: vec![node.clone()], sources: vec!["kernel".to_owned()], range, ..Selector::default() };
    logs::merged(casefile, &selector, logs::MEMORY, &mut |line| {
        let mut read = line_of(&String::from_utf8_lossy(line.text));
        read.at = line.when.map(|when| when.corrected);
        each(read)
    })
}

/// Whether a case file has the kernel's log of a node.
pub fn has_log(casefile: &CaseFile, node: &NodeName) -> bool {
    let mut items = casefile.node_entries(Some(node)).map(|(_, _, item)| item);
    items.any(|item| item.as_str() == "logs/kernel.log")
}

/// The kernel's records of a recording in the part of the window, in order.
pub fn of_events(set: &SeriesSet, range: Window) -> Vec<Line> {
    let line = |happened: &crate::seriesset::Happened| {
        let event = &happened.event;
        let (facility, level, seq, found) = match &event.kind {
            EventKind::Kernel { seq, facility, level } => (Some(*facility), Some(*level), *seq, Found::Recording),
            EventKind::PreviousBoot { .. } => (None, None, None, Found::PreviousBoot),
            _ => return None,
        };
        Some(Line {
            at: Some(happened.at),
            facility: facility.map(facility_name),
            level: level.and_then(|level| LEVELS.get(usize::from(level)).copied()),
            user: facility.is_some_and(|facility| facility > 0),
            seq,
            text: event.text.clone(),
            found,
        })
    };
    set.events.iter().filter(|happened| range.contains(happened.at)).filter_map(line).collect()
}

fn facility_name(facility: u8) -> String {
    const NAMES: [&str; 12] =
        ["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"];
    match (NAMES.get(usize::from(facility)), facility) {
        (Some(name), _) => (*name).to_owned(),
        (None, 16..24) => format!("local{}", facility - 16),
        (None, _) => facility.to_string(),
    }
}

/// `facility=kern level=err seq=5 user=false TEXT`, as an agent writes a line behind its time; any other line is all text.
fn line_of(text: &str) -> Line {
    let mut line = Line {
        at: None,
        facility: None,
        level: None,
        user: false,
        seq: None,
        text: text.to_owned(),
        found: Found::Log,
    };
    if !text.starts_with("facility=") {
        return line;
    }
    let mut rest = text;
    while let Some((field, behind)) = rest.split_once(' ') {
        let Some((name, value)) = field.split_once('=') else { break };
        match name {
            "facility" => line.facility = Some(value.to_owned()),
            "level" => line.level = LEVELS.into_iter().find(|level| *level == value),
            "seq" => line.seq = value.parse().ok(),
            "caller" | "fragment" => {}
            "user" => {
                // The last of them: what follows is the text, whatever it looks like.
                line.user = value == "true";
                behind.clone_into(&mut line.text);
                return line;
            }
            _ => break,
        }
        rest = behind;
    }
    // Not of an agent that we know.
    Line { at: None, facility: None, level: None, user: false, seq: None, ..line }
}

impl Line {
    /// As `dmesg -T -x` prints it.
    pub fn shown(&self) -> String {
        let at = self.at.map_or_else(|| "-".to_owned(), millis);
        let facility = self.facility.as_deref().map_or_else(|| "-".to_owned(), safe);
        let level = self.level.unwrap_or("-");
        let who = match self.found {
            _ if self.user => "(a program) ",
            Found::PreviousBoot => "(of an earlier boot) ",
            Found::Log | Found::Recording => "",
        };
        // What belongs to a record stays recognisable as that.
        let text = self.text.split('\n').map(safe).collect::<Vec<_>>().join("\n  ");
        format!("{facility:<6}:{level:<6}: [{at}] {who}{text}")
    }
}

fn millis(at: WallTime) -> String {
    let of_second = at.nanos().rem_euclid(1_000_000_000);
    format!("{}.{:03}Z", at.offset(-of_second).to_seconds_text().trim_end_matches('Z'), of_second / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::super::made::{second, set};
    use super::*;
    use crate::seriesset::Happened;
    use casefile_proto::event::Event;
    use casefile_proto::time::{BootTime, Stamp};

    #[test]
    fn a_line_of_an_agent_is_taken_apart_and_what_a_program_wrote_is_called_that() {
        let line = line_of("facility=user level=warn seq=7 caller=T12 user=true user=false x facility=kern");
        assert_eq!((line.user, line.level, line.seq), (true, Some("warn"), Some(7)));
        assert_eq!(line.text, "user=false x facility=kern");
        let shown = Line { at: Some(second(0).offset(1_500_000)), ..line }.shown();
        assert_eq!(shown, "user  :warn  : [2026-11-23T03:00:00.001Z] (a program) user=false x facility=kern");
        let odd = line_of("facility=kern something else");
        assert_eq!((odd.facility, odd.text.as_str()), (None, "facility=kern something else"));
        assert!(line_of("a\u{1b}[2Jb\nc").shown().ends_with("[-] a\\u{1b}[2Jb\n  c"));
    }

    #[test]
    fn without_a_log_the_records_of_the_recording_are_the_log() {
        let mut set = set(10);
        let at = |n| Stamp { wall: second(n), boot: BootTime::from_nanos(1) };
        let mut happen = |n, kind, text: &str| {
            let event = Event { at: at(n), kind, text: text.to_owned() };
            set.events.push(Happened { at: second(n), event, boot: 0 });
        };
        happen(2, EventKind::Kernel { seq: Some(1), facility: 0, level: 3 }, "I/O error");
        happen(3, EventKind::AgentStarted, "started");
        happen(4, EventKind::Kernel { seq: None, facility: 1, level: 6 }, "hello");
        happen(9, EventKind::Kernel { seq: None, facility: 0, level: 6 }, "late");
        let lines = of_events(&set, Window::new(second(0), second(9)).unwrap());
        let told: Vec<_> = lines.iter().map(|l| (l.text.as_str(), l.level, l.user)).collect();
        assert_eq!(told, [("I/O error", Some("err"), false), ("hello", Some("info"), true)]);
    }
}
