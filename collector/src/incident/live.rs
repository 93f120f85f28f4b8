//! One incident that is not over, in memory: its machine, what is kept of it, and who watches it.

use std::collections::BTreeSet;

use casefile_proto::ids::NodeName;
use casefile_proto::incident::IncidentView;
use tokio::sync::watch;
use tokio::time::Instant;

use super::machine::Incident;
use super::view;
use crate::store::Record;

/// An incident that is not over.
pub(super) struct Live {
    pub(super) record: Record,
    pub(super) machine: Incident,
    pub(super) view: watch::Sender<IncidentView>,
    /// Whether the view is older than the machine; and when it was made.
    pub(super) stale: bool,
    pub(super) shown: Instant,
    /// When it was opened, until something of it has come. `None` also when it was taken up again: nobody knows then.
    pub(super) empty_since: Option<Instant>,
    /// When its nodes began to be asked, until it is sealed.
    pub(super) gathering_since: Option<Instant>,
    /// Nodes of which the index does not know yet what the record says.
    pub(super) unsaved: BTreeSet<NodeName>,
    /// When that is to be written; `None`: there is nothing.
    pub(super) save_at: Option<Instant>,
}

impl Live {
    /// What the machine decided of the incident as a whole, as it is kept.
    pub(super) fn take_over(&mut self) {
        self.record.state = self.machine.state();
        if let Some((newest, earlier)) = self.machine.archives().split_last() {
            self.record.archive = Some(newest.clone());
            self.record.earlier = earlier.to_vec();
        }
        self.record.over = self.machine.is_over();
        self.record.failure = self.machine.failure().map(str::to_owned);
    }

    /// What it decided of these nodes. Where the incident is as it was, so is every other node.
    pub(super) fn take_over_nodes<'a>(&mut self, nodes: impl Iterator<Item = &'a NodeName>) {
        for name in nodes {
            let Some(member) = self.machine.members().get(name) else { continue };
            let Some(kept) = self.record.members.get_mut(name) else { continue };
            let phase = member.kept_phase();
            if (kept.phase, kept.request, &kept.answer) != (phase, member.request, &member.answer) {
                (kept.phase, kept.request) = (phase, member.request);
                kept.answer.clone_from(&member.answer);
                self.unsaved.insert(name.clone());
            }
        }
    }

    pub(super) fn show(&mut self) {
        self.view.send_replace(view::running(&self.record, self.machine.members().iter()));
        self.stale = false;
        self.shown = Instant::now();
    }
}
