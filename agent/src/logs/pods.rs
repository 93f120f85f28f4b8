//! Container logs as kubelet keeps them: `var/log/pods/<namespace>_<pod>_<uid>/<container>/<restarts>.log`, with the files
//! that rotation left. Read directly, never by way of the links in `var/log/containers`.
//!
//! One item for every container, all of its restarts in it, silent ones too: that a container said nothing is evidence.

use std::ffi::{OsStr, OsString};

use casefile_proto::gap::{Gap, GapReason};

use super::cri::Cri;
use super::gaps::Gaps;
use super::history::{History, Recognised};
use super::open::{Dir, gap, too_many};
use super::rotation::{Age, container_log, gather};
use super::sink::{Before, Giving};
use super::window::Grammar as _;
use super::{Covered, LogAsk, LogConfig, LogSink, LogSource, LogSpec, MAX_LOGS, Selection, component, item_path, now};
use crate::host::{EntryKind, Host, HostError};

/// The log source.
pub(super) const SPEC: LogSpec = LogSpec {
    name: "pods",
    about: "Container logs below var/log/pods, in the format of the container runtimes",
    open: |host, _config: &LogConfig| Box::new(Pods { host: host.clone() }),
};

const BASE: &str = "var/log/pods";

struct Pods {
    host: Host,
}

/// The log of one container.
struct Log {
    pod: OsString,
    container: OsString,
    /// About how many bytes of it are asked for; all that there are as long as nobody looked closer.
    need: u64,
}

impl LogSource for Pods {
    fn needs(&mut self, ask: &LogAsk, out: &mut dyn LogSink) -> Vec<u64> {
        let mut gaps = Gaps::default();
        let listed =
            Dir::base(&self.host, BASE).and_then(|mut base| Ok((list(&mut base, &ask.select, out, &mut gaps)?, base)));
        // What is wrong is told when it is read.
        let Ok((mut logs, base)) = listed else { return Vec::new() };
        look_closer(&base, &mut logs, ask, out);
        logs.into_iter().map(|l| l.need).collect()
    }

    fn read(&mut self, ask: &LogAsk, out: &mut dyn LogSink) -> Covered {
        let mut gaps = Gaps::default();
        let listed =
            Dir::base(&self.host, BASE).and_then(|mut base| Ok((list(&mut base, &ask.select, out, &mut gaps)?, base)));
        let now = now(&self.host);
        let (mut logs, base) = match listed {
            Ok(listed) => listed,
            Err(e) => return Giving::new(SPEC.name, ask, now, 0, out).nothing(gap(&e)),
        };
        look_closer(&base, &mut logs, ask, out);
        if logs.is_empty() && gaps.is_empty() && !selects_all(&ask.select) {
            let why = format!("no container of the selection ({}) has a log here", ask.select);
            gaps.push(Gap::new(GapReason::SourceAbsent, why));
        }
        logs.sort_by(|a, b| (a.need, &a.pod, &a.container).cmp(&(b.need, &b.pod, &b.container)));
        let mut giving = Giving::new(SPEC.name, ask, now, logs.len(), out);
        giving.gaps(gaps);
        let mut unread = logs.len();
        for log in &logs {
            if giving.is_stopped() {
                break;
            }
            unread -= 1;
            give(&base, log, &mut giving);
        }
        giving.finish(unread)
    }
}

/// Only when not everything fits is it worth looking how much of each log is asked for.
fn look_closer(base: &Dir, logs: &mut [Log], ask: &LogAsk, out: &mut dyn LogSink) {
    if logs.iter().map(|l| l.need).fold(0, u64::saturating_add) <= ask.budget.0 {
        return;
    }
    for log in logs {
        if out.check().is_break() {
            return;
        }
        if let Ok((history, _)) = open(base, log) {
            log.need = history.need(ask.window, &mut Cri::default());
        }
    }
}

/// Every container of the selection.
fn list(base: &mut Dir, select: &Selection, out: &mut dyn LogSink, gaps: &mut Gaps) -> Result<Vec<Log>, HostError> {
    let pods = base.names(|_| true)?;
    if pods.more {
        gaps.push(too_many(base.path()));
    }
    let mut logs = Vec::new();
    let mut left_out = 0_u64;
    for (pod, kind) in pods.entries {
        // Somebody may have made a million directories. What was not listed is told when the first log is begun.
        if logs.len() == MAX_LOGS || out.check().is_break() {
            left_out += 1;
            continue;
        }
        match select_pod(&pod, select) {
            Chosen::Yes => {}
            Chosen::No => continue,
            Chosen::NotAPod if kind == EntryKind::Dir => {
                let why = format!("/{BASE}/{} is not named after a pod", pod.display());
                gaps.push(Gap::new(GapReason::ParseFailed, why));
                continue;
            }
            Chosen::NotAPod => continue,
        }
        let listed = base.dir(&pod).and_then(|mut dir| Ok((dir.names(|_| true)?, dir)));
        let (containers, dir) = match listed {
            Ok(listed) => listed,
            // It went away since it was listed.
            Err(e) if e.is_not_found() => continue,
            Err(e) => {
                gaps.push(gap(&e));
                continue;
            }
        };
        for (container, _) in containers.entries {
            if logs.len() == MAX_LOGS {
                left_out += 1;
                continue;
            }
            match dir.dir(&container) {
                Ok(mut inner) => {
                    let need = size(&mut inner);
                    logs.push(Log { pod: pod.clone(), container, need });
                }
                Err(e) if e.is_not_found() => {}
                Err(e) => gaps.push(gap(&e)),
            }
        }
    }
    if left_out > 0 {
        let why = format!("{left_out} pods or containers were not looked at: more than {MAX_LOGS}, or no time");
        gaps.push(Gap::new(GapReason::Budget, why));
    }
    Ok(logs)
}

/// What the files of one container take.
fn size(dir: &mut Dir) -> u64 {
    // What cannot be listed now is told when the log is opened.
    let names = dir.names(|name| container_log(name).is_some()).unwrap_or_default();
    let sizes = names.entries.iter().filter_map(|(name, _)| dir.stat(name).ok());
    sizes.map(|f| f.size).fold(0, u64::saturating_add)
}

enum Chosen {
    Yes,
    No,
    NotAPod,
}

fn selects_all(select: &Selection) -> bool {
    select.namespaces.is_empty() && select.pods.is_empty()
}

fn select_pod(name: &OsStr, select: &Selection) -> Chosen {
    let parts = name.to_str().map(|n| n.split('_').collect::<Vec<_>>());
    let Some([namespace, pod, _uid]) = parts.as_deref() else { return Chosen::NotAPod };
    let among = |list: &[String], name: &str| list.is_empty() || list.iter().any(|l| l == name);
    if among(&select.namespaces, namespace) && among(&select.pods, pod) { Chosen::Yes } else { Chosen::No }
}

fn open(base: &Dir, log: &Log) -> Result<(History<()>, Vec<Gap>), Gap> {
    let mut dir = base.dir(&log.pod).and_then(|d| d.dir(&log.container)).map_err(|e| gap(&e))?;
    let mut gathered = gather(&mut dir, container_log).map_err(|e| gap(&e))?;
    let gaps = std::mem::take(&mut gathered.gaps);
    let recognise = |sample: &[u8], _: &_, _: &_| {
        let mut cri = Cri::default();
        Some(Recognised { form: (), first: sample.split(|b| *b == b'\n').find_map(|line| cri.stamp(line)) })
    };
    Ok((History::survey(gathered, recognise), gaps))
}

fn give(base: &Dir, log: &Log, giving: &mut Giving<'_>) {
    let (mut history, gaps) = match open(base, log) {
        Ok(opened) => opened,
        Err(gap) => return giving.gap(gap),
    };
    let name = format!("/{BASE}/{}/{}", log.pod.display(), log.container.display());
    if history.is_empty() {
        if gaps.is_empty() {
            giving.gap(Gap::new(GapReason::NotRecorded, format!("{name} holds no log file")));
        }
        return gaps.into_iter().for_each(|gap| giving.gap(gap));
    }
    let mut grammar = Cri::default();
    let how = history.plan(giving.window(), &mut grammar);
    let path = item_path("pods").child(&component(&log.pod)).child(&format!("{}.log", component(&log.container)));
    let (before, lost) = lost_restarts(&history);
    let Some(mut item) = giving.item(path, format!("{name}, CRI format, {how}")) else { return };
    gaps.into_iter().chain(lost).for_each(|gap| item.gap(gap));
    let oldest = history.read(&mut grammar, &mut item);
    // Whatever stopped it, the item knows; what is held back is given as far as it is taken.
    let _ = grammar.finish(&mut item);
    item.end(oldest, before);
}

/// Whether something older was rotated away: kubelet counts restarts from 0 and keeps the last ones, and rotates the
/// log of one restart to a number of files.
fn lost_restarts(history: &History<()>) -> (Before, Vec<Gap>) {
    let mut before = Before::NotRecorded;
    let mut lost = Vec::new();
    let mut last = None;
    for place in history.places() {
        match last {
            None if place.group > 0 || place.age != Age::Current => before = Before::RotatedAway,
            Some(last) if place.group > last + 1 => {
                let why = format!("the logs of restarts {} to {} are gone", last + 1, place.group - 1);
                lost.push(Gap::new(GapReason::RotatedAway, why));
            }
            _ => {}
        }
        last = Some(place.group);
    }
    (before, lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_names_namespaces_and_pods_exactly() {
        let chosen = |name: &str, namespaces: &[&str], pods: &[&str]| {
            let owned = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
            let select = Selection { namespaces: owned(namespaces), pods: owned(pods), ..Selection::default() };
            matches!(select_pod(OsStr::new(name), &select), Chosen::Yes)
        };
        assert!(chosen("shop_api-1_u", &[], &[]) && chosen("shop_api-1_u", &["shop"], &["x", "api-1"]));
        assert!(!chosen("shop_api-1_u", &["sho"], &[]) && !chosen("shop_api-1_u", &[], &["api"]));
        assert!(!chosen("lost+found", &[], &[]) && !chosen("a_b_c_d", &[], &[]));
    }
}
