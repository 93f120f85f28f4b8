//! Every cgroup (slices, pods, containers): CPU and throttling, memory and out-of-memory kills, block I/O, tasks,
//! pressure; on v1, v2 and hybrid machines. Whether anything ran in a cgroup is read at every tick; what else it has, at
//! every tick while something runs and once in ten while nothing does; limits once in ten.
//!
//! Which cgroups there are: `tree`. Reading one: `group`. What is in its files: `files` and `parse`. The root cgroup is not
//! read: it is the machine, which other sources read.

mod files;
mod group;
mod metrics;
mod parse;
mod tree;

use std::time::Duration;

use casefile_proto::gap::{Gap, GapReason};

use super::kept::unreadable;
use super::{Measurement, Opened, Source, SourceError, SourceSpec};
use crate::cgroups::Layout;
use crate::host::Host;
use group::{Hierarchies, Reader};
use tree::{MAX_DEPTH, MAX_GROUPS, Tree};

/// The source.
pub static SPEC: SourceSpec = SourceSpec {
    name: "cgroup",
    about: "CPU, throttling, memory, out-of-memory kills, block I/O, tasks, pressure and limits of every cgroup (slices, pods, containers), from /sys/fs/cgroup: at every tick while something runs in it, else every 10 s",
    every: Duration::from_secs(1),
    deadline: Duration::from_secs(2),
    metrics: &metrics::METRICS,
    open,
};

/// After this many ticks the names of block devices are asked anew: a number may have gone to another disk.
const DEVICES_HOLD: u64 = 60;

fn open(host: &Host) -> Result<Opened, SourceError> {
    let Some(layout) = Layout::find(host) else {
        return Ok(Opened::Absent { why: "there is no cgroup hierarchy below /sys/fs/cgroup".to_owned() });
    };
    Ok(Opened::Ready(Box::new(Cgroups::open(host, &layout, MAX_GROUPS)?)))
}

struct Cgroups {
    hierarchies: Hierarchies,
    tree: Tree,
    reader: Reader,
    tick: u64,
    /// Where the tick before had to stop: there this one begins.
    resume: Option<String>,
}

impl Source for Cgroups {
    fn measure(&mut self, out: &mut Measurement) -> Result<(), SourceError> {
        self.tick += 1;
        let tick = self.tick;
        for error in self.tree.look(tick) {
            out.gap(unreadable(&error));
        }
        self.reader.begin(self.tree.groups().iter().map(group::Group::kept).sum());
        if tick.is_multiple_of(DEVICES_HOLD) {
            self.reader.forget_devices();
        }
        let begin = self.resume.take().map_or(0, |path| self.tree.position(&path));
        let count = self.tree.groups().len();
        let groups = self.tree.groups_mut();
        for at in (begin..count).chain(0..begin) {
            if let Some(group) = groups.get_mut(at) {
                group.read(&self.hierarchies, tick, &mut self.reader, out);
            }
        }
        self.resume = self.reader.resume.take();
        out.reading(metrics::FOLLOWED, &[], i64::try_from(count).unwrap_or(i64::MAX));
        self.declare(out);
        Ok(())
    }
}

impl Cgroups {
    fn open(host: &Host, layout: &Layout, max_groups: usize) -> Result<Self, SourceError> {
        Ok(Self {
            hierarchies: Hierarchies::open(host, layout)?,
            tree: Tree::open(host, layout.tree(), max_groups)?,
            reader: Reader::new(host),
            tick: 0,
            resume: None,
        })
    }

    /// Says what was not read, with the same text at every tick as long as the state of things is the same.
    fn declare(&self, out: &mut Measurement) {
        if self.tree.is_cut(self.tick) {
            let why = format!("cgroups beyond {MAX_GROUPS}, or deeper than {MAX_DEPTH}, are not read");
            out.gap(Gap::new(GapReason::Budget, why));
        }
        if self.reader.late > 0 {
            let why = "too many cgroups are busy: of some only CPU time was read";
            out.gap(Gap::new(GapReason::Budget, why).counting(self.reader.late));
        }
        if self.reader.refused {
            out.gap(Gap::new(GapReason::PermissionDenied, "some files of cgroups may not be read"));
        }
    }
}

#[cfg(test)]
mod tests;
