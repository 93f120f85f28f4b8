//! `casefile incidents`: what was gathered, newest first.

use anyhow::Result;
use casefile_proto::incident::{IncidentPage, IncidentSummary, ListAsk, Whereabouts};
use casefile_proto::units::Bytes;
use casefile_review::display::safe;
use casefile_review::summary;

use crate::args::{CollectorArgs, Format};
use crate::{Ended, client, output};
use casefile_proto::convert::MAX_PAGE;

/// Lists incidents.
pub(crate) fn run(collector: &CollectorArgs, limit: u32, format: Format) -> Result<Ended> {
    let page = client::block_on(async {
        let mut service = client::incidents(collector).await?;
        let ask = ListAsk { page: limit.clamp(1, MAX_PAGE), before: None };
        let answer = service.list_incidents(client::request(ask.into())).await.map_err(|s| client::said(&s))?;
        Ok(IncidentPage::try_from(answer.into_inner())?)
    })?;
    // Only where there is something to say: without an archive store every archive is with the collector.
    let kept = |i: &IncidentSummary| i.archive.as_ref().and_then(|archive| archive.kept);
    let elsewhere = page.incidents.iter().any(|i| kept(i).is_some_and(|kept| kept != Whereabouts::Here));
    let mut columns = vec!["INCIDENT", "STATE", "SEV", "WINDOW", "NODES", "EVIDENCE", "REV", "SIZE", "TITLE"];
    if elsewhere {
        columns.insert(columns.len() - 1, "KEPT");
    }
    output::list(format, &columns, &page.incidents, |i| {
        let archive = i.archive.as_ref();
        let mut row = vec![
            i.id.to_string(),
            i.state.name().to_owned(),
            i.ask.severity.to_string(),
            summary::window(i.ask.window),
            i.expected.len().to_string(),
            archive.map_or("", |a| if a.whole { "whole" } else { "partial" }).to_owned(),
            archive.map(|a| a.revision.to_string()).unwrap_or_default(),
            archive.map(|a| Bytes(a.size).to_string()).unwrap_or_default(),
            safe(i.failure.as_deref().unwrap_or(&i.ask.title)),
        ];
        if elsewhere {
            row.insert(row.len() - 1, kept(i).map_or("", Whereabouts::name).to_owned());
        }
        row
    })?;
    if page.incidents.is_empty() && format == Format::Table {
        crate::output::talk!("no incident yet: casefile collect --since 10m --wait opens one");
    }
    if page.more {
        crate::output::talk!("there are older ones: --limit 1000 lists more");
    }
    Ok(Ended::Done)
}
