//! Figures that any thread may count with, at the price of an atomic addition: counters, gauges, histograms, and one of
//! each for every member of a closed list.
//!
//! What they are called and what they count stands in [`super::Stats`]; how they are written down in [`super::text`].

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::text::{Family, Kind};

/// Something that can be written down as a family of metrics.
pub trait Figure {
    /// What kind of metric it is.
    fn kind(&self) -> Kind;
    /// Writes its samples, each with these labels.
    fn write(&self, labels: &[(&str, &str)], to: &mut Family<'_>);
}

/// Only grows, from zero at the start of the process.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// How many by now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Figure for Counter {
    fn kind(&self) -> Kind {
        Kind::Counter
    }

    fn write(&self, labels: &[(&str, &str)], to: &mut Family<'_>) {
        to.sample("", labels, self.get());
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// It is this now.
    pub fn set(&self, n: i64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// One more; dropping what this returns takes it away again.
    pub fn held(self: &std::sync::Arc<Self>) -> Held {
        self.0.fetch_add(1, Ordering::Relaxed);
        Held(std::sync::Arc::clone(self))
    }

    /// What it is.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts for one in a [`Gauge`] as long as it lives.
#[derive(Debug)]
pub struct Held(std::sync::Arc<Gauge>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Figure for Gauge {
    fn kind(&self) -> Kind {
        Kind::Gauge
    }

    fn write(&self, labels: &[(&str, &str)], to: &mut Family<'_>) {
        to.sample("", labels, self.get());
    }
}

impl<F: Figure> Figure for std::sync::Arc<F> {
    fn kind(&self) -> Kind {
        F::kind(self)
    }

    fn write(&self, labels: &[(&str, &str)], to: &mut Family<'_>) {
        F::write(self, labels, to);
    }
}

/// The buckets of a histogram.
pub trait Bounds: Debug + Default {
    /// The upper bounds in seconds, growing. Beyond the last is one more bucket.
    const SECONDS: &'static [f64];
}

/// What a disk and a network take: a millisecond to ten seconds.
#[derive(Debug, Default)]
pub struct Quick;

impl Bounds for Quick {
    const SECONDS: &'static [f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
}

/// What people wait for: a tenth of a second to an hour.
#[derive(Debug, Default)]
pub struct Slow;

impl Bounds for Slow {
    const SECONDS: &'static [f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0];
}

/// How long something took, in buckets.
#[derive(Debug)]
pub struct Histogram<B> {
    buckets: Box<[AtomicU64]>,
    nanos: AtomicU64,
    bounds: PhantomData<B>,
}

impl<B: Bounds> Default for Histogram<B> {
    fn default() -> Self {
        let buckets = (0..=B::SECONDS.len()).map(|_| AtomicU64::new(0)).collect();
        Self { buckets, nanos: AtomicU64::new(0), bounds: PhantomData }
    }
}

impl<B: Bounds> Histogram<B> {
    /// It took this long.
    pub fn took(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = B::SECONDS.iter().position(|bound| seconds <= *bound).unwrap_or(B::SECONDS.len());
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How often something was measured.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }
}

impl<B: Bounds> Figure for Histogram<B> {
    fn kind(&self) -> Kind {
        Kind::Histogram
    }

    fn write(&self, labels: &[(&str, &str)], to: &mut Family<'_>) {
        let seconds = Duration::from_nanos(self.nanos.load(Ordering::Relaxed)).as_secs_f64();
        let mut so_far = 0;
        for (n, bucket) in self.buckets.iter().enumerate() {
            so_far += bucket.load(Ordering::Relaxed);
            let bound = B::SECONDS.get(n).map_or_else(|| "+Inf".to_owned(), ToString::to_string);
            let with: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            to.sample("_bucket", &with, so_far);
        }
        to.sample("_sum", labels, seconds);
        // Of the same readings as the buckets, so that the two never differ.
        to.sample("_count", labels, so_far);
    }
}

/// A closed list whose members tell figures of one family apart.
pub trait Label: Copy + PartialEq + 'static {
    /// The name of the label.
    const NAME: &'static str;
    /// Every member.
    const ALL: &'static [Self];
    /// The value that stands for this member.
    fn value(self) -> &'static str;
}

/// One figure for each member of a closed list.
#[derive(Debug)]
pub struct By<L, F> {
    figures: Box<[F]>,
    label: PhantomData<L>,
}

impl<L: Label, F: Default> Default for By<L, F> {
    fn default() -> Self {
        Self { figures: L::ALL.iter().map(|_| F::default()).collect(), label: PhantomData }
    }
}

impl<L: Label, F> By<L, F> {
    /// The figure of this member.
    ///
    /// # Panics
    ///
    /// When [`Label::ALL`] lacks a member, which the tests of each list rule out.
    pub fn of(&self, label: L) -> &F {
        let at = L::ALL.iter().position(|l| *l == label).unwrap_or(usize::MAX);
        &self.figures[at]
    }
}

impl<L: Label, F: Figure + Default> Figure for By<L, F> {
    fn kind(&self) -> Kind {
        F::default().kind()
    }

    fn write(&self, labels: &[(&str, &str)], to: &mut Family<'_>) {
        for (label, figure) in L::ALL.iter().zip(&self.figures) {
            let with: Vec<_> = labels.iter().copied().chain([(L::NAME, label.value())]).collect();
            figure.write(&with, to);
        }
    }
}
