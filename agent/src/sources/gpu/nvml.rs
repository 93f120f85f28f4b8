//! What is asked of NVML, through `nvml-wrapper` (and `raw` for what that does not wrap). Runs in the child only: any of
//! these calls may never return.
//!
//! A GPU is asked call by call, and each call fails for itself: one that this GPU or this driver does not have is left out
//! and tried again at the next slow pass. What was not read is not there; nothing stands in for it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use nvml_wrapper::enum_wrappers::device::{
    Clock, EccCounter, MemoryError, MemoryLocation, PcieUtilCounter, PerformancePolicy, TemperatureSensor,
    TemperatureThreshold,
};
use nvml_wrapper::enum_wrappers::nv_link::ErrorCounter;
use nvml_wrapper::enums::device::{SampleValue, UsedGpuMemory};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id;
use nvml_wrapper::{Device, Nvml, cuda_driver_version_major, cuda_driver_version_minor};

use super::child::Watch;
use super::raw;
use super::said::{Description, Failed, Gpu, Identity, Mig, Process, Snapshot, State, Versions, Why, place};

/// More than any machine has; NVML's own number is not believed beyond this.
const MAX_GPUS: u32 = 64;

/// Processes of one GPU that are told.
const MAX_PROCESSES: usize = 4096;

/// Links of one GPU: NVLink 5 has 18.
const MAX_LINKS: u32 = 18;

/// Passes between two readings of what changes seldom.
const SLOW: u64 = 10;

/// How a call went wrong.
enum Fault {
    Nvml(NvmlError),
    /// NVML said that all is well, and gave this.
    Absurd(String),
}

impl From<NvmlError> for Fault {
    fn from(error: NvmlError) -> Self {
        Self::Nvml(error)
    }
}

/// When a call is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// At every pass.
    Always,
    /// At every tenth: limits and settings, and what costs much.
    Slowly,
    /// At every pass, of one GPU: it takes 20 ms.
    InTurn,
}

/// One question.
struct Call {
    name: &'static str,
    when: When,
    ask: fn(&Device<'_>, &mut Gpu) -> Result<(), Fault>,
}

const fn always(name: &'static str, ask: fn(&Device<'_>, &mut Gpu) -> Result<(), Fault>) -> Call {
    Call { name, when: When::Always, ask }
}

const fn slowly(name: &'static str, ask: fn(&Device<'_>, &mut Gpu) -> Result<(), Fault>) -> Call {
    Call { name, when: When::Slowly, ask }
}

/// Every question, in the order in which it is asked. How to add one: a metric in `metrics`, a line here.
const CALLS: &[Call] = &[
    always("nvmlDeviceGetUtilizationRates", |d, out| {
        let rates = d.utilization_rates()?;
        put(out, place("DCGM_FI_DEV_GPU_UTIL"), rates.gpu)?;
        put(out, place("DCGM_FI_DEV_MEM_COPY_UTIL"), rates.memory)
    }),
    always("nvmlDeviceGetEncoderUtilization", |d, out| {
        put(out, place("DCGM_FI_DEV_ENC_UTIL"), d.encoder_utilization()?.utilization)
    }),
    always("nvmlDeviceGetDecoderUtilization", |d, out| {
        put(out, place("DCGM_FI_DEV_DEC_UTIL"), d.decoder_utilization()?.utilization)
    }),
    always("nvmlDeviceGetMemoryInfo_v2", |d, out| {
        let memory = d.memory_info()?;
        put(out, place("DCGM_FI_DEV_FB_TOTAL"), memory.total)?;
        put(out, place("DCGM_FI_DEV_FB_USED"), memory.used)?;
        put(out, place("DCGM_FI_DEV_FB_FREE"), memory.free)?;
        put(out, place("DCGM_FI_DEV_FB_RESERVED"), memory.reserved)
    }),
    always("nvmlDeviceGetClockInfo(SM)", |d, out| put(out, place("DCGM_FI_DEV_SM_CLOCK"), d.clock_info(Clock::SM)?)),
    always("nvmlDeviceGetClockInfo(MEM)", |d, out| {
        put(out, place("DCGM_FI_DEV_MEM_CLOCK"), d.clock_info(Clock::Memory)?)
    }),
    always("nvmlDeviceGetClockInfo(VIDEO)", |d, out| {
        put(out, place("DCGM_FI_DEV_VIDEO_CLOCK"), d.clock_info(Clock::Video)?)
    }),
    always("nvmlDeviceGetCurrentClocksEventReasons", |d, out| {
        put(out, place("DCGM_FI_DEV_CLOCKS_EVENT_REASONS"), raw::clocks_event_reasons(d)?)
    }),
    always("nvmlDeviceGetViolationStatus(POWER)", |d, out| {
        let time = d.violation_status(PerformancePolicy::Power)?.violation_time;
        put(out, place("DCGM_FI_DEV_POWER_VIOLATION"), time)
    }),
    always("nvmlDeviceGetViolationStatus(THERMAL)", |d, out| {
        let time = d.violation_status(PerformancePolicy::Thermal)?.violation_time;
        put(out, place("DCGM_FI_DEV_THERMAL_VIOLATION"), time)
    }),
    always("nvmlDeviceGetPerformanceState", |d, out| {
        put(out, place("DCGM_FI_DEV_PSTATE"), d.performance_state()?.as_c())
    }),
    always("nvmlDeviceGetPowerUsage", |d, out| put(out, place("DCGM_FI_DEV_POWER_USAGE"), d.power_usage()?)),
    always("nvmlDeviceGetEnforcedPowerLimit", |d, out| {
        put(out, place("DCGM_FI_DEV_ENFORCED_POWER_LIMIT"), d.enforced_power_limit()?)
    }),
    always("nvmlDeviceGetTotalEnergyConsumption", |d, out| {
        put(out, place("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"), d.total_energy_consumption()?)
    }),
    always("nvmlDeviceGetTemperature", |d, out| {
        put(out, place("DCGM_FI_DEV_GPU_TEMP"), d.temperature(TemperatureSensor::Gpu)?)
    }),
    always("nvmlDeviceGetMarginTemperature", |d, out| {
        out.values.push((place("DCGM_FI_DEV_GPU_TEMP_LIMIT"), i64::from(raw::margin_temperature(d)?)));
        Ok(())
    }),
    always("nvmlDeviceGetFanSpeed_v2", |d, out| put(out, place("DCGM_FI_DEV_FAN_SPEED"), d.fan_speed(0)?)),
    always("nvmlDeviceGetTotalEccErrors(volatile)", |d, out| {
        let total = |error| d.total_ecc_errors(error, EccCounter::Volatile);
        put(out, place("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL"), total(MemoryError::Corrected)?)?;
        put(out, place("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"), total(MemoryError::Uncorrected)?)
    }),
    always("nvmlDeviceGetTotalEccErrors(aggregate)", |d, out| {
        let total = |error| d.total_ecc_errors(error, EccCounter::Aggregate);
        put(out, place("DCGM_FI_DEV_ECC_SBE_AGG_TOTAL"), total(MemoryError::Corrected)?)?;
        put(out, place("DCGM_FI_DEV_ECC_DBE_AGG_TOTAL"), total(MemoryError::Uncorrected)?)
    }),
    slowly("nvmlDeviceGetMemoryErrorCounter(DRAM)", |d, out| {
        let count = |error, counter| d.memory_error_counter(error, counter, MemoryLocation::Device);
        put(out, place("DCGM_FI_DEV_ECC_SBE_VOL_DEV"), count(MemoryError::Corrected, EccCounter::Volatile)?)?;
        put(out, place("DCGM_FI_DEV_ECC_DBE_VOL_DEV"), count(MemoryError::Uncorrected, EccCounter::Volatile)?)?;
        put(out, place("DCGM_FI_DEV_ECC_SBE_AGG_DEV"), count(MemoryError::Corrected, EccCounter::Aggregate)?)?;
        put(out, place("DCGM_FI_DEV_ECC_DBE_AGG_DEV"), count(MemoryError::Uncorrected, EccCounter::Aggregate)?)
    }),
    slowly("nvmlDeviceGetMemoryErrorCounter(SRAM)", |d, out| {
        let count = |error, counter| d.memory_error_counter(error, counter, MemoryLocation::SRAM);
        put(out, place("DCGM_FI_DEV_ECC_SBE_VOL_SRM"), count(MemoryError::Corrected, EccCounter::Volatile)?)?;
        put(out, place("DCGM_FI_DEV_ECC_DBE_VOL_SRM"), count(MemoryError::Uncorrected, EccCounter::Volatile)?)?;
        put(out, place("DCGM_FI_DEV_ECC_SBE_AGG_SRM"), count(MemoryError::Corrected, EccCounter::Aggregate)?)?;
        put(out, place("DCGM_FI_DEV_ECC_DBE_AGG_SRM"), count(MemoryError::Uncorrected, EccCounter::Aggregate)?)
    }),
    slowly("nvmlDeviceGetSramEccErrorStatus", |d, out| {
        put(out, place("DCGM_FI_DEV_THRESHOLD_SRM"), u32::from(raw::sram_threshold_exceeded(d)?))
    }),
    always("nvmlDeviceGetRemappedRows", |d, out| {
        let rows = raw::remapped_rows(d)?;
        put(out, place("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS"), rows.correctable)?;
        put(out, place("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS"), rows.uncorrectable)?;
        put(out, place("DCGM_FI_DEV_ROW_REMAP_PENDING"), u32::from(rows.pending))?;
        put(out, place("DCGM_FI_DEV_ROW_REMAP_FAILURE"), u32::from(rows.failed))
    }),
    always("nvmlDeviceGetCurrPcieLinkGeneration", |d, out| {
        put(out, place("DCGM_FI_DEV_PCIE_LINK_GEN"), d.current_pcie_link_gen()?)
    }),
    always("nvmlDeviceGetCurrPcieLinkWidth", |d, out| {
        put(out, place("DCGM_FI_DEV_PCIE_LINK_WIDTH"), d.current_pcie_link_width()?)
    }),
    always("nvmlDeviceGetPcieReplayCounter", |d, out| {
        put(out, place("DCGM_FI_DEV_PCIE_REPLAY_COUNTER"), d.pcie_replay_counter()?)
    }),
    always("nvmlDeviceGetFieldValues", fields),
    always("nvmlDeviceGetComputeRunningProcesses", |d, out| {
        let listed = d.running_compute_processes().or_else(|error| match error {
            NvmlError::FailedToLoadSymbol(_) => d.running_compute_processes_v2(),
            error => Err(error),
        });
        processes(out, 'C', listed?);
        Ok(())
    }),
    always("nvmlDeviceGetGraphicsRunningProcesses", |d, out| {
        let listed = d.running_graphics_processes().or_else(|error| match error {
            NvmlError::FailedToLoadSymbol(_) => d.running_graphics_processes_v2(),
            error => Err(error),
        });
        processes(out, 'G', listed?);
        Ok(())
    }),
    always("nvmlDeviceGetMPSComputeRunningProcesses", |d, out| {
        processes(out, 'M', d.mps_running_compute_processes()?);
        Ok(())
    }),
    Call {
        name: "nvmlDeviceGetPcieThroughput",
        when: When::InTurn,
        ask: |d, out| {
            put(out, place("DCGM_FI_DEV_PCIE_TX_THROUGHPUT"), d.pcie_throughput(PcieUtilCounter::Send)?)?;
            put(out, place("DCGM_FI_DEV_PCIE_RX_THROUGHPUT"), d.pcie_throughput(PcieUtilCounter::Receive)?)
        },
    },
    slowly("nvmlDeviceGetMaxClockInfo(SM)", |d, out| {
        put(out, place("DCGM_FI_DEV_MAX_SM_CLOCK"), d.max_clock_info(Clock::SM)?)
    }),
    slowly("nvmlDeviceGetMaxClockInfo(MEM)", |d, out| {
        put(out, place("DCGM_FI_DEV_MAX_MEM_CLOCK"), d.max_clock_info(Clock::Memory)?)
    }),
    slowly("nvmlDeviceGetMaxClockInfo(VIDEO)", |d, out| {
        put(out, place("DCGM_FI_DEV_MAX_VIDEO_CLOCK"), d.max_clock_info(Clock::Video)?)
    }),
    slowly("nvmlDeviceGetPowerManagementLimit", |d, out| {
        put(out, place("DCGM_FI_DEV_POWER_MGMT_LIMIT"), d.power_management_limit()?)
    }),
    slowly("nvmlDeviceGetPowerManagementDefaultLimit", |d, out| {
        put(out, place("DCGM_FI_DEV_POWER_MGMT_LIMIT_DEF"), d.power_management_limit_default()?)
    }),
    slowly("nvmlDeviceGetPowerManagementLimitConstraints", |d, out| {
        let limits = d.power_management_limit_constraints()?;
        put(out, place("DCGM_FI_DEV_POWER_MGMT_LIMIT_MIN"), limits.min_limit)?;
        put(out, place("DCGM_FI_DEV_POWER_MGMT_LIMIT_MAX"), limits.max_limit)
    }),
    slowly("nvmlDeviceGetTemperatureThreshold(SLOWDOWN)", |d, out| {
        put(out, place("DCGM_FI_DEV_SLOWDOWN_TEMP"), d.temperature_threshold(TemperatureThreshold::Slowdown)?)
    }),
    slowly("nvmlDeviceGetTemperatureThreshold(SHUTDOWN)", |d, out| {
        put(out, place("DCGM_FI_DEV_SHUTDOWN_TEMP"), d.temperature_threshold(TemperatureThreshold::Shutdown)?)
    }),
    slowly("nvmlDeviceGetTemperatureThreshold(GPU_MAX)", |d, out| {
        put(out, place("DCGM_FI_DEV_GPU_MAX_OP_TEMP"), d.temperature_threshold(TemperatureThreshold::GpuMax)?)
    }),
    slowly("nvmlDeviceGetTemperatureThreshold(MEM_MAX)", |d, out| {
        put(out, place("DCGM_FI_DEV_MEM_MAX_OP_TEMP"), d.temperature_threshold(TemperatureThreshold::MemoryMax)?)
    }),
    slowly("nvmlDeviceGetEccMode", |d, out| {
        let ecc = d.is_ecc_enabled()?;
        put(out, place("DCGM_FI_DEV_ECC_CURRENT"), u32::from(ecc.currently_enabled))?;
        put(out, place("DCGM_FI_DEV_ECC_PENDING"), u32::from(ecc.pending_enabled))
    }),
    slowly("nvmlDeviceGetMaxPcieLinkGeneration", |d, out| {
        put(out, place("DCGM_FI_DEV_PCIE_MAX_LINK_GEN"), d.max_pcie_link_gen()?)
    }),
    slowly("nvmlDeviceGetMaxPcieLinkWidth", |d, out| {
        put(out, place("DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH"), d.max_pcie_link_width()?)
    }),
    slowly("nvmlDeviceGetPersistenceMode", |d, out| {
        put(out, place("DCGM_FI_DEV_PERSISTENCE_MODE"), u32::from(d.is_in_persistent_mode()?))
    }),
    slowly("nvmlDeviceGetComputeMode", |d, out| put(out, place("DCGM_FI_DEV_COMPUTE_MODE"), d.compute_mode()?.as_c())),
    slowly("nvmlDeviceGetGpuFabricInfo", |d, out| {
        let fabric = raw::fabric(d)?;
        // NVML_GPU_FABRIC_STATE_NOT_SUPPORTED: a GPU without one.
        if fabric.state != 0 {
            put(out, place("casefile_gpu_fabric_state"), fabric.state)?;
            // It means something only when the registration has ended.
            if fabric.state == 3 {
                put(out, place("casefile_gpu_fabric_status"), fabric.status)?;
            }
        }
        Ok(())
    }),
    slowly("nvmlDeviceGetNvLinkState", links),
    slowly("nvmlDeviceGetMigMode", mig),
    slowly("nvmlDeviceGetVbiosVersion", |d, out| {
        out.about.vbios = Some(d.vbios_version()?);
        Ok(())
    }),
    slowly("nvmlDeviceGetSerial", |d, out| {
        out.about.serial = Some(d.serial()?);
        Ok(())
    }),
    slowly("nvmlDeviceGetBoardPartNumber", |d, out| {
        out.about.part_number = Some(d.board_part_number()?);
        Ok(())
    }),
    slowly("nvmlDeviceGetArchitecture", |d, out| {
        out.about.architecture = Some(d.architecture()?.to_string());
        Ok(())
    }),
    slowly("nvmlDeviceGetGspFirmwareVersion", |d, out| {
        out.about.gsp_firmware = Some(d.gsp_firmware_version()?);
        Ok(())
    }),
];

/// What is had by number, in one call.
const FIELDS: [(u32, u16); 10] = [
    (field_id::NVML_FI_DEV_MEMORY_TEMP, place("DCGM_FI_DEV_MEMORY_TEMP")),
    (field_id::NVML_FI_DEV_POWER_INSTANT, place("DCGM_FI_DEV_POWER_USAGE_INSTANT")),
    (field_id::NVML_FI_DEV_RETIRED_SBE, place("DCGM_FI_DEV_RETIRED_SBE")),
    (field_id::NVML_FI_DEV_RETIRED_DBE, place("DCGM_FI_DEV_RETIRED_DBE")),
    (field_id::NVML_FI_DEV_RETIRED_PENDING, place("DCGM_FI_DEV_RETIRED_PENDING")),
    (field_id::NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL, place("DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL")),
    (field_id::NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL, place("DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL")),
    (field_id::NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL, place("DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL")),
    (field_id::NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL, place("DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL")),
    (field_id::NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, place("casefile_gpu_recovery_action")),
];

/// Takes a number in. All ones is how NVML says that there is none, whatever it returned.
fn put<N: AllOnes>(out: &mut Gpu, place: u16, value: N) -> Result<(), Fault> {
    let number: u64 = value.into();
    match i64::try_from(number) {
        Ok(fits) if value != N::ALL_ONES => {
            out.values.push((place, fits));
            Ok(())
        }
        _ => Err(Fault::Absurd(format!("it answered {number}, which is no value"))),
    }
}

/// Numbers of which NVML uses the one with every bit set for "not available".
trait AllOnes: Into<u64> + Copy + PartialEq {
    /// `NVML_VALUE_NOT_AVAILABLE`.
    const ALL_ONES: Self;
}

impl AllOnes for u32 {
    const ALL_ONES: Self = Self::MAX;
}

impl AllOnes for u64 {
    const ALL_ONES: Self = Self::MAX;
}

fn fields(device: &Device<'_>, out: &mut Gpu) -> Result<(), Fault> {
    let samples = device.field_values_for(&FIELDS.map(|(id, _)| FieldId(id)))?;
    let mut fault = None;
    for ((id, place), sample) in FIELDS.into_iter().zip(samples) {
        let result = match sample.and_then(|sample| sample.value) {
            Ok(SampleValue::U32(n)) => put(out, place, n),
            Ok(SampleValue::U64(n)) => put(out, place, n),
            Ok(SampleValue::I64(n)) => {
                out.values.push((place, n));
                Ok(())
            }
            Ok(SampleValue::F64(x)) => whole(x).map(|n| out.values.push((place, n))),
            Err(NvmlError::NotSupported | NvmlError::InvalidArg | NvmlError::FunctionNotFound) => Ok(()),
            Err(error) => Err(error.into()),
        };
        match result {
            Err(Fault::Nvml(error @ (NvmlError::GpuLost | NvmlError::ResetRequired))) => return Err(error.into()),
            Err(Fault::Nvml(error)) => fault = fault.or(Some(Fault::Absurd(format!("field {id}: {error}")))),
            Err(Fault::Absurd(what)) => fault = fault.or(Some(Fault::Absurd(format!("field {id}: {what}")))),
            Ok(()) => {}
        }
    }
    fault.map_or(Ok(()), Err)
}

/// None of the fields has fractions; a driver that answers with a double means a number.
#[expect(clippy::cast_possible_truncation, reason = "checked to be well within the range before")]
fn whole(x: f64) -> Result<i64, Fault> {
    if x.is_finite() && x.abs() < 9e15 {
        Ok(x.round() as i64)
    } else {
        Err(Fault::Absurd(format!("it answered {x}, which is no value")))
    }
}

fn processes(out: &mut Gpu, kind: char, listed: Vec<ProcessInfo>) {
    for process in listed {
        if out.processes.len() == MAX_PROCESSES {
            break;
        }
        let memory = match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        };
        // Memory of several MIG devices comes in several rows.
        match out.processes.iter_mut().find(|p| p.pid == process.pid && p.kind == kind) {
            Some(known) => known.memory = known.memory.zip(memory).map(|(a, b)| a.saturating_add(b)),
            None => out.processes.push(Process { pid: process.pid, kind, memory }),
        }
    }
}

/// Errors of a link up to NVLink 4, by counter.
const LINK_COUNTERS: [(ErrorCounter, u16); 4] = [
    (ErrorCounter::DlCrcFlit, place("casefile_gpu_nvlink_crc_flit_errors_total")),
    (ErrorCounter::DlCrcData, place("casefile_gpu_nvlink_crc_data_errors_total")),
    (ErrorCounter::DlReplay, place("casefile_gpu_nvlink_replay_errors_total")),
    (ErrorCounter::DlRecovery, place("casefile_gpu_nvlink_recovery_errors_total")),
];

/// Errors of a link of NVLink 5, by field.
const LINK_FIELDS: [(u32, u16); 5] = [
    (field_id::NVML_FI_DEV_NVLINK_COUNT_RCV_ERRORS, place("casefile_gpu_nvlink_receive_errors_total")),
    (
        field_id::NVML_FI_DEV_NVLINK_COUNT_LOCAL_LINK_INTEGRITY_ERRORS,
        place("casefile_gpu_nvlink_integrity_errors_total"),
    ),
    (field_id::NVML_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_SUCCESSFUL_EVENTS, place("casefile_gpu_nvlink_recoveries_total")),
    (
        field_id::NVML_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_FAILED_EVENTS,
        place("casefile_gpu_nvlink_recoveries_failed_total"),
    ),
    (field_id::NVML_FI_DEV_NVLINK_COUNT_SYMBOL_ERRORS, place("casefile_gpu_nvlink_symbol_errors_total")),
];

/// What a link that is up counts. A link has one kind of counters or the other; which, its driver says.
fn link_errors(device: &Device<'_>, link: u32, out: &mut Gpu) -> Result<(), Fault> {
    let number = u8::try_from(link).unwrap_or(u8::MAX);
    let mut take = |place: u16, counted: Result<u64, NvmlError>| match counted {
        Ok(count) => match i64::try_from(count) {
            Ok(count) => {
                out.links.push((number, place, count));
                Ok(())
            }
            Err(_) => Err(Fault::Absurd(format!("it answered {count}, which is no value"))),
        },
        Err(error @ (NvmlError::GpuLost | NvmlError::ResetRequired)) => Err(Fault::from(error)),
        Err(NvmlError::NotSupported | NvmlError::InvalidArg | NvmlError::FailedToLoadSymbol(_)) => Ok(()),
        Err(error) => Err(error.into()),
    };
    for (counter, place) in LINK_COUNTERS {
        take(place, device.link_wrapper_for(link).error_counter(counter))?;
    }
    let fields = match raw::fields_of_link(device, link, LINK_FIELDS.map(|(id, _)| id)) {
        Ok(fields) => fields,
        Err(error) => return take(0, Err(error)),
    };
    LINK_FIELDS.into_iter().zip(fields).try_for_each(|((_, place), counted)| take(place, counted))
}

fn links(device: &Device<'_>, out: &mut Gpu) -> Result<(), Fault> {
    for link in 0..MAX_LINKS {
        match device.link_wrapper_for(link).is_active() {
            Ok(up) => {
                let number = u8::try_from(link).unwrap_or(u8::MAX);
                out.links.push((number, place("casefile_gpu_nvlink_up"), i64::from(up)));
                if up {
                    link_errors(device, link, out)?;
                }
            }
            // Beyond the last one.
            Err(NvmlError::InvalidArg) if link > 0 => break,
            Err(NvmlError::NotSupported) if link > 0 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn mig(device: &Device<'_>, out: &mut Gpu) -> Result<(), Fault> {
    let mode = device.mig_mode()?;
    put(out, place("DCGM_FI_DEV_MIG_MODE"), mode.current)?;
    if mode.current == 0 {
        return Ok(());
    }
    // The number of places, not of devices: places may be empty.
    for index in 0..device.mig_device_count()?.min(MAX_GPUS) {
        let part = match device.mig_device_by_index(index) {
            Ok(part) => part,
            Err(NvmlError::NotFound | NvmlError::InvalidArg) => continue,
            Err(error) => return Err(error.into()),
        };
        let memory = match part.memory_info() {
            Ok(memory) => Some(memory),
            Err(NvmlError::NotSupported) => None,
            Err(error) => return Err(error.into()),
        };
        out.mig.push(Mig {
            uuid: part.uuid()?,
            name: part.name()?,
            memory_total: memory.as_ref().map(|m| m.total),
            memory_used: memory.as_ref().map(|m| m.used),
        });
    }
    Ok(())
}

/// Why NVML cannot be used.
pub(super) struct NotOpened {
    pub(super) why: String,
    /// Because this machine has no driver that runs, and not because something is wrong with it.
    pub(super) no_driver: bool,
}

/// Loads the first of these libraries that can be loaded, and begins.
pub(super) fn open(candidates: &[PathBuf]) -> Result<(Nvml, Versions), NotOpened> {
    let mut why = String::new();
    for path in candidates {
        match Nvml::builder().lib_path(path.as_os_str()).init() {
            Ok(nvml) => {
                let cuda = nvml.sys_cuda_driver_version().ok();
                let versions = Versions {
                    driver: nvml.sys_driver_version().ok(),
                    nvml: nvml.sys_nvml_version().ok(),
                    cuda: cuda.map(|v| format!("{}.{}", cuda_driver_version_major(v), cuda_driver_version_minor(v))),
                    library: path.display().to_string(),
                };
                return Ok((nvml, versions));
            }
            Err(NvmlError::LibloadingError(error)) => {
                if !why.is_empty() {
                    why.push_str("; ");
                }
                why.push_str(&error.to_string());
            }
            Err(error @ NvmlError::DriverNotLoaded) => {
                return Err(NotOpened { why: format!("{}: {error}", path.display()), no_driver: true });
            }
            Err(error) => {
                return Err(NotOpened { why: format!("{}: nvmlInit_v2: {error}", path.display()), no_driver: false });
            }
        }
    }
    Err(NotOpened { why: format!("the library of NVIDIA's driver cannot be loaded: {why}"), no_driver: false })
}

/// A GPU that NVML listed.
struct Known<'n> {
    device: Result<Device<'n>, NvmlError>,
    id: Identity,
    about: Description,
    /// By call: not to be made until the next slow pass.
    skip: Vec<bool>,
}

/// Asks NVML about all GPUs, again and again.
pub(super) struct Asker<'n> {
    nvml: &'n Nvml,
    watch: &'n Watch,
    known: Vec<Known<'n>>,
    not_offered: BTreeSet<String>,
    pass: u64,
}

impl<'n> Asker<'n> {
    pub(super) fn new(nvml: &'n Nvml, watch: &'n Watch) -> Self {
        Self { nvml, watch, known: Vec::new(), not_offered: BTreeSet::new(), pass: 0 }
    }

    /// One pass over all GPUs; an error where NVML as a whole has to be opened anew.
    pub(super) fn ask(&mut self) -> Result<Snapshot, String> {
        let broken = |error: NvmlError| format!("nvmlDeviceGetCount_v2: {error}");
        let count = self.watch.call(("nvmlDeviceGetCount_v2", None), || self.nvml.device_count());
        let count = count.map_err(broken)?.min(MAX_GPUS);
        let slow = self.pass.is_multiple_of(SLOW);
        if count as usize != self.known.len() || (slow && self.known.iter().any(|k| k.device.is_err())) {
            self.list(count);
        }
        let turn = self.pass as usize % self.known.len().max(1);
        let mut snapshot = Snapshot { slow, ..Snapshot::default() };
        for number in 0..self.known.len() {
            snapshot.gpus.push(self.one(number, slow, number == turn)?);
        }
        snapshot.not_offered = self.not_offered.iter().cloned().collect();
        self.pass += 1;
        Ok(snapshot)
    }

    /// Gets a handle for each; what was known of a GPU at the same index stays where it cannot be asked any more.
    fn list(&mut self, count: u32) {
        let mut before = std::mem::take(&mut self.known).into_iter();
        for index in 0..count {
            let old = before.next();
            let call = ("nvmlDeviceGetHandleByIndex_v2", Some(index));
            let device = self.watch.call(call, || self.nvml.device_by_index(index));
            let (mut id, about) = old.map(|k| (k.id, k.about)).unwrap_or_default();
            id.index = index;
            if let Ok(device) = &device {
                // Of a GPU that is lost some of it can still be had, and the rest is as it was.
                self.watch.call(("nvmlDeviceGetUUID and the like", Some(index)), || {
                    device.uuid().map(|uuid| id.uuid = uuid).ok();
                    device.pci_info().map(|pci| id.pci = pci.bus_id).ok();
                    device.name().map(|name| id.name = name).ok();
                    id.minor = device.minor_number().ok().or(id.minor);
                });
            }
            self.known.push(Known { device, id, about, skip: vec![false; CALLS.len()] });
        }
    }

    fn one(&mut self, number: usize, slow: bool, in_turn: bool) -> Result<Gpu, String> {
        let Some(known) = self.known.get_mut(number) else { return Ok(Gpu::default()) };
        let mut out = Gpu { id: known.id.clone(), about: known.about.clone(), ..Gpu::default() };
        let device = match &known.device {
            Ok(device) => device,
            Err(error) => {
                out.state = match error {
                    NvmlError::GpuLost => State::Lost,
                    NvmlError::ResetRequired => State::NeedsReset,
                    _ => State::NoHandle,
                };
                if out.state == State::NoHandle {
                    let call = "nvmlDeviceGetHandleByIndex_v2".to_owned();
                    out.failed.push(Failed { why: why(error), text: error.to_string(), call, more: 0 });
                }
                return Ok(out);
            }
        };
        let index = known.id.index;
        for (call, skip) in CALLS.iter().zip(&mut known.skip) {
            let due = match call.when {
                When::Always => true,
                When::Slowly => slow,
                When::InTurn => in_turn,
            };
            if !due || (*skip && !slow) {
                continue;
            }
            *skip = false;
            let values = out.values.len();
            let ended = self.watch.call((call.name, Some(index)), || (call.ask)(device, &mut out));
            let (why, text) = match ended {
                Ok(()) => continue,
                Err(Fault::Nvml(NvmlError::NotSupported | NvmlError::FunctionNotFound)) => {
                    *skip = true;
                    continue;
                }
                // What is asked for in brackets came with later drivers.
                Err(Fault::Nvml(NvmlError::InvalidArg)) if call.name.contains('(') => {
                    *skip = true;
                    self.not_offered.insert(call.name.to_owned());
                    continue;
                }
                Err(Fault::Nvml(NvmlError::FailedToLoadSymbol(_))) => {
                    *skip = true;
                    self.not_offered.insert(call.name.split('(').next().unwrap_or_default().to_owned());
                    continue;
                }
                Err(Fault::Nvml(NvmlError::GpuLost)) => {
                    // What it said just before is of a GPU that was there.
                    out.values.truncate(values);
                    out.state = State::Lost;
                    break;
                }
                Err(Fault::Nvml(NvmlError::ResetRequired)) => {
                    out.state = State::NeedsReset;
                    break;
                }
                Err(Fault::Nvml(
                    error @ (NvmlError::Uninitialized | NvmlError::DriverNotLoaded | NvmlError::LibRmVersionMismatch),
                )) => return Err(format!("{}: {error}", call.name)),
                Err(Fault::Nvml(error)) => (why(&error), error.to_string()),
                Err(Fault::Absurd(what)) => (Why::Absurd, what),
            };
            match out.failed.iter_mut().find(|f| f.why == why && f.text == text) {
                Some(known) => known.more += 1,
                None => out.failed.push(Failed { why, text, call: call.name.to_owned(), more: 0 }),
            }
        }
        known.about.clone_from(&out.about);
        Ok(out)
    }
}

fn why(error: &NvmlError) -> Why {
    match error {
        NvmlError::NoPermission => Why::Denied,
        NvmlError::Timeout => Why::TimedOut,
        NvmlError::Utf8Error(_) | NvmlError::UnexpectedVariant(_) | NvmlError::IncorrectBits(_) => Why::Absurd,
        _ => Why::Failed,
    }
}
