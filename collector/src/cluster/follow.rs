//! How one kind is followed, decided: listed in pages, watched from the version of the list, resumed from the version that was
//! seen last, listed again when that is gone, and never asked for in a hurry. Pure: what happened in, what to do next out.
//!
//! Versions mean nothing but themselves (API conventions, "Concurrency Control and Consistency"): none is ever taken for older or newer than another.

use std::time::Duration;

use casefile_proto::gap::GapReason;
use casefile_proto::time::BootTime;

use super::record::log::Applied;

/// Objects of one page when nothing speaks against it: what clients of Kubernetes ask for.
pub const PAGE: u32 = 500;

/// The first wait after something failed, and the longest: as long as clients of Kubernetes wait, because a server that is back
/// is not followed before the wait is over.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A watch that stood for so long was a good one: what fails next is a first failure.
const GOOD: Duration = Duration::from_secs(30);

/// A watch that ended before was none: the next waits.
const BRIEF: Duration = Duration::from_secs(5);

/// Time before something is asked again that may not be asked, or that this cluster does not have.
const RARELY: Duration = Duration::from_secs(300);

/// So many times in a row a server may say no before it is believed: one that has just started knows neither roles nor kinds
/// yet, and says so of everything for some seconds.
const MAX_NO: u32 = 6;

/// Lines in a row that say nothing before everything is listed again.
const MAX_GARBAGE: u32 = 3;

/// Why something was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The version, or the token of a page, is gone.
    Gone,
    /// The answer is larger than it may be.
    TooLarge,
    /// We may not ask for this.
    Forbidden(String),
    /// This cluster has no such kind.
    Absent,
    /// It has too much to do, and says perhaps when to ask again.
    Busy(Option<Duration>),
    /// It cannot be reached, broke off, or failed.
    Away(String),
    /// It did not answer in time.
    Late(String),
    /// What it said is not understood.
    Malformed(String),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A page was taken.
    Page {
        /// The version of the list.
        version: String,
        /// Where the next one begins.
        next: Option<String>,
    },
    /// What was asked was not answered.
    Failed(Failure),
    /// The watch stands.
    Opened,
    /// A version was shown, and taken.
    Version(String, Applied),
    /// Nothing happened up to this version.
    Bookmark(String),
    /// A line said nothing that a watch says.
    Garbage(String),
    /// A line was too long to be read.
    TooLong,
    /// The watch stands, and there was no line for a while.
    Quiet,
    /// The watch ended as watches do.
    Ended,
    /// The wait is over.
    Elapsed,
    /// Nothing can be kept at the moment.
    Unwritten(String),
}

/// What to do. The last of several is what to do next, those before it are to be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask for a page.
    List {
        /// Of at most so many objects.
        limit: u32,
        /// Where it begins; `None`: a new list.
        token: Option<String>,
    },
    /// One object does not fit: ask what it is called, and where the next begins.
    PassOver {
        /// Where it begins.
        token: Option<String>,
    },
    /// Every page was taken.
    Listed,
    /// Something that was shown is too large to be kept.
    TooLarge,
    /// Ask for what happened after this version.
    Watch(String),
    /// Wait for the next line of the watch.
    Read,
    /// It is followed from where it was lost.
    Resumed,
    /// It is not followed any more.
    Lost(GapReason, String),
    /// Do nothing for so long.
    Wait(Duration),
}

#[derive(Debug, Clone)]
enum State {
    /// A page is asked for, the list being of this version.
    Listing { limit: u32, most: u32, token: Option<String>, version: Option<String> },
    /// A watch is asked for.
    Opening(String),
    /// A watch stands, since then; whether anything was heard of it.
    Watching { version: String, since: BootTime, heard: bool },
    /// Waiting, to ask for a list, or for a watch from this version on.
    Waiting(Option<String>),
}

/// How one kind is followed.
#[derive(Debug, Clone)]
pub struct Follow {
    state: State,
    /// Failures since the last good watch.
    failures: u32,
    /// Answers in a row that this may not be asked, or is not there.
    noes: u32,
    /// Whether everything was ever listed, so that there is such a kind.
    was_listed: bool,
    /// Whether the version was gone, and no good watch stood since.
    was_gone: bool,
    garbage: u32,
    /// What jitter is made of.
    dice: u64,
    /// Time before something is asked again that may not be asked, or is not there.
    rarely: Duration,
}

impl Follow {
    /// At the beginning. What jitter is made of should differ from kind to kind and from collector to collector.
    pub fn new(seed: u64) -> Self {
        let state = State::Waiting(None);
        Self {
            state,
            failures: 0,
            noes: 0,
            was_listed: false,
            was_gone: false,
            garbage: 0,
            dice: seed | 1,
            rarely: RARELY,
        }
    }

    /// The same, but what may not be asked, or is not there, is asked again after so long.
    pub fn asking_rarely(self, every: Duration) -> Self {
        Self { rarely: every, ..self }
    }

    /// What to do at first.
    pub fn start(&mut self) -> Vec<Action> {
        vec![self.list()]
    }

    /// What to do after this happened.
    pub fn on(&mut self, message: Message, now: BootTime) -> Vec<Action> {
        match (self.state.clone(), message) {
            (_, Message::Unwritten(why)) => {
                // What was shown is not kept: it has to be shown again.
                let detail = format!("nothing could be kept: {why}");
                vec![Action::Lost(GapReason::NotRecorded, detail), self.wait(None, None)]
            }
            (State::Waiting(None), Message::Elapsed) => vec![self.list()],
            (State::Waiting(Some(version)), Message::Elapsed) => vec![self.watch(version)],
            (State::Listing { token: Some(this), .. }, Message::Page { next: Some(next), .. }) if next == this => {
                self.failed(Failure::Malformed("a page of the list leads to itself".to_owned()), None)
            }
            (State::Listing { limit, most, version, .. }, Message::Page { version: of, next }) => {
                self.noes = 0;
                // The version of the first page: from there on nothing is missed, whatever the others say.
                let version = version.unwrap_or(of);
                match next {
                    None => {
                        self.was_listed = true;
                        vec![Action::Listed, self.watch(version)]
                    }
                    Some(next) => {
                        let limit = limit.saturating_mul(2).min(most);
                        self.state = State::Listing { limit, most, token: Some(next.clone()), version: Some(version) };
                        vec![Action::List { limit, token: Some(next) }]
                    }
                }
            }
            (State::Listing { limit: 1, token, version, .. }, Message::Failed(Failure::TooLarge)) => {
                // The next page may be as large as any.
                self.state = State::Listing { limit: 1, most: PAGE, token: token.clone(), version };
                vec![Action::TooLarge, Action::PassOver { token }]
            }
            (State::Listing { limit, token, version, .. }, Message::Failed(Failure::TooLarge)) => {
                let limit = limit / 2;
                self.state = State::Listing { limit, most: limit, token: token.clone(), version };
                vec![Action::List { limit, token }]
            }
            (State::Listing { .. }, Message::Failed(failure)) => self.failed(failure, None),
            (State::Opening(version), Message::Opened) => {
                self.noes = 0;
                self.state = State::Watching { version, since: now, heard: false };
                vec![Action::Read]
            }
            (State::Opening(version), Message::Failed(failure)) => self.failed(failure, Some(version)),
            (State::Watching { version, since, .. }, Message::Failed(failure)) => {
                self.stood(since, now);
                self.failed(failure, Some(version))
            }
            (State::Watching { version, since, .. }, Message::Ended) => {
                self.stood(since, now);
                if now.since(since) >= BRIEF { vec![self.watch(version)] } else { vec![self.wait(Some(version), None)] }
            }
            (State::Watching { version, since, heard }, message) => self.heard(version, since, heard, message, now),
            // Nothing else is ever heard in these states; asking again is right in any of them.
            (State::Listing { .. }, _) => vec![self.wait(None, None)],
            (State::Opening(version), _) => vec![self.wait(Some(version), None)],
            (State::Waiting(then), _) => vec![self.wait(then, None)],
        }
    }

    /// A line of a watch, or that there was none.
    fn heard(&mut self, version: String, since: BootTime, heard: bool, message: Message, now: BootTime) -> Vec<Action> {
        let mut actions = Vec::new();
        let next = match message {
            Message::Version(_, Applied::Backwards) => {
                self.stood(since, now);
                let detail = "the watch showed a version that is older than one before it".to_owned();
                return vec![Action::Lost(GapReason::ParseFailed, detail), self.wait(None, None)];
            }
            Message::Garbage(what) => {
                self.garbage += 1;
                let detail = format!("the watch said what is not understood: {what}");
                let then = (self.garbage < MAX_GARBAGE).then_some(version);
                return vec![Action::Lost(GapReason::ParseFailed, detail), self.wait(then, None)];
            }
            Message::TooLong => {
                actions.push(Action::TooLarge);
                version
            }
            Message::Version(next, Applied::New) | Message::Bookmark(next) => {
                self.garbage = 0;
                next
            }
            // What comes twice is known; the version that it bears may be an old one.
            _ => version,
        };
        if !heard {
            actions.push(Action::Resumed);
        }
        self.state = State::Watching { version: next, since, heard: true };
        actions.push(Action::Read);
        actions
    }

    fn failed(&mut self, failure: Failure, version: Option<String>) -> Vec<Action> {
        let (reason, detail, then, after) = match failure {
            Failure::Gone => {
                let detail = "the API server had forgotten what happened since".to_owned();
                // It answers: however long it was away, what it has now is asked for soon, once.
                if !std::mem::replace(&mut self.was_gone, true) {
                    self.failures = 0;
                }
                (GapReason::SourceFailed, detail, None, None)
            }
            Failure::Forbidden(why) => return self.refused(GapReason::PermissionDenied, why, version, true),
            Failure::Absent => {
                let detail = "this cluster has no such kind".to_owned();
                return self.refused(GapReason::SourceAbsent, detail, None, self.was_listed);
            }
            Failure::Busy(after) => {
                let detail = "the API server has too much to do".to_owned();
                (GapReason::SourceFailed, detail, version, after)
            }
            Failure::Away(why) => (GapReason::SourceFailed, why, version, None),
            Failure::Late(why) => (GapReason::TimedOut, why, version, None),
            Failure::Malformed(why) => (GapReason::ParseFailed, why, version, None),
            Failure::TooLarge => {
                let detail = "the API server's answer is larger than it may be".to_owned();
                (GapReason::Budget, detail, version, None)
            }
        };
        vec![Action::Lost(reason, detail), self.wait(then, after)]
    }

    /// A no. It may be one of a server that does not know yet; else it takes somebody to change that, and nothing is gained by
    /// asking sooner, or later and later.
    fn refused(&mut self, reason: GapReason, detail: String, then: Option<String>, may_be_early: bool) -> Vec<Action> {
        self.noes = self.noes.saturating_add(1);
        let wait =
            if may_be_early && self.noes <= MAX_NO { self.wait(then, None) } else { self.wait_from(then, self.rarely) };
        vec![Action::Lost(reason, detail), wait]
    }

    fn list(&mut self) -> Action {
        self.garbage = 0;
        self.state = State::Listing { limit: PAGE, most: PAGE, token: None, version: None };
        Action::List { limit: PAGE, token: None }
    }

    fn watch(&mut self, version: String) -> Action {
        self.state = State::Opening(version.clone());
        Action::Watch(version)
    }

    fn stood(&mut self, since: BootTime, now: BootTime) {
        if now.since(since) >= GOOD {
            (self.failures, self.was_gone) = (0, false);
        }
    }

    /// Waits, longer each time, but at least for so long.
    fn wait(&mut self, then: Option<String>, least: Option<Duration>) -> Action {
        let base =
            FIRST_WAIT.saturating_mul(1 << self.failures.min(6)).min(LONGEST_WAIT).max(least.unwrap_or_default());
        self.wait_from(then, base)
    }

    /// Waits for so long and up to half of it more.
    fn wait_from(&mut self, then: Option<String>, base: Duration) -> Action {
        self.failures = self.failures.saturating_add(1);
        self.state = State::Waiting(then);
        // xorshift: all kinds of all collectors must not come back in one second.
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        let jitter = base.as_nanos() / 2 * u128::from(self.dice % 1024) / 1024;
        Action::Wait(base + Duration::from_nanos(u64::try_from(jitter).unwrap_or(0)))
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
