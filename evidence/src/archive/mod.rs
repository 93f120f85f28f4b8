//! The archive: a `.tar.gz` assembled from independently compressed chunks; a bag; signed. Described in `FORMAT.md`.
//!
//! [`writer`] copies chunks and seals, [`reader`] finds entries by the index or from the front, [`verify`] names
//! everything that is wrong, [`extract`](mod@extract) unpacks safely; [`layout`] knows what lies where inside.

use casefile_proto::ids::IncidentId;
use casefile_proto::incident::IncidentAsk;
use casefile_proto::item::Digest;
use casefile_proto::time::WallTime;
use serde::{Deserialize, Serialize};

mod bag;
pub mod chunk;
pub mod connectivity;
pub mod extract;
mod gzip;
mod index;
pub mod layout;
pub mod limits;
mod manifest;
pub mod packed;
pub mod reader;
mod readme;
mod sequential;
pub mod sign;
mod tar;
pub mod verify;
pub mod writer;

/// What tells an archive apart and goes into its tag files; everything that is not evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Title {
    /// The incident.
    pub ask: IncidentAsk,
    /// Its name; `None` when an agent worked alone.
    pub incident: Option<IncidentId>,
    /// When it was sealed; also the modification time of every entry.
    pub sealed_at: WallTime,
    /// Who sealed it: `casefile-collector 0.1.0`.
    pub sealed_by: String,
    /// The archive of the same incident that it amends; `None`: it is the first.
    pub amends: Option<Amends>,
}

/// The archive that another one amends: it contains everything of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amends {
    /// Its revision; that of the new one is one more.
    pub revision: u32,
    /// The name of its file.
    pub file_name: String,
    /// The digest of its file.
    pub sha256: Digest,
}

impl Title {
    /// The longest part of a name that a node gives: the rest fits a tar header and a file name then.
    const MAX_NODE: usize = 60;

    /// The top directory inside, and the file's own name without `.tar.gz`: `INC-000123_20261123T024410Z_20261123T031410Z`;
    /// the name of the node stands first when an agent worked alone, and `_r2` last in a second revision. At most 96 bytes,
    /// always one safe component.
    pub fn name(&self) -> String {
        let first = match (self.incident, self.ask.nodes.first()) {
            (Some(id), _) => id.to_string(),
            (None, Some(node)) => node.as_str()[..node.as_str().len().min(Self::MAX_NODE)].to_owned(),
            (None, None) => "extract".to_owned(),
        };
        let (from, until) = (self.ask.window.from().compact(), self.ask.window.until().compact());
        match self.revision() {
            1 => format!("{first}_{from}_{until}"),
            later => format!("{first}_{from}_{until}_r{later}"),
        }
    }

    /// Which archive of its incident it is, from 1.
    pub fn revision(&self) -> u32 {
        self.amends.as_ref().map_or(1, |before| before.revision.saturating_add(1))
    }

    /// The time that every entry carries, in seconds; what tar cannot say is moved to the nearest that it can.
    fn mtime(&self) -> u64 {
        let secs = self.sealed_at.nanos().div_euclid(casefile_proto::time::NANOS_PER_SEC);
        u64::try_from(secs).unwrap_or(0).min(tar::MAX_OCTAL)
    }
}

/// Text from outside as one harmless line: control characters and those that turn the writing direction become `\u{fffd}`.
fn one_line(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}');
    text.chars().map(|c| if c.is_control() || turns(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use casefile_proto::incident::{Severity, Trigger};
    use casefile_proto::scope::Scope;
    use casefile_proto::time::Window;

    fn title(incident: Option<IncidentId>, nodes: &[&str]) -> Title {
        let window = Window::new(WallTime::from_secs(1_795_401_850), WallTime::from_secs(1_795_403_650)).unwrap();
        let ask = IncidentAsk {
            title: String::new(),
            reason: String::new(),
            requested_by: String::new(),
            severity: Severity::Sev3,
            trigger: Trigger::Person,
            resource: None,
            runbook: None,
            window,
            nodes: nodes.iter().map(|n| n.parse().unwrap()).collect(),
            scope: Scope::default(),
        };
        Title { ask, incident, sealed_at: WallTime::from_nanos(1), sealed_by: String::new(), amends: None }
    }

    #[test]
    fn a_name_says_what_and_when() {
        let name = |incident, nodes: &[&str]| title(incident, nodes).name();
        assert_eq!(name(Some(IncidentId(123)), &["n"]), "INC-000123_20261123T024410Z_20261123T031410Z");
        assert_eq!(name(None, &["n-1"]), "n-1_20261123T024410Z_20261123T031410Z");
        assert_eq!(name(None, &[]), "extract_20261123T024410Z_20261123T031410Z");
        assert!(index::is_top(&name(None, &["x".repeat(253).as_str()])));
        assert!(index::is_top(&name(Some(IncidentId(u64::MAX)), &[])));
        let before = Amends { revision: 1, file_name: "x".to_owned(), sha256: Digest([0; 32]) };
        let second = Title { amends: Some(before), ..title(Some(IncidentId(123)), &["n"]) };
        assert_eq!(second.name(), "INC-000123_20261123T024410Z_20261123T031410Z_r2");
        assert!(index::is_top(&second.name()));
    }

    #[test]
    fn a_time_that_tar_cannot_say_is_moved_to_the_nearest() {
        let at = |t| Title { sealed_at: t, ..title(None, &[]) }.mtime();
        assert_eq!(
            (at(WallTime::MIN), at(WallTime::from_nanos(1_999_999_999)), at(WallTime::MAX)),
            (0, 1, tar::MAX_OCTAL)
        );
    }

    #[test]
    fn a_title_cannot_steer_a_terminal_or_begin_a_line() {
        assert_eq!(one_line("a\nb\u{1b}[2Jc\u{202e}d é"), "a\u{fffd}b\u{fffd}[2Jc\u{fffd}d é");
    }
}
