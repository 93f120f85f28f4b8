//! An archive over HTTP, whole or in part: the file as it lies there, under the digest of its bytes as its tag.

use std::io::SeekFrom;
use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use casefile_proto::ids::IncidentId;
use casefile_proto::item::Digest;
use tokio::fs::File;
use tokio::io::AsyncSeekExt;

use super::asked::{Asked, parsed};
use super::range::{Wanted, wanted};
use super::{Site, typed};
use crate::api::refused::{Kind, Refused};
use crate::api::streams::Outlet;
use crate::api::verbs;
use crate::audit::Verb;

/// The archive of an incident.
pub(super) async fn download(site: Arc<Site>, asked: Asked) -> Result<Response, Refused> {
    let id: IncidentId = asked.param("incident")?;
    let [revision] = asked.query(["revision"])?;
    let archive = site.verbs.archive(id, parsed("revision", revision)?).await?;
    let served =
        Served { name: &archive.file_name, kind: "application/gzip", size: archive.size, sha256: archive.sha256 };
    let (mut answer, range) = match served.begun(&asked) {
        Begun::Over(answer) => return Ok(answer),
        Begun::With(answer, range) => (answer, range),
    };
    let here = verbs::here(&site.verbs.archives, id, &archive, Some(verbs::FETCHED_WITHIN)).await?;
    let path = here.path().to_owned();
    let mut file = verbs::opened(&path, &archive).await?;
    drop(here);
    let broken = |error: std::io::Error| verbs::damaged(&path, &archive, &error);
    file.seek(SeekFrom::Start(range.start)).await.map_err(broken)?;
    let what = format!("{id} {} bytes {} to {}", archive.file_name, range.start, range.end);
    site.verbs.record(&asked.caller, Verb::DownloadArchive, what).await?;
    let failed = move |error: std::io::Error| verbs::damaged(&path, &archive, &error);
    *answer.body_mut() = Body::from_stream(site.verbs.downloads.open(|outlet| send(file, range, outlet, failed))?);
    Ok(answer)
}

async fn send(
    mut file: File,
    range: Range<u64>,
    outlet: Outlet<Bytes>,
    failed: impl Fn(std::io::Error) -> Refused + Send,
) {
    let mut left = range.end - range.start;
    while left > 0 {
        let piece = verbs::piece(&mut file, left).await.map_err(&failed);
        let sent = piece.as_ref().map_or(0, Bytes::len);
        // The head is out: all that an error can do now is to cut the body short, which whoever reads sees by its length.
        if outlet.send(piece).await.is_err() || sent == 0 {
            return;
        }
        left -= u64::try_from(sent).unwrap_or(left).min(left);
    }
}

/// A file that is served.
pub(super) struct Served<'a> {
    pub(super) name: &'a str,
    pub(super) kind: &'static str,
    pub(super) size: u64,
    pub(super) sha256: Digest,
}

/// How an answer begins.
pub(super) enum Begun {
    /// It has no body, or its body is in it.
    Over(Response),
    /// It needs these bytes as its body.
    With(Response, Range<u64>),
}

impl Served<'_> {
    /// Status and headers, and the bytes that are wanted.
    pub(super) fn begun(&self, asked: &Asked) -> Begun {
        let tag = format!("\"{}\"", self.sha256);
        let (status, range) = match wanted(&asked.head.headers, self.size, &tag) {
            Wanted::Whole => (StatusCode::OK, 0..self.size),
            Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
            Wanted::Known => (StatusCode::NOT_MODIFIED, 0..0),
            Wanted::Nowhere => {
                let text = format!("it has {} bytes: the range that was asked for lies behind them", self.size);
                let mut answer = super::refusal(&Refused::new(Kind::BeyondEnd, text));
                put(&mut answer, header::CONTENT_RANGE, &format!("bytes */{}", self.size));
                return Begun::Over(answer);
            }
        };
        let mut answer = typed(status, self.kind, Body::empty());
        put(&mut answer, header::ETAG, &tag);
        put(&mut answer, header::ACCEPT_RANGES, "bytes");
        if status == StatusCode::NOT_MODIFIED {
            answer.headers_mut().remove(header::CONTENT_TYPE);
            return Begun::Over(answer);
        }
        // Never shown in place: what is in it was written by whoever broke the node.
        put(&mut answer, header::CONTENT_DISPOSITION, &format!("attachment; filename=\"{}\"", self.name));
        put(&mut answer, header::CONTENT_LENGTH, &(range.end - range.start).to_string());
        if status == StatusCode::PARTIAL_CONTENT {
            let part = format!("bytes {}-{}/{}", range.start, range.end - 1, self.size);
            put(&mut answer, header::CONTENT_RANGE, &part);
        }
        // Says what a download would be, and gives nothing out.
        if asked.head.method == Method::HEAD { Begun::Over(answer) } else { Begun::With(answer, range) }
    }
}

/// Names of archives and entries have no byte that a header may not have.
fn put(answer: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}
