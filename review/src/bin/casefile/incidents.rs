//! `casefile incidents`: what was gathered, newest first.

use anyhow::Result;
use casefile_proto::incident::{IncidentPage, ListAsk};
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
    output::list(
        format,
        &["INCIDENT", "STATE", "SEV", "WINDOW", "NODES", "EVIDENCE", "REV", "SIZE", "TITLE"],
        &page.incidents,
        |i| {
            let archive = i.archive.as_ref();
            vec![
                i.id.to_string(),
                i.state.name().to_owned(),
                i.ask.severity.to_string(),
                summary::window(i.ask.window),
                i.expected.len().to_string(),
                archive.map_or("", |a| if a.whole { "whole" } else { "partial" }).to_owned(),
                archive.map(|a| a.revision.to_string()).unwrap_or_default(),
                archive.map(|a| Bytes(a.size).to_string()).unwrap_or_default(),
                safe(i.failure.as_deref().unwrap_or(&i.ask.title)),
            ]
        },
    )?;
    if page.incidents.is_empty() && format == Format::Table {
        crate::output::talk!("no incident yet: casefile collect --since 10m --wait opens one");
    }
    if page.more {
        crate::output::talk!("there are older ones: --limit 1000 lists more");
    }
    Ok(Ended::Done)
}
