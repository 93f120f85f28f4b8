//! The source `gpu` over a library that does what a script says: values, GPUs that go, calls that never return, libraries
//! that are not what they should be. The child is the agent's own program.

#![expect(clippy::unwrap_used, reason = "a test: what it cannot set up ends it")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use casefile_agent::config::GpuConfig;
use casefile_agent::details::Details;
use casefile_agent::host::Host;
use casefile_agent::sources::gpu::SPEC;
use casefile_agent::sources::gpu::latest::Access;
use casefile_agent::sources::{ALL, Measurement, Opened, Source, SourceError};
use casefile_agent::state;
use casefile_agent::stats::Stats;
use casefile_proto::event::EventKind;
use casefile_proto::gap::GapReason;
use casefile_stub_nvml::Copy;
use tempfile::TempDir;

/// How long a condition is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

const POD: &str = "0a1b2c3d-1111-2222-3333-444455556666";

/// A machine with the stub as its library.
struct Machine {
    dir: TempDir,
    library: Copy,
}

struct Run {
    source: Box<dyn Source>,
    out: Measurement,
}

impl Machine {
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc/sys/kernel/random")).unwrap();
        let library = Copy::new(dir.path(), script).unwrap();
        let machine = Self { dir, library };
        machine.write("proc/sys/kernel/random/boot_id", "0f0e0d0c-0b0a-0908-0706-050403020100\n");
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn process(&self, pid: u32, comm: &str, cgroup: &str) {
        self.write(&format!("proc/{pid}/comm"), &format!("{comm}\n"));
        self.write(&format!("proc/{pid}/cgroup"), &format!("0::{cgroup}\n"));
    }

    fn host(&self) -> Host {
        let program = Some(env!("CARGO_BIN_EXE_casefile-agent").into());
        let config = GpuConfig { library: Some(self.library.path().to_owned()), program, ..GpuConfig::default() };
        let access = Access::new(&config, Some(self.dir.path().join("gpus.json")));
        Host::with(self.dir.path(), Arc::new(Stats::new(ALL)), access, Details::default()).unwrap()
    }

    fn run(&self) -> Run {
        Run::on(&self.host())
    }
}

impl Run {
    fn on(host: &Host) -> Self {
        let Ok(Opened::Ready(source)) = (SPEC.open)(host) else { panic!("it did not open") };
        Self { source, out: Measurement::new(SPEC.metrics) }
    }

    fn measure(&mut self) -> Result<(), SourceError> {
        self.out.begin();
        self.source.measure(&mut self.out)
    }

    /// Measures until it has this result: opening takes a moment.
    fn until(&mut self, what: &str, done: impl Fn(&Result<(), SourceError>, &Measurement) -> bool) {
        let began = Instant::now();
        loop {
            let result = self.measure();
            if done(&result, &self.out) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: {result:?}, {:?}", self.out.gaps());
        }
    }

    fn until_it_answers(&mut self) {
        self.until("it answers", |result, _| result.is_ok());
    }

    /// The value of a metric of the GPU with this index.
    fn value(&self, metric: &str, gpu: &str) -> Option<i64> {
        let mut found = None;
        self.out.each(&mut |spec, labels, value| {
            if spec.name == metric && labels.first() == Some(&gpu) {
                found = Some(value);
            }
        });
        found
    }

    fn gap(&self, text: &str) -> Option<GapReason> {
        self.out.gaps().iter().find(|gap| gap.detail.contains(text)).map(|gap| gap.reason)
    }

    /// What was told of GPUs: address, Xid, text.
    fn told(&self) -> Vec<(String, Option<u64>, String)> {
        let each = self.out.events().iter().filter_map(|event| match &event.kind {
            EventKind::Gpu { pci, xid } => Some((pci.clone(), *xid, event.text.clone())),
            _ => None,
        });
        each.collect()
    }
}

fn failure(result: &Result<(), SourceError>) -> String {
    result.as_ref().err().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn everything_that_a_gpu_says_is_read_and_nothing_is_missing() {
    let machine = Machine::new(
        "gpus 8\nvalue field:208 * 0\nvalue field:211 * 0\nvalue field:213 * 2\nvalue field:214 * 0\nvalue field:221 3 7\nmig 2 2\nprocess 3 C 4711 1073741824\nprocess 3 G 4712 5\nprocess 3 C 9 7\n",
    );
    let id = "c".repeat(64);
    machine.process(
        4711,
        "python3",
        &format!("/kubepods.slice/kubepods-pod{}.slice/cri-containerd-{id}.scope", POD.replace('-', "_")),
    );
    machine.process(4712, "Xorg", "/system.slice/gdm.service");
    let mut run = machine.run();
    run.until_it_answers();
    assert_eq!(run.out.gaps(), &[], "nothing is missing");
    let mut names: Vec<_> = SPEC.metrics.iter().map(|metric| metric.name).collect();
    run.out.each(&mut |spec, _, _| names.retain(|name| *name != spec.name));
    // These are of older GPUs.
    assert_eq!(names, ["DCGM_FI_DEV_RETIRED_SBE", "DCGM_FI_DEV_RETIRED_DBE", "DCGM_FI_DEV_RETIRED_PENDING"]);
    for (metric, value) in [
        ("casefile_gpu_state", 1),
        ("DCGM_FI_DEV_FB_USED", 4 << 30),
        ("DCGM_FI_DEV_POWER_USAGE", 103_000),
        ("DCGM_FI_DEV_POWER_USAGE_INSTANT", 101_000),
        ("DCGM_FI_DEV_GPU_TEMP", 43),
        ("DCGM_FI_DEV_GPU_TEMP_LIMIT", 41),
        ("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", 1),
        ("DCGM_FI_DEV_ECC_SBE_AGG_TOTAL", 2),
        ("casefile_gpu_fabric_state", 3),
        ("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", 1),
        ("DCGM_FI_DEV_PCIE_LINK_WIDTH", 16),
    ] {
        assert_eq!(run.value(metric, "3"), Some(value), "{metric}");
    }
    assert_eq!(run.out.find("casefile_gpu_devices", &["nvml"]), Some(8));
    let link =
        ["3", "GPU-00000003-aaaa-bbbb-cccc-0123456789ab", "00000000:83:00.0", "nvidia3", "NVIDIA Stub 80GB", "2"];
    for (metric, value) in [
        ("casefile_gpu_nvlink_up", Some(1)),
        ("casefile_gpu_nvlink_replay_errors_total", Some(2)),
        ("casefile_gpu_nvlink_symbol_errors_total", Some(7)),
    ] {
        assert_eq!(run.out.find(metric, &link), value, "{metric}");
    }
    let uuid = "GPU-00000003-aaaa-bbbb-cccc-0123456789ab";
    let whole = ["3", uuid, "00000000:83:00.0", "nvidia3", "NVIDIA Stub 80GB"];
    assert_eq!(run.out.find("DCGM_FI_DEV_FB_TOTAL", &whole), Some(80 << 30));
    let python = ["3", uuid, "4711", "C", "python3"];
    let cgroup = format!("/kubepods.slice/kubepods-pod{}.slice/cri-containerd-{id}.scope", POD.replace('-', "_"));
    let owner = [&python[..], &[&cgroup, POD, &id]].concat();
    assert_eq!(run.out.find("casefile_gpu_process_info", &owner), Some(1));
    assert_eq!(run.out.find("casefile_gpu_process_memory_bytes", &["3", uuid, "4711", "C"]), Some(1 << 30));
    let xorg = ["3", uuid, "4712", "G", "Xorg", "/system.slice/gdm.service", "", ""];
    assert_eq!(run.out.find("casefile_gpu_process_info", &xorg), Some(1));
    assert_eq!(
        run.out.find("casefile_gpu_process_info", &["3", uuid, "9", "C", "", "", "", ""]),
        Some(1),
        "it is gone"
    );
    let mig = [
        &["2", "GPU-00000002-aaaa-bbbb-cccc-0123456789ab", "00000000:82:00.0", "nvidia2", "NVIDIA Stub 80GB"][..],
        &["MIG-00000002-0000-0000-0000-000000000001", "NVIDIA Stub 80GB MIG 1g.10gb"],
    ]
    .concat();
    assert_eq!(run.out.find("casefile_gpu_mig_info", &mig), Some(1));
    // Limits are read at every tenth pass, use at every one.
    run.measure().unwrap();
    assert_eq!(run.value("DCGM_FI_DEV_SLOWDOWN_TEMP", "3"), None);
    assert!(run.value("DCGM_FI_DEV_GPU_UTIL", "3").is_some());
}

#[test]
fn a_gpu_that_is_lost_or_gone_stays_in_the_record_without_numbers() {
    let machine = Machine::new("gpus 8\n");
    let mut run = machine.run();
    run.until_it_answers();
    assert_eq!(run.told(), []);
    machine.library.script("gpus 8\nlost 5\n").unwrap();
    run.measure().unwrap();
    assert_eq!(run.value("casefile_gpu_state", "5"), Some(2));
    for metric in SPEC.metrics.iter().filter(|m| m.name.starts_with("DCGM")) {
        assert_eq!(run.value(metric.name, "5"), None, "no number of a GPU that does not answer");
    }
    assert_eq!(run.value("DCGM_FI_DEV_GPU_TEMP", "4"), Some(44), "the others are read");
    assert_eq!(run.gap("GPU 5 at 0000:85:00.0"), Some(GapReason::SourceFailed));
    let told = run.told();
    assert_eq!((told.len(), told[0].0.as_str()), (1, "0000:85:00.0"));
    assert!(told[0].2.contains("fell off the bus"), "{told:?}");
    run.measure().unwrap();
    assert_eq!(run.told(), [], "told once");

    machine.library.script("gpus 8\ngone 5\n").unwrap();
    run.measure().unwrap();
    let uuid = "GPU-00000005-aaaa-bbbb-cccc-0123456789ab";
    let mut states = Vec::new();
    run.out.each(&mut |spec, labels, value| {
        if spec.name == "casefile_gpu_state" {
            states.push((labels[1].to_owned(), value));
        }
    });
    assert_eq!((states.len(), states.iter().find(|(of, _)| of == uuid).map(|(_, s)| *s)), (8, Some(4)));
    assert_eq!(run.out.find("casefile_gpu_devices", &["nvml"]), Some(7));
    assert!(run.told().iter().any(|(pci, _, text)| pci == "0000:85:00.0" && text.contains("vanished")));

    // An agent that starts later, and one after a reboot, still miss it; the one after that does not.
    for (boot, state) in
        [("0f0e0d0c-0b0a-0908-0706-050403020100", Some(4)), ("1f0e0d0c-0b0a-0908-0706-050403020100", Some(4))]
    {
        machine.write("proc/sys/kernel/random/boot_id", boot);
        let mut run = machine.run();
        run.until_it_answers();
        let labels = ["5", uuid, "00000000:85:00.0", "nvidia5", "NVIDIA Stub 80GB"];
        assert_eq!(run.out.find("casefile_gpu_state", &labels), state, "{boot}");
        assert!(run.told().iter().any(|(_, _, text)| text.contains("vanished")), "{boot}");
    }
    machine.write("proc/sys/kernel/random/boot_id", "2f0e0d0c-0b0a-0908-0706-050403020100");
    let mut run = machine.run();
    run.until_it_answers();
    assert_eq!((run.out.find("casefile_gpu_devices", &["last_boot"]), run.out.gaps().len()), (Some(7), 0));
}

#[test]
fn a_gpu_that_is_lost_when_the_agent_starts_is_still_known_by_name() {
    let machine = Machine::new("gpus 3\n");
    machine.run().until_it_answers();
    machine.library.script("gpus 3\nerror nvmlDeviceGetHandleByIndex_v2 1 15\n").unwrap();
    let mut run = machine.run();
    run.until_it_answers();
    let mut states = Vec::new();
    run.out.each(&mut |spec, labels, value| {
        if spec.name == "casefile_gpu_state" {
            states.push((labels[1][..12].to_owned(), value));
        }
    });
    assert_eq!(
        states,
        [("GPU-00000000".to_owned(), 1), ("GPU-00000001".to_owned(), 2), ("GPU-00000002".to_owned(), 1)]
    );
    assert_eq!(run.gap("GPU 1 at 0000:81:00.0"), Some(GapReason::SourceFailed));
    // NVML_ERROR_NO_PERMISSION: nobody knows whether it is lost.
    machine.library.script("gpus 3\nerror nvmlDeviceGetHandleByIndex_v2 1 4\n").unwrap();
    run.until("it is not to be had", |_, out| out.gaps().iter().any(|gap| gap.reason == GapReason::PermissionDenied));
    assert_eq!((run.value("casefile_gpu_state", "1"), run.value("DCGM_FI_DEV_GPU_TEMP", "1")), (Some(6), None));
    assert!(run.gap("nvmlDeviceGetHandleByIndex_v2").is_some() && run.gap("is lost").is_none(), "{:?}", run.out.gaps());
    // It comes back, and is asked again within ten passes.
    machine.library.script("gpus 3\n").unwrap();
    run.until("it is there again", |_, out| out.gaps().is_empty());
    assert!(run.told().iter().any(|(pci, _, text)| pci == "0000:81:00.0" && text.contains("answers again")));
}

#[test]
fn a_gpu_on_the_bus_that_nvml_does_not_list_is_told_unless_it_is_given_away() {
    let machine = Machine::new("gpus 1\n");
    for (address, driver) in [("0000:80:00.0", "nvidia"), ("0000:99:00.0", "nvidia"), ("0000:9a:00.0", "vfio-pci")] {
        let base = format!("sys/bus/pci/devices/{address}");
        machine.write(&format!("{base}/vendor"), "0x10de\n");
        machine.write(&format!("{base}/class"), "0x030200\n");
        let driver = Path::new("../../drivers").join(driver);
        std::os::unix::fs::symlink(driver, machine.dir.path().join(base).join("driver")).unwrap();
    }
    machine.write("proc/driver/nvidia/gpus/0000:80:00.0/information", "");
    let mut run = machine.run();
    run.until_it_answers();
    assert_eq!(run.out.find("casefile_gpu_state", &["", "", "00000000:99:00.0", "", ""]), Some(5));
    assert_eq!(run.gap("0000:99:00.0"), Some(GapReason::SourceFailed));
    assert!(run.gap("0000:9a:00.0").is_none() && run.gap("0000:80:00.0").is_none(), "{:?}", run.out.gaps());
    let seen = |by| run.out.find("casefile_gpu_devices", &[by]);
    assert_eq!((seen("nvml"), seen("pci"), seen("driver"), seen("last_boot")), (Some(1), Some(3), Some(1), None));
}

#[test]
fn a_call_that_never_returns_is_named_and_the_next_child_answers() {
    let machine = Machine::new("gpus 4\n");
    let mut run = machine.run();
    run.until_it_answers();
    machine.library.script("gpus 4\nhang nvmlDeviceGetPowerUsage 3\n").unwrap();
    let began = Instant::now();
    let result = run.measure();
    assert_eq!(failure(&result), "nvmlDeviceGetPowerUsage of GPU 3 has not returned for 1 s");
    assert!(began.elapsed() < SPEC.deadline, "{:?}", began.elapsed());
    let mut readings = 0;
    run.out.each(&mut |_, _, _| readings += 1);
    assert_eq!(readings, 0, "nothing of half a pass");
    // While it is given up nobody waits for it.
    let began = Instant::now();
    assert!(matches!(run.measure(), Err(SourceError::Stalled { .. })));
    assert!(began.elapsed() < Duration::from_millis(900), "no other child was asked: {:?}", began.elapsed());
    machine.library.script("gpus 4\n").unwrap();
    run.until_it_answers();
    assert_eq!(run.value("DCGM_FI_DEV_POWER_USAGE", "3"), Some(103_000));
}

#[test]
fn a_library_that_never_opens_is_told_as_such() {
    let machine = Machine::new("init hang\n");
    let mut run = machine.run();
    let result = run.measure();
    assert_eq!(failure(&result), "NVML is still being opened");
    assert!(matches!(run.measure(), Err(SourceError::Refused { .. })));
}

#[test]
fn libraries_that_are_not_what_they_should_be_are_named() {
    let says = |machine: &Machine, what: &str| {
        let mut run = machine.run();
        run.until(what, |result, _| failure(result).contains(what));
    };
    let machine = Machine::new("");
    machine.library.of_another_machine().unwrap();
    says(&machine, "cannot open shared object file");
    let machine = Machine::new("");
    std::fs::remove_file(machine.library.path()).unwrap();
    says(&machine, "No such file");
    machine.write("libnvidia-ml.so.1", "no library\n");
    says(&machine, "libnvidia-ml.so.1: file too short");
    let machine = Machine::new("");
    machine.library.without(&["nvmlInit_v2"]).unwrap();
    says(&machine, "nvmlInit_v2");
    // NVML_ERROR_LIB_RM_VERSION_MISMATCH: updated without a reboot. NVML_ERROR_DRIVER_NOT_LOADED: none that runs.
    says(&Machine::new("init 18\n"), "mismatch");
    let machine = Machine::new("init 9\n");
    let mut run = machine.run();
    run.until("absent", |result, _| matches!(result, Err(SourceError::Absent { why }) if why.contains("not loaded")));
}

#[test]
fn what_an_old_driver_does_not_have_costs_nothing_else() {
    let machine = Machine::new("gpus 2\ndriver 450.80.02\nprocess 1 C 77 5\n");
    let missing = [
        "nvmlDeviceGetRemappedRows",
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetGpuFabricInfo",
        "nvmlDeviceGetFieldValues",
        "nvmlEventSetCreate",
        "nvmlDeviceGetPowerUsage",
    ];
    machine.library.without(&missing).unwrap();
    let mut run = machine.run();
    run.until_it_answers();
    assert_eq!(run.out.gaps(), &[], "that a driver is old is no gap");
    assert_eq!((run.value("DCGM_FI_DEV_POWER_USAGE", "1"), run.value("DCGM_FI_DEV_GPU_TEMP", "1")), (None, Some(41)));
    assert_eq!(run.value("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "1"), Some(1), "by its older name");
    assert_eq!(
        run.out
            .find("casefile_gpu_process_memory_bytes", &["1", "GPU-00000001-aaaa-bbbb-cccc-0123456789ab", "77", "C"]),
        Some(5)
    );
    let host = machine.host();
    let table = table("gpus", &host);
    assert!(table.0.contains("\"not_offered\":[") && table.0.contains("nvmlDeviceGetRemappedRows"), "{}", table.0);
}

#[test]
fn answers_that_are_none_are_gaps_and_large_ones_are_kept_as_they_are() {
    let machine = Machine::new(
        "value nvmlDeviceGetPowerUsage 0 4294967295\nvalue field:186 0 nan\nvalue nvmlDeviceGetTemperature 0 1000\n\
         value nvmlDeviceGetTotalEnergyConsumption 0 18446744073709551615\nerror nvmlDeviceGetMemoryInfo_v2 1 999\n\
         error nvmlDeviceGetClockInfo 1 999\nerror nvmlDeviceGetEccMode 1 4\nerror nvmlDeviceGetFanSpeed_v2 1 3\n\
         error nvmlDeviceGetTemperatureThreshold 1 2\nerror nvmlDeviceGetPowerUsage 1 2\n",
    );
    let mut run = machine.run();
    run.until_it_answers();
    assert_eq!(run.value("DCGM_FI_DEV_POWER_USAGE", "0"), None);
    assert_eq!(run.value("DCGM_FI_DEV_POWER_USAGE_INSTANT", "0"), None);
    assert_eq!(run.value("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "0"), None);
    assert_eq!(run.value("DCGM_FI_DEV_GPU_TEMP", "0"), Some(1000));
    assert_eq!(run.gap("nvmlDeviceGetPowerUsage: it answered 4294967295"), Some(GapReason::ParseFailed));
    assert_eq!(run.gap("field 186: it answered NaN"), Some(GapReason::ParseFailed));
    // NVML_ERROR_UNKNOWN of several calls is one gap; NVML_ERROR_NOT_SUPPORTED is none.
    assert_eq!(
        run.gap("nvmlDeviceGetMemoryInfo_v2 and 3 more calls: an internal driver error"),
        Some(GapReason::SourceFailed)
    );
    assert_eq!(run.gap("nvmlDeviceGetEccMode"), Some(GapReason::PermissionDenied));
    assert!(run.gap("nvmlDeviceGetFanSpeed").is_none());
    // NVML_ERROR_INVALID_ARGUMENT: of a kind of threshold it means that the driver is older; of power it means trouble.
    assert!(run.gap("nvmlDeviceGetTemperatureThreshold").is_none());
    assert_eq!(run.gap("nvmlDeviceGetPowerUsage: a supplied argument was invalid"), Some(GapReason::SourceFailed));
    assert_eq!((run.value("DCGM_FI_DEV_FB_USED", "1"), run.value("DCGM_FI_DEV_FB_USED", "0")), (None, Some(1 << 30)));
}

#[test]
fn a_driver_that_is_loaded_anew_is_opened_anew() {
    let machine = Machine::new("gpus 2\n");
    let mut run = machine.run();
    run.until_it_answers();
    // NVML_ERROR_UNINITIALIZED
    machine.library.script("error nvmlDeviceGetCount_v2 * 1\n").unwrap();
    let result = run.measure();
    assert!(failure(&result).contains("nvmlDeviceGetCount_v2"), "{result:?}");
    machine.library.script("gpus 3\ndriver 580.1\n").unwrap();
    run.until_it_answers();
    assert_eq!(run.out.find("casefile_gpu_devices", &["nvml"]), Some(3));
    assert_eq!(run.out.find("casefile_gpu_driver_info", &["580.1", "12.570.86.15", "12.8"]), Some(1));
}

#[test]
fn two_xids_within_a_second_are_two_events() {
    let machine = Machine::new("gpus 4\n");
    let mut run = machine.run();
    run.until_it_answers();
    machine.library.script("gpus 4\nevent 3 62\nevent 3 45\n").unwrap();
    let mut heard = Vec::new();
    let began = Instant::now();
    while heard.len() < 2 && began.elapsed() < PATIENCE {
        run.measure().unwrap();
        heard.extend(run.told());
    }
    let told: Vec<_> = heard.iter().map(|(pci, xid, _)| (pci.as_str(), *xid)).collect();
    assert_eq!(told, [("0000:83:00.0", Some(62)), ("0000:83:00.0", Some(45))]);
    assert!(heard[0].2.starts_with("NVML reports Xid 62 of GPU 3"), "{heard:?}");
}

#[test]
fn a_machine_without_a_driver_has_no_such_source_and_says_why() {
    let absent = |host: &Host| match (SPEC.open)(host) {
        Ok(Opened::Absent { why }) => why,
        _ => panic!("it opened"),
    };
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(absent(&Host::new(dir.path()).unwrap()), "the GPUs of a machine that is not running here");
    if !Path::new("/proc/driver/nvidia").exists() {
        assert!(absent(&Host::new(Path::new("/")).unwrap()).contains("no driver"));
    }
}

#[test]
fn a_write_that_fails_ends_every_table() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let machine = Machine::new("gpus 1\nprocess 0 C 1 1\n");
    let host = machine.host();
    for spec in state::ALL.iter().filter(|spec| spec.name.starts_with("gpu")) {
        assert_eq!(
            (spec.write)(&host, &mut Full).unwrap_err().kind(),
            std::io::ErrorKind::StorageFull,
            "{}",
            spec.name
        );
    }
}

/// A table of a collection: its text, and its gaps as text.
fn table(name: &str, host: &Host) -> (String, String) {
    let spec = state::ALL.iter().find(|spec| spec.name == name).unwrap();
    let mut out = Vec::new();
    let table = (spec.write)(host, &mut out).unwrap();
    (String::from_utf8(out).unwrap(), format!("{:?}", table.gaps))
}

#[test]
fn the_tables_of_a_collection_say_the_same_with_a_source_that_runs_and_without() {
    let machine = Machine::new("gpus 2\nprocess 1 C 4711 1073741824\nvalue nvmlDeviceGetUtilizationRates * 50\n");
    machine.process(4711, "py\u{1b}[31mthon", &format!("/kubepods/pod{POD}/{}", "1".repeat(64)));
    let alone = machine.host();
    let with = machine.host();
    let mut run = Run::on(&with);
    run.until_it_answers();
    (0..3).for_each(|_| run.measure().unwrap());
    for host in [&alone, &with] {
        let (gpus, gaps) = table("gpus", host);
        let rows: Vec<serde_json::Value> = gpus.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((rows.len(), gaps.as_str(), &rows[0]["driver_version"]), (3, "[]", &"570.86.15".into()));
        assert_eq!((&rows[2]["gpu"], &rows[2]["values"]["DCGM_FI_DEV_GPU_UTIL"]), (&1.into(), &50.0.into()));
        assert_eq!(
            (&rows[2]["values"]["DCGM_FI_DEV_SHUTDOWN_TEMP"], &rows[2]["serial"]),
            (&92.0.into(), &"1650000000001".into())
        );
        let (processes, _) = table("gpu-processes", host);
        let row: serde_json::Value = serde_json::from_str(&processes).unwrap();
        assert_eq!(
            (&row["pid"], &row["pod_uid"], &row["memory_bytes"]),
            (&4711.into(), &POD.into(), &(1_u64 << 30).into())
        );
        let (report, _) = table("gpu-report", host);
        assert!(report.contains("GPU 1 at 0000:81:00.0") && !report.contains('\u{1b}'), "{report}");
        assert!(report.contains(&format!("1024 MiB, pod {POD}")), "{report}");
    }
}

#[test]
fn a_collection_while_nvml_hangs_starts_no_second_child() {
    let machine = Machine::new("gpus 2\nhang nvmlDeviceGetTemperature *\n");
    let host = machine.host();
    let mut run = Run::on(&host);
    run.until("it hangs", |result, _| matches!(result, Err(SourceError::Stalled { .. })));
    let began = Instant::now();
    for name in ["gpus", "gpu-processes", "gpu-report"] {
        let (text, gaps) = table(name, &host);
        assert!(
            text.is_empty() && gaps.contains("TimedOut") && gaps.contains("nvmlDeviceGetTemperature of GPU 0"),
            "{gaps}"
        );
    }
    assert!(began.elapsed() < Duration::from_secs(1));
}
