//! One node: what it is, how its resources were used, what is missing of it.

use casefile_evidence::archive::layout;
use casefile_proto::coverage::NodeCoverage;
use casefile_proto::units::Bytes;
use serde_json::{Value, json};

use super::lines;
use super::overview::{gaps_of, source};
use super::query::{Query, Refused};
use crate::casefile::CaseFile;
use crate::derived;
use crate::seriesset::SeriesSet;
use crate::use_matrix;

/// The most that a node's own document may have.
const MAX_NODE: Bytes = Bytes::mib(16);

/// What of the inventory a person asks for first: the place in `node.json`, and what it is called.
const FACTS: &[(&str, &str)] = &[
    ("/inventory/distribution/pretty_name", "system"),
    ("/inventory/kernel/release", "kernel"),
    ("/inventory/kernel/machine", "architecture"),
    ("/inventory/processor/model", "processor"),
    ("/inventory/processor/cpus", "CPUs"),
    ("/inventory/memory/total_bytes", "memory"),
    ("/inventory/memory/numa_nodes", "NUMA nodes"),
    ("/inventory/machine/product", "machine"),
    ("/inventory/kernel/command_line", "command line"),
    ("/boot_id", "boot"),
    ("/agent_version", "agent"),
];

/// `node?node=`.
pub(super) fn node(case: &mut CaseFile, query: &Query) -> Result<Value, Refused> {
    let node = query.node("node")?.ok_or_else(|| Refused::Question("`node` is missing".to_owned()))?;
    let row = case.node(&node).cloned();
    let row = row.ok_or_else(|| Refused::Nothing(format!("the case file knows of no node {node}")))?;
    let set = SeriesSet::load(case, &node, &|_, metric| derived::needed(use_matrix::WANTED, &metric.name))?;
    Ok(view(case, &row, &set))
}

/// A node, of which the series that [`use_matrix::WANTED`] needs are in `set`.
pub(crate) fn view(case: &mut CaseFile, row: &NodeCoverage, set: &SeriesSet) -> Value {
    let ends = set.ticks.first().zip(set.ticks.last());
    let recorded = ends.map(|(first, last)| json!({ "from": first.at, "until": last.at, "ticks": set.ticks.len() }));
    json!({
        "node": row.node,
        "state": row.state,
        "clock": row.clock,
        "amended": row.amended,
        "facts": facts(case, &row.node),
        "use": use_matrix::matrix(set),
        "boots": set.boots,
        "recorded": recorded,
        "damaged": set.damaged,
        "sources": row.sources.iter().map(source).collect::<Vec<_>>(),
        "gaps": gaps_of(row).collect::<Vec<_>>(),
    })
}

/// What the machine is: name and value, in words.
pub(crate) fn facts(case: &mut CaseFile, node: &casefile_proto::ids::NodeName) -> Vec<(&'static str, String)> {
    let Ok(entry) = layout::node_item(node, &layout::path(layout::NODE_ITEM)) else { return Vec::new() };
    let Some(document) = lines::document(case, &entry, MAX_NODE) else { return Vec::new() };
    let words = |value: &Value, name: &str| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if name == "memory" => number.as_u64().map(|n| Bytes(n).to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let fact = |(place, name): &(&str, &'static str)| Some((*name, words(document.pointer(place)?, name)?));
    FACTS.iter().filter_map(fact).collect()
}
