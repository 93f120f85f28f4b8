//! Memory errors that the memory controllers noticed: by controller, by row of chips, by module (EDAC).
//!
//! The counts of rows and modules add up to those of their controller, so they are read when a controller's changed, and
//! now and then. Counting starts anew when the driver is loaded. `Documentation/admin-guide/RAS/main.rst`.

use std::collections::BTreeMap;

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::sample::MetricSpec;

use super::Round;
use super::metrics::{DEVICES, METRICS};
use super::numbered;
use super::place::{Hold, Place, Reader};
use crate::sources::spec::named;

const CORRECTABLE: &MetricSpec = named(&METRICS, "node_edac_correctable_errors_total");
const UNCORRECTABLE: &MetricSpec = named(&METRICS, "node_edac_uncorrectable_errors_total");
const ROW_CORRECTABLE: &MetricSpec = named(&METRICS, "node_edac_csrow_correctable_errors_total");
const ROW_UNCORRECTABLE: &MetricSpec = named(&METRICS, "node_edac_csrow_uncorrectable_errors_total");
const DIMM_CORRECTABLE: &MetricSpec = named(&METRICS, "casefile_edac_dimm_correctable_errors_total");
const DIMM_UNCORRECTABLE: &MetricSpec = named(&METRICS, "casefile_edac_dimm_uncorrectable_errors_total");
const DIMM_INFO: &MetricSpec = named(&METRICS, "casefile_edac_dimm_info");

pub(super) const DIR: &str = "sys/devices/system/edac/mc";

/// Memory controllers: eight a socket have been seen.
const MAX_CONTROLLERS: usize = 64;
/// Of these, with a directory kept open.
pub(super) const MAX_KEPT: usize = 16;
/// Rows and modules of one controller.
const MAX_PARTS: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Edac {
    controllers: BTreeMap<String, Controller>,
}

#[derive(Debug)]
struct Controller {
    place: Place,
    /// The controller's number, as node_exporter has it.
    number: String,
    rows: Vec<String>,
    modules: Vec<String>,
    left_out: usize,
    /// Its counts, and those of what it could not place, when rows and modules were read.
    read_at: [Option<i64>; 4],
}

impl Edac {
    pub(super) fn measure(&mut self, round: Round, reader: &mut Reader<'_>) {
        let Some(names) = reader.names(DIR, |name| numbered(name, "mc").is_some()) else {
            self.controllers.clear();
            return;
        };
        reader.out.reading(DEVICES, &["edac"], i64::try_from(names.len()).unwrap_or(i64::MAX));
        if let Some(left_out @ 1..) = names.len().checked_sub(MAX_CONTROLLERS) {
            let gap = Gap::new(GapReason::Budget, format!("more than {MAX_CONTROLLERS} memory controllers"));
            reader.out.gap(gap.counting(left_out as u64));
        }
        // Rows and modules come after their controller when a driver is loaded: they are listed anew now and then.
        self.controllers.retain(|name, _| round == Round::Quick && names.binary_search(name).is_ok());
        for (i, name) in names.into_iter().take(MAX_CONTROLLERS).enumerate() {
            if !self.controllers.contains_key(&name)
                && let Some(controller) = Controller::look(&name, Hold::of(i, MAX_KEPT), reader)
            {
                self.controllers.insert(name, controller);
            }
        }
        for controller in self.controllers.values_mut() {
            controller.measure(round, reader);
        }
    }
}

impl Controller {
    fn look(name: &str, hold: Hold, reader: &mut Reader<'_>) -> Option<Self> {
        let number = numbered(name, "mc")?.to_owned();
        let path = format!("{DIR}/{name}");
        let rows = reader.names(&path, |name| numbered(name, "csrow").is_some())?;
        // Memory whose modules the driver cannot tell apart comes in ranks.
        let is_module = |name: &str| numbered(name, "dimm").or_else(|| numbered(name, "rank")).is_some();
        let modules = reader.names(&path, is_module)?;
        let place = Place::new(reader.host, path, hold);
        let mut controller = Self { place, number, rows, modules, left_out: 0, read_at: [None; 4] };
        for parts in [&mut controller.rows, &mut controller.modules] {
            controller.left_out += parts.split_off(parts.len().min(MAX_PARTS)).len();
        }
        Some(controller)
    }

    fn measure(&mut self, round: Round, reader: &mut Reader<'_>) {
        let number = [&*self.number];
        let unplaced = [&*self.number, "unknown"];
        let mut counts = [None; 4];
        for (count, (file, metric, labels)) in counts.iter_mut().zip([
            ("ce_count", CORRECTABLE, &number[..]),
            ("ue_count", UNCORRECTABLE, &number[..]),
            ("ce_noinfo_count", ROW_CORRECTABLE, &unplaced[..]),
            ("ue_noinfo_count", ROW_UNCORRECTABLE, &unplaced[..]),
        ]) {
            *count = reader.number(&mut self.place, file);
            count.iter().for_each(|count| reader.out.reading(metric, labels, *count));
        }
        if self.left_out > 0 {
            let why = format!("/{}: more than {MAX_PARTS} rows or modules", self.place.path());
            reader.out.gap(Gap::new(GapReason::Budget, why).counting(self.left_out as u64));
        }
        if round == Round::Full || counts != self.read_at {
            self.read_at = counts;
            self.parts(reader);
        }
    }

    fn parts(&mut self, reader: &mut Reader<'_>) {
        for name in &self.rows {
            let labels = [&*self.number, numbered(name, "csrow").unwrap_or(name)];
            for (file, metric) in [("ce_count", ROW_CORRECTABLE), ("ue_count", ROW_UNCORRECTABLE)] {
                if let Some(errors) = reader.number(&mut self.place, &format!("{name}/{file}")) {
                    reader.out.reading(metric, &labels, errors);
                }
            }
        }
        for name in &self.modules {
            for (file, metric) in [("dimm_ce_count", DIMM_CORRECTABLE), ("dimm_ue_count", DIMM_UNCORRECTABLE)] {
                if let Some(errors) = reader.number(&mut self.place, &format!("{name}/{file}")) {
                    reader.out.reading(metric, &[&self.number, name], errors);
                }
            }
            if let Some(label) = reader.line(&mut self.place, &format!("{name}/dimm_label")) {
                reader.out.reading(DIMM_INFO, &[&self.number, name, &label], 1);
            }
        }
    }
}
