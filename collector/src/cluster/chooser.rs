//! What was asked in the cluster's words becomes nodes and names of logs, of the nodes that have an agent: the same for the API
//! and for resources of the kind `Collection`.

use std::collections::BTreeSet;
use std::sync::Arc;

use casefile_proto::ids::NodeName;
use casefile_proto::incident::OpenAsk;
use casefile_proto::scope::Selection;

use super::recorder::Recorder;
use super::select::{self, Became, NotChosen};
use crate::incident::fleet::Fleet;

/// Names of nodes without an agent that are told.
const MAX_STRANGE: usize = 12;

/// Chooses. Cheap to clone.
#[derive(Clone)]
pub struct Chooser {
    fleet: Arc<dyn Fleet>,
    /// `None`: the configuration names no cluster.
    cluster: Option<Recorder>,
}

impl Chooser {
    /// Among these nodes, by what this cluster's record says.
    pub fn new(fleet: Arc<dyn Fleet>, cluster: Option<Recorder>) -> Self {
        Self { fleet, cluster }
    }

    /// What was asked in the cluster's words, as nodes and names of logs. Nodes and logs that were named as well narrow it.
    pub async fn chosen(&self, mut ask: OpenAsk) -> Result<OpenAsk, NotChosen> {
        let asked = match ask.ask.scope.chosen.take() {
            Some(chosen) if !chosen.asked.is_empty() => chosen.asked,
            _ => return Ok(ask),
        };
        let (cluster, window) = (self.cluster.clone(), ask.ask.window);
        let found = tokio::task::spawn_blocking(move || select::choose(cluster.as_ref(), &asked, window)).await;
        let Became { nodes, select, mut chosen } = found.map_err(|e| NotChosen::Unread(std::io::Error::other(e)))??;
        if !nodes.is_empty() {
            let known: BTreeSet<_> = self.fleet.nodes().into_iter().map(|status| status.node).collect();
            let named = &ask.ask.nodes;
            let wanted = |node: &NodeName| named.is_empty() || named.contains(node);
            let (here, strange): (Vec<_>, Vec<_>) = nodes.into_iter().filter(wanted).partition(|n| known.contains(n));
            if !strange.is_empty() {
                let names: Vec<_> = strange.iter().take(MAX_STRANGE).map(NodeName::as_str).collect();
                let (count, names) = (strange.len(), names.join(", "));
                chosen.notes.push(format!("{count} of these nodes have no agent that was ever heard of: {names}"));
            }
            if here.is_empty() {
                let text = format!("none of the nodes of these pods can be asked: {}", chosen.notes.join("; "));
                return Err(NotChosen::Nothing(text));
            }
            ask.ask.nodes = here;
        }
        let scope = &mut ask.ask.scope;
        scope.select = Selection { units: std::mem::take(&mut scope.select.units), ..select };
        scope.chosen = Some(Box::new(chosen));
        Ok(ask)
    }
}
