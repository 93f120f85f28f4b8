//! `casefile health-check`: what is wrong in the cluster, and what could not be looked at.

use anyhow::Result;
use casefile_proto::connectivity::TestAsk;
use casefile_proto::scope::Scope;
use casefile_review::runbook::health::{Health, Level};
use casefile_review::signatures::catalogue::catalogue;

use crate::args::runbook::HealthArgs;
use crate::live::{self, Wanted};
use crate::output::talk;
use crate::{Ended, output, source, test_connectivity};

/// Looks, and says what is wrong.
pub(crate) fn run(args: &HealthArgs) -> Result<Ended> {
    // Before the incident is opened: what they find is evidence of its window.
    let targets = targets(args)?;
    for (n, target) in targets.iter().enumerate() {
        talk!("testing {target} from every node ({} of {})", n + 1, targets.len());
        let ask = TestAsk { target: target.clone(), nodes: Vec::new(), deadline: None };
        test_connectivity::judged(ask, &args.look.collector)?;
    }
    let wanted = Wanted {
        since: &args.since,
        until: None,
        purpose: "health check",
        // Of the nodes the least that there is: the cluster's objects come from the collector. A kill is in the kernel's log.
        scope: Scope { sources: vec!["cluster".to_owned(), "kernel".to_owned()], ..Scope::default() },
    };
    let (mut casefile, _) = live::look_at(&args.look, wanted)?;
    let health = Health::of(&mut casefile, &catalogue().signatures);
    output::one(args.output.format, &health, || health.text())?;
    source::tell_truncated(&casefile);
    Ok(match health.worst() {
        Some(Level::Problem) => Ended::Damage,
        Some(Level::Warning) => Ended::Warnings,
        None if health.not_looked_at.is_empty() => Ended::Done,
        None => Ended::Partial,
    })
}

/// What is tested first: what was named, else everything that the collector's configuration lists. Of a case file nothing.
fn targets(args: &HealthArgs) -> Result<Vec<String>> {
    if args.look.file.is_some() || !args.targets.is_empty() {
        return Ok(args.targets.clone());
    }
    let Some(list) = test_connectivity::listed(&args.look.collector)? else {
        talk!("no health endpoint is tested: this collector does not say which it has; name them with --target");
        return Ok(Vec::new());
    };
    Ok(list.targets.into_iter().map(|listed| listed.name).collect())
}
