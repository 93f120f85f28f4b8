//! The entries of a sealed archive, by its index: what there is, and one of them without the rest.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use casefile_evidence::archive::limits::Limits;
use casefile_evidence::archive::reader::{Archive, EntryInfo};
use casefile_proto::ids::IncidentId;
use casefile_proto::incident::SealedArchive;
use casefile_proto::item::{Digest, EntryPath};
use serde::Serialize;
use tokio::runtime::Handle;

use super::archive::{Begun, Served};
use super::asked::{Asked, parsed};
use super::{Site, json};
use crate::api::refused::{Kind, Refused};
use crate::api::streams::Outlet;
use crate::api::verbs::{FETCHED_WITHIN, PIECE, here};
use crate::audit::Verb;

/// The most entries of one answer.
const MAX_PAGE: usize = 10_000;

/// Endings of what is text. Nothing is ever said to be a page.
const TEXT: [&str; 8] = [".log", ".txt", ".json", ".jsonl", ".csv", ".md", ".sql", ".toml"];

/// A page of the entries of an archive.
#[derive(Serialize)]
struct Page<'a> {
    archive: &'a SealedArchive,
    entries: Vec<Entry<'a>>,
    more: bool,
}

/// One entry. The digest is the index's word: what vouches for it is the signed manifest.
#[derive(Serialize)]
struct Entry<'a> {
    path: &'a str,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Digest>,
}

/// Lists the entries, in the order of the archive.
pub(super) async fn list(site: Arc<Site>, asked: Asked) -> Result<Response, Refused> {
    let id: IncidentId = asked.param("incident")?;
    let [revision, limit, after] = asked.query(["revision", "limit", "after"])?;
    let limit = parsed("limit", limit)?.unwrap_or(MAX_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Refused::new(Kind::Malformed, format!("limit: must be 1 to {MAX_PAGE}")));
    }
    let after: Option<EntryPath> = parsed("after", after)?;
    let sealed = site.verbs.archive(id, parsed("revision", revision)?).await?;
    let (archive, sealed) = open(&site, id, sealed).await?;
    let all = archive.entries();
    let from = match &after {
        None => 0,
        Some(after) => all.iter().position(|e| e.path == *after).ok_or_else(|| none(after))? + 1,
    };
    let entry = |e| entry(&archive, e);
    let entries: Vec<_> = all[from..].iter().take(limit).map(entry).collect();
    let more = from + entries.len() < all.len();
    json(StatusCode::OK, &Page { archive: &sealed, entries, more })
}

fn entry<'a>(archive: &Archive, info: &'a EntryInfo) -> Entry<'a> {
    Entry { path: info.path.as_str(), size: info.size, sha256: archive.digest(&info.path) }
}

/// Gives one entry out, or a part of it.
pub(super) async fn content(site: Arc<Site>, asked: Asked) -> Result<Response, Refused> {
    let id: IncidentId = asked.param("incident")?;
    let entry: EntryPath = asked.param("path")?;
    let [revision] = asked.query(["revision"])?;
    let sealed = site.verbs.archive(id, parsed("revision", revision)?).await?;
    let (archive, sealed) = open(&site, id, sealed).await?;
    let found = archive.find(&entry).map(|found| found.size).zip(archive.digest(&entry));
    let (size, sha256) = found.ok_or_else(|| none(&entry))?;
    let name = entry.as_str().rsplit('/').next().unwrap_or_default();
    let served = Served { name, kind: kind(name), size, sha256 };
    let (mut answer, range) = match served.begun(&asked) {
        Begun::Over(answer) => return Ok(answer),
        Begun::With(answer, range) => (answer, range),
    };
    let what = format!("{id} {} {entry} bytes {} to {}", sealed.file_name, range.start, range.end);
    site.verbs.record(&asked.caller, Verb::ReadEntry, what).await?;
    let feed = |outlet| async move {
        let inflating = tokio::task::spawn_blocking(move || send(archive, &sealed, &entry, range, &outlet));
        if let Err(error) = inflating.await {
            tracing::error!(%error, "an entry of an archive could not be given out");
        }
    };
    *answer.body_mut() = Body::from_stream(site.verbs.downloads.open(feed)?);
    Ok(answer)
}

/// Inflates, on a thread that may block, as fast as the other end reads.
fn send(mut archive: Archive, sealed: &SealedArchive, entry: &EntryPath, range: Range<u64>, outlet: &Outlet<Bytes>) {
    let tell = |piece| Handle::current().block_on(outlet.send(piece)).is_err();
    let mut left = range.end - range.start;
    let mut read = match archive.entry_from(entry, range.start) {
        Ok(read) => read,
        Err(error) => {
            tell(Err(unreadable(sealed, &error)));
            return;
        }
    };
    while left > 0 {
        let want = u64::try_from(PIECE).unwrap_or(u64::MAX).min(left);
        let mut piece = Vec::with_capacity(PIECE);
        let ended = match (&mut read).take(want).read_to_end(&mut piece) {
            Ok(0) => Some(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => None,
            Err(error) => Some(error),
        };
        // An error can only cut the body short, which whoever reads sees by its length.
        if let Some(error) = ended {
            tell(Err(unreadable(sealed, &error)));
            return;
        }
        left -= u64::try_from(piece.len()).unwrap_or(left).min(left);
        if tell(Ok(piece.into())) {
            return;
        }
    }
}

/// Opens the archive, by its index: what it was sealed with.
async fn open(site: &Site, id: IncidentId, sealed: SealedArchive) -> Result<(Archive, SealedArchive), Refused> {
    let here = here(&site.verbs.archives, id, &sealed, Some(FETCHED_WITHIN)).await?;
    // Never closed. Whoever waits too long is told so, and has no turn then.
    let turn = Arc::clone(&site.verbs.openings).acquire_owned().await;
    let opening = tokio::task::spawn_blocking(move || {
        // Held by the thread: when nobody waits any more, it is still busy.
        let _turn = turn;
        Archive::open(here.path(), Limits::default())
    });
    let opened = opening.await.map_err(|e| unreadable(&sealed, &e))?;
    let archive = opened.map_err(|e| unreadable(&sealed, &e))?;
    if !archive.indexed() {
        return Err(unreadable(&sealed, &std::io::Error::other("its index is damaged")));
    }
    Ok((archive, sealed))
}

/// What it was goes to the log, with the path.
fn unreadable(sealed: &SealedArchive, error: &dyn std::error::Error) -> Refused {
    tracing::error!(archive = sealed.file_name, error = crate::chain::chain(error), "a sealed archive cannot be read");
    let text =
        format!("{} is not as it was sealed, or cannot be read; the collector's log says more", sealed.file_name);
    Refused::new(Kind::Damaged, text)
}

fn none(entry: &EntryPath) -> Refused {
    Refused::new(Kind::NoEntry, format!("the archive has no {entry}"))
}

fn kind(name: &str) -> &'static str {
    if TEXT.iter().any(|ending| name.ends_with(ending)) {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    }
}
