//! `casefile nodes`: who is recorded, and how fresh what the collector has of them is.

use anyhow::Result;
use casefile_proto::node::{Link, NodeList};
use casefile_proto::time::ClockOffset;
use casefile_proto::wire::v1::ListNodesRequest;
use casefile_review::display::safe;
use casefile_review::summary;

use crate::args::{CollectorArgs, Format};
use crate::{Ended, client, output};

/// Lists nodes.
pub(crate) fn run(collector: &CollectorArgs, format: Format) -> Result<Ended> {
    let list = client::block_on(async {
        let mut service = client::nodes(collector).await?;
        let answer = service.list_nodes(client::request(ListNodesRequest {})).await.map_err(|s| client::said(&s))?;
        Ok(NodeList::try_from(answer.into_inner())?)
    })?;
    let header = ["NODE", "STATE", "LAST FRAME", "CLOCK", "LAST WORDS", "SIZE", "AGENT", "NOT COMPLETE"];
    output::list(format, &header, &list.nodes, |n| {
        let connected = if n.link == Link::Connected { "connected" } else { "silent" };
        vec![
            safe(n.node.as_str()),
            connected.to_owned(),
            n.last_frame.map_or_else(|| "not yet".to_owned(), |at| format!("{} ago", nanos(list.now.nanos_since(at)))),
            n.clock.map_or_else(|| "not measured".to_owned(), offset),
            n.last_words.map_or_else(|| "none".to_owned(), summary::window),
            n.last_words_bytes.to_string(),
            safe(n.agent_version.as_deref().unwrap_or("")),
            safe(&n.troubles.join(", ")),
        ]
    })?;
    if list.nodes.is_empty() && format == Format::Table {
        crate::output::talk!("no agent has reported yet");
    }
    Ok(Ended::Done)
}

fn nanos(nanos: i64) -> String {
    summary::length(nanos.max(0).unsigned_abs())
}

/// `+1.204 ms ± 0.311 ms`: ahead of the collector.
#[expect(clippy::cast_precision_loss, reason = "milliseconds for a person")]
fn offset(clock: ClockOffset) -> String {
    format!("{:+.3} ms ± {:.3} ms", clock.ahead_nanos as f64 / 1e6, clock.bound_nanos as f64 / 1e6)
}
