//! Temperatures with their limits, fans, voltages, currents and power, from `/sys/class/hwmon`, with node_exporter's
//! names for chips and sensors. What a sensor says is given as it was read, also when no machine could be that hot.
//!
//! Some chips are slow, some answer with errors: a sensor that fails is a gap, the others are read. Old drivers that put
//! their files beside `hwmonN` instead of into it are not read. `Documentation/hwmon/sysfs-interface.rst`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::sample::MetricSpec;

use super::metrics::{DEVICES, METRICS};
use super::place::{Hold, Place, Reader};
use super::{Round, numbered};
use crate::host::Host;
use crate::sources::kept::unreadable;
use crate::sources::spec::named;

const CHIP: &MetricSpec = named(&METRICS, "node_hwmon_chip_names");
const LABEL: &MetricSpec = named(&METRICS, "node_hwmon_sensor_label");

/// What is read of a sensor at every measurement, by the kind of sensor and the end of the file's name.
const VALUES: [(&str, &str, &MetricSpec); 6] = [
    ("temp", "input", named(&METRICS, "node_hwmon_temp_celsius")),
    ("fan", "input", named(&METRICS, "node_hwmon_fan_rpm")),
    ("in", "input", named(&METRICS, "node_hwmon_in_volts")),
    ("curr", "input", named(&METRICS, "node_hwmon_curr_amps")),
    ("power", "input", named(&METRICS, "node_hwmon_power_watt")),
    ("power", "average", named(&METRICS, "node_hwmon_power_average_watt")),
];
/// What seldom changes.
const LIMITS: [(&str, &str, &MetricSpec); 2] = [
    ("temp", "max", named(&METRICS, "node_hwmon_temp_max_celsius")),
    ("temp", "crit", named(&METRICS, "node_hwmon_temp_crit_celsius")),
];

pub(super) const DIR: &str = "sys/class/hwmon";

/// Chips that are read: one for each processor, disk, memory module and card.
const MAX_CHIPS: usize = 128;
/// Of these, with a directory kept open.
pub(super) const MAX_KEPT: usize = 32;
/// Sensors of all chips that are read. A processor has one for each core.
const MAX_SENSORS: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Hwmon {
    /// As they were when the chips were looked at: name and where it points.
    listed: Vec<(String, Option<PathBuf>)>,
    chips: Vec<Chip>,
    sensors_left_out: usize,
}

#[derive(Debug)]
struct Chip {
    place: Place,
    /// As node_exporter has it: `platform_coretemp_0`.
    label: String,
    /// What the driver calls it: `coretemp`.
    name: Option<String>,
    sensors: Vec<Sensor>,
}

/// One file of a sensor.
#[derive(Debug)]
struct Sensor {
    /// `temp1`.
    name: String,
    /// `temp1_input`.
    file: String,
    metric: &'static MetricSpec,
    /// What the board's maker calls it, told at every full round.
    role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Value,
    Limit,
    Label,
}

impl Hwmon {
    pub(super) fn measure(&mut self, round: Round, reader: &mut Reader<'_>) {
        let Some(names) = reader.names(DIR, |name| numbered(name, "hwmon").is_some()) else {
            *self = Self::default();
            return;
        };
        reader.out.reading(DEVICES, &["hwmon"], i64::try_from(names.len()).unwrap_or(i64::MAX));
        if let Some(left_out @ 1..) = names.len().checked_sub(MAX_CHIPS) {
            let gap = Gap::new(GapReason::Budget, format!("more than {MAX_CHIPS} chips with sensors"));
            reader.out.gap(gap.counting(left_out as u64));
        }
        // Numbers are given in the order in which drivers come: another chip may have taken one.
        let target = |name: String| {
            let target = reader.host.link(format!("{DIR}/{name}"));
            if let Some(error) = target.as_ref().err().filter(|error| !error.is_not_found()) {
                reader.out.gap(unreadable(error));
            }
            (name, target.ok())
        };
        let listed: Vec<_> = names.into_iter().take(MAX_CHIPS).map(target).collect();
        if round == Round::Full || listed != self.listed {
            self.listed = listed;
            self.look(reader);
        }
        if self.sensors_left_out > 0 {
            let gap = Gap::new(GapReason::Budget, format!("more than {MAX_SENSORS} files of sensors"));
            reader.out.gap(gap.counting(self.sensors_left_out as u64));
        }
        for chip in &mut self.chips {
            chip.measure(round, reader);
        }
    }

    fn look(&mut self, reader: &mut Reader<'_>) {
        self.sensors_left_out = 0;
        let mut room = MAX_SENSORS;
        let mut chips: Vec<(&str, Chip)> = Vec::new();
        for (i, (name, target)) in self.listed.iter().enumerate() {
            // What points nowhere is gone already.
            let Some(target) = target else { continue };
            let Some(mut chip) = Chip::look(name, target, Hold::of(i, MAX_KEPT), reader) else { continue };
            self.sensors_left_out += chip.sensors.split_off(chip.sensors.len().min(room)).len();
            room -= chip.sensors.len();
            chips.push((name, chip));
        }
        let suffixes = suffixes(chips.iter().map(|(hwmon, chip)| (&*chip.label, chip.name.as_deref(), *hwmon)));
        for ((_, chip), suffix) in chips.iter_mut().zip(suffixes) {
            chip.label.push_str(&suffix);
        }
        self.chips = chips.into_iter().map(|(_, chip)| chip).collect();
    }
}

/// What is put behind the labels of chips that would be called the same: two `hwmonN` of one device. The driver's name
/// where that tells them apart, else the number. Each chip is label, driver's name, and `hwmonN`.
fn suffixes<'a>(chips: impl Iterator<Item = (&'a str, Option<&'a str>, &'a str)> + Clone) -> Vec<String> {
    let mut by_label: BTreeMap<&str, usize> = BTreeMap::new();
    let mut by_both: BTreeMap<(&str, Option<&str>), usize> = BTreeMap::new();
    for (label, name, _) in chips.clone() {
        *by_label.entry(label).or_default() += 1;
        *by_both.entry((label, name)).or_default() += 1;
    }
    let is_one = |count: Option<&usize>| count == Some(&1);
    chips
        .map(|(label, name, hwmon)| match name.map(clean).filter(|name| !name.is_empty()) {
            _ if is_one(by_label.get(label)) => String::new(),
            Some(clean_name) if is_one(by_both.get(&(label, name))) => format!("_{clean_name}"),
            _ => format!("_{hwmon}"),
        })
        .collect()
}

impl Chip {
    fn look(hwmon: &str, target: &Path, hold: Hold, reader: &mut Reader<'_>) -> Option<Self> {
        // The real place: it has the device in it, and so it cannot become another chip's.
        let path = resolve(DIR, &target.to_string_lossy())?;
        let files = reader.names(&path, |file| sensor(file).is_some())?;
        let device = device(reader.host, &path);
        let mut place = Place::new(reader.host, path, hold);
        let name = reader.line(&mut place, "name").filter(|name| !name.is_empty());
        let label = device.or_else(|| name.as_deref().map(clean)).filter(|label| !label.is_empty());
        let sensors = files.into_iter().filter_map(|file| {
            let (name, metric, role) = sensor(&file)?;
            Some(Sensor { name: name.to_owned(), metric, role, file })
        });
        let sensors = sensors.collect();
        Some(Self { place, label: label.unwrap_or_else(|| hwmon.to_owned()), name, sensors })
    }

    fn measure(&mut self, round: Round, reader: &mut Reader<'_>) {
        if round == Round::Full
            && let Some(name) = &self.name
        {
            reader.out.reading(CHIP, &[&self.label, &clean(name)], 1);
        }
        for sensor in &self.sensors {
            match sensor.role {
                Role::Label if round == Round::Full => {
                    if let Some(label) = reader.line(&mut self.place, &sensor.file) {
                        reader.out.reading(LABEL, &[&self.label, &label, &sensor.name], 1);
                    }
                }
                Role::Limit | Role::Label if round == Round::Quick => {}
                Role::Value | Role::Limit | Role::Label => {
                    if let Some(value) = reader.number(&mut self.place, &sensor.file) {
                        reader.out.reading(sensor.metric, &[&self.label, &sensor.name], value);
                    }
                }
            }
        }
    }
}

/// `temp1_input`: the sensor, the metric, and what the file is for. `None` for files that are not read.
fn sensor(file: &str) -> Option<(&str, &'static MetricSpec, Role)> {
    let (name, property) = file.split_once('_')?;
    let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
    numbered(name, kind)?;
    let of = |table: &[(&str, &str, &'static MetricSpec)]| {
        table.iter().find(|(k, p, _)| (*k, *p) == (kind, property)).map(|(_, _, metric)| *metric)
    };
    if property == "label" {
        return VALUES.iter().any(|(k, _, _)| *k == kind).then_some((name, LABEL, Role::Label));
    }
    let value = of(&VALUES).map(|metric| (name, metric, Role::Value));
    value.or_else(|| of(&LIMITS).map(|metric| (name, metric, Role::Limit)))
}

/// The chip's device as node_exporter writes it: the last two parts of its real path, `platform_coretemp_0`.
fn device(host: &Host, path: &str) -> Option<String> {
    let target = host.link(format!("{path}/device")).ok()?;
    let real = resolve(path, &target.to_string_lossy())?;
    let mut parts = real.rsplit('/');
    let (device, bus) = (clean(parts.next()?), clean(parts.next().unwrap_or_default()));
    match (device.is_empty(), bus.is_empty()) {
        (true, _) => None,
        (false, true) => Some(device),
        (false, false) => Some(format!("{bus}_{device}")),
    }
}

/// Where a relative link in a directory points, by the text of both: directories of `/sys/devices` are no links. `None`
/// for one that would lead out of the tree.
fn resolve(dir: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = dir.split('/').collect();
    for part in target.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop()?;
        } else {
            parts.push(part);
        }
    }
    (!target.starts_with('/') && !parts.is_empty()).then(|| parts.join("/"))
}

/// A name as node_exporter writes it into a label: small letters, digits, `:` and `_`, and no `_` at the ends.
fn clean(name: &str) -> String {
    let small = name.to_lowercase();
    let kept = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == ':' { c } else { '_' };
    small.chars().map(kept).collect::<String>().trim_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn files_of_sensors_are_told_by_their_names() {
        let of = |file| sensor(file).map(|(name, metric, _)| (name, metric.name));
        assert_eq!(of("temp1_input"), Some(("temp1", "node_hwmon_temp_celsius")));
        assert_eq!(of("temp12_crit"), Some(("temp12", "node_hwmon_temp_crit_celsius")));
        assert_eq!(of("power1_average"), Some(("power1", "node_hwmon_power_average_watt")));
        assert_eq!(of("fan2_label"), Some(("fan2", "node_hwmon_sensor_label")));
        for other in
            ["temp_input", "temp1", "temp1_crit_alarm", "pwm1", "pwm1_label", "fan1_max", "name", "_input", "in0_max"]
        {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn links_are_resolved_by_their_text() {
        let real = resolve("sys/class/hwmon", "../../devices/platform/coretemp.0/hwmon/hwmon1");
        assert_eq!(real.as_deref(), Some("sys/devices/platform/coretemp.0/hwmon/hwmon1"));
        assert_eq!(resolve("sys/devices/x/hwmon/hwmon1", "../../../x").as_deref(), Some("sys/devices/x"));
        assert_eq!(resolve("sys", "../../etc"), None);
        assert_eq!(resolve("sys", "/etc"), None);
        assert_eq!(resolve("sys", ".."), None);
    }

    #[test]
    fn names_are_cleaned_as_node_exporter_cleans_them() {
        assert_eq!(clean("coretemp.0"), "coretemp_0");
        assert_eq!(clean("pci0000:00"), "pci0000:00");
        assert_eq!(clean("_CPU Temp_\n"), "cpu_temp");
    }

    #[test]
    fn chips_of_one_device_are_told_apart() {
        let chips = [
            ("platform_asus", Some("asus"), "hwmon1"),
            ("platform_asus", Some("asus sensors"), "hwmon2"),
            ("nct", Some("nct6779"), "hwmon3"),
            ("phy", Some("same"), "hwmon4"),
            ("phy", Some("same"), "hwmon5"),
            ("phy", None, "hwmon6"),
        ];
        assert_eq!(suffixes(chips.into_iter()), ["_asus", "_asus_sensors", "", "_hwmon4", "_hwmon5", "_hwmon6"]);
    }

    proptest! {
        #[test]
        fn any_name_is_a_sensor_or_none(name in "(temp|in|fan)?[0-9]{0,3}_?(input|max|.{0,10})") {
            let _ = sensor(&name);
            let _ = resolve("sys/class/hwmon", &name);
            let _ = clean(&name);
        }
    }
}
