//! `casefile test-connectivity`: from every node to a target, now; or the tests that a case file holds.

use std::time::Duration;

use anyhow::Result;
use casefile_evidence::archive::connectivity::KeptTest;
use casefile_proto::connectivity::target::Target;
use casefile_proto::connectivity::{Judged, TargetList, TestAsk};
use casefile_proto::wire::v1::{ListTargetsRequest, TestConnectivityRequest};
use casefile_review::connectivity::matrix::matrix;
use casefile_review::connectivity::{self, Outcome, judge, outcome};
use tonic::Code;

use crate::args::source::Place;
use crate::args::test_connectivity::TestConnectivityArgs;
use crate::args::{CollectorArgs, Format};
use crate::output::talk;
use crate::{Ended, client, output, source};

/// Tests, or shows what was tested.
pub(crate) fn run(args: &TestConnectivityArgs) -> Result<Ended> {
    match &args.file {
        Some(place) => over(place, args),
        None => live(args),
    }
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Fine => Self::Done,
            Outcome::Unsure => Self::Partial,
            Outcome::Fault => Self::Damage,
        }
    }
}

fn live(args: &TestConnectivityArgs) -> Result<Ended> {
    let ask = TestAsk {
        target: args.target.clone().unwrap_or_default(),
        nodes: args.nodes.clone(),
        deadline: args.deadline.map(Duration::from_secs),
    };
    let judged = judged(ask, &args.collector)?;
    let kept = KeptTest { test: judged.test.clone(), missing: 0, line: 0 };
    output::one(args.output.format, &judged, || matrix(&kept, &judged.verdict))?;
    Ok(outcome(&kept).into())
}

/// What may be tested; `None`: the collector is of a version that does not say.
pub(crate) fn listed(collector: &CollectorArgs) -> Result<Option<TargetList>> {
    client::block_on(async {
        let mut service = client::connectivity(collector).await?;
        match service.list_targets(client::request(ListTargetsRequest {})).await {
            Ok(answer) => Ok(Some(TargetList::try_from(answer.into_inner())?)),
            Err(status) if status.code() == Code::Unimplemented => Ok(None),
            Err(status) => Err(client::said(&status)),
        }
    })
}

/// Has a target tested.
pub(crate) fn judged(ask: TestAsk, collector: &CollectorArgs) -> Result<Judged> {
    client::block_on(async {
        let mut service = client::connectivity(collector).await?;
        let request = client::request(TestConnectivityRequest::from(ask));
        let answer = service.test_connectivity(request).await.map_err(|status| client::said(&status))?;
        Ok(Judged::try_from(answer.into_inner())?)
    })
}

fn over(place: &Place, args: &TestConnectivityArgs) -> Result<Ended> {
    let mut casefile = source::open_place(place, &args.collector)?;
    let mut unread = Vec::new();
    let mut tests = connectivity::kept(&mut casefile, &mut unread);
    source::tell_unread(&unread);
    let whole = source::tell_truncated(&casefile) && unread.is_empty();
    if let Some(wanted) = &args.target {
        let target = wanted.parse::<Target>().ok();
        tests.retain(|kept| kept.test.name == *wanted || target.as_ref() == Some(&kept.test.target));
    }
    if tests.is_empty() && args.output.format == Format::Table {
        talk!("no test of connectivity was made in the window of this case file, or none of this target");
    }
    let judged: Vec<Judged> =
        tests.iter().map(|kept| Judged { test: kept.test.clone(), verdict: judge(&kept.test, kept.missing) }).collect();
    let text = || {
        let each: Vec<_> = tests.iter().zip(&judged).map(|(kept, judged)| matrix(kept, &judged.verdict)).collect();
        each.join("\n")
    };
    output::list_or(args.output.format, &judged, text)?;
    Ok(match tests.iter().map(outcome).max() {
        Some(Outcome::Fault) => Ended::Damage,
        Some(Outcome::Fine) if whole => Ended::Done,
        // What was not tested, or cannot be read, says nothing.
        _ => Ended::Partial,
    })
}
