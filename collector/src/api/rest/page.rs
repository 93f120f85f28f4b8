//! The page: files of its own, under a policy that lets it run and reach nothing but itself, and its questions about a sealed
//! case file, which is looked at where it lies.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{self, HeaderValue};
use axum::response::Response;
use casefile_proto::ids::IncidentId;
use casefile_proto::incident::SealedArchive;
use casefile_review::casefile::CaseFile;
use casefile_review::page::CONTENT_SECURITY_POLICY;
use tokio::sync::Semaphore;

use super::asked::Asked;
use super::routes::{Method, Operation};
use super::shelf::Shelf;
use super::{Site, typed};
use crate::api::refused::{Kind, Refused};
use crate::api::verbs::{FETCHED_WITHIN, here};
use crate::audit::Verb;
use crate::identity::rights::Right;
use crate::identity::routes::Need;

/// The path of the file that `/` is.
const INDEX: &str = "index.html";

/// Questions about case files that are answered at a time, each on a thread of its own; others wait.
const ANSWERING: usize = 4;

/// One file of the page, and what is answered to a question about a case file.
pub use casefile_review::page::{Answer as Reply, Asset};

/// Answers a question about a case file: the path below its address, and what stands behind the question mark.
pub type Answer = fn(&mut CaseFile, &str, &str) -> Reply;

/// The page.
pub struct Page {
    assets: &'static [Asset],
    answer: Answer,
    shelf: Arc<Shelf>,
    turns: Arc<Semaphore>,
}

impl Page {
    /// Of these files, of which one is `index.html`, with these answers.
    pub fn new(assets: &'static [Asset], answer: Answer) -> Self {
        Self { assets, answer, shelf: Arc::default(), turns: Arc::new(Semaphore::new(ANSWERING)) }
    }
}

/// What there is when there is a page. Its files are for anybody: they hold no evidence, and a browser asks for them before it
/// has a token to show.
pub const ALL: &[Operation] = &[
    Operation {
        id: "page",
        method: Method::Get,
        path: "/",
        need: Need::Anybody,
        serve: |site, _asked| Box::pin(async move { asset(&site.page, INDEX) }),
    },
    Operation {
        id: "asset",
        method: Method::Get,
        path: "/ui/{*file}",
        need: Need::Anybody,
        serve: |site, asked: Asked| Box::pin(async move { asset(&site.page, &asked.param::<String>("file")?) }),
    },
    Operation {
        id: "question",
        method: Method::Get,
        path: "/api/v1/incidents/{incident}/page/{*path}",
        need: Need::Right(Right::Export),
        serve: |site, asked| Box::pin(question(site, asked)),
    },
];

fn asset(page: &Page, path: &str) -> Result<Response, Refused> {
    let asset = page.assets.iter().find(|asset| asset.path == path);
    let asset = asset.ok_or_else(|| Refused::new(Kind::NoRoute, "the page has no such file"))?;
    let mut answer = typed(StatusCode::OK, asset.content_type, Body::from(asset.bytes));
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    // A newer collector has newer files under the same names.
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(answer)
}

/// Answers from the newest archive of an incident. That somebody looks at it is recorded the first time.
async fn question(site: Arc<Site>, asked: Asked) -> Result<Response, Refused> {
    let page = &site.page;
    let id: IncidentId = asked.param("incident")?;
    let path: String = asked.param("path")?;
    let query = asked.head.uri.query().unwrap_or("").to_owned();
    let archive = site.verbs.archive(id, None).await?;
    let who = asked.caller.who.to_string();
    if !page.shelf.is_looking(&who, &archive) {
        site.verbs.record(&asked.caller, Verb::ReviewArchive, format!("{id} {}", archive.file_name)).await?;
        page.shelf.looks(who, &archive);
    }
    let here = here(&site.verbs.archives, id, &archive, Some(FETCHED_WITHIN)).await?;
    // Never closed. Whoever waits too long is told so, and has no turn then.
    let turn = Arc::clone(&page.turns).acquire_owned().await;
    let (shelf, answer) = (Arc::clone(&page.shelf), page.answer);
    let answering = tokio::task::spawn_blocking(move || {
        // Held by the thread: when nobody waits for the answer any more, it is still busy.
        let _turn = turn;
        answered(&shelf, &archive, here.path(), answer, &path, &query)
    });
    let reply = answering.await.map_err(|error| {
        tracing::error!(%error, "a question about a case file ended in a defect");
        Refused::new(Kind::Internal, "the collector failed at this; its log says how")
    })??;
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Ok(typed(status, reply.content_type, Body::from(reply.body)))
}

fn answered(
    shelf: &Shelf,
    archive: &SealedArchive,
    file: &Path,
    answer: Answer,
    path: &str,
    query: &str,
) -> Result<Reply, Refused> {
    let case = shelf.take(archive, file).map_err(|error| {
        tracing::error!(path = %file.display(), error = crate::chain::chain(&error), "a sealed archive cannot be read");
        let text =
            format!("{} is not as it was sealed, or cannot be read; the collector's log says more", archive.file_name);
        Refused::new(Kind::Damaged, text)
    })?;
    let mut case = case.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(answer(&mut case, path, query))
}
