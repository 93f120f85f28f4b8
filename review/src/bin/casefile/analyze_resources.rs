//! `casefile analyze-resources`: what the pods behind a service ask for and use, against the part of the window before.

use anyhow::{Context, Result, bail};
use casefile_proto::scope::{Chosen, ClusterSelection, Scope, Selection};
use casefile_review::casefile::CaseFile;
use casefile_review::kubernetes::Cluster;
use casefile_review::review::Review;
use casefile_review::runbook::pods::{Which, choose};
use casefile_review::runbook::resources::{Compared, resources};
use casefile_review::signatures::catalogue::catalogue;
use casefile_review::when;

use crate::args::runbook::ResourcesArgs;
use crate::live::{self, Wanted};
use crate::output::{self, talk};
use crate::{Ended, source};

/// Looks, and prints.
pub(crate) fn run(args: &ResourcesArgs) -> Result<Ended> {
    let wanted = Wanted {
        since: &args.since,
        until: None,
        purpose: "resources",
        // The logs of pods name them where the cluster's objects do not.
        scope: Scope {
            sources: ["cluster", "recording", "pods"].map(str::to_owned).into(),
            select: Selection::default(),
            chosen: Some(Box::new(Chosen {
                asked: ClusterSelection {
                    namespaces: args.namespace.iter().cloned().collect(),
                    services: args.services.clone(),
                    workloads: args.workloads.clone(),
                    pods: args.pods.clone(),
                    ..ClusterSelection::default()
                },
                ..Chosen::default()
            })),
        },
    };
    let (mut casefile, place) = live::look_at(&args.look, wanted)?;
    let compared = compared(&mut casefile, args.before.as_deref())?;
    let cluster = Cluster::read(&mut casefile);
    let which = Which {
        namespace: args.namespace.clone(),
        services: args.services.clone(),
        workloads: args.workloads.clone(),
        pods: args.pods.clone(),
    };
    let chosen = choose(&casefile, &cluster, &which);
    let mut unknown = chosen.unknown;
    unknown.extend(cluster.unread.iter().map(|(what, why)| format!("{what}: {why}")));
    let found =
        resources(&mut casefile, &chosen.pods, compared, unknown).with_context(|| format!("look at {place}"))?;
    output::one(args.output.format, &found, || found.text())?;
    let whole = source::tell_truncated(&casefile);
    if found.pods.is_empty() {
        talk!("no pod was found (casefile logs FILE and casefile top --pods show which there are)");
    }
    Ok(if whole && found.is_whole() { Ended::Done } else { Ended::Partial })
}

/// Where the window is split: as said, at the first anomaly that the review has, or in the middle.
fn compared(casefile: &mut CaseFile, before: Option<&str>) -> Result<Compared> {
    let window = casefile.incident.window;
    if let Some(before) = before {
        let at = when::time(before, window.until())?;
        let Some(compared) = Compared::at(window, at) else {
            bail!("{} is not in the window, which ends at {}", at.to_seconds_text(), window.until().to_seconds_text());
        };
        return Ok(compared);
    }
    let mut unread = Vec::new();
    let review =
        Review::of_file(casefile, &catalogue().signatures, &mut unread).context("look for the first anomaly")?;
    source::tell_unread(&unread);
    let anomaly = review.document.verdict.first_anomaly.map(|first| first.at);
    Ok(Compared::of(window, anomaly))
}
