//! What most verbs read: a case file, an incident of which the case file is fetched, or a directory of segments.

use std::path::PathBuf;
use std::str::FromStr;

use casefile_proto::ids::{IncidentId, NodeName};
use clap::{Args, ValueHint};

use super::CollectorArgs;

/// Where a case file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// An archive, or a directory of segments.
    Path(PathBuf),
    /// An incident of a collector.
    Incident(IncidentId),
}

impl FromStr for Place {
    type Err = std::convert::Infallible;

    /// What is called like an incident is one, unless a file has just that name.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = PathBuf::from(text);
        Ok(match text.parse() {
            Ok(incident) if !path.exists() => Self::Incident(incident),
            _ => Self::Path(path),
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Incident(incident) => incident.fmt(f),
        }
    }
}

/// What is read.
#[derive(Args, Debug, Clone)]
pub(crate) struct SourceArgs {
    /// The case file; an incident such as INC-000123, which is fetched from the collector; or the directory of a recording (an
    /// agent's ring).
    #[arg(value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub(crate) file: Place,
    /// Which collector an incident is fetched from.
    #[command(flatten)]
    pub(crate) collector: CollectorArgs,
}

/// Which node.
#[derive(Args, Debug, Clone)]
pub(crate) struct NodeArg {
    /// The node; may be left out where there is only one.
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<NodeName>,
}

/// Which part of the window. Lengths count back from its end.
#[derive(Args, Debug, Clone)]
pub(crate) struct PartArgs {
    /// At this instant: 03:11:40Z, 2026-11-23T03:11:40Z, 5m (before the end of the window).
    #[arg(long, value_name = "TIME", conflicts_with_all = ["since", "until"])]
    pub(crate) at: Option<String>,
    /// From this time on.
    #[arg(short = 's', long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Up to this time, which is not in it.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_like_an_incident_is_one_and_all_else_is_a_path() {
        let place = |text: &str| text.parse::<Place>().unwrap();
        assert_eq!(place("INC-000123"), Place::Incident(IncidentId(123)));
        for path in ["INC-000123_20261123T024410Z.tar.gz", "./INC-000123", "/var/lib/casefile/agent/ring", ""] {
            assert_eq!(place(path), Place::Path(PathBuf::from(path)), "{path}");
        }
    }
}
