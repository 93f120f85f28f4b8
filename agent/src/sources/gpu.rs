//! GPUs of NVIDIA: what NVML says of each at every second, who holds them, and which of those that should be there are not.
//!
//! NVML can block for ever and can take its process with it, so it is used in a child ([`child`]) that the agent starts
//! from its own program, asks ([`reader`]) and ends when it does not answer. What the driver writes into the kernel log
//! is for the `kernel` source; neither depends on the other.

pub mod child;
pub mod latest;
mod metrics;
mod nvml;
mod owners;
mod presence;
mod process;
mod raw;
mod reader;
pub(crate) mod report;
mod said;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use casefile_proto::event::{Event, EventKind};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::sample::MetricSpec;
use casefile_proto::time::{BootTime, Stamp, WallTime};

use super::spec::named;
use super::{Measurement, Opened, Source, SourceError, SourceSpec};
use crate::clock;
use crate::host::Host;
use latest::Access;
use metrics::METRICS;
use owners::Owners;
use presence::{OnBus, Presence, kernel_address, nvml_address};
use process::Program;
use reader::{Reader, Trouble};
use said::{Failed, Gpu, Identity, Snapshot, State, Why};

/// The source.
pub static SPEC: SourceSpec = SourceSpec {
    name: "gpu",
    about: "GPUs of NVIDIA: utilisation, memory, clocks, power, heat, errors, links, processes, from NVML in a process of its own, /sys/bus/pci and /proc/driver/nvidia",
    every: Duration::from_secs(1),
    // More than a pass may take before the child is given up.
    deadline: Duration::from_secs(4),
    metrics: &METRICS,
    open,
};

const STATE: &MetricSpec = named(&METRICS, "casefile_gpu_state");
const DEVICES: &MetricSpec = named(&METRICS, "casefile_gpu_devices");
const DRIVER: &MetricSpec = named(&METRICS, "casefile_gpu_driver_info");
const INFO: &MetricSpec = named(&METRICS, "casefile_gpu_info");
const MIG: &MetricSpec = named(&METRICS, "casefile_gpu_mig_info");
const MIG_USED: &MetricSpec = named(&METRICS, "casefile_gpu_mig_memory_used_bytes");
const MIG_TOTAL: &MetricSpec = named(&METRICS, "casefile_gpu_mig_memory_total_bytes");
const PROCESS: &MetricSpec = named(&METRICS, "casefile_gpu_process_info");
const PROCESS_MEMORY: &MetricSpec = named(&METRICS, "casefile_gpu_process_memory_bytes");

/// Ticks between two looks at the bus and at what the driver has.
const LOOK: u64 = 10;

/// Whether there is anything to be read here, found out without NVML: a machine without a GPU pays nothing.
fn open(host: &Host) -> Result<Opened, SourceError> {
    if let Some(why) = absent(host) {
        return Ok(Opened::Absent { why });
    }
    let presence = Presence::load(host.gpu().remembered.clone(), crate::boot_id_of(host));
    Ok(Opened::Ready(Box::new(Gpus {
        reader: reader(host),
        presence,
        owners: Owners::new(host),
        clock: clock::system(),
        bus: Vec::new(),
        of_driver: None,
        told: HashMap::new(),
        tick: 0,
        host: host.clone(),
    })))
}

/// Why there is nothing to read; `None` where there is a driver, or a library that was named.
fn absent(host: &Host) -> Option<String> {
    if host.gpu().library.is_some() {
        return None;
    }
    if !host.is_live() {
        return Some("the GPUs of a machine that is not running here".to_owned());
    }
    if presence::of_driver(host).is_some() {
        return None;
    }
    let on_bus = presence::on_bus(host);
    Some(match on_bus.len() {
        0 => "no GPU of NVIDIA on the PCI bus, and no driver (/proc/driver/nvidia)".to_owned(),
        n => {
            let drivers: Vec<&str> = on_bus.iter().filter_map(|gpu| gpu.driver.as_deref()).collect();
            let theirs =
                if drivers.is_empty() { String::new() } else { format!(" (they have {})", drivers.join(", ")) };
            format!("{n} GPUs of NVIDIA on the PCI bus, and no driver that runs (/proc/driver/nvidia){theirs}")
        }
    })
}

/// A reader of this machine's GPUs, with no child yet.
fn reader(host: &Host) -> Reader {
    let access = host.gpu();
    Reader::new(Box::new(Program {
        path: access.program.clone(),
        confined: access.confined,
        libraries: libraries(host, access),
    }))
}

/// Where the library may be, best first: as told, or where the loader finds it, then where installers of the driver put it
/// on the host.
fn libraries(host: &Host, access: &Access) -> Vec<std::path::PathBuf> {
    const NAME: &str = "libnvidia-ml.so.1";
    const PLACES: [&str; 7] = [
        "run/nvidia/driver/usr/lib/x86_64-linux-gnu",
        "run/nvidia/driver/usr/lib/aarch64-linux-gnu",
        "run/nvidia/driver/usr/lib64",
        "home/kubernetes/bin/nvidia/lib64",
        "usr/lib/x86_64-linux-gnu",
        "usr/lib/aarch64-linux-gnu",
        "usr/lib64",
    ];
    if let Some(library) = &access.library {
        return vec![library.clone()];
    }
    let mut found = vec![NAME.into()];
    let on_host = PLACES.iter().map(|place| host.root().join(place).join(NAME));
    found.extend(on_host.filter(|path| path.exists()));
    found
}

/// What the last tick made of a GPU, by UUID (or address, where it has none).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Standing {
    Answers = 1,
    Lost = 2,
    NeedsReset = 3,
    Vanished = 4,
    NotListed = 5,
    NoHandle = 6,
}

struct Gpus {
    host: Host,
    reader: Reader,
    presence: Presence,
    owners: Owners,
    clock: clock::Clock,
    bus: Vec<OnBus>,
    of_driver: Option<usize>,
    told: HashMap<String, Standing>,
    tick: u64,
}

impl Source for Gpus {
    fn measure(&mut self, out: &mut Measurement) -> Result<(), SourceError> {
        let read = self.reader.read(Instant::now());
        let snapshot = match read {
            Ok(mut snapshot) => {
                self.presence.identify(&mut snapshot);
                snapshot
            }
            Err(trouble) => {
                self.host.gpu().set_trouble(&trouble);
                return Err(error(&trouble));
            }
        };
        if self.tick.is_multiple_of(LOOK) {
            self.bus = presence::on_bus(&self.host);
            self.of_driver = presence::of_driver(&self.host).map(|gpus| gpus.len());
            self.owners.forget(self.tick);
        }
        if let Err(error) = self.presence.note(&snapshot) {
            let why = format!("which GPUs there are could not be kept for the next boot: {error}");
            out.gap(Gap::new(GapReason::SourceFailed, why));
        }
        self.emit(&snapshot, out);
        self.tick += 1;
        let at = (self.clock)();
        let report = report::Report::of(at, self.reader.versions(), snapshot, &mut self.owners, self.tick);
        self.host.gpu().set(report);
        Ok(())
    }
}

impl Gpus {
    fn emit(&mut self, snapshot: &Snapshot, out: &mut Measurement) {
        let versions = self.reader.versions();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        out.reading(DRIVER, &[&text(&versions.driver), &text(&versions.nvml), &text(&versions.cuda)], 1);
        let counts = [
            ("nvml", Some(snapshot.gpus.len())),
            ("pci", Some(self.bus.len())),
            ("driver", self.of_driver),
            ("last_boot", self.presence.in_last_boot()),
        ];
        for (by, count) in counts {
            if let Some(count) = count.and_then(|n| i64::try_from(n).ok()) {
                out.reading(DEVICES, &[by], count);
            }
        }
        for gpu in &snapshot.gpus {
            let labels = Labels::of(&gpu.id);
            let standing = match gpu.state {
                State::Answers => Standing::Answers,
                State::Lost => Standing::Lost,
                State::NeedsReset => Standing::NeedsReset,
                State::NoHandle => Standing::NoHandle,
            };
            labels.reading(STATE, standing as i64, out);
            self.news(&gpu.id, standing, out);
            values(gpu, &labels, out);
            for process in &gpu.processes {
                let owner = self.owners.of(process, self.tick);
                let (pid, kind) = (process.pid.to_string(), process.kind.to_string());
                let [index, uuid, ..] = labels.each();
                let who = [&owner.comm, &owner.cgroup, &owner.pod_uid, &owner.container].map(String::as_str);
                out.reading(PROCESS, &[index, uuid, &pid, &kind, who[0], who[1], who[2], who[3]], 1);
                if let Some(bytes) = process.memory.and_then(|bytes| i64::try_from(bytes).ok()) {
                    out.reading(PROCESS_MEMORY, &[index, uuid, &pid, &kind], bytes);
                }
            }
            gaps(gpu, out);
        }
        self.missing(snapshot, out);
        self.events(snapshot, out);
    }

    /// GPUs that should be listed and are not.
    fn missing(&mut self, snapshot: &Snapshot, out: &mut Measurement) {
        let mut known: Vec<String> = snapshot.gpus.iter().map(|gpu| kernel_address(&gpu.id.pci)).collect();
        let vanished: Vec<(Identity, bool)> =
            self.presence.vanished(snapshot).into_iter().map(|(id, now)| (id.clone(), now)).collect();
        for (id, in_this_boot) in vanished {
            Labels::of(&id).reading(STATE, Standing::Vanished as i64, out);
            let since = if in_this_boot { "since this boot" } else { "in the boot before this one" };
            let what = format!("{} was there {since} and is not listed by NVML any more", name(&id));
            out.gap(Gap::new(GapReason::SourceFailed, what));
            known.push(kernel_address(&id.pci));
            self.news(&id, Standing::Vanished, out);
        }
        let unlisted: Vec<String> =
            self.bus.iter().filter(|gpu| gpu.is_ours()).map(|gpu| gpu.address.clone()).collect();
        for address in unlisted.into_iter().filter(|address| !known.contains(address)) {
            let id = Identity { pci: nvml_address(&address), ..Identity::default() };
            let labels = Labels { index: String::new(), device: String::new(), ..Labels::of(&id) };
            labels.reading(STATE, Standing::NotListed as i64, out);
            out.gap(Gap::new(
                GapReason::SourceFailed,
                format!("the GPU at {address} is on the PCI bus and not listed by NVML"),
            ));
            self.news(&id, Standing::NotListed, out);
        }
    }

    /// Tells what became of a GPU, once.
    fn news(&mut self, id: &Identity, now: Standing, out: &mut Measurement) {
        let key = if id.uuid.is_empty() { &id.pci } else { &id.uuid };
        let before = self.told.insert(key.clone(), now);
        // What is well when it is seen first is no news.
        if before.unwrap_or(Standing::Answers) == now {
            return;
        }
        let what = match now {
            Standing::Answers => "answers again",
            Standing::Lost => "is lost: NVML says that it fell off the bus",
            Standing::NeedsReset => "does not answer until it is reset, NVML says",
            Standing::Vanished => "has vanished: NVML does not list it any more",
            Standing::NotListed => "is on the PCI bus and not listed by NVML",
            Standing::NoHandle => "is listed by NVML, which gives no handle to it",
        };
        let kind = EventKind::Gpu { pci: kernel_address(&id.pci), xid: None };
        out.event(Event { at: (self.clock)(), kind, text: format!("{} {what}", name(id)) });
    }

    /// What NVML reported by itself.
    fn events(&self, snapshot: &Snapshot, out: &mut Measurement) {
        for event in &snapshot.events {
            let at = Stamp { wall: WallTime::from_nanos(event.wall), boot: BootTime::from_nanos(event.boot) };
            let pci = kernel_address(&event.pci);
            let whose = snapshot.gpus.iter().find(|gpu| gpu.id.pci == event.pci).map(|gpu| name(&gpu.id));
            let whose = whose.unwrap_or_else(|| "a GPU that NVML did not name".to_owned());
            let text = format!("NVML reports {} of {whose}", event.what);
            out.event(Event { at, kind: EventKind::Gpu { pci, xid: event.xid }, text });
        }
        if snapshot.events_lost > 0 {
            let count = Some(snapshot.events_lost);
            let text = format!("{} events of NVML were not kept", snapshot.events_lost);
            out.event(Event { at: (self.clock)(), kind: EventKind::Lost { count }, text });
        }
        if let Some(why) = &snapshot.no_events {
            out.gap(Gap::new(GapReason::SourceFailed, format!("NVML tells no events of its own: {why}")));
        }
    }
}

/// The labels that every series of a GPU has.
struct Labels {
    index: String,
    uuid: String,
    pci: String,
    device: String,
    model: String,
}

impl Labels {
    fn of(id: &Identity) -> Self {
        Self {
            index: id.index.to_string(),
            uuid: id.uuid.clone(),
            pci: id.pci.clone(),
            device: id.minor.map(|minor| format!("nvidia{minor}")).unwrap_or_default(),
            model: id.name.clone(),
        }
    }

    fn each(&self) -> [&str; 5] {
        [&self.index, &self.uuid, &self.pci, &self.device, &self.model]
    }

    fn reading(&self, metric: &'static MetricSpec, value: i64, out: &mut Measurement) {
        out.reading(metric, &self.each(), value);
    }
}

/// What NVML said of one GPU. A place that the table does not have cannot come from a program like this one.
fn values(gpu: &Gpu, labels: &Labels, out: &mut Measurement) {
    let [index, uuid, pci, device, model] = labels.each();
    let about = &gpu.about;
    if about.vbios.is_some() || about.serial.is_some() || about.part_number.is_some() {
        let [vbios, serial, part] =
            [&about.vbios, &about.serial, &about.part_number].map(|text| text.as_deref().unwrap_or_default());
        out.reading(INFO, &[index, uuid, pci, device, model, vbios, serial, part], 1);
    }
    let plain = |place: u16| METRICS.get(usize::from(place)).filter(|metric| metric.labels == STATE.labels);
    for (place, value) in &gpu.values {
        match plain(*place) {
            Some(metric) => labels.reading(metric, *value, out),
            None => out.gap(Gap::new(GapReason::ParseFailed, format!("there is no metric {place} of a GPU"))),
        }
    }
    for (link, place, value) in &gpu.links {
        if let Some(metric) = METRICS.get(usize::from(*place)).filter(|metric| metric.labels.len() == 6) {
            out.reading(metric, &[index, uuid, pci, device, model, &link.to_string()], *value);
        }
    }
    for mig in &gpu.mig {
        out.reading(MIG, &[index, uuid, pci, device, model, &mig.uuid, &mig.name], 1);
        for (metric, bytes) in [(MIG_USED, mig.memory_used), (MIG_TOTAL, mig.memory_total)] {
            if let Some(bytes) = bytes.and_then(|bytes| i64::try_from(bytes).ok()) {
                out.reading(metric, &[index, uuid, &mig.uuid], bytes);
            }
        }
    }
}

/// How a GPU is called in texts.
fn name(id: &Identity) -> String {
    let pci = kernel_address(&id.pci);
    match (id.uuid.is_empty(), pci.is_empty()) {
        (true, true) => format!("GPU {}", id.index),
        (true, false) => format!("the GPU at {pci}"),
        (false, _) => format!("GPU {} at {pci} ({})", id.index, id.uuid),
    }
}

fn gaps(gpu: &Gpu, out: &mut Measurement) {
    let whose = name(&gpu.id);
    match gpu.state {
        // Of one without a handle the call that failed says why.
        State::Answers | State::NoHandle => {}
        State::Lost => out.gap(Gap::new(GapReason::SourceFailed, format!("{whose} is lost: it fell off the bus"))),
        State::NeedsReset => {
            out.gap(Gap::new(GapReason::SourceFailed, format!("{whose} does not answer until it is reset")));
        }
    }
    for Failed { why, text, call, more } in &gpu.failed {
        let reason = match why {
            Why::Failed => GapReason::SourceFailed,
            Why::Denied => GapReason::PermissionDenied,
            Why::TimedOut => GapReason::TimedOut,
            Why::Absurd => GapReason::ParseFailed,
        };
        let others = if *more == 0 { String::new() } else { format!(" and {more} more calls") };
        out.gap(Gap::new(reason, format!("{whose}: {call}{others}: {text}")));
    }
}

/// What it means for this measurement that there is no snapshot.
fn error(trouble: &Trouble) -> SourceError {
    match trouble {
        Trouble::Stalled { call, since } => SourceError::Stalled { what: call.clone(), after: since.elapsed() },
        Trouble::Failed { why } => SourceError::Refused { why: why.clone() },
        Trouble::NoDriver { why } => SourceError::Absent { why: why.clone() },
    }
}
