//! Keeps one child and decides what becomes of it: started, asked, killed when it does not answer, given up when it
//! cannot be killed, started anew after a while. There is never more than one, whatever it does.
//!
//! Time is an argument; what a child is, `process` knows.

use std::time::{Duration, Instant};

use super::process::{Heard, Process, Start};
use super::said::{Said, Snapshot, Versions};

/// How long a pass may take, over all GPUs. A single call has its own deadline, in the child, which is shorter.
pub(super) const PASS_DEADLINE: Duration = Duration::from_secs(2);

/// How long is waited at one measurement for a child that opens NVML; it goes on in the background.
const OPENING: Duration = Duration::from_millis(500);

/// Beyond this a child that opens NVML counts as one that hangs: it says so by itself before.
const OPEN_DEADLINE: Duration = Duration::from_secs(65);

/// The time before another try doubles from the first to the last; counted from when the one before was begun.
const RETRY_FIRST: Duration = Duration::from_secs(2);
const RETRY_LAST: Duration = Duration::from_secs(60);

/// What is wrong with a child that says something else than what it is to say.
const NOT_ASKED: &str = "the process that reads NVML answered what was not asked";

/// Why there is no snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A call has not returned. `since` is when the first of a row of such calls was made.
    Stalled { call: String, since: Instant },
    /// It failed, and is tried again.
    Failed { why: String },
    /// This machine has no driver that runs.
    NoDriver { why: String },
}

/// The child and what is known of it.
pub(super) struct Reader {
    start: Box<dyn Start>,
    phase: Phase,
    versions: Versions,
    trouble: Option<Trouble>,
    /// In a row.
    failures: u32,
    not_before: Option<Instant>,
}

enum Phase {
    None,
    /// It opens NVML since then.
    Opening(Box<dyn Process>, Instant),
    Ready(Box<dyn Process>),
    /// After calls that hung, a new child was asked since then, to see whether it answers: nobody waits for that, and what it
    /// answers is of an instant that has passed.
    Tried(Box<dyn Process>, Instant),
    /// It was killed and is not gone: it sleeps in the kernel.
    Dying(Box<dyn Process>),
}

impl Reader {
    pub(super) fn new(start: Box<dyn Start>) -> Self {
        Self { start, phase: Phase::None, versions: Versions::default(), trouble: None, failures: 0, not_before: None }
    }

    /// Versions as the child that was asked last said them.
    pub(super) fn versions(&self) -> &Versions {
        &self.versions
    }

    /// Whether a child is still opening NVML: then it is worth to ask again.
    pub(super) fn is_opening(&self) -> bool {
        matches!(self.phase, Phase::Opening(..))
    }

    /// A snapshot, or why there is none. Takes at most [`PASS_DEADLINE`] and a bit more.
    pub(super) fn read(&mut self, now: Instant) -> Result<Snapshot, Trouble> {
        match std::mem::replace(&mut self.phase, Phase::None) {
            mut phase @ (Phase::Dying(_) | Phase::None) => {
                if let Phase::Dying(child) = &mut phase
                    && !child.has_ended()
                {
                    self.phase = phase;
                    return Err(self.standing());
                }
                if self.not_before.is_some_and(|at| now < at) {
                    return Err(self.standing());
                }
                match self.start.start() {
                    Ok(child) => self.open(child, now, now),
                    Err(error) => {
                        return Err(self.fail(now, format!("start the process that reads NVML: {error}")));
                    }
                }
            }
            Phase::Opening(child, since) => self.open(child, since, now),
            Phase::Tried(child, since) => self.try_out(child, since, now),
            ready @ Phase::Ready(_) => {
                self.phase = ready;
                Ok(())
            }
        }?;
        if self.is_stalled() {
            return Err(self.begin_trial(now));
        }
        let Phase::Ready(mut child) = std::mem::replace(&mut self.phase, Phase::None) else {
            return Err(self.standing());
        };
        if let Err(error) = child.ask() {
            // It ended meanwhile; what it said before that tells more than a broken pipe.
            let why = match child.hear(now) {
                Heard::Said(Said::Broken { why }) | Heard::Ended(why) => why,
                _ => format!("ask the process that reads NVML: {error}"),
            };
            return Err(self.fail(now, why));
        }
        let heard = child.hear(now + PASS_DEADLINE);
        let snapshot = self.judge(child, heard, now)?;
        (self.failures, self.not_before) = (0, None);
        Ok(snapshot)
    }

    /// What a child that was asked is worth by what was heard of it when its time was up.
    fn judge(&mut self, child: Box<dyn Process>, heard: Heard, now: Instant) -> Result<Snapshot, Trouble> {
        match heard {
            Heard::Said(Said::Snapshot(snapshot)) => {
                (self.phase, self.trouble) = (Phase::Ready(child), None);
                Ok(*snapshot)
            }
            Heard::Said(Said::Stalled { call }) => Err(self.stall(child, now, call)),
            Heard::Nothing => Err(self.stall(child, now, "NVML, asked about all GPUs,".to_owned())),
            Heard::Said(Said::Broken { why }) | Heard::Ended(why) => Err(self.fail(now, why)),
            Heard::Said(Said::Ready(_) | Said::NotReady { .. }) => Err(self.fail(now, NOT_ASKED.to_owned())),
        }
    }

    /// Whether the last that was known is that a call hangs.
    fn is_stalled(&self) -> bool {
        matches!(self.trouble, Some(Trouble::Stalled { .. }))
    }

    /// Asks a child that has just opened NVML, after others hung; what it says is heard at a later measurement.
    fn begin_trial(&mut self, now: Instant) -> Trouble {
        if let Phase::Ready(mut child) = std::mem::replace(&mut self.phase, Phase::None) {
            match child.ask() {
                Ok(()) => self.phase = Phase::Tried(child, now),
                Err(error) => return self.fail(now, format!("ask the process that reads NVML: {error}")),
            }
        }
        self.standing()
    }

    /// Whether a child that is tried has answered by now: then it is as good as any other.
    fn try_out(&mut self, mut child: Box<dyn Process>, since: Instant, now: Instant) -> Result<(), Trouble> {
        match child.hear(now) {
            Heard::Nothing if now.saturating_duration_since(since) <= PASS_DEADLINE => {
                self.phase = Phase::Tried(child, since);
                Err(self.standing())
            }
            heard => self.judge(child, heard, now).map(drop),
        }
    }

    /// Waits a little for a child that opens NVML; not at all where others hung before it.
    fn open(&mut self, mut child: Box<dyn Process>, since: Instant, now: Instant) -> Result<(), Trouble> {
        match child.hear(if self.is_stalled() { now } else { now + OPENING }) {
            Heard::Said(Said::Ready(versions)) => {
                self.versions = versions;
                self.phase = Phase::Ready(child);
                Ok(())
            }
            Heard::Said(Said::NotReady { why, no_driver: true }) => {
                let trouble = Trouble::NoDriver { why };
                self.trouble = Some(trouble.clone());
                Err(trouble)
            }
            Heard::Said(Said::NotReady { why, .. }) | Heard::Ended(why) => Err(self.fail(now, why)),
            Heard::Said(Said::Stalled { call }) => Err(self.stall(child, now, call)),
            Heard::Nothing if now.saturating_duration_since(since) > OPEN_DEADLINE => {
                Err(self.stall(child, now, "nvmlInit_v2".to_owned()))
            }
            Heard::Nothing => {
                self.phase = Phase::Opening(child, since);
                Err(self.trouble.clone().unwrap_or(Trouble::Failed { why: "NVML is still being opened".to_owned() }))
            }
            Heard::Said(Said::Snapshot(_) | Said::Broken { .. }) => Err(self.fail(now, NOT_ASKED.to_owned())),
        }
    }

    /// The child is of no use any more, and gone with this call or soon.
    fn fail(&mut self, now: Instant, why: String) -> Trouble {
        self.later(now);
        // A row of calls that hang goes on while the child does not even get as far as to hang.
        let trouble = match self.trouble.take() {
            Some(stalled @ Trouble::Stalled { .. }) => stalled,
            _ => Trouble::Failed { why },
        };
        self.trouble = Some(trouble.clone());
        trouble
    }

    fn stall(&mut self, mut child: Box<dyn Process>, now: Instant, call: String) -> Trouble {
        child.kill();
        self.phase = Phase::Dying(child);
        self.later(now);
        let since = match self.trouble {
            Some(Trouble::Stalled { since, .. }) => since,
            _ => now,
        };
        let trouble = Trouble::Stalled { call, since };
        self.trouble = Some(trouble.clone());
        trouble
    }

    fn later(&mut self, now: Instant) {
        let wait = RETRY_FIRST.saturating_mul(1 << self.failures.min(16)).min(RETRY_LAST);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + wait);
    }

    fn standing(&self) -> Trouble {
        self.trouble.clone().unwrap_or(Trouble::Failed { why: "NVML was not asked yet".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Children that say what is in a list, one list each.
    #[derive(Default, Clone)]
    struct Script {
        children: Arc<Mutex<VecDeque<Vec<Heard>>>>,
        started: Arc<AtomicUsize>,
        immortal: Arc<AtomicBool>,
    }

    struct Child {
        says: VecDeque<Heard>,
        killed: bool,
        immortal: Arc<AtomicBool>,
    }

    impl Start for Script {
        fn start(&self) -> std::io::Result<Box<dyn Process>> {
            self.started.fetch_add(1, Ordering::Relaxed);
            let says = self.children.lock().unwrap().pop_front().ok_or(std::io::ErrorKind::NotFound)?;
            Ok(Box::new(Child { says: says.into(), killed: false, immortal: Arc::clone(&self.immortal) }))
        }
    }

    impl Process for Child {
        fn ask(&mut self) -> std::io::Result<()> {
            Ok(())
        }
        fn hear(&mut self, _until: Instant) -> Heard {
            self.says.pop_front().unwrap_or(Heard::Nothing)
        }
        fn kill(&mut self) {
            self.killed = true;
        }
        fn has_ended(&mut self) -> bool {
            self.killed && !self.immortal.load(Ordering::Relaxed)
        }
    }

    fn ready() -> Heard {
        Heard::Said(Said::Ready(Versions::default()))
    }

    fn snapshot() -> Heard {
        Heard::Said(Said::Snapshot(Box::default()))
    }

    fn stalled() -> Heard {
        Heard::Said(Said::Stalled { call: "nvmlDeviceGetPowerUsage of GPU 3".to_owned() })
    }

    fn script(children: Vec<Vec<Heard>>) -> (Script, Reader) {
        let script = Script { children: Arc::new(Mutex::new(children.into())), ..Script::default() };
        let reader = Reader::new(Box::new(script.clone()));
        (script, reader)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_call_that_hangs_is_told_with_its_beginning_until_a_later_child_answers() {
        let (script, mut reader) = script(vec![
            vec![ready(), snapshot(), stalled()],
            vec![Heard::Nothing, ready(), Heard::Nothing, stalled()],
            vec![Heard::Ended("crashed".to_owned())],
            vec![ready(), snapshot(), snapshot()],
        ]);
        let begin = Instant::now();
        assert!(reader.read(begin).is_ok());
        let first = reader.read(begin + SECOND).unwrap_err();
        assert!(matches!(&first, Trouble::Stalled { since, .. } if *since == begin + SECOND), "{first:?}");
        // Not tried again at once; then twice in vain, and it is still the same row. The second child opens and is asked over
        // some measurements, of which none waits.
        let mut answered = None;
        for second in 1..60 {
            match reader.read(begin + second * SECOND) {
                Err(trouble) => assert_eq!(trouble, first, "after {second} s"),
                Ok(_) => {
                    answered = Some(second);
                    break;
                }
            }
            let expected = [(2, 1), (6, 2), (10, 3), (60, 4)].iter().find(|(until, _)| second <= *until).unwrap().1;
            assert!(script.started.load(Ordering::Relaxed) <= expected, "after {second} s");
        }
        assert!(answered.is_some());
        assert_eq!((script.started.load(Ordering::Relaxed), reader.failures), (4, 0));
    }

    #[test]
    fn a_child_that_cannot_be_killed_is_the_only_one() {
        let (script, mut reader) = script(vec![vec![ready()], vec![ready(), snapshot(), snapshot()]]);
        script.immortal.store(true, Ordering::Relaxed);
        let begin = Instant::now();
        assert!(matches!(reader.read(begin), Err(Trouble::Stalled { .. })), "it says nothing");
        for second in 1..200 {
            assert!(matches!(reader.read(begin + second * SECOND), Err(Trouble::Stalled { .. })));
        }
        assert_eq!(script.started.load(Ordering::Relaxed), 1);
        script.immortal.store(false, Ordering::Relaxed);
        // Opened and asked; answered and asked.
        assert!(reader.read(begin + 200 * SECOND).is_err());
        assert!(reader.read(begin + 201 * SECOND).is_ok());
    }

    #[test]
    fn a_driver_that_opens_slowly_is_waited_for_and_one_that_never_does_is_not() {
        let opening = || (0..10).map(|_| Heard::Nothing).collect::<Vec<_>>();
        let (_, mut reader) = script(vec![opening().into_iter().chain([ready(), snapshot()]).collect()]);
        let begin = Instant::now();
        for second in 0..10 {
            assert!(matches!(reader.read(begin + second * SECOND), Err(Trouble::Failed { .. })));
        }
        assert!(reader.read(begin + 10 * SECOND).is_ok());
        let (_, mut reader) = script(vec![vec![]]);
        reader.read(begin).unwrap_err();
        assert!(matches!(reader.read(begin + 70 * SECOND), Err(Trouble::Stalled { .. })));
    }

    #[test]
    fn what_cannot_be_started_or_ends_is_tried_after_ever_longer_times() {
        let (script, mut reader) = script(vec![]);
        let begin = Instant::now();
        let mut tries = Vec::new();
        for second in 0..200 {
            let before = script.started.load(Ordering::Relaxed);
            assert!(matches!(reader.read(begin + second * SECOND), Err(Trouble::Failed { .. })));
            if script.started.load(Ordering::Relaxed) > before {
                tries.push(second);
            }
        }
        assert_eq!(tries, [0, 2, 6, 14, 30, 62, 122, 182]);
    }
}
