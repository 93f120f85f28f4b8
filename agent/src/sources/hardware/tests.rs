//! The source over trees that are made here: what is read when, what is missing, what is too much, and what it costs.

use std::path::Path;

use casefile_proto::gap::GapReason;

use super::*;

/// A machine with nothing but what a test puts there.
struct Machine {
    root: tempfile::TempDir,
    source: Option<Box<dyn Source>>,
    out: Measurement,
}

impl Machine {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), source: None, out: Measurement::new(&METRICS) }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    fn remove(&self, path: &str) {
        std::fs::remove_dir_all(self.root.path().join(path)).unwrap();
    }

    fn measure(&mut self) {
        let source = self.source.get_or_insert_with(|| match open(&Host::new(self.root.path()).unwrap()) {
            Ok(Opened::Ready(source)) => source,
            _ => panic!("it should be there"),
        });
        self.out.begin();
        source.measure(&mut self.out).unwrap();
    }

    fn find(&self, metric: &str, labels: &[&str]) -> Option<i64> {
        self.out.find(metric, labels)
    }

    fn gaps(&self) -> Vec<GapReason> {
        self.out.gaps().iter().map(|gap| gap.reason).collect()
    }

    fn controller(&self, corrected: u32) {
        for file in ["ue_count", "ce_noinfo_count", "ue_noinfo_count", "csrow0/ue_count", "dimm0/dimm_ue_count"] {
            self.write(&format!("{}/mc0/{file}", edac::DIR), "0\n");
        }
        for file in ["ce_count", "csrow0/ce_count", "dimm0/dimm_ce_count"] {
            self.write(&format!("{}/mc0/{file}", edac::DIR), &format!("{corrected}\n"));
        }
    }

    fn pci(&self, address: &str, class: &str) {
        let dir = format!("{}/{address}", pci::DIR);
        self.write(&format!("{dir}/class"), &format!("{class}\n"));
        self.write(&format!("{dir}/aer_dev_correctable"), "RxErr 1\nTOTAL_ERR_COR 1\n");
        self.write(&format!("{dir}/aer_dev_nonfatal"), "DLP 0\nTOTAL_ERR_NONFATAL 0\n");
        self.write(&format!("{dir}/aer_dev_fatal"), "DLP 0\nTOTAL_ERR_FATAL 0\n");
        for (file, text) in [("speed", "16.0 GT/s PCIe\n"), ("width", "16\n")] {
            self.write(&format!("{dir}/current_link_{file}"), text);
            self.write(&format!("{dir}/max_link_{file}"), text);
        }
    }
}

#[test]
fn a_machine_without_any_of_it_has_no_such_source() {
    let root = tempfile::tempdir().unwrap();
    assert!(matches!(open(&Host::new(root.path()).unwrap()), Ok(Opened::Absent { .. })));
}

#[test]
fn rows_and_modules_are_read_when_their_controller_counted_something() {
    let mut machine = Machine::new();
    machine.controller(1);
    let read = |machine: &Machine| {
        (
            machine.find("node_edac_correctable_errors_total", &["0"]),
            machine.find("node_edac_csrow_correctable_errors_total", &["0", "0"]),
            machine.find("casefile_edac_dimm_correctable_errors_total", &["0", "dimm0"]),
        )
    };
    machine.measure();
    assert_eq!(read(&machine), (Some(1), Some(1), Some(1)));
    machine.measure();
    assert_eq!(read(&machine), (Some(1), None, None));
    machine.controller(2);
    machine.measure();
    assert_eq!(read(&machine), (Some(2), Some(2), Some(2)));
    machine.measure();
    assert_eq!(read(&machine), (Some(2), None, None));
    (4..FULL_EVERY).for_each(|_| machine.measure());
    machine.measure();
    assert_eq!(read(&machine), (Some(2), Some(2), Some(2)));
    assert_eq!(machine.gaps(), []);
}

#[test]
fn a_module_that_comes_after_its_controller_is_found() {
    let mut machine = Machine::new();
    machine.controller(0);
    machine.measure();
    machine.write(&format!("{}/mc0/dimm1/dimm_ce_count", edac::DIR), "0\n");
    (1..=FULL_EVERY).for_each(|_| machine.measure());
    assert_eq!(machine.find("casefile_edac_dimm_correctable_errors_total", &["0", "dimm1"]), Some(0));
}

#[test]
fn types_of_errors_at_zero_are_not_given_and_their_total_is() {
    let mut machine = Machine::new();
    machine.pci("0000:84:00.0", "0x030200");
    machine.measure();
    let by_type =
        |severity, kind| machine.find("casefile_pcie_aer_errors_by_type_total", &["0000:84:00.0", severity, kind]);
    assert_eq!((by_type("correctable", "RxErr"), by_type("fatal", "DLP")), (Some(1), None));
    assert_eq!(machine.find("casefile_pcie_aer_errors_total", &["0000:84:00.0", "fatal"]), Some(0));
}

#[test]
fn a_device_that_falls_off_the_bus_is_missing_at_once_and_back_when_it_is_back() {
    let mut machine = Machine::new();
    machine.pci("0000:3b:00.0", "0x030200");
    machine.pci("0000:84:00.0", "0x030200");
    let read = |machine: &Machine| {
        let total = machine.find("casefile_pcie_aer_errors_total", &["0000:84:00.0", "correctable"]);
        (machine.find("casefile_hardware_devices", &["pci"]), total)
    };
    machine.measure();
    assert_eq!(read(&machine), (Some(2), Some(1)));
    machine.remove("sys/bus/pci/devices/0000:84:00.0");
    machine.measure();
    assert_eq!(read(&machine), (Some(1), None));
    machine.pci("0000:84:00.0", "0x030200");
    machine.measure();
    assert_eq!(read(&machine), (Some(2), Some(1)));
}

#[test]
fn of_many_devices_those_between_others_take_turns() {
    let mut machine = Machine::new();
    machine.pci("ffff:00:00.0", "0x030200");
    for n in 0..pci::MAX_EACH_TIME {
        machine.pci(&format!("{n:04x}:00:00.0"), "0x060400");
    }
    let read = |machine: &Machine| {
        let mut read = std::collections::BTreeSet::new();
        machine.out.each(&mut |metric, labels, _| {
            if metric.name == "casefile_pcie_aer_errors_total" {
                read.insert(labels[0].to_owned());
            }
        });
        read
    };
    machine.measure();
    assert_eq!(read(&machine).len(), pci::MAX_EACH_TIME + 1);
    machine.measure();
    let one = read(&machine);
    machine.measure();
    let other = read(&machine);
    assert_eq!((one.len(), other.len()), (pci::MAX_EACH_TIME / 2 + 1, pci::MAX_EACH_TIME / 2 + 1));
    assert_eq!(one.union(&other).count(), pci::MAX_EACH_TIME + 1);
    assert_eq!(one.intersection(&other).collect::<Vec<_>>(), ["ffff:00:00.0"]);
}

#[test]
fn links_are_read_of_what_suffers_from_them_and_not_of_virtual_functions() {
    let mut machine = Machine::new();
    for (address, class) in [("0000:01:00.0", "0x010802"), ("0000:02:00.0", "0x060400"), ("0000:03:00.1", "0x020000")] {
        machine.pci(address, class);
    }
    machine.link("sys/bus/pci/devices/0000:03:00.1/physfn", "../0000:03:00.0");
    machine.measure();
    let width = |bus, function| machine.find("node_pcidevice_current_link_width", &["0000", bus, "00", function]);
    assert_eq!((width("01", "0"), width("02", "0"), width("03", "1")), (Some(16), None, None));
    assert_eq!(machine.find("node_pcidevice_max_link_transfers_per_second", &["0000", "01", "00", "0"]), Some(160));
}

#[test]
fn more_devices_than_are_read_are_a_gap_that_counts_them() {
    let mut machine = Machine::new();
    for n in 0..pci::MAX_READ + 3 {
        machine.write(&format!("{}/{n:04x}:00:00.0/aer_dev_correctable", pci::DIR), "TOTAL_ERR_COR 0\n");
    }
    // They take turns, all but the first time.
    for expected in [pci::MAX_READ, pci::MAX_READ / 2] {
        machine.measure();
        let mut read = 0;
        machine.out.each(&mut |metric, _, _| read += usize::from(metric.name == "casefile_pcie_aer_errors_total"));
        let counts: Vec<_> = machine.out.gaps().iter().map(|gap| (gap.reason, gap.count)).collect();
        assert_eq!((read, counts), (expected, vec![(GapReason::Budget, Some(3))]));
    }
}

#[test]
fn a_sensor_that_fails_is_a_gap_and_the_others_are_read() {
    let mut machine = Machine::new();
    let chip = "sys/devices/platform/nct.1/hwmon/hwmon0";
    machine.write(&format!("{chip}/name"), "nct6779\n");
    machine.write(&format!("{chip}/temp1_input"), "1000000\n");
    machine.write(&format!("{chip}/temp2_input"), "hot\n");
    machine.write(&format!("{chip}/temp3_input/is_a_directory"), "");
    machine.write(&format!("{chip}/temp4_input"), "-62000\n");
    machine.link("sys/class/hwmon/hwmon0", "../../devices/platform/nct.1/hwmon/hwmon0");
    machine.link(&format!("{chip}/device"), "../../../nct.1");
    machine.measure();
    let celsius = |sensor| machine.find("node_hwmon_temp_celsius", &["platform_nct_1", sensor]);
    assert_eq!((celsius("temp1"), celsius("temp4")), (Some(1_000_000), Some(-62_000)));
    assert_eq!((celsius("temp2"), celsius("temp3")), (None, None));
    assert_eq!(machine.gaps(), [GapReason::ParseFailed, GapReason::RefusedUnsafePath]);
}

#[test]
fn a_number_that_another_chip_took_is_noticed() {
    let mut machine = Machine::new();
    let chip = |machine: &Machine, device: &str, temp: &str| {
        let dir = format!("sys/devices/platform/{device}/hwmon/hwmon0");
        machine.write(&format!("{dir}/temp1_input"), temp);
        machine.link(&format!("{dir}/device"), &format!("../../../{device}"));
        machine.link("sys/class/hwmon/hwmon0", &format!("../../devices/platform/{device}/hwmon/hwmon0"));
    };
    chip(&machine, "one", "1000\n");
    machine.measure();
    machine.remove("sys/devices/platform/one");
    std::fs::remove_file(machine.root.path().join("sys/class/hwmon/hwmon0")).unwrap();
    chip(&machine, "two", "2000\n");
    let celsius = |machine: &Machine, chip| machine.find("node_hwmon_temp_celsius", &[chip, "temp1"]);
    machine.measure();
    assert_eq!((celsius(&machine, "platform_one"), celsius(&machine, "platform_two")), (None, Some(2000)));
}

#[test]
fn a_controller_in_a_state_that_no_kernel_has_keeps_its_word_and_is_a_gap() {
    let mut machine = Machine::new();
    machine.write("sys/class/nvme/nvme0/state", "confused\n");
    machine.write("sys/class/nvme/nvme1/state", "deleting (no IO)\n");
    machine.measure();
    assert_eq!(machine.find("node_nvme_info", &["nvme0", "", "", "", "confused", ""]), Some(1));
    assert_eq!(machine.find("casefile_nvme_state", &["nvme0"]), None);
    assert_eq!(machine.find("casefile_nvme_state", &["nvme1"]), Some(5));
    assert_eq!(machine.gaps(), [GapReason::ParseFailed]);
}

#[test]
fn a_disk_that_was_replaced_is_called_by_its_own_number() {
    let mut machine = Machine::new();
    let disk = |machine: &Machine, serial: &str| {
        machine.write("sys/class/nvme/nvme0/state", "live\n");
        machine.write("sys/class/nvme/nvme0/serial", serial);
    };
    disk(&machine, "A1   \n");
    machine.measure();
    disk(&machine, "B2   \n");
    machine.measure();
    let info = |serial| machine.find("node_nvme_info", &["nvme0", "", "", serial, "live", ""]);
    assert_eq!((info("A1"), info("B2")), (None, Some(1)));
}

/// What a measurement costs with 200 PCI devices that all count errors, 30 of them with links that are read, and 100
/// sensors: `cargo test --release -p casefile-agent --lib hardware -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a check"]
fn the_cost_of_a_measurement_with_200_devices() {
    const ROUNDS: u32 = 600;
    let mut machine = Machine::new();
    if Path::new("/dev/shm").is_dir() {
        machine.root = tempfile::tempdir_in("/dev/shm").unwrap();
    }
    machine.controller(1);
    for n in 0..200 {
        machine.pci(&format!("0000:{n:02x}:00.0"), if n < 30 { "0x030200" } else { "0x060400" });
    }
    for n in 0..100 {
        machine.write(&format!("sys/devices/platform/c.0/hwmon/hwmon0/temp{n}_input"), "54000\n");
    }
    machine.link("sys/class/hwmon/hwmon0", "../../devices/platform/c.0/hwmon/hwmon0");
    machine.measure();
    let cpu = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec * 1_000_000 + time.tv_nsec / 1000
    };
    let before = cpu();
    (0..ROUNDS).for_each(|_| machine.measure());
    println!("{:.0} µs a measurement", (cpu() - before) as f64 / f64::from(ROUNDS));
}
