//! How good the wall clock is: the kernel's own account of it (`adjtimex`), which clocksource it counts with, and both
//! clocks side by side.
//!
//! Steps of the wall clock are noticed by the recorder at every tick ([`crate::clock`]); the offset to the collector is
//! measured in the session. Nothing is adjusted.

use std::time::Duration;

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::sample::MetricSpec;
use casefile_proto::units::{Scale, Unit};

use super::kept::glance;
use super::spec::{counter, gauge, info, level, named};
use super::{Measurement, Opened, Source, SourceError, SourceSpec};
use crate::calls::{ClockState, clock_state};
use crate::clock;
use crate::host::Host;
use crate::text::{self, BadLine, Unparsed};

/// The source.
pub static SPEC: SourceSpec = SourceSpec {
    name: "clock",
    about: "state of the wall clock as the kernel keeps it, and its clocksource, from adjtimex and /sys/devices/system/clocksource",
    every: Duration::from_secs(10),
    deadline: Duration::from_secs(2),
    metrics: &METRICS,
    open,
};

static METRICS: [MetricSpec; 12] = [
    gauge("node_time_seconds", "the wall clock (CLOCK_REALTIME)", Unit::Seconds, Scale::NANO, &[]),
    counter(
        "casefile_boot_clock_seconds_total",
        "the boot clock: time since boot, suspend included (CLOCK_BOOTTIME)",
        Unit::Seconds,
        Scale::NANO,
        &[],
    ),
    level("node_timex_sync_status", "1 if something keeps the clock in step (adjtimex)", &[]),
    gauge("node_timex_status", "bits STA_* of linux/timex.h (adjtimex)", Unit::Code, Scale::ONE, &[]),
    gauge(
        "node_timex_offset_seconds",
        "offset that is still to be corrected (adjtimex)",
        Unit::Seconds,
        Scale::NANO,
        &[],
    ),
    gauge(
        "node_timex_maxerror_seconds",
        "largest error that the clock may have, as the kernel reckons (adjtimex)",
        Unit::Seconds,
        Scale::MICRO,
        &[],
    ),
    gauge("node_timex_estimated_error_seconds", "estimated error (adjtimex)", Unit::Seconds, Scale::MICRO, &[]),
    gauge(
        "node_timex_frequency_adjustment_ratio",
        "speed of the clock against its own count: 1 is uncorrected (adjtimex)",
        Unit::Ratio,
        Scale::per(FREQUENCY_ONE.unsigned_abs()),
        &[],
    ),
    gauge(
        "node_timex_loop_time_constant",
        "time constant of the phase-locked loop (adjtimex)",
        Unit::Count,
        Scale::ONE,
        &[],
    ),
    gauge("node_timex_tick_seconds", "time between two ticks (adjtimex)", Unit::Seconds, Scale::MICRO, &[]),
    gauge(
        "node_timex_tai_offset_seconds",
        "seconds by which TAI is ahead of UTC; 0 where nobody told the kernel (adjtimex)",
        Unit::Seconds,
        Scale::ONE,
        &[],
    ),
    info(
        "node_time_clocksource_current_info",
        "what the kernel counts time with (/sys/devices/system/clocksource)",
        &["device", "clocksource"],
    ),
];

/// `adjtimex` has the frequency in parts per million times 65536: the ratio is this plus the frequency, by this.
const FREQUENCY_ONE: i64 = 65_536 * 1_000_000;

const WALL: &MetricSpec = named(&METRICS, "node_time_seconds");
const BOOT: &MetricSpec = named(&METRICS, "casefile_boot_clock_seconds_total");
const SYNC: &MetricSpec = named(&METRICS, "node_timex_sync_status");
const STATUS: &MetricSpec = named(&METRICS, "node_timex_status");
const OFFSET: &MetricSpec = named(&METRICS, "node_timex_offset_seconds");
const MAX_ERROR: &MetricSpec = named(&METRICS, "node_timex_maxerror_seconds");
const ESTIMATED_ERROR: &MetricSpec = named(&METRICS, "node_timex_estimated_error_seconds");
const FREQUENCY: &MetricSpec = named(&METRICS, "node_timex_frequency_adjustment_ratio");
const TIME_CONSTANT: &MetricSpec = named(&METRICS, "node_timex_loop_time_constant");
const TICK: &MetricSpec = named(&METRICS, "node_timex_tick_seconds");
const TAI: &MetricSpec = named(&METRICS, "node_timex_tai_offset_seconds");
const CLOCKSOURCE: &MetricSpec = named(&METRICS, "node_time_clocksource_current_info");

const CLOCKSOURCE_FILE: &str = "sys/devices/system/clocksource/clocksource0/current_clocksource";
/// One word.
const MAX_WORD: usize = 256;

fn open(host: &Host) -> Result<Opened, SourceError> {
    Ok(Opened::Ready(Box::new(Clock { host: host.clone(), clock: clock::system(), buf: Vec::new() })))
}

struct Clock {
    host: Host,
    clock: clock::Clock,
    buf: Vec<u8>,
}

impl Source for Clock {
    fn measure(&mut self, out: &mut Measurement) -> Result<(), SourceError> {
        if self.host.is_live() {
            self.clocks(out);
            match clock_state() {
                Ok(state) => emit(&state, out),
                Err(error) => {
                    let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
                    let reason = if denied { GapReason::PermissionDenied } else { GapReason::SourceFailed };
                    out.gap(Gap::new(reason, format!("adjtimex: {error}")));
                }
            }
        } else {
            out.gap(Gap::new(GapReason::SourceAbsent, "the clock of a machine that is not running here"));
        }
        if let Some(text) = glance(&self.host, CLOCKSOURCE_FILE, MAX_WORD, &mut self.buf, out) {
            let mut bad = Unparsed::default();
            let name = text::single(text)
                .and_then(|line| text::name(line.trim_ascii()).ok_or(BadLine { line, why: "not a name" }));
            if let Some(name) = bad.keep(name) {
                out.reading(CLOCKSOURCE, &["0", name], 1);
            }
            bad.gap(CLOCKSOURCE_FILE).into_iter().for_each(|gap| out.gap(gap));
        }
        Ok(())
    }
}

impl Clock {
    fn clocks(&self, out: &mut Measurement) {
        let now = (self.clock)();
        out.reading(WALL, &[], now.wall.nanos());
        match i64::try_from(now.boot.nanos()) {
            Ok(boot) => out.reading(BOOT, &[], boot),
            Err(_) => out.gap(Gap::new(GapReason::ParseFailed, "CLOCK_BOOTTIME: a number beyond 63 bits")),
        }
    }
}

fn emit(state: &ClockState, out: &mut Measurement) {
    for (metric, value) in [
        (SYNC, i64::from(state.is_synchronised())),
        (STATUS, state.status),
        (OFFSET, state.offset_nanos()),
        (MAX_ERROR, state.max_error),
        (ESTIMATED_ERROR, state.estimated_error),
        (FREQUENCY, FREQUENCY_ONE.saturating_add(state.frequency)),
        (TIME_CONSTANT, state.time_constant),
        (TICK, state.tick),
        (TAI, state.tai),
    ] {
        out.reading(metric, &[], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uncorrected_clock_has_the_ratio_one() {
        assert!((FREQUENCY.scale.apply(FREQUENCY_ONE) - 1.0).abs() < 1e-15);
        assert!((FREQUENCY.scale.apply(FREQUENCY_ONE + 65_536) - 1.000_001).abs() < 1e-15);
    }
}
