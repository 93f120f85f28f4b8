//! Where a source puts what it found, and how its series are recognised from one measurement to the next.
//!
//! At 1 Hz the caches are cold, so what matters is how much memory is walked and in which order: all that recognising
//! needs lies in two arrays that are read from front to back (`slots` and `text`), and nothing is hashed unless a
//! source emits in another order than the last time.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use casefile_proto::event::{Event, EventKind};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::sample::{MetricIndex, MetricSpec, Reading, SeriesDef, SeriesId};

/// Gaps that one measurement may name; the rest are counted in one more.
pub const MAX_GAPS: usize = 64;

/// Events of one measurement; the rest are counted. A source that reads a queue stops reading when there is no room
/// ([`Measurement::room_for_events`]) and goes on at the next tick, so that nothing is lost.
pub const MAX_EVENTS: usize = 1024;

/// Series of one source at a time. A machine with more processes, containers or disks than this is told what is missing.
pub const MAX_SERIES: usize = 1 << 16;

/// The longest value of a label, in bytes; a longer one is cut at a character.
pub const MAX_LABEL: usize = 4096;

/// A series that was not read for this many measurements of its own source is forgotten: two blocks of a recording, so
/// that an encoder never needs a definition that is gone. When it comes back it is a new series with a new id.
pub const FORGET_AFTER: u32 = 2 * casefile_evidence::recording::BLOCK_TICKS as u32;

/// Measurements between two looks for series to forget.
const FORGET_EVERY: u32 = 60;

/// No slot.
const NONE: u32 = u32::MAX;

/// Where a source puts what it found: a reading, a gap, an event. The runner owns one for each source and reuses it.
///
/// Series are recognised by metric and label values. Sources emit in nearly the same order at every tick, so each
/// series remembers which one came after it: the next reading is compared with that one, and only when it is another is
/// it looked up. A sweep, which reads other things at every tick, is recognised too.
pub struct Measurement {
    metrics: &'static [MetricSpec],
    /// Shared with the measurement that replaces this one when its source is lost: ids are never used twice.
    next_id: Arc<AtomicU32>,
    slots: Vec<Slot>,
    /// The label values of all slots, each with its length in front, in the order of the slots.
    text: Vec<u8>,
    /// Hash of metric and labels → the newest slot with that hash; others follow by [`Slot::same_hash`].
    index: HashMap<u64, u32, BuildHasherDefault<AsIs>>,
    hasher: RandomState,
    /// The number of this measurement; the first is 1.
    turn: u32,
    /// The slot of the reading before.
    last: u32,
    /// The slot of the first reading of the measurement before.
    first: u32,
    gaps_left_out: u64,
    pub(crate) events_left_out: u64,
    /// What the runner takes after each tick.
    pub(crate) readings: Vec<Reading>,
    /// Series that are new.
    pub(crate) defined: Vec<(SeriesId, SeriesDef)>,
    /// What is missing.
    pub(crate) gaps: Vec<Gap>,
    /// What happened.
    pub(crate) events: Vec<Event>,
}

/// One series that is known.
struct Slot {
    id: SeriesId,
    /// Where its label values begin in `text`.
    text: u32,
    /// How many bytes they are, lengths included.
    text_len: u32,
    metric: u16,
    /// The measurement that read it last.
    seen: u32,
    /// The slot that was read after it.
    next: u32,
    same_hash: u32,
}

/// The keys are hashes already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |h, &b| h.rotate_left(8) ^ u64::from(b));
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

impl Measurement {
    /// For the metrics of one source.
    pub fn new(metrics: &'static [MetricSpec]) -> Self {
        Self::going_on(metrics, Arc::new(AtomicU32::new(0)))
    }

    /// The same, with ids that go on where another measurement of this source stopped.
    pub(crate) fn going_on(metrics: &'static [MetricSpec], next_id: Arc<AtomicU32>) -> Self {
        Self {
            metrics,
            next_id,
            slots: Vec::new(),
            text: Vec::new(),
            index: HashMap::default(),
            hasher: RandomState::new(),
            turn: 1,
            last: NONE,
            first: NONE,
            gaps_left_out: 0,
            events_left_out: 0,
            readings: Vec::new(),
            defined: Vec::new(),
            gaps: Vec::new(),
            events: Vec::new(),
        }
    }

    /// One value of a declared metric, with one value for each of its labels. A metric that is not in the source's
    /// spec, or a wrong number of labels, is a bug: it panics in debug builds and becomes a gap in release builds.
    /// A series given twice at one tick: the first stays, the second becomes a `parse-failed` gap.
    pub fn reading(&mut self, metric: &'static MetricSpec, labels: &[&str], value: i64) {
        let expected = if self.last == NONE { self.first } else { self.slots[self.last as usize].next };
        let slot = match self.slots.get(expected as usize) {
            Some(slot) if self.is(slot, metric, labels) => expected,
            _ => match self.look_up(metric, labels) {
                Some(slot) => slot,
                None => return,
            },
        };
        let turn = self.turn;
        let known = &mut self.slots[slot as usize];
        if known.seen == turn {
            self.gap(Gap::new(GapReason::ParseFailed, format!("{} {labels:?} was given twice", metric.name)));
            return;
        }
        known.seen = turn;
        self.readings.push(Reading { series: known.id, value });
        match self.last {
            NONE => self.first = slot,
            last => self.slots[last as usize].next = slot,
        }
        self.last = slot;
    }

    /// Something that should be here and is not. At most 64 are kept a tick; the rest are counted in a last one.
    pub fn gap(&mut self, gap: Gap) {
        if self.gaps.len() < MAX_GAPS {
            self.gaps.push(gap);
        } else {
            self.gaps_left_out += gap.count.unwrap_or(1).max(1);
        }
    }

    /// Something that happened.
    pub fn event(&mut self, mut event: Event) {
        if self.events.len() < MAX_EVENTS {
            event.text.truncate(event.text.floor_char_boundary(Event::MAX_TEXT));
            self.events.push(event);
        } else {
            self.events_left_out += 1;
        }
    }

    /// How many more events fit into this measurement.
    pub fn room_for_events(&self) -> usize {
        MAX_EVENTS.saturating_sub(self.events.len())
    }

    /// Every reading made since [`Measurement::begin`], in order: for tests, and for sources that look at their own work.
    pub fn each(&self, each: &mut dyn FnMut(&'static MetricSpec, &[&str], i64)) {
        let by_id: HashMap<SeriesId, &Slot> = self.slots.iter().map(|s| (s.id, s)).collect();
        for reading in &self.readings {
            if let Some(slot) = by_id.get(&reading.series) {
                let labels: Vec<&str> = self.labels(slot).collect();
                each(&self.metrics[usize::from(slot.metric)], &labels, reading.value);
            }
        }
    }

    /// The value given for one series since [`Measurement::begin`].
    pub fn find(&self, metric: &str, labels: &[&str]) -> Option<i64> {
        let mut found = None;
        self.each(&mut |spec, values, value| {
            if spec.name == metric && values == labels {
                found = Some(value);
            }
        });
        found
    }

    /// Gaps named so far.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Events given so far.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Begins another measurement: what the one before gave is dropped, except for definitions that nobody took.
    pub fn begin(&mut self) {
        self.readings.clear();
        self.gaps.clear();
        self.events.clear();
        self.gaps_left_out = 0;
        self.events_left_out = 0;
        self.last = NONE;
        if self.turn.is_multiple_of(FORGET_EVERY) {
            self.forget();
        }
        self.turn += 1;
    }

    /// Ends it: what was only counted is said.
    pub(crate) fn end(&mut self) {
        if self.gaps_left_out > 0 {
            let reason = self.gaps.last().map_or(GapReason::ParseFailed, |g| g.reason);
            self.gaps.push(Gap::new(reason, "more of the kind, not named one by one").counting(self.gaps_left_out));
        }
        if let (true, Some(last)) = (self.events_left_out > 0, self.events.last()) {
            let (at, count) = (last.at, Some(self.events_left_out));
            let text = format!("{} more events at this tick than are kept", self.events_left_out);
            self.events.push(Event { at, kind: EventKind::Lost { count }, text });
        }
    }

    /// How many series are known.
    pub(crate) fn known(&self) -> usize {
        self.slots.len()
    }

    fn definition(&self, slot: &Slot) -> SeriesDef {
        SeriesDef { metric: MetricIndex(slot.metric), labels: self.labels(slot).map(Box::from).collect() }
    }

    fn labels<'a>(&'a self, slot: &Slot) -> impl Iterator<Item = &'a str> {
        let mut rest = self.text_of(slot);
        std::iter::from_fn(move || {
            let (len, after) = rest.split_first_chunk::<2>()?;
            let (label, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
            rest = after;
            // It was a `str` when it was stored.
            Some(str::from_utf8(label).unwrap_or_default())
        })
    }

    fn text_of(&self, slot: &Slot) -> &[u8] {
        &self.text[slot.text as usize..][..slot.text_len as usize]
    }

    fn is(&self, slot: &Slot, metric: &MetricSpec, labels: &[&str]) -> bool {
        if !same(&self.metrics[usize::from(slot.metric)], metric) {
            return false;
        }
        let mut rest = self.text_of(slot);
        for label in labels {
            let label = cut(label);
            let Some((len, after)) = rest.split_first_chunk::<2>() else { return false };
            if usize::from(u16::from_le_bytes(*len)) != label.len() || !after.starts_with(label.as_bytes()) {
                return false;
            }
            rest = &after[label.len()..];
        }
        rest.is_empty()
    }

    /// The series by its hash, or a new one; `None` where it cannot be one.
    fn look_up(&mut self, metric: &'static MetricSpec, labels: &[&str]) -> Option<u32> {
        let Some(position) =
            self.metrics.iter().position(|m| same(m, metric)).filter(|_| labels.len() == metric.labels.len())
        else {
            let why = format!("{} with {} labels is not declared by its source", metric.name, labels.len());
            if cfg!(debug_assertions) {
                panic!("{why}");
            }
            self.gap(Gap::new(GapReason::ParseFailed, why));
            return None;
        };
        let metric_index = u16::try_from(position).ok()?;
        let hash = self.hash(metric_index, labels.iter().map(|l| cut(l)));
        let head = self.index.get(&hash).copied().unwrap_or(NONE);
        let mut at = head;
        while let Some(slot) = self.slots.get(at as usize) {
            if self.is(slot, metric, labels) {
                return Some(at);
            }
            at = slot.same_hash;
        }
        self.define(metric_index, labels, hash, head)
    }

    fn define(&mut self, metric: u16, labels: &[&str], hash: u64, same_hash: u32) -> Option<u32> {
        if self.slots.len() >= MAX_SERIES {
            self.gap(Gap::new(GapReason::Budget, format!("more than {MAX_SERIES} series of one source")).counting(1));
            return None;
        }
        let id = self.next_id.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_add(1));
        let Ok(id) = id.map(SeriesId) else {
            self.gap(Gap::new(GapReason::Budget, "the numbers for series are used up until the agent is restarted"));
            return None;
        };
        let begin = self.text.len();
        for label in labels {
            let label = cut(label);
            self.text.extend(u16::try_from(label.len()).unwrap_or(u16::MAX).to_le_bytes());
            self.text.extend_from_slice(label.as_bytes());
        }
        let slot = Slot {
            id,
            // 65,536 series of a handful of labels of at most 4 KiB: the text of all stays below 4 GiB or is refused.
            text: u32::try_from(begin).ok()?,
            text_len: u32::try_from(self.text.len() - begin).ok()?,
            metric,
            seen: 0,
            next: NONE,
            same_hash,
        };
        let at = u32::try_from(self.slots.len()).ok()?;
        self.defined.push((id, self.definition(&slot)));
        self.slots.push(slot);
        self.index.insert(hash, at);
        Some(at)
    }

    fn hash<'a>(&self, metric: u16, labels: impl Iterator<Item = &'a str>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u16(metric);
        for label in labels {
            hasher.write(label.as_bytes());
            hasher.write_u8(0xff);
        }
        hasher.finish()
    }

    /// Drops what was not read for long, and moves the rest together, in order.
    fn forget(&mut self) {
        let turn = self.turn;
        let stale = |slot: &Slot| turn - slot.seen >= FORGET_AFTER;
        if !self.slots.iter().any(stale) {
            return;
        }
        let old_slots = std::mem::take(&mut self.slots);
        let old_text = std::mem::take(&mut self.text);
        self.index.clear();
        let mut moved = vec![NONE; old_slots.len()];
        for (from, slot) in old_slots.into_iter().enumerate() {
            if stale(&slot) {
                continue;
            }
            let text = &old_text[slot.text as usize..][..slot.text_len as usize];
            let begin = self.text.len();
            self.text.extend_from_slice(text);
            // Fewer than before, so both fit as they did before.
            let (Ok(at), Ok(begin)) = (u32::try_from(self.slots.len()), u32::try_from(begin)) else { continue };
            moved[from] = at;
            let slot = Slot { text: begin, ..slot };
            let hash = self.hash(slot.metric, self.labels(&slot));
            let same_hash = self.index.insert(hash, at).unwrap_or(NONE);
            self.slots.push(Slot { same_hash, ..slot });
        }
        let to = |at: u32| moved.get(at as usize).copied().unwrap_or(NONE);
        self.first = to(self.first);
        for slot in &mut self.slots {
            slot.next = to(slot.next);
        }
    }
}

/// Whether two specs are one: the same place in memory, or (a `const` may be copied) the same name.
fn same(a: &MetricSpec, b: &MetricSpec) -> bool {
    std::ptr::eq(a, b) || a.name == b.name
}

fn cut(label: &str) -> &str {
    &label[..label.floor_char_boundary(MAX_LABEL)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use casefile_proto::sample::MetricKind;
    use casefile_proto::units::{Scale, Unit};
    use proptest::prelude::*;

    const fn metric(name: &'static str, labels: &'static [&'static str]) -> MetricSpec {
        MetricSpec { name, help: "", kind: MetricKind::Gauge, unit: Unit::Count, scale: Scale::ONE, labels }
    }
    static METRICS: &[MetricSpec] = &[metric("a", &[]), metric("b", &["x"]), metric("c", &["x", "y"])];

    fn series(m: &Measurement) -> Vec<(u32, i64)> {
        m.readings.iter().map(|r| (r.series.0, r.value)).collect()
    }

    #[test]
    fn a_series_keeps_its_id_in_whatever_order_it_comes() {
        let mut m = Measurement::new(METRICS);
        let emit = |m: &mut Measurement, order: &[(usize, &[&str])]| {
            m.begin();
            for (metric, labels) in order {
                m.reading(&METRICS[*metric], labels, 1);
            }
            m.readings.iter().map(|r| r.series.0).collect::<Vec<_>>()
        };
        let all: [(usize, &[&str]); 4] = [(0, &[]), (1, &["p"]), (2, &["p", "q"]), (2, &["pq", ""])];
        assert_eq!(emit(&mut m, &all), [0, 1, 2, 3]);
        assert_eq!(m.defined.len(), 4);
        m.defined.clear();
        assert_eq!(emit(&mut m, &all), [0, 1, 2, 3]);
        assert_eq!(emit(&mut m, &[all[2], all[0], all[3]]), [2, 0, 3]);
        assert_eq!(emit(&mut m, &[all[3], all[1], (1, &["new"]), all[0]]), [3, 1, 4, 0]);
        assert_eq!(m.defined.iter().map(|(id, d)| (id.0, &*d.labels[0])).collect::<Vec<_>>(), [(4, "new")]);
        assert_eq!(m.find("b", &["new"]), Some(1));
    }

    #[test]
    fn the_second_of_two_readings_of_a_series_is_a_gap() {
        let mut m = Measurement::new(METRICS);
        m.begin();
        m.reading(&METRICS[1], &["p"], 1);
        m.reading(&METRICS[1], &["p"], 2);
        assert_eq!(series(&m), [(0, 1)]);
        assert_eq!(m.gaps[0].reason, GapReason::ParseFailed);
        m.begin();
        m.reading(&METRICS[1], &["p"], 3);
        assert_eq!((series(&m), m.gaps.len()), (vec![(0, 3)], 0));
    }

    #[test]
    fn a_series_unread_for_two_blocks_comes_back_as_a_new_one() {
        let mut m = Measurement::new(METRICS);
        for turn in 0..=FORGET_AFTER + FORGET_EVERY {
            m.begin();
            m.reading(&METRICS[0], &[], 1);
            if turn == 0 {
                m.reading(&METRICS[1], &["gone"], 1);
            }
            assert!(m.known() == 2 || turn >= FORGET_AFTER);
        }
        assert_eq!(m.known(), 1);
        m.reading(&METRICS[1], &["gone"], 7);
        assert_eq!(series(&m), [(0, 1), (2, 7)]);
        let next = Measurement::going_on(METRICS, Arc::clone(&m.next_id));
        assert_eq!(next.next_id.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn gaps_and_events_beyond_their_caps_are_counted() {
        let mut m = Measurement::new(METRICS);
        m.begin();
        let at = casefile_proto::time::Stamp {
            wall: casefile_proto::time::WallTime::from_secs(1),
            boot: casefile_proto::time::BootTime::from_nanos(1),
        };
        for _ in 0..MAX_GAPS + 3 {
            m.gap(Gap::new(GapReason::SourceFailed, "x"));
        }
        for _ in 0..MAX_EVENTS + 5 {
            m.event(Event { at, kind: EventKind::AgentStarted, text: String::new() });
        }
        m.end();
        assert_eq!((m.gaps.len(), m.gaps[MAX_GAPS].count), (MAX_GAPS + 1, Some(3)));
        assert_eq!(m.events[MAX_EVENTS].kind, EventKind::Lost { count: Some(5) });
    }

    #[test]
    #[should_panic(expected = "not declared")]
    fn an_undeclared_metric_is_a_bug() {
        static OTHER: MetricSpec = metric("other", &[]);
        Measurement::new(METRICS).reading(&OTHER, &[], 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Whatever comes in whatever order, over forgetting too: one id for each series, never one id for two.
        #[test]
        fn a_plain_map_gives_the_same_answers(
            turns in prop::collection::vec(prop::collection::vec((0usize..3, "[ab]{0,2}", "[ab]{0,2}"), 0..12), 1..200)
        ) {
            let mut m = Measurement::new(METRICS);
            let mut known: HashMap<SeriesId, SeriesDef> = HashMap::new();
            for turn in turns {
                m.begin();
                let mut expected = Vec::new();
                for (metric, x, y) in &turn {
                    let labels: Vec<&str> = [x.as_str(), y.as_str()].into_iter().take(METRICS[*metric].labels.len()).collect();
                    m.reading(&METRICS[*metric], &labels, 1);
                    let def = SeriesDef {
                        metric: MetricIndex(u16::try_from(*metric).unwrap()),
                        labels: labels.iter().map(|l| Box::from(*l)).collect(),
                    };
                    if !expected.contains(&def) {
                        expected.push(def);
                    }
                }
                for (id, def) in m.defined.drain(..) {
                    prop_assert!(known.insert(id, def).is_none());
                }
                let got: Vec<_> = m.readings.iter().map(|r| known[&r.series].clone()).collect();
                prop_assert_eq!(got, expected);
            }
        }
    }
}
