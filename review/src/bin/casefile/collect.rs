//! `casefile collect`: opens an incident and, with `--wait`, follows it to its case file.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use casefile_identity::dial::Api;
use casefile_proto::ids::IncidentId;
use casefile_proto::incident::{
    IncidentAsk, IncidentDetail, IncidentState, IncidentSummary, IncidentView, OpenAsk, Trigger,
};
use casefile_proto::scope::{Chosen, Scope, Selection};
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;
use casefile_proto::wire::v1::incident_service_client::IncidentServiceClient;
use casefile_proto::wire::v1::{GetIncidentRequest, WatchIncidentRequest};
use casefile_review::display::safe;
use casefile_review::{summary, when};

use crate::args::{CollectArgs, CollectorArgs};
use crate::progress::Progress;
use crate::{Ended, client, output};

/// By how much the window of an incident that a colleague opened a moment ago may differ.
const SLACK: Duration = Duration::from_secs(30);

/// Opens an incident.
pub(crate) fn run(args: &CollectArgs) -> Result<Ended> {
    let ask = ask(args, now()?)?;
    let asked = ask.ask.window;
    client::block_on(async {
        let mut service = client::incidents(&args.collector).await?;
        let incident = opened(&mut service, ask).await?;
        if incident.ask.window != asked {
            crate::output::talk!(
                "{} asked for nearly the same, and it answers for both",
                safe(&incident.ask.requested_by)
            );
        }
        if !args.wait {
            let id = incident.id;
            let opened = IncidentDetail { incident, coverage: None };
            output::one(args.output.format, &opened, || format!("{id}\n"))?;
            crate::output::talk!("next: casefile incidents, then casefile download {id}");
            return Ok(Ended::Done);
        }
        let incident = sealed(&mut service, &incident).await?;
        let answer = service.get_incident(client::request(GetIncidentRequest::from(incident.id))).await;
        let detail = IncidentDetail::try_from(answer.map_err(|s| client::said(&s))?.into_inner())?;
        let coverage = detail.coverage.as_ref().context("the collector sent no coverage")?;
        output::one(args.output.format, &detail, || summary::render_coverage(coverage))?;
        if let Some(archive) = &incident.archive {
            crate::output::talk!("sealed {} ({})", safe(&archive.file_name), Bytes(archive.size));
        }
        crate::output::talk!("next: casefile download {}", incident.id);
        Ok(if coverage.is_whole() { Ended::Done } else { Ended::Partial })
    })
}

/// Opens an incident, follows it until it is sealed, and says which it is.
pub(crate) fn gathered(ask: OpenAsk, collector: &CollectorArgs) -> Result<IncidentId> {
    client::block_on(async {
        let mut service = client::incidents(collector).await?;
        let incident = opened(&mut service, ask).await?;
        Ok(sealed(&mut service, &incident).await?.id)
    })
}

async fn opened(service: &mut IncidentServiceClient<Api>, ask: OpenAsk) -> Result<IncidentSummary> {
    let answer = service.open_incident(client::request(ask.into())).await.map_err(|s| client::said(&s))?;
    let incident = IncidentSummary::try_from(answer.into_inner())?;
    crate::output::talk!(
        "{} opened: {}, {} node(s), {}",
        incident.id,
        summary::window(incident.ask.window),
        incident.expected.len(),
        if incident.state == IncidentState::Open { "waiting for the window to end" } else { "gathering" },
    );
    for note in incident.ask.scope.chosen.iter().flat_map(|chosen| &chosen.notes) {
        crate::output::talk!("note: {}", safe(note));
    }
    Ok(incident)
}

/// Follows an incident until it is sealed.
async fn sealed(service: &mut IncidentServiceClient<Api>, opened: &IncidentSummary) -> Result<IncidentSummary> {
    let incident = follow(service, opened).await?;
    if incident.state == IncidentState::Failed {
        let why = incident.failure.as_deref().unwrap_or("the collector did not say why");
        bail!("{} could not be sealed: {}; what was gathered is kept", incident.id, safe(why));
    }
    Ok(incident)
}

async fn follow(service: &mut IncidentServiceClient<Api>, opened: &IncidentSummary) -> Result<IncidentSummary> {
    let ask = WatchIncidentRequest::from(opened.id);
    let mut updates = service.watch_incident(ask).await.map_err(|s| client::said(&s))?.into_inner();
    let mut progress = Progress::new();
    loop {
        // First arm: the user has had enough of watching; the incident goes on without us. Second: a change.
        let update = tokio::select! {
            stopped = tokio::signal::ctrl_c() => {
                stopped.context("wait for Ctrl-C")?;
                bail!("stopped watching; {} goes on at the collector (casefile incidents shows it)", opened.id);
            }
            update = updates.message() => update.map_err(|s| client::said(&s))?,
        };
        let update =
            update.with_context(|| format!("the collector ended the conversation before {} was sealed", opened.id))?;
        let view = IncidentView::try_from(update)?;
        progress.show(&view);
        if matches!(view.incident.state, IncidentState::Sealed | IncidentState::Failed) {
            return Ok(view.incident);
        }
    }
}

fn ask(args: &CollectArgs, now: WallTime) -> Result<OpenAsk> {
    let window = match (&args.around, &args.since) {
        (Some(around), _) => when::around(around, now)?,
        (None, Some(since)) => {
            let until = args.until.as_deref().map_or(Ok(now), |text| when::time(text, now))?;
            Window::new(when::time(since, now)?, until).map_err(when::InvalidWhen::from)?
        }
        (None, None) => bail!("say --since or --around"),
    };
    let deadline = args.deadline.as_deref().map(when::length).transpose()?;
    Ok(OpenAsk {
        ask: IncidentAsk {
            title: args.title.clone(),
            reason: args.reason.clone(),
            requested_by: requester(),
            severity: args.severity,
            trigger: Trigger::Person,
            resource: None,
            runbook: args.runbook.clone(),
            window,
            nodes: args.nodes.clone(),
            scope: Scope {
                sources: args.sources.clone(),
                select: Selection {
                    namespaces: args.namespaces.clone(),
                    pods: args.pods.clone(),
                    units: args.units.clone(),
                },
                chosen: chosen(args),
            },
        },
        deadline,
        slack: slack(args),
    })
}

/// What was said in the cluster's words; the collector finds out what that is.
fn chosen(args: &CollectArgs) -> Option<Box<Chosen>> {
    let asked = args.cluster.selection(&args.namespaces, &args.pods);
    (!asked.is_empty()).then(|| Box::new(Chosen { asked, ..Chosen::default() }))
}

/// Who says "the last half hour" means it to the second only when he says so: what a colleague asked for a moment ago will do.
fn slack(args: &CollectArgs) -> Duration {
    let relative = args.since.as_deref().is_some_and(|since| when::length(since).is_ok());
    if relative && args.until.is_none() { SLACK } else { Duration::ZERO }
}

/// The login name; the collector marks it as what the caller said.
pub(crate) fn requester() -> String {
    std::env::var("USER")
        .or_else(|_| std::env::var("LOGNAME"))
        .unwrap_or_else(|_| format!("uid {}", rustix::process::getuid().as_raw()))
}

/// What this machine's clock says.
pub(crate) fn now() -> Result<WallTime> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("this machine's clock is before 1970")?;
    Ok(WallTime::from_secs(0).after(since))
}
