//! How one kind is followed, done: the API server is asked as [`super::follow`] decides, and what it says is given to whoever
//! keeps it. What it means is [`Keeper`]'s business.

use std::sync::Arc;
use std::time::Duration;

use casefile_proto::gap::GapReason;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::api::{Api, ApiError, Line, Lines, escaped};
use super::follow::{Action, Failure, Follow, Message};
use crate::chain::chain;
use crate::ingest::Clock;

/// The most bytes of one page of a list. Five hundred pods have about ten million.
const PAGE_BYTES: usize = 32 << 20;

/// The most bytes of one line of a watch: the largest object that Kubernetes takes, several times over.
const LINE_BYTES: usize = 8 << 20;

/// An API server that does not answer a page within this is late.
const PAGE_WITHIN: Duration = Duration::from_secs(60);

/// A watch that is not granted within this is not granted.
const WATCH_WITHIN: Duration = Duration::from_secs(30);

/// How long a watch is asked for; the server ends it then.
const WATCH_FOR: Duration = Duration::from_secs(300);

/// How long nothing need be heard of a watch before that is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Keeps what is said of one kind. What each says is what happened: [`Message::Unwritten`] where it could not be kept.
pub(super) trait Keeper {
    /// Whether what would be asked for could be kept; else why not.
    fn may_ask(&self) -> Result<(), String> {
        Ok(())
    }

    /// Takes a page; the first one begins a list.
    async fn page(&mut self, bytes: Vec<u8>, is_first: bool) -> Message;

    /// Takes the page of one object that is too large, which has its metadata alone.
    async fn passed(&mut self, bytes: Vec<u8>, is_first: bool) -> Message;

    /// Every page was taken.
    async fn listed(&mut self) -> Message;

    /// A watch was granted.
    fn opened(&mut self) {}

    /// It is followed from where it was lost.
    async fn resumed(&mut self) -> Message;

    /// Takes a line of the watch.
    async fn line(&mut self, bytes: Vec<u8>) -> Message;

    /// Something that was shown was too large to be taken.
    async fn too_large(&mut self) -> Message;

    /// The watch ended as watches do: up to now nothing was missed.
    async fn ended(&mut self) -> Message;

    /// Nothing was heard for a while: because nothing happened ([`Message::Quiet`]), or because nobody is there.
    async fn quiet(&mut self) -> Message {
        Message::Quiet
    }

    /// Something was not answered.
    fn failed(&mut self, error: &ApiError);

    /// It is not followed any more. This can be noted whatever else cannot.
    async fn lost(&mut self, reason: GapReason, detail: String);
}

/// Follows one kind.
pub(super) struct Following<K> {
    pub(super) api: Api,
    pub(super) clock: Clock,
    /// Below which the kind is listed and watched.
    pub(super) path: String,
    /// Turns to ask for a page, which is held in memory: of all kinds that share it.
    pub(super) pages: Arc<Semaphore>,
    pub(super) keeper: K,
}

/// A watch that stands.
struct Open {
    lines: Lines,
    /// When the server has ended it, if it is alive.
    until: Instant,
}

impl<K: Keeper> Following<K> {
    /// For ever.
    pub(super) async fn run(mut self, mut follow: Follow) {
        let (mut actions, mut lines) = (follow.start(), None);
        loop {
            let mut message = Message::Elapsed;
            for action in actions {
                if !matches!(action, Action::Read | Action::Resumed | Action::TooLarge) {
                    // Whatever else is done, the watch that stood is over.
                    lines = None;
                }
                match self.act(action, &mut lines).await {
                    // What could not be written down is what happened, whatever was to come next.
                    Message::Unwritten(why) => {
                        message = Message::Unwritten(why);
                        break;
                    }
                    next => message = next,
                }
            }
            actions = follow.on(message, (self.clock)().boot);
        }
    }

    async fn act(&mut self, action: Action, lines: &mut Option<Open>) -> Message {
        match action {
            Action::List { limit, token } => self.list(limit, token).await,
            Action::PassOver { token } => self.pass_over(token).await,
            Action::Listed => self.keeper.listed().await,
            Action::Resumed => self.keeper.resumed().await,
            Action::TooLarge => self.keeper.too_large().await,
            Action::Lost(reason, detail) => {
                self.keeper.lost(reason, detail).await;
                Message::Elapsed
            }
            Action::Watch(version) => {
                let (path, version, secs) = (&self.path, escaped(&version), WATCH_FOR.as_secs());
                let path =
                    format!("{path}?watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={secs}");
                match self.api.lines(&path, WATCH_WITHIN).await {
                    Ok(opened) => {
                        self.keeper.opened();
                        let until = Instant::now() + WATCH_FOR + WATCH_WITHIN;
                        *lines = Some(Open { lines: opened, until });
                        Message::Opened
                    }
                    Err(error) => self.failed(error),
                }
            }
            Action::Read => match lines {
                Some(open) => self.read(open).await,
                None => Message::Ended,
            },
            Action::Wait(long) => {
                tokio::time::sleep(long).await;
                Message::Elapsed
            }
        }
    }

    fn failed(&mut self, error: ApiError) -> Message {
        self.keeper.failed(&error);
        Message::Failed(failure(error))
    }

    async fn list(&mut self, limit: u32, token: Option<String>) -> Message {
        // Nothing is asked for that cannot be kept.
        if let Err(why) = self.keeper.may_ask() {
            return Message::Unwritten(why);
        }
        // The semaphore is never closed; without a permit it would only need more memory.
        let pages = Arc::clone(&self.pages);
        let _turn = pages.acquire().await;
        let is_first = token.is_none();
        match self.api.get(&page_of(&self.path, limit, token), PAGE_BYTES, PAGE_WITHIN).await {
            Ok(bytes) => self.keeper.page(bytes, is_first).await,
            Err(error) => self.failed(error),
        }
    }

    /// Asks for no more than the metadata of one object: what is too large then cannot be passed.
    async fn pass_over(&mut self, token: Option<String>) -> Message {
        let is_first = token.is_none();
        match self.api.get_metadata(&page_of(&self.path, 1, token), PAGE_BYTES, PAGE_WITHIN).await {
            Ok(bytes) => self.keeper.passed(bytes, is_first).await,
            // The server has nothing smaller to say.
            Err(ApiError::TooLarge(_)) => self.failed(ApiError::Malformed("one object is too large".to_owned())),
            Err(error) => self.failed(error),
        }
    }

    async fn read(&mut self, open: &mut Open) -> Message {
        if Instant::now() >= open.until {
            return Message::Failed(Failure::Late("a watch did not end when it should have".to_owned()));
        }
        match open.lines.next(LINE_BYTES, Instant::now() + LOOK_EVERY).await {
            Ok(Some(Line::Whole(line))) => self.keeper.line(line).await,
            Ok(Some(Line::TooLong)) => Message::TooLong,
            Ok(None) => self.keeper.ended().await,
            Err(ApiError::Late(_)) => self.keeper.quiet().await,
            Err(error) => self.failed(error),
        }
    }
}

fn page_of(path: &str, limit: u32, token: Option<String>) -> String {
    let path = format!("{path}?limit={limit}");
    token.map_or(path.clone(), |token| format!("{path}&continue={}", escaped(&token)))
}

/// What an error means to whoever follows.
pub(super) fn failure(error: ApiError) -> Failure {
    let text = chain(&error);
    match error {
        _ if error.is_gone() => Failure::Gone,
        _ if error.is_forbidden() => Failure::Forbidden(text),
        _ if error.is_not_found() => Failure::Absent,
        ApiError::TooLarge(_) => Failure::TooLarge,
        ApiError::Said { code: 429 | 503, retry_after, .. } => Failure::Busy(retry_after),
        ApiError::Late(_) => Failure::Late(text),
        ApiError::Malformed(_) => Failure::Malformed(text),
        ApiError::Said { .. } | ApiError::Away(_) | ApiError::Access(_) => Failure::Away(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opaque_texts_go_into_a_query_whatever_they_hold() {
        assert_eq!(page_of("/api/v1/pods", 500, None), "/api/v1/pods?limit=500");
        let page = page_of("/api/v1/pods", 1, Some("a|b&c=ä".to_owned()));
        assert_eq!(page, "/api/v1/pods?limit=1&continue=a%7Cb%26c%3D%C3%A4");
    }
}
