//! What pods ask for and what they use: now, and in the part of the window before.
//!
//! Requests and limits are those of the cluster's objects; use, throttling, pressure and kills are what the node recorded of the pod's
//! cgroups, and GPUs by the processes that hold them. What was not recorded is `None`, and never 0.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use casefile_proto::ids::NodeName;
use casefile_proto::time::{WallTime, Window};
use serde::Serialize;

use super::pods::Target;
use super::wrapped;
use crate::casefile::{CaseFile, CaseFileError};
use crate::compare;
use crate::display::safe;
use crate::kubernetes::{Amounts, Pod, State};
use crate::past::pods::pod_of;
use crate::past::table::{NOTHING, aligned, number, short_bytes};
use crate::seriesset::{Growth, OneSeries, SeriesSet};
use crate::summary;

/// The version of the form of the JSON.
pub const FORMAT: u32 = 1;

const CPU: &str = "container_cpu_usage_seconds_total";
const PERIODS: &str = "container_cpu_cfs_periods_total";
const THROTTLED: &str = "container_cpu_cfs_throttled_periods_total";
const MEMORY: &str = "container_memory_usage_bytes";
const INACTIVE: &str = "container_memory_total_inactive_file_bytes";
const KILLS: &str = "container_oom_events_total";
const WAITING: [&str; 3] = [
    "container_pressure_cpu_waiting_seconds_total",
    "container_pressure_memory_waiting_seconds_total",
    "container_pressure_io_waiting_seconds_total",
];
const LIMIT: &str = "container_spec_memory_limit_bytes";
const HOLDERS: &str = "casefile_gpu_process_info";
const HELD: &str = "casefile_gpu_process_memory_bytes";
const BUSY: &str = "DCGM_FI_DEV_GPU_UTIL";

/// All that is read.
const METRICS: [&str; 13] =
    [CPU, PERIODS, THROTTLED, MEMORY, INACTIVE, KILLS, WAITING[0], WAITING[1], WAITING[2], LIMIT, HOLDERS, HELD, BUSY];

/// Less before it says nothing of what is ordinary.
const LEAST: std::time::Duration = std::time::Duration::from_secs(60);

/// What is compared with what, and why there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// What is looked at.
    pub now: Window,
    /// What it is compared with; `None`: there is not enough before it.
    pub before: Option<Window>,
    /// Why the window is split there.
    pub because: String,
}

impl Compared {
    /// Split at an instant that somebody said.
    pub fn at(window: Window, at: WallTime) -> Option<Self> {
        let now = Window::new(at.max(window.from()), window.until()).ok()?;
        let because = format!("split at {}, as asked for", at.to_seconds_text());
        Some(Self { now, before: compare::before(now, window.from()), because })
    }

    /// Split at the first anomaly, where enough lies before it; else in the middle.
    pub fn of(window: Window, anomaly: Option<WallTime>) -> Self {
        let enough = |at: &WallTime| *at >= window.from().after(LEAST) && *at < window.until();
        if let Some(split) = anomaly.filter(enough).and_then(|at| Self::at(window, at)) {
            let because = format!("split at the first anomaly, {}", split.now.from().to_seconds_text());
            return Self { because, ..split };
        }
        let middle = window.from().after(window.duration() / 2);
        match Window::new(middle, window.until()).ok().zip(Window::new(window.from(), middle).ok()) {
            Some((now, before)) => Self {
                now,
                before: Some(before),
                because: "the second half of the window against the first".to_owned(),
            },
            None => Self { now: window, before: None, because: "the window is too short to be split".to_owned() },
        }
    }
}

/// What a pod used in a part of the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Used {
    /// CPUs that it kept busy, on average.
    pub cpus_mean: Option<f64>,
    /// The most of one reading.
    pub cpus_max: Option<f64>,
    /// Memory less page cache that is not in use, on average.
    pub working_set_bytes_mean: Option<f64>,
    /// The most of it.
    pub working_set_bytes_max: Option<f64>,
    /// Of the periods of its CPU quota, the part in which it was held back.
    pub throttled_ratio: Option<f64>,
    /// Processes that were killed for want of memory.
    pub oom_kills: Option<f64>,
    /// Of the time, the part in which tasks of it waited for a CPU.
    pub cpu_pressure: Option<f64>,
    /// The same for memory.
    pub memory_pressure: Option<f64>,
    /// The same for storage.
    pub io_pressure: Option<f64>,
    /// Of the GPUs that its processes hold, how busy they were on average, of 1.
    pub gpu_utilization: Option<f64>,
    /// Memory of GPUs that its processes held, on average.
    pub gpu_memory_bytes: Option<f64>,
}

/// What is asked for, as the object says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Asked {
    /// CPUs that are requested.
    pub cpu_request: Option<f64>,
    /// CPUs that it may keep busy; `None` with `known`: it has no limit.
    pub cpu_limit: Option<f64>,
    /// Bytes of memory that are requested.
    pub memory_request_bytes: Option<f64>,
    /// Bytes that it may have; `None` with `known`: it has no limit.
    pub memory_limit_bytes: Option<f64>,
    /// GPUs.
    pub gpus: Option<f64>,
    /// Whether the object is in the case file: without it nothing of this is known.
    pub known: bool,
}

/// A pod with what it asks for and what it uses.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its namespace. Text of the cluster, as the name: escape before showing.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// The node that it is on.
    pub node: Option<String>,
    /// Its phase.
    pub phase: Option<String>,
    /// How often its containers were started again, in all.
    pub restarts: Option<u64>,
    /// What it asks for.
    pub asked: Asked,
    /// What it used in the part that is looked at.
    pub now: Used,
    /// What it used before.
    pub before: Option<Used>,
    /// Why something is not known.
    pub unknown: Vec<String>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resources {
    /// The version of this form.
    pub format: u32,
    /// What is compared with what.
    pub compared: Compared,
    /// The pods.
    pub pods: Vec<Row>,
    /// What could not be found out.
    pub unknown: Vec<String>,
    /// Recordings that could not be read to their end, and why.
    pub damaged: Vec<(String, String)>,
}

/// Looks at these pods.
///
/// # Errors
/// Never for what is damaged in the case file: that is told.
pub fn resources(
    casefile: &mut CaseFile,
    targets: &[Target<'_>],
    compared: Compared,
    unknown: Vec<String>,
) -> Result<Resources, CaseFileError> {
    let nodes: BTreeSet<&NodeName> = targets.iter().filter_map(|target| target.node.as_ref()).collect();
    let mut rows: Vec<Row> = targets.iter().map(row).collect();
    let mut damaged = Vec::new();
    for node in nodes {
        let set = SeriesSet::load(casefile, node, &|_, metric| METRICS.contains(&metric.name.as_str()))?;
        damaged.extend(set.damaged.iter().cloned());
        let known = Known::of(&set);
        let of_node = rows.iter_mut().zip(targets).filter(|(_, target)| target.node.as_ref() == Some(node));
        for (row, target) in of_node {
            let Some(uid) = &target.uid else { continue };
            if !known.by_pod.contains_key(uid.as_str()) {
                row.unknown.push(format!("nothing of its cgroups is recorded on {node}"));
                continue;
            }
            row.now = known.used(uid, compared.now);
            row.before = compared.before.map(|before| known.used(uid, before));
            doubt_kills(row, target.object, &compared);
        }
    }
    Ok(Resources { format: FORMAT, compared, pods: rows, unknown, damaged })
}

/// Where the cluster knows of kills that the node's count lacks, nobody knows how many there were: before cgroup v2 a container has
/// a count of its own, which is gone with it.
fn doubt_kills(row: &mut Row, object: Option<&Pod>, compared: &Compared) {
    let all = object.into_iter().flat_map(|pod| &pod.containers).filter_map(|container| container.status.as_ref());
    let ended = all.flat_map(|status| {
        let now = if let State::Terminated(ended) = &status.state { Some(ended) } else { None };
        now.into_iter().chain(&status.last)
    });
    let killed: Vec<_> = ended.filter(|ended| ended.reason.as_deref() == Some("OOMKilled")).collect();
    let parts = [(Some(compared.now), Some(&mut row.now)), (compared.before, row.before.as_mut())];
    let mut is_doubted = false;
    for (part, used) in parts.into_iter().filter_map(|(part, used)| part.zip(used)) {
        let known = killed.iter().filter(|ended| ended.finished.is_some_and(|at| part.contains(at))).count();
        if used.oom_kills.is_some_and(|counted| counted < known as f64) {
            (used.oom_kills, is_doubted) = (None, true);
        }
    }
    if is_doubted {
        let why = "how many memory kills there were: the cluster tells of one that the node's count does not have";
        row.unknown.push(why.to_owned());
    }
}

fn row(target: &Target<'_>) -> Row {
    let object = target.object;
    let said_node = object.and_then(|pod| pod.node.clone());
    let mut unknown = Vec::new();
    match (&target.node, &said_node) {
        (None, Some(node)) => unknown.push(format!("its node {node} is not in this archive")),
        (None, None) => unknown.push("it is on no node".to_owned()),
        _ => {}
    }
    if target.uid.is_none() {
        unknown.push("its uid is not known".to_owned());
    }
    Row {
        namespace: target.namespace.clone(),
        pod: target.name.clone(),
        node: said_node.or_else(|| target.node.as_ref().map(ToString::to_string)),
        phase: object.and_then(|pod| pod.phase.clone()),
        restarts: object.and_then(Pod::restarts),
        asked: object.map(asked).unwrap_or_default(),
        now: Used::default(),
        before: None,
        unknown,
    }
}

/// What the containers of a pod ask for together. A limit of which one container has none is none.
fn asked(pod: &Pod) -> Asked {
    let containers = || pod.containers.iter().filter(|container| !container.init);
    let sum = |of: fn(&Amounts) -> Option<f64>| containers().filter_map(|c| of(&c.requests)).reduce(|a, b| a + b);
    let all = |of: fn(&Amounts) -> Option<f64>| containers().map(|c| of(&c.limits)).sum::<Option<f64>>();
    Asked {
        cpu_request: sum(|amounts| amounts.cpus),
        cpu_limit: all(|amounts| amounts.cpus),
        memory_request_bytes: sum(|amounts| amounts.memory),
        memory_limit_bytes: all(|amounts| amounts.memory),
        gpus: containers().filter_map(|c| c.limits.gpus).reduce(|a, b| a + b),
        known: true,
    }
}

/// The series of a node by the pods that they are of.
struct Known<'s> {
    set: &'s SeriesSet,
    /// Of each pod its series by metric, those of the pod's own cgroup or else those of its containers.
    by_pod: BTreeMap<String, BTreeMap<&'s str, Vec<&'s OneSeries>>>,
    /// GPUs (UUID and number) that processes of a pod hold, and the series that say so.
    gpus: BTreeMap<String, BTreeSet<(String, String)>>,
    held: BTreeMap<String, Vec<&'s OneSeries>>,
}

impl<'s> Known<'s> {
    fn of(set: &'s SeriesSet) -> Self {
        let mut known = Self { set, by_pod: BTreeMap::new(), gpus: BTreeMap::new(), held: BTreeMap::new() };
        let mut of_pod: BTreeSet<(String, &str)> = BTreeSet::new();
        let groups = || {
            let named = set.series.iter().filter_map(|series| Some((series, pod_of(series.label("id")?)?)));
            named.filter(|(series, _)| !series.values.is_empty())
        };
        for (series, (uid, container)) in groups() {
            if container.is_none() {
                of_pod.insert((uid, series.metric.name.as_str()));
            }
        }
        for (series, (uid, container)) in groups() {
            let metric = series.metric.name.as_str();
            // The pod's own cgroup has all that its containers have, also of those that are gone.
            if container.is_none() || !of_pod.contains(&(uid.clone(), metric)) {
                known.by_pod.entry(uid).or_default().entry(metric).or_default().push(series);
            }
        }
        known.of_gpus();
        known
    }

    fn of_gpus(&mut self) {
        let text = |series: &OneSeries, name: &str| series.label(name).unwrap_or_default().to_owned();
        let mut pod_of_pid: BTreeMap<String, String> = BTreeMap::new();
        for series in self.set.of(HOLDERS) {
            let Some(uid) = series.label("pod_uid").filter(|uid| !uid.is_empty()) else { continue };
            pod_of_pid.insert(text(series, "pid"), uid.to_owned());
            self.gpus.entry(uid.to_owned()).or_default().insert((text(series, "UUID"), text(series, "gpu")));
        }
        for series in self.set.of(HELD) {
            if let Some(uid) = pod_of_pid.get(&text(series, "pid")) {
                self.held.entry(uid.clone()).or_default().push(series);
            }
        }
    }

    fn series(&self, uid: &str, metric: &str) -> &[&'s OneSeries] {
        self.by_pod.get(uid).and_then(|of| of.get(metric)).map_or(&[], Vec::as_slice)
    }

    fn growth(&self, uid: &str, metric: &str, window: Window) -> Option<Growth> {
        let all = self.series(uid, metric).iter().filter_map(|series| self.set.grown_within(series, window));
        all.reduce(|a, b| Growth { by: a.by + b.by, seconds: a.seconds.max(b.seconds) })
    }

    /// Values of several series together, at each tick at which one of them was read.
    fn together(&self, series: &[&OneSeries], window: Window, rates: bool) -> BTreeMap<u32, f64> {
        let mut all = BTreeMap::new();
        for one in series {
            let values = if rates { self.set.rates(one) } else { one.values.clone() };
            for value in self.set.within(&values, window) {
                *all.entry(value.tick).or_insert(0.0) += value.value;
            }
        }
        all
    }

    fn used(&self, uid: &str, window: Window) -> Used {
        let cpu = self.growth(uid, CPU, window);
        let rates = self.together(self.series(uid, CPU), window, true);
        let inactive = self.together(self.series(uid, INACTIVE), window, false);
        let memory = self.together(self.series(uid, MEMORY), window, false);
        let working: Vec<f64> =
            memory.iter().filter_map(|(tick, bytes)| Some((bytes - inactive.get(tick)?).max(0.0))).collect();
        let periods = self.growth(uid, PERIODS, window).filter(|growth| growth.by > 0.0);
        let waiting = WAITING.map(|metric| self.growth(uid, metric, window).map(|growth| growth.by / growth.seconds));
        let held: Vec<f64> = self
            .held
            .get(uid)
            .map_or_else(Vec::new, |series| self.together(series, window, false).into_values().collect());
        let busy = self.gpus.get(uid).map(|gpus| {
            let of = |series: &&OneSeries| {
                gpus.iter().any(|(uuid, gpu)| {
                    series
                        .label("UUID")
                        .filter(|uuid| !uuid.is_empty())
                        .map_or(series.label("gpu") == Some(gpu), |of| of == uuid)
                })
            };
            let all = self.set.of(BUSY).filter(of).flat_map(|series| self.set.within(&series.values, window));
            all.map(|value| value.value).collect::<Vec<_>>()
        });
        Used {
            cpus_mean: cpu.map(|growth| growth.by / growth.seconds),
            cpus_max: rates.into_values().reduce(f64::max),
            working_set_bytes_mean: mean(&working),
            working_set_bytes_max: working.iter().copied().reduce(f64::max),
            throttled_ratio: periods.and_then(|all| Some(self.growth(uid, THROTTLED, window)?.by / all.by)),
            oom_kills: self.growth(uid, KILLS, window).map(|growth| growth.by),
            cpu_pressure: waiting[0],
            memory_pressure: waiting[1],
            io_pressure: waiting[2],
            gpu_utilization: busy.and_then(|values| mean(&values)).map(|percent| percent / 100.0),
            gpu_memory_bytes: mean(&held),
        }
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

impl Resources {
    /// Whether everything that was asked for could be looked at.
    pub fn is_whole(&self) -> bool {
        let whole = |row: &Row| row.unknown.is_empty() && row.asked.known && row.now.cpus_mean.is_some();
        self.unknown.is_empty() && self.damaged.is_empty() && !self.pods.is_empty() && self.pods.iter().all(whole)
    }

    /// For a person: a table of each pod, now and before.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let now = summary::window(self.compared.now);
        let before = self.compared.before.map_or_else(|| "nothing before it".to_owned(), summary::window);
        // Writing to a String does not fail.
        let _infallible = writeln!(out, "now     {now}\nbefore  {before}");
        let _infallible = writeln!(out, "        ({})", self.compared.because);
        for row in &self.pods {
            out.push('\n');
            out.push_str(&of_pod(row));
        }
        for why in &self.unknown {
            let _infallible = writeln!(out, "\n{}", wrapped("cannot tell: ", &safe(why)));
        }
        if self.pods.iter().any(|row| !row.asked.known) {
            out.push_str(
                "\nRequests, limits and restarts are unknown (-) where the pod's object is not in this archive.\n",
            );
        }
        out
    }
}

fn of_pod(row: &Row) -> String {
    let phase = row.phase.as_deref().map(|phase| format!(", {phase}")).unwrap_or_default();
    let restarts = row.restarts.map_or_else(|| NOTHING.to_owned(), |count| count.to_string());
    let node = row.node.as_deref().unwrap_or(NOTHING);
    let head = format!("{}/{} on {node}{phase}, restarts: {restarts}", row.namespace, row.pod);
    let mut out = wrapped("", &safe(&head));
    out.push('\n');
    for why in &row.unknown {
        out.push_str(&format!("{}\n", wrapped("  cannot tell: ", &safe(why))));
    }
    let bytes = |value: Option<f64>| value.map_or_else(|| NOTHING.to_owned(), short_bytes);
    // A limit that the object does not have is none; without the object nobody knows.
    let or_none =
        |text: String, value: Option<f64>| if value.is_none() && row.asked.known { "none".to_owned() } else { text };
    let asked = &row.asked;
    let of = |get: fn(&Used) -> Option<f64>| (get(&row.now), row.before.as_ref().and_then(get));
    let mut rows = Vec::new();
    let mut line = |name: &str,
                    request: String,
                    limit: String,
                    (now, before): (Option<f64>, Option<f64>),
                    show: &dyn Fn(Option<f64>) -> String| {
        rows.push(vec![name.to_owned(), request, limit, show(now), show(before), change(now, before)]);
    };
    let cpus = |value: Option<f64>| number(value, 1.0, 2);
    let percent = |value: Option<f64>| number(value, 0.01, 1);
    let count = |value: Option<f64>| number(value, 1.0, 0);
    let none = String::new;
    let request = or_none(cpus(asked.cpu_request), asked.cpu_request);
    let limit = or_none(cpus(asked.cpu_limit), asked.cpu_limit);
    line("CPUs, mean", request, limit, of(|used| used.cpus_mean), &cpus);
    line("CPUs, most", none(), none(), of(|used| used.cpus_max), &cpus);
    line("throttled, %", none(), none(), of(|used| used.throttled_ratio), &percent);
    let request = or_none(bytes(asked.memory_request_bytes), asked.memory_request_bytes);
    let limit = or_none(bytes(asked.memory_limit_bytes), asked.memory_limit_bytes);
    line("memory, mean", request, limit, of(|used| used.working_set_bytes_mean), &bytes);
    line("memory, most", none(), none(), of(|used| used.working_set_bytes_max), &bytes);
    line("memory kills", none(), none(), of(|used| used.oom_kills), &count);
    line("waits for CPU, %", none(), none(), of(|used| used.cpu_pressure), &percent);
    line("waits for memory, %", none(), none(), of(|used| used.memory_pressure), &percent);
    line("waits for I/O, %", none(), none(), of(|used| used.io_pressure), &percent);
    if asked.gpus.is_some() || row.now.gpu_memory_bytes.is_some() || row.now.gpu_utilization.is_some() {
        let gpus = count(asked.gpus);
        line("GPUs, % busy", gpus.clone(), gpus, of(|used| used.gpu_utilization), &percent);
        line("GPU memory", none(), none(), of(|used| used.gpu_memory_bytes), &bytes);
    }
    let table = aligned(1, &["", "REQUEST", "LIMIT", "NOW", "BEFORE", "CHANGE"], &rows);
    table.lines().for_each(|line| out.push_str(&format!("  {line}\n")));
    out
}

/// How much more it is than before: `×2.3`, `=` where it is about the same, empty where one is not known.
fn change(now: Option<f64>, before: Option<f64>) -> String {
    let (Some(now), Some(before)) = (now, before) else { return NOTHING.to_owned() };
    if (now - before).abs() <= 0.05 * before.abs().max(now.abs()) {
        return "=".to_owned();
    }
    if before > 0.0 && now / before < 1000.0 { format!("×{:.2}", now / before) } else { "new".to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: u32) -> WallTime {
        format!("2026-11-23T10:00:{second:02}Z").parse().unwrap()
    }

    #[test]
    fn a_count_that_lacks_a_kill_of_which_the_cluster_tells_is_no_count() {
        let killed = json!({"reason": "OOMKilled", "exitCode": 137, "finishedAt": "2026-11-23T10:00:40Z"});
        let status = json!({"name": "c", "ready": false, "restartCount": 3, "state": {"waiting": {}}, "lastState": {"terminated": killed}});
        let object = json!({"metadata": {"name": "eater"}, "spec": {"containers": [{"name": "c"}]}, "status": {"containerStatuses": [status]}});
        let pod = Pod::of(&object, 0).unwrap();
        let compared = Compared {
            now: Window::new(at(30), at(59)).unwrap(),
            before: Window::new(at(0), at(30)).ok(),
            because: String::new(),
        };
        let counted = |now: f64| {
            let used = |kills| Used { oom_kills: Some(kills), ..Used::default() };
            let target = Target {
                namespace: "shop".to_owned(),
                name: "eater".to_owned(),
                uid: None,
                node: None,
                object: Some(&pod),
            };
            let mut row = Row { now: used(now), before: Some(used(0.0)), unknown: Vec::new(), ..row(&target) };
            doubt_kills(&mut row, Some(&pod), &compared);
            (row.now.oom_kills, row.before.and_then(|before| before.oom_kills), row.unknown.len())
        };
        assert_eq!(counted(0.0), (None, Some(0.0), 1));
        assert_eq!(counted(1.0), (Some(1.0), Some(0.0), 0));
    }
}
