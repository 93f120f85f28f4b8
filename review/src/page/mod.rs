//! The page of a case file: what a browser loads, and the answers that it asks for. Synchronous and without a network: a collector
//! and `casefile review` serve the same.
//!
//! Everything is read by the index of the case file, and only what was asked for; every answer has a cap with a name. How to add
//! an answer: a function in a file here and a line in [`answer_with`]; how to add a part of the page: a file in `review/ui` and a
//! line in [`ASSETS`].

pub mod compare;
pub mod documents;
pub mod lines;
pub mod node;
pub mod overview;
pub mod postmortem;
pub mod query;
pub mod series;
pub mod templates;

use serde::Serialize;
use serde_json::{Value, json};

use crate::casefile::CaseFile;
use documents::Documents;
use query::{Query, Refused};

/// The most rows of the timeline in one answer.
const MAX_ROWS: usize = 20_000;

/// A part of the page.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// Its path below the page's own address.
    pub path: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// Its bytes.
    pub bytes: &'static [u8],
}

const fn script(path: &'static str, bytes: &'static [u8]) -> Asset {
    Asset { path, content_type: "text/javascript; charset=utf-8", bytes }
}

/// Every part of the page. The scripts stand in the order in which a report joins them: each needs only those before it.
pub const ASSETS: &[Asset] = &[
    Asset {
        path: "index.html",
        content_type: "text/html; charset=utf-8",
        bytes: include_bytes!("../../ui/index.html"),
    },
    Asset { path: "style.css", content_type: "text/css; charset=utf-8", bytes: include_bytes!("../../ui/style.css") },
    script("dom.js", include_bytes!("../../ui/dom.js")),
    script("words.js", include_bytes!("../../ui/words.js")),
    script("state.js", include_bytes!("../../ui/state.js")),
    script("source.js", include_bytes!("../../ui/source.js")),
    script("chart.js", include_bytes!("../../ui/chart.js")),
    script("lanes.js", include_bytes!("../../ui/lanes.js")),
    script("verdict.js", include_bytes!("../../ui/verdict.js")),
    script("timeline.js", include_bytes!("../../ui/timeline.js")),
    script("node.js", include_bytes!("../../ui/node.js")),
    script("compare.js", include_bytes!("../../ui/compare.js")),
    script("evidence.js", include_bytes!("../../ui/evidence.js")),
    script("logs.js", include_bytes!("../../ui/logs.js")),
    script("heat.js", include_bytes!("../../ui/heat.js")),
    script("postmortem.js", include_bytes!("../../ui/postmortem.js")),
    script("live.js", include_bytes!("../../ui/live.js")),
    script("app.js", include_bytes!("../../ui/app.js")),
];

/// What the page may load and do, for the header of the answer that carries it.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status, as HTTP has it.
    pub status: u16,
    /// The media type.
    pub content_type: &'static str,
    /// The content.
    pub body: Vec<u8>,
}

impl Answer {
    fn json(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self { status, content_type: "application/json", body },
            Err(error) => {
                Self { status: 500, content_type: "text/plain; charset=utf-8", body: error.to_string().into() }
            }
        }
    }

    fn refused(refused: &Refused) -> Self {
        Self::json(refused.status(), &json!({ "error": refused.to_string() }))
    }
}

/// The part of the page at this path.
pub fn asset(path: &str) -> Option<&'static Asset> {
    let path = if path.is_empty() { "index.html" } else { path };
    ASSETS.iter().find(|asset| asset.path == path)
}

/// Answers one question about a case file: `path` stands below the case file's address, `query` behind the question mark.
pub fn answer(case: &mut CaseFile, path: &str, query: &str) -> Answer {
    // What asks for columns alone needs no documents, and few need the whole timeline.
    let documents = match path {
        "series" | "metrics" | "heat" | "node" | "lines" => Documents::default(),
        "timeline" | "postmortem" => Documents::read(case),
        _ => Documents::without_rows(case),
    };
    answer_with(case, &documents, path, query)
}

/// The same with documents that were read, or made, before.
pub fn answer_with(case: &mut CaseFile, documents: &Documents, path: &str, query: &str) -> Answer {
    match answered(case, documents, path, query) {
        Ok(answer) => answer,
        Err(refused) => Answer::refused(&refused),
    }
}

fn answered(case: &mut CaseFile, documents: &Documents, path: &str, query: &str) -> Result<Answer, Refused> {
    let query = Query::parse(query)?;
    Ok(match path {
        "review" => Answer::json(200, &overview::overview(case, documents)),
        "timeline" => Answer::json(200, &timeline(case, documents, &query)?),
        "metrics" => Answer::json(200, &series::metrics(case, &query)?),
        "series" => Answer::json(200, &series::series(case, &query)?),
        "heat" => Answer::json(200, &series::heat(case, &query)?),
        "logs" => Answer::json(200, &lines::logs(case, documents, &query)?),
        "evidence" => Answer::json(200, &lines::evidence(case, documents, &query)?),
        "lines" => Answer::json(200, &lines::around(case, &query)?),
        "node" => Answer::json(200, &node::node(case, &query)?),
        "compare" => Answer::json(200, &compare::compare(case, documents, &query)?),
        "postmortem" => Answer::json(200, &json!({ "sections": postmortem::draft(case, documents) })),
        _ => return Err(Refused::Nothing("there is no such answer".to_owned())),
    })
}

/// `timeline?node=&from=&until=&limit=`: rows that touch a part of the window.
fn timeline(case: &CaseFile, documents: &Documents, query: &Query) -> Result<Value, Refused> {
    let node = query.node("node")?;
    let limit = query.number("limit", MAX_ROWS, MAX_ROWS)?;
    let asked = query.get("from").is_some() || query.get("until").is_some();
    let window = query.window(case.incident.window)?;
    let time = |row: &Value, name: &str| row.get(name).and_then(Value::as_str).and_then(|text| text.parse().ok());
    let inside = |row: &&Value| {
        let at: Option<casefile_proto::time::WallTime> = time(row, "datetime");
        let until = time(row, "until").or(at);
        !asked || at.is_some_and(|at| at < window.until()) && until.is_some_and(|until| until >= window.from())
    };
    let here =
        |row: &&Value| node.as_ref().is_none_or(|node| row.get("node").and_then(Value::as_str) == Some(node.as_str()));
    let all: Vec<_> = documents.rows.iter().filter(inside).filter(here).collect();
    let left_out = all.len().saturating_sub(limit);
    Ok(json!({ "rows": all.into_iter().take(limit).collect::<Vec<_>>(), "left_out": left_out }))
}
