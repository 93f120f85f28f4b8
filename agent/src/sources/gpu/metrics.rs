//! The metrics of the `gpu` source: DCGM's names, in DCGM's units and with the labels that dcgm-exporter gives them, so
//! that dashboards which know them work on an archive; `casefile_gpu_…` for what DCGM has no name for.
//!
//! A value is a bit mask or a code where its help says so; NVML's header `nvml.h` has the meanings.

use casefile_proto::sample::MetricSpec;
use casefile_proto::units::{Scale, Unit};

use crate::sources::spec::{counter, gauge, info, level};

/// Which GPU: NVML's index, UUID, PCI address as NVML writes it, device node, product.
const OF: &[&str] = &["gpu", "UUID", "pci_bus_id", "device", "modelName"];
const LINK: &[&str] = &["gpu", "UUID", "pci_bus_id", "device", "modelName", "link"];

const fn percent(name: &'static str, help: &'static str) -> MetricSpec {
    gauge(name, help, Unit::Percent, Scale::ONE, OF)
}

/// Bytes, as NVML counts, told in MiB.
const fn mebibytes(name: &'static str, help: &'static str) -> MetricSpec {
    gauge(name, help, Unit::Mebibytes, Scale::per(1 << 20), OF)
}

const fn megahertz(name: &'static str, help: &'static str) -> MetricSpec {
    gauge(name, help, Unit::Megahertz, Scale::ONE, OF)
}

/// Milliwatts, as NVML counts, told in watts.
const fn watts(name: &'static str, help: &'static str) -> MetricSpec {
    gauge(name, help, Unit::Watts, Scale::MILLI, OF)
}

const fn celsius(name: &'static str, help: &'static str) -> MetricSpec {
    gauge(name, help, Unit::Celsius, Scale::ONE, OF)
}

const fn code(name: &'static str, help: &'static str) -> MetricSpec {
    gauge(name, help, Unit::Code, Scale::ONE, OF)
}

const fn count(name: &'static str, help: &'static str) -> MetricSpec {
    counter(name, help, Unit::Count, Scale::ONE, OF)
}

const fn link_errors(name: &'static str, help: &'static str) -> MetricSpec {
    counter(name, help, Unit::Count, Scale::ONE, LINK)
}

const fn nanos(name: &'static str, help: &'static str) -> MetricSpec {
    counter(name, help, Unit::Seconds, Scale::NANO, OF)
}

pub(super) static METRICS: [MetricSpec; 92] = [
    // Which GPUs there are, and whether they answer.
    code(
        "casefile_gpu_state",
        "1 answers, 2 lost: NVML says that it fell off the bus, 3 needs a reset, 4 vanished: NVML does not list it any more, 5 on the PCI bus and not listed by NVML, 6 listed by NVML, which gives no handle to it",
    ),
    level(
        "casefile_gpu_devices",
        "how many GPUs are seen by nvml, on the pci bus (/sys/bus/pci), by the driver (/proc/driver/nvidia/gpus), and were seen by nvml in the last_boot",
        &["seen_by"],
    ),
    info(
        "casefile_gpu_driver_info",
        "versions of driver, NVML and CUDA (nvmlSystemGet…Version)",
        &["driver_version", "nvml_version", "cuda_version"],
    ),
    info(
        "casefile_gpu_info",
        "what the GPU is (nvmlDeviceGetVbiosVersion, GetSerial, GetBoardPartNumber)",
        &["gpu", "UUID", "pci_bus_id", "device", "modelName", "vbios_version", "serial", "board_part_number"],
    ),
    info(
        "casefile_gpu_mig_info",
        "one for each MIG device (nvmlDeviceGetMigDeviceHandleByIndex)",
        &["gpu", "UUID", "pci_bus_id", "device", "modelName", "mig_uuid", "mig_name"],
    ),
    gauge(
        "casefile_gpu_mig_memory_used_bytes",
        "memory in use in a MIG device (nvmlDeviceGetMemoryInfo_v2)",
        Unit::Bytes,
        Scale::ONE,
        &["gpu", "UUID", "mig_uuid"],
    ),
    gauge(
        "casefile_gpu_mig_memory_total_bytes",
        "memory of a MIG device (nvmlDeviceGetMemoryInfo_v2)",
        Unit::Bytes,
        Scale::ONE,
        &["gpu", "UUID", "mig_uuid"],
    ),
    // Who uses them.
    info(
        "casefile_gpu_process_info",
        "one for each process that holds a context on the GPU: type C compute or G graphics; name and cgroup from /proc, at most 10 s old; pod and container from the cgroup; empty where the process is in none or is gone",
        &["gpu", "UUID", "pid", "type", "comm", "cgroup", "pod_uid", "container_id"],
    ),
    gauge(
        "casefile_gpu_process_memory_bytes",
        "memory of the GPU that a process holds (nvmlDeviceGet…RunningProcesses)",
        Unit::Bytes,
        Scale::ONE,
        &["gpu", "UUID", "pid", "type"],
    ),
    // What they do.
    percent("DCGM_FI_DEV_GPU_UTIL", "time in which a kernel ran (nvmlDeviceGetUtilizationRates)"),
    percent("DCGM_FI_DEV_MEM_COPY_UTIL", "time in which memory was read or written (nvmlDeviceGetUtilizationRates)"),
    percent("DCGM_FI_DEV_ENC_UTIL", "use of the video encoder (nvmlDeviceGetEncoderUtilization)"),
    percent("DCGM_FI_DEV_DEC_UTIL", "use of the video decoder (nvmlDeviceGetDecoderUtilization)"),
    mebibytes("DCGM_FI_DEV_FB_TOTAL", "framebuffer, all of it (nvmlDeviceGetMemoryInfo_v2)"),
    mebibytes("DCGM_FI_DEV_FB_USED", "framebuffer in use (nvmlDeviceGetMemoryInfo_v2)"),
    mebibytes("DCGM_FI_DEV_FB_FREE", "framebuffer free (nvmlDeviceGetMemoryInfo_v2)"),
    mebibytes("DCGM_FI_DEV_FB_RESERVED", "framebuffer kept by driver and firmware (nvmlDeviceGetMemoryInfo_v2)"),
    // How fast, and what holds them back.
    megahertz("DCGM_FI_DEV_SM_CLOCK", "clock of the multiprocessors (nvmlDeviceGetClockInfo)"),
    megahertz("DCGM_FI_DEV_MEM_CLOCK", "clock of the memory (nvmlDeviceGetClockInfo)"),
    megahertz("DCGM_FI_DEV_VIDEO_CLOCK", "clock of encoder and decoder (nvmlDeviceGetClockInfo)"),
    megahertz("DCGM_FI_DEV_MAX_SM_CLOCK", "highest clock of the multiprocessors (nvmlDeviceGetMaxClockInfo)"),
    megahertz("DCGM_FI_DEV_MAX_MEM_CLOCK", "highest clock of the memory (nvmlDeviceGetMaxClockInfo)"),
    megahertz("DCGM_FI_DEV_MAX_VIDEO_CLOCK", "highest clock of encoder and decoder (nvmlDeviceGetMaxClockInfo)"),
    code(
        "DCGM_FI_DEV_CLOCKS_EVENT_REASONS",
        "bits nvmlClocksEventReason…: 1 idle, 2 application clocks, 4 software power cap, 8 hardware slowdown, 16 sync boost, 32 software thermal, 64 hardware thermal, 128 hardware power brake, 256 display clocks (nvmlDeviceGetCurrentClocksEventReasons)",
    ),
    nanos("DCGM_FI_DEV_POWER_VIOLATION", "time below the wanted clocks for power (nvmlDeviceGetViolationStatus)"),
    nanos("DCGM_FI_DEV_THERMAL_VIOLATION", "time below the wanted clocks for heat (nvmlDeviceGetViolationStatus)"),
    code("DCGM_FI_DEV_PSTATE", "performance state, 0 is the highest (nvmlDeviceGetPerformanceState)"),
    // Power and heat.
    watts("DCGM_FI_DEV_POWER_USAGE", "power drawn, averaged by the driver over a second (nvmlDeviceGetPowerUsage)"),
    watts("DCGM_FI_DEV_POWER_USAGE_INSTANT", "power drawn at the instant (field 186)"),
    watts(
        "DCGM_FI_DEV_ENFORCED_POWER_LIMIT",
        "power limit in force, of all that limit (nvmlDeviceGetEnforcedPowerLimit)",
    ),
    watts("DCGM_FI_DEV_POWER_MGMT_LIMIT", "power limit as set (nvmlDeviceGetPowerManagementLimit)"),
    watts("DCGM_FI_DEV_POWER_MGMT_LIMIT_DEF", "power limit by default (nvmlDeviceGetPowerManagementDefaultLimit)"),
    watts("DCGM_FI_DEV_POWER_MGMT_LIMIT_MIN", "lowest power limit (nvmlDeviceGetPowerManagementLimitConstraints)"),
    watts("DCGM_FI_DEV_POWER_MGMT_LIMIT_MAX", "highest power limit (nvmlDeviceGetPowerManagementLimitConstraints)"),
    counter(
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "energy since the driver was loaded (nvmlDeviceGetTotalEnergyConsumption)",
        Unit::Millijoules,
        Scale::ONE,
        OF,
    ),
    celsius("DCGM_FI_DEV_GPU_TEMP", "temperature of the GPU (nvmlDeviceGetTemperature)"),
    celsius("DCGM_FI_DEV_MEMORY_TEMP", "temperature of the memory (field 82)"),
    celsius("DCGM_FI_DEV_GPU_TEMP_LIMIT", "how far it is from slowing down for heat (nvmlDeviceGetMarginTemperature)"),
    celsius("DCGM_FI_DEV_SLOWDOWN_TEMP", "where the hardware slows down (nvmlDeviceGetTemperatureThreshold)"),
    celsius("DCGM_FI_DEV_SHUTDOWN_TEMP", "where it shuts down (nvmlDeviceGetTemperatureThreshold)"),
    celsius("DCGM_FI_DEV_GPU_MAX_OP_TEMP", "highest operating temperature (nvmlDeviceGetTemperatureThreshold)"),
    celsius(
        "DCGM_FI_DEV_MEM_MAX_OP_TEMP",
        "highest operating temperature of memory (nvmlDeviceGetTemperatureThreshold)",
    ),
    percent("DCGM_FI_DEV_FAN_SPEED", "fan, of its full speed; above 100 in some cases (nvmlDeviceGetFanSpeed_v2)"),
    // Memory errors.
    code("DCGM_FI_DEV_ECC_CURRENT", "1 if ECC is on (nvmlDeviceGetEccMode)"),
    code("DCGM_FI_DEV_ECC_PENDING", "1 if ECC will be on after the next reboot (nvmlDeviceGetEccMode)"),
    count(
        "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL",
        "corrected errors since the driver was loaded (nvmlDeviceGetTotalEccErrors)",
    ),
    count(
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
        "uncorrected errors since the driver was loaded (nvmlDeviceGetTotalEccErrors)",
    ),
    count("DCGM_FI_DEV_ECC_SBE_AGG_TOTAL", "corrected errors in its life (nvmlDeviceGetTotalEccErrors)"),
    count("DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", "uncorrected errors in its life (nvmlDeviceGetTotalEccErrors)"),
    count("DCGM_FI_DEV_ECC_SBE_VOL_DEV", "of these corrected, volatile: in DRAM (nvmlDeviceGetMemoryErrorCounter)"),
    count("DCGM_FI_DEV_ECC_DBE_VOL_DEV", "of these uncorrected, volatile: in DRAM (nvmlDeviceGetMemoryErrorCounter)"),
    count("DCGM_FI_DEV_ECC_SBE_AGG_DEV", "of these corrected, in its life: in DRAM (nvmlDeviceGetMemoryErrorCounter)"),
    count(
        "DCGM_FI_DEV_ECC_DBE_AGG_DEV",
        "of these uncorrected, in its life: in DRAM (nvmlDeviceGetMemoryErrorCounter)",
    ),
    count("DCGM_FI_DEV_ECC_SBE_VOL_SRM", "of these corrected, volatile: in SRAM (nvmlDeviceGetMemoryErrorCounter)"),
    count("DCGM_FI_DEV_ECC_DBE_VOL_SRM", "of these uncorrected, volatile: in SRAM (nvmlDeviceGetMemoryErrorCounter)"),
    count("DCGM_FI_DEV_ECC_SBE_AGG_SRM", "of these corrected, in its life: in SRAM (nvmlDeviceGetMemoryErrorCounter)"),
    count(
        "DCGM_FI_DEV_ECC_DBE_AGG_SRM",
        "of these uncorrected, in its life: in SRAM (nvmlDeviceGetMemoryErrorCounter)",
    ),
    code("DCGM_FI_DEV_THRESHOLD_SRM", "1 if SRAM errors passed what is allowed (nvmlDeviceGetSramEccErrorStatus)"),
    count("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "rows remapped for corrected errors (nvmlDeviceGetRemappedRows)"),
    count(
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
        "rows remapped for uncorrected errors (nvmlDeviceGetRemappedRows)",
    ),
    code("DCGM_FI_DEV_ROW_REMAP_PENDING", "1 if a remapping waits for a reset (nvmlDeviceGetRemappedRows)"),
    code("DCGM_FI_DEV_ROW_REMAP_FAILURE", "1 if a remapping has failed (nvmlDeviceGetRemappedRows)"),
    count("DCGM_FI_DEV_RETIRED_SBE", "pages retired for corrected errors, before Ampere (field 29)"),
    count("DCGM_FI_DEV_RETIRED_DBE", "pages retired for uncorrected errors, before Ampere (field 30)"),
    code("DCGM_FI_DEV_RETIRED_PENDING", "1 if pages wait for a reboot to be retired (field 31)"),
    // PCIe and NVLink.
    code(
        "DCGM_FI_DEV_PCIE_LINK_GEN",
        "generation of the PCIe link now; lower when idle (nvmlDeviceGetCurrPcieLinkGeneration)",
    ),
    code("DCGM_FI_DEV_PCIE_LINK_WIDTH", "lanes of the PCIe link now (nvmlDeviceGetCurrPcieLinkWidth)"),
    code("DCGM_FI_DEV_PCIE_MAX_LINK_GEN", "highest generation in this slot (nvmlDeviceGetMaxPcieLinkGeneration)"),
    code("DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH", "most lanes in this slot (nvmlDeviceGetMaxPcieLinkWidth)"),
    count("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "packets sent again (nvmlDeviceGetPcieReplayCounter)"),
    gauge(
        "DCGM_FI_DEV_PCIE_TX_THROUGHPUT",
        "KiB a second out of the GPU over 20 ms; one GPU is asked at a tick, in turn (nvmlDeviceGetPcieThroughput)",
        Unit::Count,
        Scale::ONE,
        OF,
    ),
    gauge(
        "DCGM_FI_DEV_PCIE_RX_THROUGHPUT",
        "KiB a second into the GPU over 20 ms; one GPU is asked at a tick, in turn (nvmlDeviceGetPcieThroughput)",
        Unit::Count,
        Scale::ONE,
        OF,
    ),
    count("DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", "CRC errors of flow control, all links (field 38)"),
    count("DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL", "CRC errors of data, all links (field 45)"),
    count("DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL", "packets sent again, all links (field 52)"),
    count("DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL", "recoveries of links, all links (field 59)"),
    gauge(
        "casefile_gpu_nvlink_up",
        "1 if this link is up, 0 if it is there and down (nvmlDeviceGetNvLinkState)",
        Unit::Code,
        Scale::ONE,
        LINK,
    ),
    link_errors(
        "casefile_gpu_nvlink_crc_flit_errors_total",
        "CRC errors of flow control of this link, up to NVLink 4 (nvmlDeviceGetNvLinkErrorCounter)",
    ),
    link_errors(
        "casefile_gpu_nvlink_crc_data_errors_total",
        "CRC errors of data of this link, up to NVLink 4 (nvmlDeviceGetNvLinkErrorCounter)",
    ),
    link_errors(
        "casefile_gpu_nvlink_replay_errors_total",
        "packets of this link sent again, up to NVLink 4 (nvmlDeviceGetNvLinkErrorCounter)",
    ),
    link_errors(
        "casefile_gpu_nvlink_recovery_errors_total",
        "recoveries of this link, up to NVLink 4 (nvmlDeviceGetNvLinkErrorCounter)",
    ),
    link_errors(
        "casefile_gpu_nvlink_receive_errors_total",
        "errors of packets that this link received, NVLink 5 (field 208)",
    ),
    link_errors(
        "casefile_gpu_nvlink_integrity_errors_total",
        "errors of the integrity of this link, NVLink 5 (field 211)",
    ),
    link_errors("casefile_gpu_nvlink_recoveries_total", "recoveries of this link that succeeded, NVLink 5 (field 213)"),
    link_errors(
        "casefile_gpu_nvlink_recoveries_failed_total",
        "recoveries of this link that failed, NVLink 5 (field 214)",
    ),
    link_errors("casefile_gpu_nvlink_symbol_errors_total", "symbol errors of this link, NVLink 5 (field 221)"),
    // How it is set up.
    code("DCGM_FI_DEV_PERSISTENCE_MODE", "1 if the driver stays loaded without users (nvmlDeviceGetPersistenceMode)"),
    code("DCGM_FI_DEV_COMPUTE_MODE", "0 shared, 1 one thread, 2 prohibited, 3 one process (nvmlDeviceGetComputeMode)"),
    code("DCGM_FI_DEV_MIG_MODE", "1 if it is split into MIG devices (nvmlDeviceGetMigMode)"),
    code(
        "casefile_gpu_fabric_state",
        "registration with the NVLink fabric: 1 not started, 2 in progress, 3 completed (nvmlDeviceGetGpuFabricInfo)",
    ),
    code(
        "casefile_gpu_fabric_status",
        "how the registration with the NVLink fabric ended, as nvmlReturn_t: 0 is success (nvmlDeviceGetGpuFabricInfo)",
    ),
    code(
        "casefile_gpu_recovery_action",
        "what the driver asks for: 0 nothing, 1 reset the GPU, 2 reboot the node, 3 drain P2P, 4 drain and reset (field 230)",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_stands_twice() {
        let mut names: Vec<_> = METRICS.iter().map(|m| m.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
    }
}
