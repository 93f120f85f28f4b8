//! The page: files of its own, under a policy that lets it run and reach nothing but itself.

use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{self, HeaderValue};
use axum::response::Response;

use super::asked::Asked;
use super::routes::{Method, Operation};
use super::{Site, typed};
use crate::api::refused::{Kind, Refused};
use crate::identity::routes::Need;

/// What the page may do: run and show what is served here, and ask here.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The path of the file that `/` is.
const INDEX: &str = "index.html";

/// One file of the page.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// Its name below `/ui/`.
    pub path: &'static str,
    /// Its type.
    pub content_type: &'static str,
    /// What is in it.
    pub bytes: &'static [u8],
}

/// The page.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Its files; one is `index.html`.
    pub assets: &'static [Asset],
}

/// What there is when there is a page. Its files are for anybody: they hold no evidence, and a browser asks for them before it
/// has a token to show.
pub(super) const ALL: &[Operation] = &[
    Operation {
        id: "page",
        method: Method::Get,
        path: "/",
        need: Need::Anybody,
        serve: |site, _asked| Box::pin(async move { asset(&site, INDEX) }),
    },
    Operation {
        id: "asset",
        method: Method::Get,
        path: "/ui/{*file}",
        need: Need::Anybody,
        serve: |site, asked: Asked| Box::pin(file(site, asked)),
    },
];

async fn file(site: Arc<Site>, asked: Asked) -> Result<Response, Refused> {
    let name: String = asked.param("file")?;
    asset(&site, &name)
}

fn asset(site: &Site, path: &str) -> Result<Response, Refused> {
    let assets = site.page.map_or(&[][..], |page| page.assets);
    let asset = assets.iter().find(|asset| asset.path == path);
    let asset = asset.ok_or_else(|| Refused::new(Kind::NoRoute, "the page has no such file"))?;
    let mut answer = typed(StatusCode::OK, asset.content_type, Body::from(asset.bytes));
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // A newer collector has newer files under the same names.
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(answer)
}
