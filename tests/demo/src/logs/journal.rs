//! The journal: a text file for each unit, and all entries with their fields as lines of JSON, as the agent brings them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::time::Window;
use serde_json::json;

use super::kernel::{self, is_inside};
use super::{Log, micros};
use crate::DemoError;
use crate::node::{Kind, Node, Pod};
use crate::random::Random;
use crate::story;

struct Entry {
    t: f64,
    priority: u8,
    /// The unit; that of the kernel is its name without one.
    unit: &'static str,
    program: &'static str,
    pid: u32,
    /// A message of journald itself.
    own: bool,
    text: String,
}

const KUBELET: (&str, &str, u32) = ("kubelet.service", "kubelet", 1_123);
const CONTAINERD: (&str, &str, u32) = ("containerd.service", "containerd", 1_021);
const KERNEL: &str = "kernel";
/// The unit that says too much.
const CHATTY: (&str, &str, u32) = ("telemetry-relay.service", "telemetry-relay", 2_044);

struct Told {
    entries: Vec<Entry>,
}

impl Told {
    fn say(&mut self, t: f64, priority: u8, (unit, program, pid): (&'static str, &'static str, u32), text: String) {
        self.entries.push(Entry { t, priority, unit, program, pid, own: false, text });
    }

    /// As klog writes it: the kubelet's own times are those of its machine.
    fn kubelet(&mut self, node: &Node, t: f64, level: char, place: &str, text: &str) {
        let at = micros(node.stamp(t).wall);
        let (month, day, time) = (&at[5..7], &at[8..10], &at[11..26]);
        // It prints to standard error, and systemd gives all of that one priority.
        self.say(t, 6, KUBELET, format!("{level}{month}{day} {time}    1123 {place}] {text}"));
    }
}

/// The logs of the journal of a machine.
pub(crate) fn logs(node: &Node, kernel: &[kernel::Line], asked: Window) -> Result<Vec<Log>, DemoError> {
    let mut told = Told { entries: Vec::new() };
    ordinary(node, &mut told);
    for pod in &node.pods {
        restarts(node, pod, &mut told);
    }
    for line in kernel {
        let entry = Entry {
            // journald reads the kernel's log a moment later and keeps the kernel's time.
            t: line.t,
            priority: line.level,
            unit: KERNEL,
            program: KERNEL,
            pid: 0,
            own: false,
            text: line.text.clone(),
        };
        told.entries.push(entry);
    }
    let mut gap = None;
    if node.name == story::RATE_LIMITED {
        gap = Some(suppressed(node, asked, &mut told));
    }
    let mut entries = told.entries;
    entries.retain(|entry| is_inside(entry.t));
    entries.sort_by(|a, b| a.t.total_cmp(&b.t));
    written(node, &entries, gap)
}

fn ordinary(node: &Node, told: &mut Told) {
    let mut random = Random::of(&format!("{} journal", node.name));
    let mut t = random.between(0.0, 20.0);
    while t < 1_800.0 {
        let id = random.hex(12);
        match random.below(6) {
            0 => told.kubelet(
                node,
                t,
                'I',
                "kubelet_getters.go:187",
                "\"Pod status updated\" pod=\"kube-system/kube-proxy\" status=\"Running\"",
            ),
            1 => told.say(
                t,
                6,
                CONTAINERD,
                format!(
                    "time=\"{}\" level=info msg=\"Container exec \\\"{id}\\\" finished with exit code 0\"",
                    micros(node.stamp(t).wall)
                ),
            ),
            2 => told.kubelet(
                node,
                t,
                'I',
                "reconciler_common.go:251",
                "\"operationExecutor.VerifyControllerAttachedVolume started for volume \\\"kube-api-access\\\"\"",
            ),
            3 => told.say(
                t,
                6,
                ("systemd-journald.service", "systemd-journald", 612),
                "Data hash table of /var/log/journal/system.journal has a fill level at 41.2 of 75.0.".to_owned(),
            ),
            4 => told.say(
                t,
                6,
                ("chrony.service", "chronyd", 801),
                "Selected source 10.20.0.2 (ntp-a.example.com)".to_owned(),
            ),
            _ => told.kubelet(
                node,
                t,
                'I',
                "pod_startup_latency_tracker.go:104",
                "\"Observed pod startup duration\" pod=\"monitoring/probe\" podStartSLOduration=1.2",
            ),
        }
        t += random.between(8.0, 40.0);
    }
    if node.name == story::DISK_GONE {
        let t = story::NVME_DISABLED;
        for (after, level, place, text) in [
            (
                3.3,
                'I',
                "prober.go:120",
                "\"Probe failed\" probeType=\"Readiness\" pod=\"ledger/postgres-0\" containerName=\"postgres\" probeResult=\"failure\"",
            ),
            (
                9.6,
                'E',
                "kuberuntime_manager.go:1341",
                "\"Unhandled Error\" err=\"container postgres start failed in pod postgres-0_ledger: CreateContainerError: read-only file system\"",
            ),
        ] {
            told.kubelet(node, t + after, level, place, text);
        }
    }
}

fn restarts(node: &Node, pod: &Pod, told: &mut Told) {
    if pod.kind != Kind::Api || node.name != story::LEAKING {
        return;
    }
    let name = format!("{}/{}", pod.namespace, pod.name);
    for (n, at) in [story::FIRST_OOM, story::SECOND_OOM].into_iter().enumerate() {
        let (before, after) = (&pod.runs[n], &pod.runs[n + 1]);
        let exited = format!(
            "\"SyncLoop (PLEG): event for pod\" pod=\"{name}\" event={{\"ID\":\"{}\",\"Type\":\"ContainerDied\",\"Data\":\"{}\"}}",
            pod.uid, before.id
        );
        told.kubelet(node, at + 0.98, 'I', "kubelet.go:2569", &exited);
        let text = format!(
            "time=\"{}\" level=info msg=\"TaskOOM event &TaskOOM{{ContainerID:{},}}\"",
            micros(node.stamp(at + 0.31).wall),
            before.id
        );
        told.say(at + 0.31, 6, CONTAINERD, text);
        if n == 1 {
            let why = format!(
                "\"Error syncing pod, skipping\" err=\"failed to \\\"StartContainer\\\" for \\\"api\\\" with CrashLoopBackOff: \\\"back-off 10s restarting failed container=api pod={}_{}({})\\\"\" pod=\"{name}\"",
                pod.name, pod.namespace, pod.uid
            );
            told.kubelet(node, at + 1.4, 'E', "pod_workers.go:1324", &why);
        }
        let started = format!(
            "\"SyncLoop (PLEG): event for pod\" pod=\"{name}\" event={{\"ID\":\"{}\",\"Type\":\"ContainerStarted\",\"Data\":\"{}\"}}",
            pod.uid, after.id
        );
        told.kubelet(node, after.from + 0.7, 'I', "kubelet.go:2569", &started);
    }
}

/// A unit that logs too fast, and journald saying that it dropped some of it.
fn suppressed(node: &Node, asked: Window, told: &mut Told) -> Gap {
    let (from, until) = story::SUPPRESSED;
    for n in 0..60_u32 {
        let t = from - 3.0 + f64::from(n) * 3.0 / 59.0;
        told.say(t, 6, CHATTY, format!("relayed batch {} of 512 samples", 70_431 + n));
    }
    let n = story::SUPPRESSED_MESSAGES;
    told.entries.push(Entry {
        t: until,
        priority: 4,
        unit: CHATTY.0,
        program: "systemd-journald",
        pid: 612,
        own: true,
        text: format!("Suppressed {n} messages from {}", CHATTY.0),
    });
    told.say(until + 0.4, 6, CHATTY, "relayed batch 72334 of 512 samples".to_owned());
    let gap = Gap::new(GapReason::RateLimited, format!("journald suppressed {n} messages of this unit")).counting(n);
    let between = Window::new(node.stamp(from).wall, node.stamp(until).wall.offset(1));
    gap.over(between.unwrap_or(asked))
}

fn written(node: &Node, entries: &[Entry], gap: Option<Gap>) -> Result<Vec<Log>, DemoError> {
    let method = || "systemd journal, 1 files with something of the window, bisected by time".to_owned();
    let mut units: BTreeMap<&str, (String, u64)> = BTreeMap::new();
    let mut all = String::new();
    let boot = node.boot.to_string().replace('-', "");
    let id = Random::of(&format!("{} seqnum", node.name)).hex(32);
    for (seq, entry) in (5_120_001_u64..).zip(entries) {
        let at = node.stamp(entry.t);
        let (text, records) = units.entry(entry.unit).or_default();
        let pid = if entry.pid == 0 { String::new() } else { format!("[{}]", entry.pid) };
        // Writing to a String does not fail.
        let _ = writeln!(text, "{} <{}> {}{pid}: {}", micros(at.wall), entry.priority, entry.program, entry.text);
        *records += 1;
        let mut fields = json!({
            "__REALTIME_TIMESTAMP": (at.wall.nanos() / 1_000).to_string(),
            "__MONOTONIC_TIMESTAMP": (at.boot.nanos() / 1_000).to_string(),
            "_BOOT_ID": boot,
            "__SEQNUM": seq.to_string(),
            "__SEQNUM_ID": id,
            "_HOSTNAME": node.name,
            "PRIORITY": entry.priority.to_string(),
            "SYSLOG_IDENTIFIER": entry.program,
            "_TRANSPORT": if entry.unit == KERNEL { KERNEL } else if entry.own { "driver" } else { "stdout" },
            "MESSAGE": entry.text,
        });
        if entry.own {
            fields["MESSAGE_ID"] = json!("a596d6fe7bfa4994828e72309e95d61e");
            fields["OBJECT_SYSTEMD_UNIT"] = json!(entry.unit);
            fields["N_DROPPED"] = json!(story::SUPPRESSED_MESSAGES.to_string());
            fields["_SYSTEMD_UNIT"] = json!("systemd-journald.service");
        } else if entry.unit != KERNEL {
            fields["_SYSTEMD_UNIT"] = json!(entry.unit);
        }
        if entry.pid != 0 {
            fields["_PID"] = json!(entry.pid.to_string());
        }
        all.push_str(&serde_json::to_string(&fields).map_err(DemoError::Json)?);
        all.push('\n');
    }
    let log = |path, text: String, records, gaps| Log {
        path,
        source: "journal",
        method: method(),
        times: None,
        bytes: text.into_bytes(),
        records,
        gaps,
    };
    let count = u64::try_from(entries.len()).unwrap_or(0);
    let mut logs = vec![log("logs/journal/entries.jsonl".to_owned(), all, count, Vec::new())];
    for (unit, (text, records)) in units {
        let gaps = if unit == CHATTY.0 { gap.iter().cloned().collect() } else { Vec::new() };
        logs.push(log(format!("logs/journal/{unit}.log"), text, records, gaps));
    }
    Ok(logs)
}
