//! `casefile check`, `findings`, `timeline`, `cite`: what a case file says, in the order of importance and in the order of time.

use anyhow::{Context, Result, bail};
use casefile_proto::time::WallTime;
use casefile_review::casefile::CaseFile;
use casefile_review::display::safe;
use casefile_review::finding::Severity;
use casefile_review::review::Review;
use casefile_review::signatures::catalogue::catalogue;
use casefile_review::{told, when};

use crate::args::review::{CheckArgs, CiteArgs, FindingsArgs, Least, TimelineArgs};
use crate::args::source::{Place, SourceArgs};
use crate::output::{self, Stream};
use crate::{Ended, explain, source};

impl From<Least> for Severity {
    fn from(least: Least) -> Self {
        match least {
            Least::Info => Self::Info,
            Least::Warning => Self::Warning,
            Least::Error => Self::Error,
            Least::Fatal => Self::Fatal,
        }
    }
}

/// Today's checks over a case file.
pub(crate) fn check(args: &CheckArgs) -> Result<Ended> {
    let mut casefile = source::open(&args.source)?;
    let own;
    let signatures = if args.packs.is_empty() {
        &catalogue().signatures
    } else {
        own = explain::load(&args.packs)?;
        &own
    };
    let review = Review::of(&mut casefile, signatures, None).with_context(|| doing(&args.source.file))?;
    let both = serde_json::json!({
        "verdict": review.document.verdict,
        "checks": review.document.checks,
        "findings": review.findings,
    });
    output::one(args.output.format, &both, || told::verdict(&review, &casefile.incident))?;
    Ok(ended(&review))
}

fn ended(review: &Review) -> Ended {
    let counts = review.document.verdict.counts;
    match (counts.fatal + counts.error, counts.warning, review.document.verdict.coverage.whole) {
        (1.., _, _) => Ended::Damage,
        (_, 1.., _) => Ended::Warnings,
        (_, _, false) => Ended::Partial,
        (_, _, true) => Ended::Done,
    }
}

fn doing(file: &Place) -> String {
    format!("look at {file}")
}

fn open(from: &SourceArgs) -> Result<(CaseFile, Review)> {
    let mut casefile = source::open(from)?;
    let mut unread = Vec::new();
    let review = Review::of_file(&mut casefile, &catalogue().signatures, &mut unread);
    let review = review.with_context(|| doing(&from.file))?;
    source::tell_unread(&unread);
    Ok((casefile, review))
}

/// The findings.
pub(crate) fn findings(args: &FindingsArgs) -> Result<Ended> {
    let (_, review) = open(&args.source)?;
    let least = Severity::from(args.least);
    let wanted = review.findings.iter().filter(|f| f.severity >= least && (args.node.is_none() || f.node == args.node));
    let mut out = Stream::new(args.output.format);
    for finding in wanted {
        out.push(finding, || told::finding(finding).trim_end().to_owned())?;
    }
    out.finish()?;
    Ok(Ended::Done)
}

/// The timeline.
pub(crate) fn timeline(args: &TimelineArgs) -> Result<Ended> {
    let (casefile, review) = open(&args.source)?;
    let end = casefile.coverage.window.until();
    let around = args.around.as_deref().map(|text| when::around(text, end)).transpose()?;
    let least = Severity::from(args.least);
    let node = args.node.as_ref().map(|node| node.as_str());
    let severities = [Severity::Info, Severity::Warning, Severity::Error, Severity::Fatal];
    let mut out = Stream::new(args.output.format);
    for row in &review.timeline {
        let severity = severities.into_iter().find(|s| casefile_review::timeline::word(*s) == row.severity);
        let at: WallTime = row.datetime.0;
        let wanted = severity.is_none_or(|severity| severity >= least)
            && node.is_none_or(|node| row.node == node)
            && around.is_none_or(|window| window.contains(at));
        if wanted {
            out.push(row, || told::row(row))?;
        }
    }
    out.finish()?;
    Ok(Ended::Done)
}

/// One citation.
pub(crate) fn cite(args: &CiteArgs) -> Result<Ended> {
    let (casefile, review) = open(&args.source)?;
    if let Some(finding) = review.finding(&args.reference) {
        output::one(args.output.format, finding, || told::finding_citation(&casefile.incident, finding) + "\n")?;
        return Ok(Ended::Done);
    }
    let cited = review.findings.iter().find_map(|finding| {
        let evidence = finding.evidence.iter().find(|e| e.reference.eq_ignore_ascii_case(&args.reference))?;
        Some((finding, evidence))
    });
    let Some((finding, evidence)) = cited else {
        bail!("{} is neither evidence nor a finding of it (casefile findings lists them)", safe(&args.reference))
    };
    output::one(args.output.format, evidence, || told::citation(&casefile.incident, finding, evidence) + "\n")?;
    Ok(Ended::Done)
}
