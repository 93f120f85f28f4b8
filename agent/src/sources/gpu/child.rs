//! The child: the agent's own program, started once more, in which NVML may hang or crash without harm. It answers one
//! byte on its standard input with one line on its standard output, and ends when the input does.
//!
//! A call that does not return is noticed here, by a thread that watches the one that asks; it says which call it is and
//! ends the process. Where the call sleeps in the kernel for ever, the process stays until that ends; the agent has given
//! it up by then ([`super::reader`]).

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::event::EventData;

use super::nvml::{self, Asker};
use super::said::{NvmlEvent, Said};
use crate::{clock, sandbox};

/// The first argument of a process that is to be a child.
pub(super) const REQUEST: &str = "gpu-reader";

/// The same, of one that is not to go into a sandbox of its own.
pub(super) const UNCONFINED: &str = "gpu-reader-unconfined";

/// A call that takes longer than this counts as one that does not return: the slowest that are known to return take a
/// few hundred milliseconds.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(1);

/// Events that are kept until the agent asks; it asks every second.
const MAX_EVENTS: usize = 256;

/// How long NVML waits for an event before it is asked again.
const EVENT_WAIT_MILLIS: u32 = 60_000;

/// After NVML refused to wait, as it does when a GPU is lost, it is tried again.
const EVENT_RETRY: Duration = Duration::from_secs(10);

/// Does the work of a child when this process was started as one, and gives the exit code; `None` otherwise. To be called
/// before anything else in `main`.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let request = args.next()?;
    if request != REQUEST && request != UNCONFINED {
        return None;
    }
    let candidates: Vec<PathBuf> = args.map(PathBuf::from).collect();
    if request == REQUEST {
        sandbox::enter_as_gpu_reader(&candidates);
    }
    Some(run(&candidates))
}

fn run(candidates: &[PathBuf]) -> ExitCode {
    // Two of the three threads never end: the process does, from any of them.
    let watch: &'static Watch = Box::leak(Box::default());
    std::thread::spawn(|| watch.over());
    if let Some(why) = kept_out(Path::new(CONTROL)) {
        say(&Said::NotReady { why, no_driver: false });
        std::process::exit(0)
    }
    match watch.call_for(OPEN_DEADLINE, ("nvmlInit_v2", None), || nvml::open(candidates)) {
        Ok((nvml, versions)) => {
            let (nvml, events): (&'static Nvml, &'static Events) =
                (Box::leak(Box::new(nvml)), Box::leak(Box::default()));
            say(&Said::Ready(versions));
            std::thread::spawn(|| events.listen(nvml));
            answer(nvml, watch, events);
        }
        Err(refused) => say(&Said::NotReady { why: refused.why, no_driver: refused.no_driver }),
    }
    // Not by way of NVML's own clean-up, which may hang as every other call.
    std::process::exit(0)
}

/// The node by which every user of the driver begins.
const CONTROL: &str = "/dev/nvidiactl";

/// Why the driver cannot be asked although it is there: NVML would say that there is none.
fn kept_out(node: &Path) -> Option<String> {
    let error = OpenOptions::new().read(true).write(true).open(node).err()?;
    (error.kind() == ErrorKind::PermissionDenied).then(|| {
        let hint = "where the driver was loaded after the agent was started, its sandbox knows nothing of it: restart the agent";
        format!("open {}: {error}; {hint}", node.display())
    })
}

/// Without persistence mode the first user of a driver waits until every GPU is up: many seconds on a large machine.
const OPEN_DEADLINE: Duration = Duration::from_secs(60);

/// Answers until nobody asks any more.
fn answer(nvml: &Nvml, watch: &Watch, events: &Events) {
    let mut asker = Asker::new(nvml, watch);
    let mut stdin = std::io::stdin().lock();
    let mut request = [0];
    while matches!(stdin.read(&mut request), Ok(1..)) {
        match asker.ask() {
            Ok(mut snapshot) => {
                events.take(&mut snapshot.events, &mut snapshot.events_lost, &mut snapshot.no_events);
                say(&Said::Snapshot(Box::new(snapshot)));
            }
            Err(why) => return say(&Said::Broken { why }),
        }
    }
}

/// One line. Where nobody hears it, the input has ended or will.
fn say(said: &Said) {
    let Ok(mut line) = serde_json::to_vec(said) else { return };
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    if out.write_all(&line).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// What call is being made, of which GPU, and since when.
#[derive(Clone, Copy)]
struct Running {
    call: (&'static str, Option<u32>),
    until: Instant,
}

/// Sees to it that no call goes on for ever.
#[derive(Default)]
pub(super) struct Watch {
    now: Mutex<Now>,
    begun: Condvar,
}

#[derive(Default)]
struct Now {
    running: Option<Running>,
    /// When the one who watches looks again by himself; not before he is told, where there was nothing to watch. Hundreds of
    /// calls a second are no reason to wake him hundreds of times.
    looks_at: Option<Instant>,
}

impl Watch {
    /// Makes a call.
    pub(super) fn call<T>(&self, call: (&'static str, Option<u32>), make: impl FnOnce() -> T) -> T {
        self.call_for(CALL_DEADLINE, call, make)
    }

    fn call_for<T>(&self, limit: Duration, call: (&'static str, Option<u32>), make: impl FnOnce() -> T) -> T {
        let mut now = self.now();
        let until = Instant::now() + limit;
        now.running = Some(Running { call, until });
        if now.looks_at.is_none_or(|at| until < at) {
            self.begun.notify_one();
        }
        drop(now);
        let made = make();
        self.now().running = None;
        made
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches; never returns.
    fn over(&self) {
        let mut now = self.now();
        loop {
            let Some(running) = now.running else {
                now.looks_at = None;
                now = self.begun.wait(now).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let rest = running.until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                stalled(running.call);
            }
            // Most calls are long over by then, and others have come and gone.
            now.looks_at = Some(running.until);
            now = self.begun.wait_timeout(now, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Says which call it is and ends.
fn stalled((call, gpu): (&'static str, Option<u32>)) -> ! {
    let call = gpu.map_or_else(|| call.to_owned(), |gpu| format!("{call} of GPU {gpu}"));
    say(&Said::Stalled { call });
    std::process::exit(1)
}

/// What NVML reports by itself, heard by a thread of its own: asked once a second it would tell the last Xid only.
#[derive(Default)]
struct Events {
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    events: Vec<NvmlEvent>,
    lost: u64,
    refused: Option<String>,
}

impl Events {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, events: &mut Vec<NvmlEvent>, lost: &mut u64, refused: &mut Option<String>) {
        let mut heard = self.heard();
        *events = std::mem::take(&mut heard.events);
        *lost = std::mem::take(&mut heard.lost);
        refused.clone_from(&heard.refused);
    }

    /// Listens; never returns.
    fn listen(&self, nvml: &Nvml) {
        loop {
            let refused = match self.hear(nvml) {
                // This driver or these GPUs have none: no fault.
                NvmlError::NotSupported | NvmlError::FunctionNotFound | NvmlError::FailedToLoadSymbol(_) => None,
                error => Some(error.to_string()),
            };
            self.heard().refused = refused;
            std::thread::park_timeout(EVENT_RETRY);
        }
    }

    /// Until NVML refuses.
    fn hear(&self, nvml: &Nvml) -> NvmlError {
        let wanted = EventTypes::CRITICAL_XID_ERROR
            | EventTypes::DOUBLE_BIT_ECC_ERROR
            | EventTypes::POWER_SOURCE_CHANGE
            | EventTypes::MIG_CONFIG_CHANGE;
        let mut refused = NvmlError::NotSupported;
        let Ok(mut set) = nvml.create_event_set().map_err(|e| refused = e) else { return refused };
        let mut registered = false;
        for index in 0..nvml.device_count().unwrap_or(0) {
            let Ok(device) = nvml.device_by_index(index) else { continue };
            let Ok(types) = device.supported_event_types() else { continue };
            let types = types & wanted;
            if types.is_empty() {
                continue;
            }
            match device.register_events(types, set) {
                Ok(same) => (set, registered) = (same, true),
                // The set is gone with the error; without a GPU that is lost it can be made again.
                Err(error) => return error.error,
            }
        }
        if !registered {
            return refused;
        }
        self.heard().refused = None;
        loop {
            match set.wait(EVENT_WAIT_MILLIS) {
                Ok(event) => self.keep(&event),
                Err(NvmlError::Timeout) => {}
                Err(error) => return error,
            }
        }
    }

    fn keep(&self, event: &EventData<'_>) {
        let at = clock::system()();
        let kinds = [
            (EventTypes::DOUBLE_BIT_ECC_ERROR, "an uncorrected ECC error"),
            (EventTypes::POWER_SOURCE_CHANGE, "another source of power"),
            (EventTypes::MIG_CONFIG_CHANGE, "another MIG configuration"),
        ];
        let xid = match &event.event_data {
            Some(XidError::Value(xid)) => Some(*xid),
            Some(XidError::Unknown) | None => None,
        };
        let what = match (xid, kinds.iter().find(|(kind, _)| event.event_type.contains(*kind))) {
            (Some(xid), _) => format!("Xid {xid}"),
            (None, Some((_, what))) => (*what).to_owned(),
            (None, None) if event.event_data.is_some() => "an Xid that NVML does not know".to_owned(),
            (None, None) => format!("an event of type {:#x}", event.event_type.bits()),
        };
        // Of a GPU that is lost it can mostly still be had.
        let pci = event.device.pci_info().map(|pci| pci.bus_id).unwrap_or_default();
        let mut heard = self.heard();
        if heard.events.len() < MAX_EVENTS {
            heard.events.push(NvmlEvent { wall: at.wall.nanos(), boot: at.boot.nanos(), pci, what, xid });
        } else {
            heard.lost += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_may_not_be_opened_is_not_told_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("nvidiactl");
        assert_eq!(kept_out(&node), None, "there is none");
        std::fs::write(&node, "").unwrap();
        assert_eq!(kept_out(&node), None);
        // Which even root may not write.
        assert!(kept_out(Path::new("/proc/sys/kernel/version")).is_some_and(|why| why.contains("restart the agent")));
    }
}
