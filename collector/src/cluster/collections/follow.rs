//! What happens to the resources, told as it is heard: every one that there is, one that is new or another, one that is gone.
//! How they are followed is [`crate::cluster::follow`]'s business. What is told waits for whoever listens.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use casefile_proto::gap::GapReason;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};

use super::book::MAX_RESOURCES;
use super::resource::{API, Collection, PLURAL};
use crate::cluster::api::{Api, ApiError, told};
use crate::cluster::follow::{Follow, Message};
use crate::cluster::following::{Following, Keeper, failure};
use crate::cluster::record::intake::Page;
use crate::cluster::record::log::Applied;
use crate::ingest::Clock;
use crate::stats::figure::Label;

/// Resources of one list; what is more is not looked at.
const MAX_LISTED: usize = 2 * MAX_RESOURCES;

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
    /// `None`: that a version is gone is in the nature of watches.
    fn of(error: &ApiError) -> Option<Self> {
        match error {
            error if error.is_gone() => None,
            error if error.is_not_found() => Some(Self::Missing),
            error if error.is_forbidden() => Some(Self::Forbidden),
            _ => Some(Self::Away),
        }
    }
}

/// Tells what happens, until it is dropped. `missing`: how long before a kind that is not installed, or may not be read, is
/// looked for again. `stands` is called with how it stands, again and again.
pub async fn follow(
    api: Api,
    clock: Clock,
    missing: Duration,
    tell: mpsc::Sender<News>,
    stands: impl Fn(Standing, Option<&ApiError>),
) {
    // What differs from start to start.
    let seed = clock().wall.nanos().unsigned_abs();
    let keeper = Teller { tell, stands, all: Vec::new() };
    let path = format!("/apis/{API}/{PLURAL}");
    let following = Following { api, clock, path, pages: Arc::new(Semaphore::new(1)), keeper };
    following.run(Follow::new(seed).asking_rarely(missing)).await;
}

/// Keeps nothing but a list that is not whole yet.
struct Teller<S> {
    tell: mpsc::Sender<News>,
    stands: S,
    all: Vec<Collection>,
}

impl<S: Fn(Standing, Option<&ApiError>)> Teller<S> {
    async fn tell(&self, news: News) -> Message {
        match self.tell.send(news).await {
            Ok(()) => Message::Elapsed,
            // The collector stops, and this is about to be dropped.
            Err(_) => Message::Unwritten("nobody listens".to_owned()),
        }
    }

    fn unfit(&mut self, why: String) -> ApiError {
        let error = ApiError::Malformed(why);
        self.failed(&error);
        error
    }
}

impl<S: Fn(Standing, Option<&ApiError>)> Keeper for Teller<S> {
    async fn page(&mut self, bytes: Vec<u8>, is_first: bool) -> Message {
        if is_first {
            self.all.clear();
        }
        let all = &mut self.all;
        let page = Page::read(&bytes, |object| {
            if all.len() < MAX_LISTED {
                all.extend(Collection::read(object));
            }
        });
        match page {
            Ok(Page { version, next }) => Message::Page { version, next },
            Err(why) => Message::Failed(failure(self.unfit(why))),
        }
    }

    /// Its specification is not in it, and what it asks for is not known: then nothing is known of any.
    async fn passed(&mut self, _: Vec<u8>, _: bool) -> Message {
        Message::Failed(failure(self.unfit("one collection is too large".to_owned())))
    }

    async fn listed(&mut self) -> Message {
        let all = std::mem::take(&mut self.all);
        self.tell(News::All(all)).await
    }

    fn opened(&mut self) {
        (self.stands)(Standing::Following, None);
    }

    async fn resumed(&mut self) -> Message {
        Message::Elapsed
    }

    async fn line(&mut self, bytes: Vec<u8>) -> Message {
        let mut event: Value = match serde_json::from_slice(&bytes) {
            Ok(event) => event,
            Err(error) => {
                self.unfit(error.to_string());
                return Message::Garbage(error.to_string());
            }
        };
        let object = event["object"].take();
        if event["type"] == "ERROR" {
            let error = told(object);
            self.failed(&error);
            return Message::Failed(failure(error));
        }
        let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        if version.is_empty() {
            return Message::Garbage("an object without a version".to_owned());
        }
        let news = match (event["type"].as_str(), Collection::read(object)) {
            (Some("ADDED" | "MODIFIED"), Some(collection)) => News::Is(Box::new(collection)),
            (Some("DELETED"), Some(collection)) => News::Gone(collection.resource.uid),
            // Bookmarks bring their version only, and what is no resource that can be one is not there.
            _ => return Message::Bookmark(version),
        };
        match self.tell(news).await {
            Message::Elapsed => Message::Version(version, Applied::New),
            other => other,
        }
    }

    async fn too_large(&mut self) -> Message {
        tracing::warn!("an object among the collections is too large and was passed over");
        Message::Elapsed
    }

    async fn ended(&mut self) -> Message {
        Message::Ended
    }

    fn failed(&mut self, error: &ApiError) {
        if let Some(standing) = Standing::of(error) {
            (self.stands)(standing, Some(error));
        }
    }

    /// How it stands was told already, and what is missed then is listed later.
    async fn lost(&mut self, _: GapReason, _: String) {}
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use serde_json::json;

    use super::*;

    fn object(name: &str, version: u32) -> Value {
        json!({"metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"),
            "resourceVersion": version.to_string()}, "spec": {"window": {"since": "30m"}}})
    }

    fn line(kind: &str, object: &Value) -> Vec<u8> {
        json!({"type": kind, "object": object}).to_string().into_bytes()
    }

    #[test]
    fn an_error_is_a_standing_unless_it_is_in_the_nature_of_watches() {
        let said = |code| ApiError::Said { code, reason: String::new(), message: String::new(), retry_after: None };
        assert_eq!(Standing::of(&said(403)), Some(Standing::Forbidden));
        assert_eq!(Standing::of(&said(404)), Some(Standing::Missing));
        assert_eq!(Standing::of(&said(500)), Some(Standing::Away));
        assert_eq!(Standing::of(&said(410)), None);
    }

    #[tokio::test]
    async fn pages_are_told_as_one_list_and_lines_one_by_one() {
        let (tell, mut news) = mpsc::channel(8);
        let stood = RefCell::new(Vec::new());
        let stands = |standing, _: Option<&ApiError>| stood.borrow_mut().push(standing);
        let mut teller = Teller { tell, stands, all: Vec::new() };
        let page = |objects: &[Value], next: &str| {
            json!({"metadata": {"resourceVersion": "7", "continue": next}, "items": objects}).to_string().into_bytes()
        };
        let first = teller.page(page(&[object("old", 1)], "x"), true).await;
        assert_eq!(first, Message::Page { version: "7".to_owned(), next: Some("x".to_owned()) });
        // It began anew: what was taken of the list before counts no more.
        teller.page(page(&[object("a", 1)], "y"), true).await;
        let last = teller.page(page(&[object("b", 2), json!({"metadata": {}})], ""), false).await;
        assert_eq!(last, Message::Page { version: "7".to_owned(), next: None });
        assert_eq!(teller.listed().await, Message::Elapsed);
        let Ok(News::All(all)) = news.try_recv() else { panic!("no list") };
        assert_eq!(all.iter().map(|c| &*c.resource.name).collect::<Vec<_>>(), ["a", "b"]);

        let new = |version: &str| Message::Version(version.to_owned(), Applied::New);
        assert_eq!(teller.line(line("MODIFIED", &object("a", 8))).await, new("8"));
        assert!(matches!(news.try_recv(), Ok(News::Is(one)) if one.resource.name == "a"));
        assert_eq!(teller.line(line("DELETED", &object("b", 9))).await, new("9"));
        assert!(matches!(news.try_recv(), Ok(News::Gone(uid)) if uid == "uid-b"));
        let bookmark = json!({"metadata": {"resourceVersion": "12"}});
        assert_eq!(teller.line(line("BOOKMARK", &bookmark)).await, Message::Bookmark("12".to_owned()));
        assert!(matches!(teller.line(b"{".to_vec()).await, Message::Garbage(_)));
        assert_eq!(*stood.borrow(), [Standing::Away]);
        drop(news);
        assert!(matches!(teller.line(line("ADDED", &object("c", 13))).await, Message::Unwritten(_)));
    }
}
