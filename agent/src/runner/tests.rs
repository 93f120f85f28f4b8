//! The runner over sources that block, panic, fail and appear. Gates instead of sleeps: nothing here waits for time to
//! pass but for what the runner itself waits for.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex};

use casefile_proto::sample::{MetricKind, MetricSpec};
use casefile_proto::units::{Scale, Unit as MetricUnit};

use super::*;
use crate::sources::{Opened, Source, SourceError};

static METRICS: &[MetricSpec] = &[MetricSpec {
    name: "m",
    help: "",
    kind: MetricKind::Gauge,
    unit: MetricUnit::Count,
    scale: Scale::ONE,
    labels: &[],
}];

const fn spec(name: &'static str, deadline: Duration, open: fn(&Host) -> Result<Opened, SourceError>) -> SourceSpec {
    SourceSpec { name, about: "", every: Duration::from_secs(1), deadline, metrics: METRICS, open }
}

/// A source made of a closure.
struct Made<F>(F);

impl<F: FnMut(&mut Measurement) -> Result<(), SourceError> + Send> Source for Made<F> {
    fn measure(&mut self, out: &mut Measurement) -> Result<(), SourceError> {
        (self.0)(out)
    }
}

fn made(f: impl FnMut(&mut Measurement) -> Result<(), SourceError> + Send + 'static) -> Result<Opened, SourceError> {
    Ok(Opened::Ready(Box::new(Made(f))))
}

fn fine(_: &Host) -> Result<Opened, SourceError> {
    made(|out| {
        out.reading(&METRICS[0], &[], 1);
        Ok(())
    })
}

/// Closed until somebody opens it.
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    const fn closed() -> Self {
        Self(Mutex::new(false), Condvar::new())
    }
    fn pass(&self) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |open| !*open).unwrap());
    }
    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
}

fn through(gate: &'static Gate) -> Result<Opened, SourceError> {
    made(move |out| {
        gate.pass();
        out.reading(&METRICS[0], &[], 1);
        Ok(())
    })
}

fn host(specs: &[&'static SourceSpec]) -> Host {
    Host::with_stats(Path::new("/"), Arc::new(Stats::new(specs))).unwrap()
}

fn runner(specs: &[&'static SourceSpec]) -> (Runner, Host) {
    let host = host(specs);
    (Runner::new(&host, specs, Duration::from_secs(1), 1e9), host)
}

fn words(ticked: &Ticked) -> Vec<&'static str> {
    ticked.samples.iter().map(|s| s.outcome.word()).collect()
}

/// Ticks until every source is complete. The ticks themselves wait for nothing, so there may have to be many.
fn until_all_complete(runner: &mut Runner, mut turn: u64) -> Ticked {
    loop {
        let ticked = runner.tick(turn);
        if words(&ticked).iter().all(|w| *w == "complete") {
            return ticked;
        }
        std::thread::yield_now();
        turn += 1;
    }
}

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(20);

#[test]
fn a_blocked_source_keeps_no_other_from_its_tick() {
    static GATE: Gate = Gate::closed();
    static STUCK: SourceSpec = spec("stuck", LONG, |_| through(&GATE));
    static FINE: SourceSpec = spec("fine", LONG, fine);
    let (mut runner, host) = runner(&[&FINE, &STUCK, &FINE]);
    for turn in 0..2 {
        let ticked = runner.tick(turn);
        assert_eq!(words(&ticked), ["complete", "skipped", "complete"]);
        assert!(matches!(&ticked.samples[1].outcome, Outcome::Skipped { why } if why == lane::STILL_MEASURING));
    }
    assert_eq!(host.stats().threads_abandoned.get(), 0);
    GATE.open();
    let ticked = until_all_complete(&mut runner, 2);
    // What it read while others went on is not lost, and its series were defined once.
    assert_eq!(ticked.samples[1].readings.len(), 1);
}

#[test]
fn a_late_source_is_timed_out_and_comes_back_when_its_thread_does() {
    static GATE: Gate = Gate::closed();
    static STUCK: SourceSpec = spec("stuck", SHORT, |_| through(&GATE));
    static FINE: SourceSpec = spec("fine", LONG, fine);
    let (mut runner, host) = runner(&[&STUCK, &FINE]);
    assert_eq!(words(&runner.tick(0)), ["timed out", "complete"]);
    let second = runner.tick(1);
    assert_eq!(words(&second), ["timed out", "complete"]);
    assert_eq!((host.stats().threads_abandoned.get(), host.stats().source(0).unwrap().timed_out.get()), (1, 1));
    GATE.open();
    let mut news = vec![];
    for turn in 2.. {
        let ticked = runner.tick(turn);
        news.extend(ticked.news.iter().map(|(_, text)| text.clone()));
        // On a busy machine a second thread may have been late: it too comes back.
        if words(&ticked) == ["complete", "complete"] && host.stats().threads_abandoned.get() == 0 {
            break;
        }
        std::thread::yield_now();
    }
    assert_eq!(news.last().map(String::as_str), Some("stuck: timed out → complete"));
}

#[test]
fn with_too_many_threads_lost_sources_are_switched_off_until_one_comes_back() {
    static GATE: Gate = Gate::closed();
    static STUCK: SourceSpec = spec("stuck", SHORT, |_| through(&GATE));
    static FINE: SourceSpec = spec("fine", LONG, fine);
    let mut specs = vec![&STUCK; 8];
    specs.push(&FINE);
    let (mut runner, host) = runner(&specs);
    let mut turn = 0;
    // Several ticks: a hand-over from one to the next takes its time.
    while host.stats().threads_abandoned.get() < MAX_ABANDONED {
        assert_eq!(words(&runner.tick(turn))[8], "complete");
        turn += 1;
    }
    let ticked = runner.tick(turn + 1000);
    assert_eq!(words(&ticked)[..8], ["skipped"; 8]);
    assert_eq!((host.stats().sources_off.get(), words(&ticked)[8]), (8, "complete"));
    assert!(ticked.news.iter().all(|(_, text)| text.contains("switched off")) && ticked.news.len() == 8);
    GATE.open();
    turn += 1001;
    while host.stats().threads_abandoned.get() > 0 {
        runner.tick(turn);
        turn += 1;
        std::thread::yield_now();
    }
    until_all_complete(&mut runner, turn);
    assert_eq!(host.stats().sources_off.get(), 0);
}

#[test]
fn a_panic_is_a_failed_outcome_and_the_source_is_opened_again() {
    static OPENED: AtomicU32 = AtomicU32::new(0);
    static SHAKY: SourceSpec = spec("shaky", LONG, |_| {
        let opened = OPENED.fetch_add(1, Ordering::Relaxed);
        made(move |out| {
            out.reading(&METRICS[0], &[], 1);
            assert!(opened > 0, "a bug");
            Ok(())
        })
    });
    static FINE: SourceSpec = spec("fine", LONG, fine);
    let (mut runner, host) = runner(&[&SHAKY, &FINE]);
    let first = runner.tick(0);
    assert_eq!(words(&first), ["failed", "complete"]);
    assert!(matches!(&first.samples[0].outcome, Outcome::Failed { error } if error.contains("a bug")));
    assert!(first.samples[0].readings.is_empty() && first.samples[0].defined.is_empty());
    let second = runner.tick(1);
    assert_eq!(words(&second), ["complete", "complete"]);
    // The id that the panicking measurement gave out is not used again.
    assert_eq!(second.samples[0].defined[0].0.0, 1);
    assert_eq!((host.stats().source(0).unwrap().panicked.get(), second.news.len()), (1, 1));
}

#[test]
fn a_thing_that_appears_is_noticed_within_a_minute() {
    static THERE: Gate = Gate::closed();
    static LATER: SourceSpec = spec("later", LONG, |host| {
        if *THERE.0.lock().unwrap() { fine(host) } else { Ok(Opened::Absent { why: "none yet".to_owned() }) }
    });
    let (mut runner, _) = runner(&[&LATER]);
    assert_eq!(words(&runner.tick(0)), ["absent"]);
    THERE.open();
    assert_eq!(words(&runner.tick(1)), ["absent"]);
    let ticked = runner.tick(60);
    assert_eq!((words(&ticked), ticked.news[0].1.as_str()), (vec!["complete"], "later: absent → complete"));
}

#[test]
fn readings_made_before_an_error_survive_it() {
    static HALF: SourceSpec = spec("half", LONG, |_| {
        made(|out| {
            out.reading(&METRICS[0], &[], 7);
            Err(SourceError::Parse { file: "proc/x".to_owned(), line: "y".to_owned(), why: "no number" })
        })
    });
    let (mut runner, _) = runner(&[&HALF]);
    for turn in 0..2 {
        let ticked = runner.tick(turn);
        assert_eq!((words(&ticked), ticked.samples[0].readings[0].value), (vec!["partial"], 7));
        // Defined once: the source and what it knows live on.
        assert_eq!(ticked.samples[0].defined.len(), usize::from(turn == 0));
        runner.recycle(ticked.samples);
    }
}
