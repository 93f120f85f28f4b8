//! How the GPUs are to be reached, and what was read of them last: shared between the source, which reads them every
//! second, and the tables of a collection, which do not start a second child beside it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use casefile_proto::gap::{Gap, GapReason};

use super::owners::Owners;
use super::process;
use super::reader::Trouble;
use super::report::Report;
use crate::clock;
use crate::config::GpuConfig;
use crate::host::Host;

/// What was read is as good as new for so long: the source reads every second.
const FRESH: Duration = Duration::from_secs(5);

/// How long a collection waits for a driver that nobody has opened before.
const PATIENCE: Duration = Duration::from_secs(15);

/// How the GPUs of this machine are reached.
#[derive(Debug)]
pub struct Access {
    /// NVML's library, where it is not to be looked for.
    pub library: Option<PathBuf>,
    /// The program that is started once more to read it: it calls [`super::child::run_if_asked`].
    pub program: PathBuf,
    /// Whether that program goes into a sandbox of its own.
    pub confined: bool,
    /// Where it is remembered which GPUs there were.
    pub remembered: Option<PathBuf>,
    latest: Mutex<Latest>,
}

#[derive(Debug, Default)]
enum Latest {
    /// No source reads them here.
    #[default]
    Never,
    Read {
        at: Instant,
        report: Arc<Report>,
        /// The last one in which limits and settings were read too.
        slow: Arc<Report>,
    },
    Trouble(Instant, Trouble),
}

impl Default for Access {
    fn default() -> Self {
        Self::new(&GpuConfig::default(), None)
    }
}

impl Access {
    /// As configured; what is not said is found out.
    pub fn new(config: &GpuConfig, remembered: Option<PathBuf>) -> Self {
        let program = config.program.clone().unwrap_or_else(|| process::own().to_owned());
        Self {
            library: config.library.clone(),
            program,
            confined: config.confined,
            remembered,
            latest: Mutex::default(),
        }
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, report: Report) {
        let report = Arc::new(report);
        let mut latest = self.latest();
        let slow = match &*latest {
            Latest::Read { slow, .. } if !report.slow => Arc::clone(slow),
            _ => Arc::clone(&report),
        };
        *latest = Latest::Read { at: Instant::now(), report, slow };
    }

    /// What is known, where that is new enough.
    fn known(&self) -> Option<Result<Report, Gap>> {
        match &*self.latest() {
            Latest::Read { at, report, slow } if at.elapsed() < FRESH => Some(Ok((**report).clone().with_slow(slow))),
            Latest::Trouble(at, trouble) if at.elapsed() < FRESH => Some(Err(gap(trouble))),
            _ => None,
        }
    }

    pub(super) fn set_trouble(&self, trouble: &Trouble) {
        *self.latest() = Latest::Trouble(Instant::now(), trouble.clone());
    }
}

/// What the GPUs say now, or why nothing is known: what the source has read a moment ago, and where there is no such
/// source, what a child says that lives no longer than this call.
pub(crate) fn now(host: &Host) -> Result<Report, Gap> {
    let access = host.gpu();
    if let Some(known) = access.known() {
        return known;
    }
    if let Some(why) = super::absent(host) {
        return Err(Gap::new(GapReason::SourceAbsent, why));
    }
    let mut reader = super::reader(host);
    let began = Instant::now();
    let snapshot = loop {
        match reader.read(Instant::now()) {
            Err(_) if reader.is_opening() && began.elapsed() < PATIENCE => {}
            ended => break ended,
        }
    };
    match snapshot {
        Ok(snapshot) => {
            let at = clock::system()();
            let report = Report::of(at, reader.versions(), snapshot, &mut Owners::new(host), 0);
            // The other tables are of the same instant.
            access.set(report.clone());
            Ok(report)
        }
        Err(trouble) => {
            access.set_trouble(&trouble);
            Err(gap(&trouble))
        }
    }
}

fn gap(trouble: &Trouble) -> Gap {
    match trouble {
        Trouble::Stalled { call, since } => {
            let why = format!("{call} has not returned for {} s", since.elapsed().as_secs());
            Gap::new(GapReason::TimedOut, why)
        }
        Trouble::Failed { why } => Gap::new(GapReason::SourceFailed, why.as_str()),
        Trouble::NoDriver { why } => Gap::new(GapReason::SourceAbsent, why.as_str()),
    }
}
