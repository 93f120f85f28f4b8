//! Whether a machine is being recorded, for whoever asks every few seconds: how old the newest frame of the ring is, against
//! how often there should be one. Looks and changes nothing; the agent that writes the ring is not asked, and so cannot be
//! wrong about itself.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use casefile_evidence::recording::newest::newest;
use casefile_evidence::recording::reader::ReadError;
use casefile_proto::time::Stamp;

use crate::boot_id;
use crate::config::Places;
use crate::data_dir::RING;
use crate::host::{Host, HostError};

/// Ticks without a frame until the machine counts as not recorded. A tick that is late, and a disk that takes its time to
/// sync, are within it; so are the seconds after which a ring that failed is tried again.
const TICKS: u32 = 10;

/// What was found. As text, one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// The newest frame is as young as it should be.
    Ready,
    /// There is no ring yet.
    NoRing {
        /// Where one was looked for.
        dir: PathBuf,
    },
    /// There is a ring without a frame.
    NoFrame,
    /// The newest frame was taken in an earlier boot of this machine.
    OtherBoot,
    /// The newest frame is too old.
    Old {
        /// How old it is.
        age: Duration,
        /// How old it may be.
        most: Duration,
    },
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::NoRing { dir } => write!(f, "not ready: there is no ring at {} yet", dir.display()),
            Self::NoFrame => f.write_str("not ready: there is no frame in the ring yet"),
            Self::OtherBoot => f.write_str("not ready: there is no frame of this boot in the ring yet"),
            Self::Old { age, most } => {
                let (age, most) = (age.as_secs_f64(), most.as_secs_f64());
                write!(f, "not ready: the newest frame in the ring is {age:.1} s old, and may be {most} s")
            }
        }
    }
}

/// Why nobody can say.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    /// The ring is there and cannot be read.
    #[error("the ring cannot be read")]
    Ring(#[from] ReadError),
    /// The host root cannot be opened.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// Looks at the ring of the agent with these places.
pub fn look(places: &Places, now: Stamp) -> Result<Readiness, ReadyError> {
    let dir = places.data_dir.join(RING);
    let newest = match newest(&dir) {
        Ok(Some(newest)) => newest,
        Ok(None) => return Ok(Readiness::NoFrame),
        Err(ReadError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Readiness::NoRing { dir });
        }
        Err(error) => return Err(error.into()),
    };
    if newest.frame.boot != boot_id(&Host::new(&places.host_root)?) {
        return Ok(Readiness::OtherBoot);
    }
    // By the boot clock: whoever sets the wall clock makes no frame older or younger.
    let age = Duration::from_nanos(now.boot.nanos().saturating_sub(newest.frame.at.boot.nanos()));
    let most = newest.every.saturating_mul(TICKS);
    Ok(if age <= most { Readiness::Ready } else { Readiness::Old { age, most } })
}

#[cfg(test)]
mod tests;
