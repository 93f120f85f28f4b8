//! Ports of InfiniBand and RoCE cards: state, rate, counters, from `/sys/class/infiniband`.
//!
//! Each counter is a command to the card's firmware. Of restricted functions the firmware refuses, and the driver
//! writes a line into the kernel log for each. So every port has circuit breakers, opened by a read that fails and by
//! such lines ([`crate::refusals`]), whoever made the driver write them; while one is open, a gap says so at every
//! measurement. There is one for each kind of command: the port's counters, those of the driver, and state and rate,
//! which need none except of Ethernet ports.

use std::collections::BTreeMap;

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::sample::MetricSpec;
use casefile_proto::time::BootTime;
use rustix::io::Errno;

use super::breaker::{Breaker, Permit};
use super::link::tenths;
use super::metrics::{DEVICES, METRICS};
use super::place::{Hold, Place, Reader};
use super::port_counters::{self, COUNTERS};
use super::{Round, numbered};
use crate::host::HostError;
use crate::pci::PciAddress;
use crate::runner::lane::chain;
use crate::sources::kept::said;
use crate::sources::spec::named;
use crate::text::{self, BadLine, Unparsed};

const INFO: &MetricSpec = named(&METRICS, "node_infiniband_info");
const PORT: &MetricSpec = named(&METRICS, "casefile_infiniband_port_info");
const RATE: &MetricSpec = named(&METRICS, "node_infiniband_rate_bytes_per_second");
/// What the driver is asked of the link itself.
const STATES: [(&str, &MetricSpec); 2] = [
    ("state", named(&METRICS, "node_infiniband_state_id")),
    ("phys_state", named(&METRICS, "node_infiniband_physical_state_id")),
];

pub(super) const DIR: &str = "sys/class/infiniband";

/// Ports that are read. A card with all its virtual functions has more than a hundred.
const MAX_PORTS: usize = 128;
/// Of these, with a directory kept open.
pub(super) const MAX_KEPT: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Infiniband {
    devices: BTreeMap<String, Device>,
}

#[derive(Debug, Default)]
struct Device {
    address: Option<PciAddress>,
    /// How many refused commands of it the kernel log had told of at the last measurement. None before the first: what
    /// was said before it was looked at counts, so that it need not be tried to be known.
    refusals: u64,
    /// Whether a read was refused at the last measurement: then that is what the kernel log tells of.
    was_refused: bool,
    ports: Vec<Port>,
    ports_left_out: usize,
}

#[derive(Debug)]
struct Port {
    place: Place,
    /// `1`.
    number: String,
    of_link: Guard,
    counters: [Counters; 2],
}

/// The counters in one directory of a port.
#[derive(Debug)]
struct Counters {
    dir: &'static str,
    /// Those of [`COUNTERS`] that it has.
    files: Vec<(&'static str, &'static MetricSpec)>,
    guard: Guard,
}

/// A breaker, and why it is open.
#[derive(Debug)]
struct Guard {
    breaker: Breaker,
    why: Refusal,
}

impl Infiniband {
    pub(super) fn measure(&mut self, now: BootTime, round: Round, reader: &mut Reader<'_>) {
        let Some(names) = reader.names(DIR, |name| text::name(name.as_bytes()).is_some()) else {
            self.devices.clear();
            return;
        };
        reader.out.reading(DEVICES, &["infiniband"], i64::try_from(names.len()).unwrap_or(i64::MAX));
        self.devices.retain(|name, _| names.binary_search(name).is_ok());
        for name in names {
            // Ports and their counters come after their card when a driver is loaded: they are listed now and then.
            if round == Round::Full || !self.devices.contains_key(&name) {
                self.take_in(name, reader);
            }
        }
        let left_out: usize = self.devices.values().map(|device| device.ports_left_out).sum();
        if left_out > 0 {
            let gap = Gap::new(GapReason::Budget, format!("more than {MAX_PORTS} InfiniBand ports"));
            reader.out.gap(gap.counting(left_out as u64));
        }
        // One at a time, so that what the kernel log then says is known to be about it.
        let mut trials = 1;
        for (name, device) in &mut self.devices {
            device.measure(name, now, round, &mut trials, reader);
        }
    }

    fn take_in(&mut self, name: String, reader: &mut Reader<'_>) {
        let mut device = self.devices.remove(&name).unwrap_or_default();
        let others = self.devices.values().map(|device| device.ports.len()).sum();
        device.look(&name, others, reader);
        self.devices.insert(name, device);
    }
}

impl Device {
    /// Lists its ports and their counters. What is known of a port (its breakers) stays. `others` is how many ports the
    /// other cards have.
    fn look(&mut self, name: &str, others: usize, reader: &mut Reader<'_>) {
        let path = format!("{DIR}/{name}");
        let target = reader.host.link(format!("{path}/device")).ok();
        self.address = target.and_then(|target| PciAddress::parse(target.file_name()?.to_str()?));
        let numbers = reader.names(&format!("{path}/ports"), |name| numbered(name, "").is_some()).unwrap_or_default();
        self.ports.retain(|port| numbers.contains(&port.number));
        self.ports_left_out = 0;
        for number in numbers {
            if let Some(port) = self.ports.iter_mut().find(|port| port.number == number) {
                port.list_counters(reader);
                continue;
            }
            let position = others + self.ports.len();
            if position < MAX_PORTS {
                let place = format!("{path}/ports/{number}");
                let mut port = Port::new(Place::new(reader.host, place, Hold::of(position, MAX_KEPT)), number);
                port.list_counters(reader);
                self.ports.push(port);
            } else {
                self.ports_left_out += 1;
            }
        }
    }

    fn measure(&mut self, name: &str, now: BootTime, round: Round, trials: &mut u32, reader: &mut Reader<'_>) {
        if let Some(address) = self.address {
            let refusals = reader.host.stats().refusals.of(address);
            if refusals > self.refusals && !self.was_refused {
                self.complaint(address, now);
            }
            self.refusals = refusals;
        }
        self.was_refused = false;
        if round == Round::Full {
            self.info(name, reader);
        }
        for port in &mut self.ports {
            self.was_refused |= port.measure(name, now, trials, reader);
            if round == Round::Full {
                port.info(name, self.address, reader);
            }
        }
    }

    /// The kernel log says that commands were refused: those of what was tried, if something was, else any.
    fn complaint(&mut self, address: PciAddress, now: BootTime) {
        let why = format!("the kernel log says that the firmware of {address} refuses what reading them asks for");
        let counters = self.ports.iter_mut().flat_map(|port| &mut port.counters).filter(|c| !c.files.is_empty());
        let mut guards: Vec<_> = counters.map(|counters| &mut counters.guard).collect();
        let tried = guards.iter().any(|guard| guard.breaker.is_trying());
        for guard in guards.iter_mut().filter(|guard| !tried || guard.breaker.is_trying()) {
            guard.refused(now, (GapReason::PermissionDenied, why.clone()));
        }
    }

    fn info(&self, name: &str, reader: &mut Reader<'_>) {
        let mut place = Place::new(reader.host, format!("{DIR}/{name}"), Hold::ByPath);
        let mut said = |file| reader.line(&mut place, file).unwrap_or_default();
        let (board, firmware, model) = (said("board_id"), said("fw_ver"), said("hca_type"));
        reader.out.reading(INFO, &[name, &board, &firmware, &model], 1);
    }
}

impl Port {
    fn new(place: Place, number: String) -> Self {
        let counters = |dir| Counters { dir, files: Vec::new(), guard: Guard::new() };
        Self { place, number, of_link: Guard::new(), counters: ["counters", "hw_counters"].map(counters) }
    }

    fn list_counters(&mut self, reader: &mut Reader<'_>) {
        for counters in &mut self.counters {
            let there = reader.names(&format!("{}/{}", self.place.path(), counters.dir), |_| true).unwrap_or_default();
            let is_there = |file: &str| {
                let (dir, name) = file.split_once('/').unwrap_or(("", file));
                dir == counters.dir && there.iter().any(|there| there == name)
            };
            counters.files = COUNTERS.into_iter().filter(|(file, _)| is_there(file)).collect();
        }
    }

    /// Whether a read was refused.
    fn measure(&mut self, device: &str, now: BootTime, trials: &mut u32, reader: &mut Reader<'_>) -> bool {
        let Self { place, number, of_link, counters } = self;
        let labels = [device, &**number];
        let mut was_refused = of_link.ask(now, trials, || link(place, &labels, reader));
        of_link.gap(place, "state and rate").into_iter().for_each(|gap| reader.out.gap(gap));
        for Counters { dir, files, guard } in counters.iter_mut().filter(|counters| !counters.files.is_empty()) {
            was_refused |= guard.ask(now, trials, || count(files, place, &labels, reader));
            guard.gap(place, dir).into_iter().for_each(|gap| reader.out.gap(gap));
        }
        was_refused
    }

    /// What the port is, without asking the card.
    fn info(&mut self, device: &str, address: Option<PciAddress>, reader: &mut Reader<'_>) {
        let layer = reader.line(&mut self.place, "link_layer").unwrap_or_default();
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        reader.out.reading(PORT, &[device, &self.number, &layer, &address], 1);
    }
}

/// State and rate.
fn link(place: &mut Place, labels: &[&str], reader: &mut Reader<'_>) -> Result<(), Refusal> {
    for (file, metric) in STATES {
        if let Some(state) = ask(place, file, parse_state, reader)? {
            reader.out.reading(metric, labels, state);
        }
    }
    if let Some(rate) = ask(place, "rate", parse_rate, reader)? {
        reader.out.reading(RATE, labels, rate);
    }
    Ok(())
}

/// Counters of one directory, up to the first that is refused.
fn count(
    files: &[(&'static str, &'static MetricSpec)],
    place: &mut Place,
    labels: &[&str],
    reader: &mut Reader<'_>,
) -> Result<(), Refusal> {
    for (file, metric) in files {
        if let Some(count) = ask(place, file, port_counters::parse, reader)? {
            reader.out.reading(metric, labels, count);
        }
    }
    Ok(())
}

/// Why something is not asked any more.
type Refusal = (GapReason, String);

impl Guard {
    fn new() -> Self {
        Self { breaker: Breaker::new(), why: (GapReason::PermissionDenied, String::new()) }
    }

    /// Asks, if that may be done now. Whether it was refused.
    fn ask(&mut self, now: BootTime, trials: &mut u32, ask: impl FnOnce() -> Result<(), Refusal>) -> bool {
        if !self.may_ask(now, trials) {
            return false;
        }
        match ask() {
            Ok(()) => false,
            Err(why) => {
                self.refused(now, why);
                true
            }
        }
    }

    fn may_ask(&mut self, now: BootTime, trials: &mut u32) -> bool {
        match self.breaker.permit(now) {
            Permit::Ask => true,
            Permit::MayTry if *trials > 0 => {
                *trials -= 1;
                self.breaker.try_again();
                true
            }
            Permit::MayTry | Permit::Leave(_) => false,
        }
    }

    fn refused(&mut self, now: BootTime, why: Refusal) {
        // One that is open stays open for the reason that opened it.
        if self.breaker.wait().is_none() {
            self.why = why;
        }
        self.breaker.refused(now);
    }

    fn gap(&self, place: &Place, what: &str) -> Option<Gap> {
        let minutes = self.breaker.wait()?.as_secs() / 60;
        let (reason, why) = &self.why;
        let detail = format!("/{}: {what} are left alone for {minutes} min at a time: {why}", place.path());
        Some(Gap::new(*reason, detail))
    }
}

/// What one file says. `Err`: the card or its driver refused, and asking on would only be refused again.
fn ask(
    place: &mut Place,
    file: &str,
    parse: fn(&[u8]) -> Result<Option<i64>, BadLine<'_>>,
    reader: &mut Reader<'_>,
) -> Result<Option<i64>, Refusal> {
    let read = place.read(reader.host, file, reader.buf);
    if let Some(refusal) = read.as_ref().err().and_then(refusal) {
        return Err(refusal);
    }
    if !said(read, reader.out) {
        return Ok(None);
    }
    let mut bad = Unparsed::default();
    let value = bad.keep(parse(reader.buf)).flatten();
    reader.gap(bad, place, file);
    Ok(value)
}

/// Whether an error is one that a refused command ends in. A driver that merely has no such counter says `EOPNOTSUPP`.
fn refusal(error: &HostError) -> Option<Refusal> {
    let reason = match error.errno()? {
        Errno::PERM | Errno::INVAL => GapReason::PermissionDenied,
        Errno::IO => GapReason::SourceFailed,
        _ => return None,
    };
    Some((reason, chain(error)))
}

/// `4: ACTIVE`: the number of a state.
pub(crate) fn parse_state(text: &[u8]) -> Result<Option<i64>, BadLine<'_>> {
    let line = text::single(text)?;
    let bad = |why| BadLine { line, why };
    let colon = line.iter().position(|b| *b == b':').ok_or(bad("no `:` after a number"))?;
    text::number(line[..colon].trim_ascii()).map(Some).map_err(bad)
}

/// `100 Gb/sec (4X EDR)`: tenths of a gigabit a second.
pub(crate) fn parse_rate(text: &[u8]) -> Result<Option<i64>, BadLine<'_>> {
    let line = text::single(text)?;
    let bad = |why| BadLine { line, why };
    let blank = line.iter().position(|b| *b == b' ').ok_or(bad("no rate"))?;
    let (number, unit) = line.split_at(blank);
    if !unit.starts_with(b" Gb/sec") {
        return Err(bad("not in Gb/sec"));
    }
    tenths(number).map(Some).map_err(bad)
}

#[cfg(test)]
mod tests;
