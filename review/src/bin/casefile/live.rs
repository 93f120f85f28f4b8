//! What the commands of the runbook look at: the case file that was named, or one that is gathered for the purpose.
//!
//! A live question is an incident like every other one: small, sealed, and kept as evidence of what was seen.

use anyhow::{Result, bail};
use casefile_proto::incident::{IncidentAsk, OpenAsk, Severity, Trigger};
use casefile_proto::scope::Scope;
use casefile_proto::time::Window;
use casefile_review::casefile::CaseFile;
use casefile_review::when::{self, InvalidWhen};

use crate::args::runbook::LookArgs;
use crate::args::source::Place;
use crate::output::talk;
use crate::{collect, source};

/// What is gathered when no case file is named.
pub(crate) struct Wanted<'a> {
    /// From when on.
    pub(crate) since: &'a str,
    /// Up to when; `None`: now.
    pub(crate) until: Option<&'a str>,
    /// What it is for: the title of the incident, and its reason.
    pub(crate) purpose: &'a str,
    /// What of the nodes.
    pub(crate) scope: Scope,
}

/// Opens what is looked at, gathering it first where nothing is named; and where it is.
pub(crate) fn look_at(look: &LookArgs, wanted: Wanted<'_>) -> Result<(CaseFile, Place)> {
    let place = match &look.file {
        Some(place) => place.clone(),
        None => gathered(look, wanted)?,
    };
    Ok((source::open_place(&place, &look.collector)?, place))
}

fn gathered(look: &LookArgs, wanted: Wanted<'_>) -> Result<Place> {
    let now = collect::now()?;
    let until = wanted.until.map_or(Ok(now), |text| when::time(text, now))?;
    if until > now {
        bail!("{} lies ahead: casefile collect waits for it", until.to_seconds_text());
    }
    let window = Window::new(when::time(wanted.since, now)?, until).map_err(InvalidWhen::from)?;
    let ask = OpenAsk {
        ask: IncidentAsk {
            title: wanted.purpose.to_owned(),
            reason: wanted.purpose.to_owned(),
            requested_by: collect::requester(),
            severity: Severity::Sev4,
            trigger: Trigger::Person,
            resource: None,
            runbook: None,
            window,
            nodes: Vec::new(),
            scope: wanted.scope,
        },
        deadline: look.deadline.as_deref().map(when::length).transpose()?,
        // What a colleague saw a moment ago is not what is there now.
        slack: std::time::Duration::ZERO,
    };
    let incident = collect::gathered(ask, &look.collector)?;
    talk!("kept as {incident}");
    Ok(Place::Incident(incident))
}
