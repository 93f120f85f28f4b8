//! What happens to the resources, as the API server tells it: listed in pages, then watched from that version on.
//!
//! A watch that ends goes on where it stood; one whose version is gone begins with a new list. Neither is repeated faster than an
//! API server bears, whatever it answers. What is told waits for whoever listens.

use std::fmt;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::book::MAX_RESOURCES;
use super::resource::{API, Collection, PLURAL};
use crate::cluster::api::{Api, ApiError, Line, escaped, told};
use crate::stats::figure::Label;

/// Objects on one page, and bytes of it. A page that is larger is asked for in half.
const PAGE: usize = 100;
const PAGE_BYTES: usize = 16 << 20;

/// Resources of one list; what is more is not looked at.
const MAX_LISTED: usize = 2 * MAX_RESOURCES;

/// Bytes of one event. An object that is larger cannot be in etcd.
const EVENT_BYTES: usize = 4 << 20;

/// A page must come within this.
const PAGE_WITHIN: Duration = Duration::from_secs(30);

/// What a watch is told to last, and how long after that it is given up: a connection may be dead without a word.
const WATCH: Duration = Duration::from_secs(290);
const WATCH_LATE: Duration = Duration::from_secs(20);

/// How long before what failed is tried again; it doubles up to the most.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// A watch that lasted so long has not failed, however it ended.
const LASTED: Duration = Duration::from_secs(10);

/// What is told.
#[derive(Debug)]
pub enum News {
    /// Every resource there is.
    All(Vec<Collection>),
    /// One as it is now.
    Is(Box<Collection>),
    /// The one of this uid was deleted.
    Gone(String),
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// What happens is heard.
    Following,
    /// The API server is away, or answers nothing that is of use.
    Away,
    /// The kind is not installed.
    Missing,
    /// The collector may not list or watch it.
    Forbidden,
}

impl Label for Standing {
    const NAME: &'static str = "state";
    const ALL: &'static [Self] = &[Self::Following, Self::Away, Self::Missing, Self::Forbidden];

    fn value(self) -> &'static str {
        match self {
            Self::Following => "following",
            Self::Away => "away",
            Self::Missing => "missing",
            Self::Forbidden => "forbidden",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.value())
    }
}

impl Standing {
    fn of(error: &ApiError) -> Self {
        match error {
            error if error.is_not_found() => Self::Missing,
            error if error.is_forbidden() => Self::Forbidden,
            _ => Self::Away,
        }
    }
}

/// How long to wait after so many failures in a row, by what failed last.
pub fn pause(failures: u32, error: &ApiError, missing: Duration) -> Duration {
    if error.is_not_found() {
        return missing;
    }
    let wait = AGAIN.saturating_mul(1 << failures.min(16)).min(AGAIN_MAX);
    match error {
        ApiError::Said { retry_after: Some(after), .. } => wait.max(*after),
        _ => wait,
    }
}

/// Tells what happens, until nobody listens. `missing`: how long before a kind that is not installed is looked for again.
pub async fn follow(
    api: Api,
    missing: Duration,
    tell: mpsc::Sender<News>,
    stands: impl Fn(Standing, Option<&ApiError>),
) {
    let mut failures = 0;
    while !tell.is_closed() {
        let began = Instant::now();
        let error = match followed(&api, &tell, &stands).await {
            Ok(()) => return,
            Err(error) => error,
        };
        failures = if began.elapsed() >= LASTED { 0 } else { failures + 1 };
        // That a version is gone is in the nature of watches.
        if !error.is_gone() {
            stands(Standing::of(&error), Some(&error));
        }
        tokio::time::sleep(pause(failures, &error, missing)).await;
    }
}

/// Lists, then watches for as long as that goes. `Ok`: nobody listens any more.
async fn followed(
    api: &Api,
    tell: &mpsc::Sender<News>,
    stands: &impl Fn(Standing, Option<&ApiError>),
) -> Result<(), ApiError> {
    let (all, mut version) = list(api).await?;
    if tell.send(News::All(all)).await.is_err() {
        return Ok(());
    }
    let mut failures = 0u32;
    loop {
        let began = Instant::now();
        let error = match watch(api, &mut version, tell, stands).await {
            Ok(Ended::ByServer) if began.elapsed() >= LASTED => {
                failures = 0;
                continue;
            }
            Ok(Ended::ByServer) => ApiError::Away("it ended a watch at once".to_owned()),
            Ok(Ended::NobodyListens) => return Ok(()),
            Err(error) if error.is_gone() || error.is_not_found() || error.is_forbidden() => return Err(error),
            Err(error) => {
                stands(Standing::of(&error), Some(&error));
                error
            }
        };
        failures = if began.elapsed() >= LASTED { 0 } else { failures + 1 };
        tokio::time::sleep(pause(failures.saturating_sub(1), &error, Duration::ZERO)).await;
    }
}

/// Every resource, and the version from which on to watch.
async fn list(api: &Api) -> Result<(Vec<Collection>, String), ApiError> {
    let mut limit = PAGE;
    'again: loop {
        let (mut all, mut from) = (Vec::new(), String::new());
        loop {
            let path = format!("/apis/{API}/{PLURAL}?limit={limit}&continue={}", escaped(&from));
            let page = match api.get(&path, PAGE_BYTES, PAGE_WITHIN).await {
                Ok(page) => page,
                Err(ApiError::TooLarge(_)) if limit > 1 => {
                    limit /= 2;
                    continue 'again;
                }
                Err(error) => return Err(error),
            };
            let mut page: Value = serde_json::from_slice(&page).map_err(|e| ApiError::Malformed(e.to_string()))?;
            if let Value::Array(items) = page["items"].take() {
                let room = MAX_LISTED.saturating_sub(all.len());
                all.extend(items.into_iter().filter_map(Collection::read).take(room));
            }
            let word = |name: &str| page["metadata"][name].as_str().unwrap_or_default().to_owned();
            let (version, next) = (word("resourceVersion"), word("continue"));
            if next.is_empty() {
                return Ok((all, version));
            }
            if next == from {
                return Err(ApiError::Malformed("a page leads to itself".to_owned()));
            }
            from = next;
        }
    }
}

/// How a watch ended that did not fail.
enum Ended {
    ByServer,
    NobodyListens,
}

async fn watch(
    api: &Api,
    version: &mut String,
    tell: &mpsc::Sender<News>,
    stands: &impl Fn(Standing, Option<&ApiError>),
) -> Result<Ended, ApiError> {
    let path = format!(
        "/apis/{API}/{PLURAL}?watch=true&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={}",
        escaped(version),
        WATCH.as_secs()
    );
    let mut lines = api.lines(&path, PAGE_WITHIN).await?;
    stands(Standing::Following, None);
    let deadline = Instant::now() + WATCH + WATCH_LATE;
    loop {
        // First arm: an event. Second: nobody listens any more.
        let line = tokio::select! {
            line = lines.next(EVENT_BYTES, deadline) => match line {
                // It is dead: the next one goes on where this one stood.
                Err(ApiError::Late(_)) => return Ok(Ended::ByServer),
                line => line?,
            },
            () = tell.closed() => return Ok(Ended::NobodyListens),
        };
        let Some(line) = line else { return Ok(Ended::ByServer) };
        let Line::Whole(line) = line else {
            tracing::warn!(most = EVENT_BYTES, "an event about a collection is too large and was passed over");
            continue;
        };
        let mut event: Value = serde_json::from_slice(&line).map_err(|e| ApiError::Malformed(e.to_string()))?;
        let object = event["object"].take();
        if event["type"] == "ERROR" {
            return Err(told(object));
        }
        if let Some(now) = object["metadata"]["resourceVersion"].as_str() {
            now.clone_into(version);
        }
        let news = match (event["type"].as_str(), Collection::read(object)) {
            (Some("ADDED" | "MODIFIED"), Some(collection)) => News::Is(Box::new(collection)),
            (Some("DELETED"), Some(collection)) => News::Gone(collection.resource.uid),
            // Bookmarks bring their version only.
            _ => continue,
        };
        if tell.send(news).await.is_err() {
            return Ok(Ended::NobodyListens);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_again_and_again_is_tried_later_and_later_and_a_kind_that_is_missing_in_minutes() {
        let said =
            |code, retry_after| ApiError::Said { code, reason: String::new(), message: String::new(), retry_after };
        let minutes = Duration::from_secs(180);
        let waits: Vec<_> = (0..9).map(|n| pause(n, &ApiError::Away(String::new()), minutes).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(0, &said(404, None), minutes), minutes);
        assert_eq!(pause(0, &said(429, Some(Duration::from_secs(7))), minutes).as_secs(), 7);
        assert_eq!(Standing::of(&said(403, None)), Standing::Forbidden);
        assert_eq!(Standing::of(&said(404, None)), Standing::Missing);
        assert_eq!(Standing::of(&said(500, None)), Standing::Away);
    }

    #[test]
    fn a_token_cannot_leave_its_place_in_a_query() {
        assert_eq!(escaped("a|b&watch=1 ä"), "a%7Cb%26watch%3D1%20%C3%A4");
    }
}
