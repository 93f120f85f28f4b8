//! An incident as whoever watches it sees it: out of the running machine, or out of the index once it is finished. Pure.

use casefile_proto::coverage::{Coverage, NodeCoverage};
use casefile_proto::ids::NodeName;
use casefile_proto::incident::{IncidentView, NodeProgress, SourceProgress};
use casefile_proto::units::Bytes;

use super::machine::{Member, settled_as};
use crate::store::Record;

/// An incident that is not finished.
pub fn running<'a>(record: &Record, members: impl Iterator<Item = (&'a NodeName, &'a Member)>) -> IncidentView {
    let nodes = members.map(|(node, member)| {
        let sources = member.sources.iter().map(|(source, heard)| SourceProgress {
            source: source.clone(),
            records: heard.records,
            bytes: Bytes(heard.bytes),
            gaps: heard.gaps,
            done: heard.done,
        });
        NodeProgress { node: node.clone(), phase: member.phase, sources: sources.collect() }
    });
    IncidentView { incident: record.summary(), nodes: nodes.collect() }
}

/// An incident as the index has it; with the coverage of its archive, if there is one.
pub fn stored(record: &Record, coverage: Option<&Coverage>) -> IncidentView {
    let nodes = match coverage {
        Some(coverage) => coverage.nodes.iter().map(covered).collect(),
        None => {
            let bare = |(node, m): (&NodeName, &crate::store::MemberRecord)| NodeProgress {
                node: node.clone(),
                phase: m.phase,
                sources: Vec::new(),
            };
            record.members.iter().map(bare).collect()
        }
    };
    IncidentView { incident: record.summary(), nodes }
}

fn covered(node: &NodeCoverage) -> NodeProgress {
    let sources = node.sources.iter().map(|row| SourceProgress {
        source: row.source.clone(),
        records: row.records,
        bytes: Bytes(row.cost.bytes),
        gaps: u64::try_from(row.gaps.len()).unwrap_or(u64::MAX),
        done: true,
    });
    NodeProgress { node: node.node.clone(), phase: settled_as(node.state), sources: sources.collect() }
}
