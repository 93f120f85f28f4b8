//! What was concluded of the case file: by our own checks, or by an attacker who knows our forms.

use std::path::Path;

use anyhow::Result;
use casefile_evidence::archive::layout;
use casefile_proto::item::EntryPath;
use casefile_review::casefile::CaseFile;
use casefile_review::page::documents::Documents;
use casefile_review::report::report_html;
use casefile_review::review::Review;
use casefile_review::signatures::catalogue::catalogue;
use serde_json::{Value, json};

use super::{NODES, SECONDS, Texts, at};

/// Findings that are forged.
const FINDINGS: usize = 80;
/// Rows of the timeline that are forged.
const ROWS: usize = 400;

type Entries = Vec<(EntryPath, Vec<u8>)>;

/// As a collector would have sealed them.
pub(super) fn ours(path: &Path) -> Result<Entries> {
    let mut case = CaseFile::open(path)?;
    let review = Review::of(&mut case, &catalogue().signatures, None)?;
    let mut entries: Entries = review.documents()?.into();
    let report = report_html(&mut case, &Documents::of(review)?, None);
    entries.push((layout::path(layout::REPORT), report));
    Ok(entries)
}

/// In our forms, with a text wherever one may stand.
pub(super) fn theirs(t: &mut Texts) -> Result<Entries> {
    let time = |n: usize| at(f64::from(u32::try_from(n).unwrap_or(0) % 170) + 1.0).to_string();
    let seconds = u32::try_from(SECONDS).unwrap_or(0);
    let checks: Vec<Value> = (0..40)
        .map(|n| json!({"id": t.text(), "title": t.text(), "verdict": (["found", "cannot-tell", "clear"][n % 3]), "nodes": [NODES[n % 3]],
            "missing": [t.text(), t.text()], "findings": [t.text()]}))
        .collect();
    let review = json!({
        "format": 1, "by": t.text(), "checks": checks,
        "verdict": {
            "sentence": format!("{}; {}; n__2__: {} [E1, E2] {} [E{}]", t.text(), t.text(), t.text(), t.text(), t.text()),
            "cites": [t.text()],
            "first_anomaly": {"at": time(3), "node": NODES[0], "finding": t.text()},
            "counts": {"fatal": 1, "error": 1, "warning": 1, "info": 1},
            "coverage": {"nodes": 3, "answered": 2, "trimmed": 0, "last_words": 0, "silent": 1, "gaps": 7, "whole": false},
        },
    });
    let mut findings = Vec::new();
    for n in 0..FINDINGS {
        let evidence: Vec<Value> = (0..3).map(|e| evidence(t, n, e, &time(n))).collect();
        let finding = json!({
            // Some have names of ours, so that they can be cited; the rest what they like.
            "id": if n % 2 == 0 { format!("F{n}") } else { t.text() }, "kind": t.text(),
            "check": if n % 5 == 0 { format!("change.{}", t.text()) } else { t.text() },
            "severity": (["fatal", "error", "warning", "info"][n % 4]), "confidence": "high", "node": NODES[n % 3], "subject": t.text(),
            "summary": t.text(), "meaning": t.text(), "now": t.text(), "not_proof": [t.text(), t.text()], "first": time(n), "last": time(n + 1),
            "count": n, "pod": {"namespace": t.text(), "name": t.text(), "uid": t.text()},
            "part_of": if n % 7 == 3 { Value::from("F0") } else if n % 7 == 5 { Value::from(t.text()) } else { Value::Null },
            "evidence": evidence,
        });
        serde_json::to_writer(&mut findings, &finding)?;
        findings.push(b'\n');
    }
    let mut rows = Vec::new();
    for n in 0..ROWS {
        let row = json!({
            "datetime": time(n * usize::try_from(seconds).unwrap_or(1) / ROWS), "message": t.text(),
            "timestamp_desc": (["kernel", "event", "finding", "gap", "human"][n % 5]), "node": if n % 3 == 0 { t.text() } else { NODES[n % 3].to_owned() },
            "severity": if n % 4 == 0 { t.text() } else { "ERROR".to_owned() }, "id": t.text(), "evidence": t.text(), "finding": t.text(),
            "until": time(n + 3), "entry": t.text(), "line": n,
        });
        serde_json::to_writer(&mut rows, &row)?;
        rows.push(b'\n');
    }
    let report: String = (0..t.count()).map(|_| format!("<p>{}</p>\n", t.text())).collect();
    let report = format!("<!doctype html><title>{}</title>{report}", t.text());
    Ok(vec![
        (layout::path(layout::REVIEW), serde_json::to_vec_pretty(&review)?),
        (layout::path(layout::FINDINGS), findings),
        (layout::path(layout::TIMELINE), rows),
        (layout::path(layout::REPORT), report.into_bytes()),
    ])
}

fn evidence(t: &mut Texts, n: usize, e: usize, at: &str) -> Value {
    let own = format!("E{}", n * 3 + e);
    let reference = if e < 2 { own } else { t.text() };
    let mut evidence = json!({
        "ref": reference, "kind": (["line", "series", "event", "state", "coverage"][(n + e) % 5]), "node": NODES[n % 2], "entry": null, "at": at,
        "text": t.text(), "metric": t.text(), "labels": {t.text(): t.text()}, "from": at, "until": at, "value": 1.0, "unit": t.text(),
    });
    if n.is_multiple_of(2) {
        evidence["entry"] = Value::from(format!("data/nodes/{}/logs/kernel.log", NODES[0]));
        evidence["line"] = Value::from(n + 1);
        evidence["offset"] = Value::from(0);
    }
    evidence
}
