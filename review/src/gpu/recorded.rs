//! What a recording says of GPUs up to an instant: one pass over it, keeping of each GPU what was read last, and its events.
//!
//! Pure: frames in, a [`View`] out. The instant is on the node's own clock, as the frames are; the view is told on the collector's.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use casefile_evidence::recording::reader::{Piece, ReadError, Recording};
use casefile_proto::event::Event;
use casefile_proto::gap::Gap;
use casefile_proto::ids::NodeName;
use casefile_proto::sample::{MetricDef, Outcome, Sample, Schema, SeriesDef, SeriesId};
use casefile_proto::time::WallTime;
use casefile_proto::units::Scale;

use super::SOURCE;
use super::events::{GpuEvent, Recogniser};
use super::pods::Pods;
use super::view::{Driver, Gpu, Process, Trouble, View};
use super::words;
use crate::replay;
use crate::signatures::pci::PciAddress;

/// What was read longer before the instant is not its state: the source reads each second, and a driver that is slow takes some.
pub const FRESH: Duration = Duration::from_secs(15);

/// More GPUs than a machine has; a recording that claims more is not believed in the rest.
const MAX_GPUS: usize = 512;

/// When a recording begins: those of one node are to be read in this order. `None`: it has no frame.
pub fn begins(recording: &mut Recording) -> Result<Option<WallTime>, ReadError> {
    let mut first = None;
    recording.pieces(None, &mut |piece| match piece {
        Piece::Frame(frame) => {
            first = Some(frame.at.wall);
            ControlFlow::Break(())
        }
        Piece::Header(_) | Piece::Hole(_) => ControlFlow::Continue(()),
    })?;
    Ok(first)
}

/// What is known of GPUs, frame after frame.
pub struct Recorded {
    /// The instant, on the node's clock.
    at: WallTime,
    pods: Pods,
    schema: Option<Arc<Schema>>,
    /// Whether any schema has the source.
    has_source: bool,
    series: HashMap<SeriesId, Slot>,
    gpus: Vec<Known>,
    seen_by: BTreeMap<String, u64>,
    driver: Option<Driver>,
    /// The last tick that read something.
    tick: Option<WallTime>,
    /// The gaps of that tick.
    partial: Vec<Gap>,
    /// What came after it, if it was no success.
    bad: Option<Bad>,
    /// The last hole of the recording before the instant.
    hole: Option<Gap>,
    /// The last frame before the instant.
    last_frame: Option<WallTime>,
    recogniser: Recogniser,
    events: Vec<GpuEvent>,
    counted: u64,
    more: u64,
    after: u64,
}

struct Bad {
    since: WallTime,
    outcome: Outcome,
}

/// What a series is for.
enum Slot {
    State(usize),
    Value { gpu: usize, metric: Rc<str>, scale: Scale },
    Info { gpu: usize, info: BTreeMap<String, String> },
    Driver(Driver),
    Seen(String),
    Process(Rc<Holder>),
    Memory { key: HolderKey, scale: Scale },
}

/// GPU, process, type. The type is empty where a series has no such label.
type HolderKey = (String, String, String);

/// Who holds a GPU, as the series says.
struct Holder {
    key: HolderKey,
    name: String,
    cgroup: String,
    pod_uid: String,
    container: String,
}

struct Known {
    key: String,
    index: String,
    uuid: String,
    pci_bus_id: String,
    device: String,
    model: String,
    info: BTreeMap<String, String>,
    /// State, the tick that said it, and the first one in a row.
    state: Option<(i64, WallTime, WallTime)>,
    /// The last tick at which it answered.
    answered: Option<WallTime>,
    values: HashMap<Rc<str>, (f64, WallTime)>,
    holders: Vec<(Rc<Holder>, Option<f64>)>,
}

impl Recorded {
    /// For the state at this instant of the node's clock; pods are named as far as these are known.
    pub fn until(at: WallTime, pods: Pods) -> Self {
        Self {
            at,
            pods,
            schema: None,
            has_source: false,
            series: HashMap::new(),
            gpus: Vec::new(),
            seen_by: BTreeMap::new(),
            driver: None,
            tick: None,
            partial: Vec::new(),
            bad: None,
            hole: None,
            last_frame: None,
            recogniser: Recogniser::default(),
            events: Vec::new(),
            counted: 0,
            more: 0,
            after: 0,
        }
    }

    /// Reads a recording of the node; where it has several they are read in order of time ([`begins`]).
    pub fn read(&mut self, recording: &mut Recording) -> Result<(), ReadError> {
        // Ids belong to one recording.
        self.series.clear();
        self.schema = None;
        recording.pieces(None, &mut |piece| {
            match piece {
                Piece::Header(header) => {
                    self.has_source |= header.schema.sources.iter().any(|s| s.name == SOURCE);
                    self.schema = Some(header.schema);
                }
                Piece::Hole(hole) => {
                    if hole.gap.interval.is_some_and(|i| i.from() <= self.at) {
                        self.hole = Some(hole.gap);
                    }
                }
                Piece::Frame(frame) => {
                    let at = frame.at.wall;
                    // The processes that an event is put down to are those of the table before it.
                    let (before, behind): (Vec<_>, Vec<_>) = frame.events.iter().partition(|e| e.at.wall < at);
                    before.into_iter().for_each(|event| self.event(event));
                    if let Some(schema) = self.schema.clone() {
                        for sample in &frame.samples {
                            let source = schema.sources.get(usize::from(sample.source.0));
                            if let Some(source) = source.filter(|s| s.name == SOURCE) {
                                self.sample(&source.metrics, sample, at);
                            }
                        }
                    }
                    if at <= self.at {
                        self.last_frame = Some(at);
                    }
                    behind.into_iter().for_each(|event| self.event(event));
                }
            }
            ControlFlow::Continue(())
        })
    }

    /// Whether the source was recorded at all.
    pub fn has_source(&self) -> bool {
        self.has_source
    }

    fn sample(&mut self, metrics: &[MetricDef], sample: &Sample, at: WallTime) {
        for (id, def) in &sample.defined {
            let slot = metrics.get(usize::from(def.metric.0)).and_then(|metric| self.slot(metric, def));
            if let Some(slot) = slot {
                self.series.insert(*id, slot);
            }
        }
        if at > self.at || sample.outcome.is_not_due() {
            return;
        }
        self.partial = match &sample.outcome {
            Outcome::Complete => Vec::new(),
            Outcome::Partial { gaps } => gaps.clone(),
            outcome => {
                let since = self.bad.as_ref().map_or(at, |bad| bad.since);
                self.bad = Some(Bad { since, outcome: outcome.clone() });
                return;
            }
        };
        (self.tick, self.bad) = (Some(at), None);
        self.seen_by.clear();
        let (mut holders, mut memory) = (Vec::new(), HashMap::new());
        for reading in &sample.readings {
            match self.series.get(&reading.series) {
                Some(Slot::State(gpu)) => {
                    if let Some(gpu) = self.gpus.get_mut(*gpu) {
                        gpu.state(reading.value, at);
                    }
                }
                Some(Slot::Value { gpu, metric, scale }) => {
                    if let Some(gpu) = self.gpus.get_mut(*gpu) {
                        gpu.values.insert(Rc::clone(metric), (scale.apply(reading.value), at));
                    }
                }
                Some(Slot::Info { gpu, info }) => {
                    if let Some(gpu) = self.gpus.get_mut(*gpu) {
                        gpu.info.clone_from(info);
                    }
                }
                Some(Slot::Driver(driver)) => self.driver = Some(driver.clone()),
                Some(Slot::Seen(by)) => {
                    if let Ok(count) = u64::try_from(reading.value) {
                        self.seen_by.insert(by.clone(), count);
                    }
                }
                Some(Slot::Process(holder)) => holders.push(Rc::clone(holder)),
                Some(Slot::Memory { key, scale }) => {
                    memory.insert(key.clone(), scale.apply(reading.value));
                }
                None => {}
            }
        }
        // A GPU that does not answer keeps the processes that it had.
        for gpu in self.gpus.iter_mut().filter(|gpu| gpu.answered == Some(at)) {
            let own = holders.iter().filter(|h| h.key.0 == gpu.key);
            let held = |(gpu, pid, kind): &HolderKey| {
                let of_all_types = || memory.get(&(gpu.clone(), pid.clone(), String::new()));
                memory.get(&(gpu.clone(), pid.clone(), kind.clone())).or_else(of_all_types).copied()
            };
            gpu.holders = own.map(|h| (Rc::clone(h), held(&h.key))).collect();
        }
    }

    fn slot(&mut self, metric: &MetricDef, def: &SeriesDef) -> Option<Slot> {
        let label = |name: &str| -> Option<String> {
            let at = metric.labels.iter().position(|l| l == name)?;
            def.labels.get(at).map(|value| value.to_string())
        };
        let text = |name: &str| label(name).unwrap_or_default();
        let holder = || (key(&text("UUID"), &text("gpu")), text("pid"), text("type"));
        Some(match metric.name.as_str() {
            "casefile_gpu_devices" => Slot::Seen(label("seen_by")?),
            "casefile_gpu_driver_info" => Slot::Driver(Driver {
                driver_version: text("driver_version"),
                nvml_version: text("nvml_version"),
                cuda_version: text("cuda_version"),
            }),
            "casefile_gpu_process_info" => Slot::Process(Rc::new(Holder {
                key: holder(),
                name: text("comm"),
                cgroup: text("cgroup"),
                pod_uid: text("pod_uid"),
                container: text("container_id"),
            })),
            "casefile_gpu_process_memory_bytes" => Slot::Memory { key: holder(), scale: metric.scale },
            name => {
                // Series of a part of a GPU (a link, a MIG device) have more labels, and no place in this view.
                let plain = metric.labels.len() == GPU_LABELS.len();
                let info = name == "casefile_gpu_info";
                if !(info || plain) || GPU_LABELS.iter().any(|l| label(l).is_none()) {
                    return None;
                }
                let [index, uuid, pci_bus_id, device, model] = GPU_LABELS.map(text);
                let gpu = self.gpu(index, uuid, pci_bus_id, device, model)?;
                match name {
                    "casefile_gpu_state" => Slot::State(gpu),
                    "casefile_gpu_info" => {
                        let others = metric.labels.iter().filter(|l| !GPU_LABELS.contains(&l.as_str()));
                        let info = others.map(|l| (l.clone(), text(l))).filter(|(_, v)| !v.is_empty()).collect();
                        Slot::Info { gpu, info }
                    }
                    _ => Slot::Value { gpu, metric: name.into(), scale: metric.scale },
                }
            }
        })
    }

    /// The place of a GPU, which is known by its UUID; what else is said of it is as it was said last.
    fn gpu(&mut self, index: String, uuid: String, pci_bus_id: String, device: String, model: String) -> Option<usize> {
        let own = key(&uuid, if uuid.is_empty() { &pci_bus_id } else { &index });
        let place = self.gpus.iter().position(|gpu| gpu.key == own).or_else(|| {
            (self.gpus.len() < MAX_GPUS).then(|| {
                self.gpus.push(Known::new(own));
                self.gpus.len() - 1
            })
        })?;
        let known = self.gpus.get_mut(place)?;
        (known.index, known.uuid, known.pci_bus_id, known.device, known.model) =
            (index, uuid, pci_bus_id, device, model);
        Some(place)
    }

    fn event(&mut self, event: &Event) {
        let Some(mut found) = self.recogniser.of(event) else { return };
        if found.time > self.at {
            self.after += u64::from(found.counts());
            return;
        }
        self.counted += u64::from(found.counts());
        if self.events.len() >= View::MAX_EVENTS {
            self.more += 1;
            return;
        }
        let at_address = |gpu: &&Known| {
            let address = PciAddress::parse(&gpu.pci_bus_id);
            address.zip(found.pci.as_ref()).is_some_and(|(a, b)| a.same_device(b))
        };
        let gpu = self.gpus.iter().find(at_address);
        found.gpu = gpu.map(|gpu| gpu.index.clone()).filter(|index| !index.is_empty());
        let pid = found.pid.map(|pid| pid.to_string());
        let named = |holder: &&Holder| pid.as_ref() == Some(&holder.key.1);
        // The GPU's own table first: a pid may stand in several.
        let own = || gpu.into_iter().flat_map(|gpu| gpu.holders.iter().map(|(h, _)| &**h));
        let all = || self.gpus.iter().flat_map(|gpu| gpu.holders.iter().map(|(h, _)| &**h));
        let pod = |holder: &Holder| (!holder.pod_uid.is_empty()).then(|| self.pods.pod(&holder.pod_uid));
        match own().find(named).or_else(|| all().find(named)) {
            Some(holder) => found.pod = pod(holder),
            None => {
                found.users = own().filter_map(pod).collect();
                found.users.sort();
                found.users.dedup();
            }
        }
        self.events.push(found);
    }

    /// What is known at the instant. `ahead`: by how many nanoseconds the node's clock is ahead of the collector's.
    pub fn view(self, node: NodeName, ahead: i64) -> View {
        let told = |at: WallTime| at.offset(ahead.saturating_neg());
        let trouble = self.trouble().map(|t| Trouble { since: t.since.map(told), ..t });
        let (tick, pods) = (self.tick, self.pods);
        let mut gpus: Vec<_> = self.gpus.into_iter().filter_map(|gpu| gpu.view(tick?, &pods, &told)).collect();
        gpus.sort_by_key(|gpu| (gpu.index.parse::<u64>().unwrap_or(u64::MAX), gpu.pci_bus_id.clone()));
        let events = self.events.into_iter().map(|event| GpuEvent { time: told(event.time), ..event });
        View {
            node,
            asked: told(self.at),
            tick: tick.map(told),
            trouble,
            seen_by: self.seen_by,
            driver: self.driver,
            gpus,
            events: events.collect(),
            counted: self.counted,
            more: self.more,
            after: self.after,
        }
    }

    /// What is missing at the instant.
    fn trouble(&self) -> Option<Trouble> {
        let fresh = self.tick.is_some_and(|tick| self.at.nanos_since(tick) <= fresh());
        if let Some(bad) = &self.bad {
            let why = replay::trouble(&bad.outcome).into_iter().collect();
            return Some(Trouble {
                nothing: !fresh,
                outcome: bad.outcome.word().to_owned(),
                since: Some(bad.since),
                why,
            });
        }
        if !fresh {
            let since = self.last_frame.or(self.tick);
            let hole =
                self.hole.iter().filter(|gap| gap.interval.is_none_or(|i| since.is_none_or(|since| i.until() > since)));
            let why = hole.map(|gap| format!("{}: {}", gap.reason, gap.detail)).collect();
            return Some(Trouble { nothing: true, outcome: "not recorded".to_owned(), since, why });
        }
        let why: Vec<_> = self.partial.iter().map(|gap| format!("{}: {}", gap.reason, gap.detail)).collect();
        (!why.is_empty()).then(|| Trouble { nothing: false, outcome: "partial".to_owned(), since: None, why })
    }
}

/// The labels of every series of one GPU, in order.
const GPU_LABELS: [&str; 5] = ["gpu", "UUID", "pci_bus_id", "device", "modelName"];

/// The series with the bits of why clocks are held back.
const REASONS: &str = "DCGM_FI_DEV_CLOCKS_EVENT_REASONS";

/// How the names of series end that are read at every tenth tick: limits, settings, and what costs much. Of these one that
/// was read shortly before the instant is as good as one of the instant; of all others it is not.
const SELDOM: [&str; 21] = [
    "_MAX_SM_CLOCK",
    "_MAX_MEM_CLOCK",
    "_MAX_VIDEO_CLOCK",
    "_POWER_MGMT_LIMIT",
    "_POWER_MGMT_LIMIT_DEF",
    "_POWER_MGMT_LIMIT_MIN",
    "_POWER_MGMT_LIMIT_MAX",
    "_SLOWDOWN_TEMP",
    "_SHUTDOWN_TEMP",
    "_MAX_OP_TEMP",
    "_ECC_CURRENT",
    "_ECC_PENDING",
    "_VOL_DEV",
    "_AGG_DEV",
    "_SRM",
    "_PCIE_MAX_LINK_GEN",
    "_PCIE_MAX_LINK_WIDTH",
    "_PERSISTENCE_MODE",
    "_COMPUTE_MODE",
    "_MIG_MODE",
    "_fabric_state",
];

/// [`FRESH`] in nanoseconds.
fn fresh() -> i64 {
    i64::try_from(FRESH.as_nanos()).unwrap_or(i64::MAX)
}

/// How a GPU is known: its UUID, or what else there is where it has none.
fn key(uuid: &str, otherwise: &str) -> String {
    if uuid.is_empty() { format!("at {otherwise}") } else { uuid.to_owned() }
}

impl Known {
    fn new(key: String) -> Self {
        let none = String::new;
        Self {
            key,
            index: none(),
            uuid: none(),
            pci_bus_id: none(),
            device: none(),
            model: none(),
            info: BTreeMap::new(),
            state: None,
            answered: None,
            values: HashMap::new(),
            holders: Vec::new(),
        }
    }

    fn state(&mut self, code: i64, at: WallTime) {
        let since = self.state.filter(|(was, _, _)| *was == code).map_or(at, |(_, _, since)| since);
        self.state = Some((code, at, since));
        if code == 1 {
            self.answered = Some(at);
        }
    }

    /// What is shown of it at a tick; `None` for one of which nothing had been read by then.
    fn view(self, tick: WallTime, pods: &Pods, told: &impl Fn(WallTime) -> WallTime) -> Option<Gpu> {
        let (code, said, since) = self.state?;
        let now = (said == tick).then_some(code);
        if now.is_none() && self.uuid.is_empty() {
            // Known by its address only while NVML did not list it: it is listed now, or gone from the bus.
            return None;
        }
        let as_of = if now == Some(1) { Some(tick) } else { self.answered };
        let new = |metric: &str, at: WallTime| {
            let age = as_of.map_or(i64::MAX, |as_of| as_of.nanos_since(at));
            age == 0 || (SELDOM.iter().any(|end| metric.ends_with(end)) && (0..=fresh()).contains(&age))
        };
        let read = self.values.iter().filter(|(metric, (_, at))| new(metric, *at));
        let values: BTreeMap<_, _> = read.map(|(metric, (value, _))| (metric.to_string(), *value)).collect();
        let processes = self.holders.iter().map(|(holder, memory)| Process {
            pid: holder.key.1.clone(),
            kind: holder.key.2.clone(),
            name: holder.name.clone(),
            cgroup: holder.cgroup.clone(),
            pod: (!holder.pod_uid.is_empty()).then(|| pods.pod(&holder.pod_uid)),
            container: holder.container.clone(),
            memory_bytes: *memory,
        });
        let mut processes: Vec<_> = processes.collect();
        processes.sort_by_key(|p| (p.pid.parse::<u64>().unwrap_or(u64::MAX), p.kind.clone()));
        Some(Gpu {
            state: now,
            state_text: now.map_or_else(|| "the source says nothing of it any more".to_owned(), words::state),
            state_since: told(if now.is_some() { since } else { said }),
            as_of: as_of.map(told),
            held_back_by: values.get(REASONS).and_then(|bits| words::whole(*bits)?.try_into().ok()).map(words::reasons),
            values,
            processes,
            index: self.index,
            uuid: self.uuid,
            pci_bus_id: self.pci_bus_id,
            device: self.device,
            model: self.model,
            info: self.info,
        })
    }
}
