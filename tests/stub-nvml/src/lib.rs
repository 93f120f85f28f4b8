//! `libnvidia-ml.so.1` without a GPU: the functions that Casefile calls, with plausible answers that move with time, and
//! whatever a script asks for instead (`script.rs`).
//!
//! # Safety
//!
//! The functions have the signatures of NVIDIA's `nvml.h`, as `nvml-wrapper-sys` has them, and callers keep to it: what
//! they are to write to is valid for writing, or null where the header allows that.

#![expect(unsafe_code, reason = "a library with a C interface")]
#![expect(non_snake_case, reason = "the names are NVIDIA's")]
#![expect(clippy::missing_safety_doc, reason = "the head of this file has it for all")]
#![expect(missing_docs, reason = "NVIDIA's nvml.h says what each function is")]

mod copy;
mod script;

use std::ffi::{c_char, c_int, c_uint, c_ulonglong};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use copy::Copy;
use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlEccSramErrorStatus_t, nvmlEventData_t, nvmlEventSet_t, nvmlFieldValue_t, nvmlGpuFabricInfo_t,
    nvmlMarginTemperature_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlProcessInfo_t, nvmlReturn_t, nvmlUtilization_t,
    nvmlViolationTime_t,
};
use script::{Instead, Script};

const SUCCESS: nvmlReturn_t = 0;
const INVALID_ARGUMENT: nvmlReturn_t = 2;
const NOT_SUPPORTED: nvmlReturn_t = 3;
const NOT_FOUND: nvmlReturn_t = 6;
const INSUFFICIENT_SIZE: nvmlReturn_t = 7;
const TIMEOUT: nvmlReturn_t = 10;

/// Handles of MIG devices begin here; below are those of GPUs, by number and one.
const MIG: usize = 1 << 16;

static SCRIPT: Mutex<Option<Script>> = Mutex::new(None);
/// How many of the script's events were delivered.
static DELIVERED: Mutex<usize> = Mutex::new(0);
static NOTHING: Condvar = Condvar::new();

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks the script. Hundreds of calls a second do: nothing is copied.
fn script<T>(ask: impl FnOnce(&Script) -> T) -> T {
    ask(lock(&SCRIPT).get_or_insert_with(Script::load))
}

fn reload() {
    let script = Script::load();
    *lock(&SCRIPT) = Some(script);
}

fn number(device: nvmlDevice_t) -> u32 {
    let handle = device as usize;
    u32::try_from(if handle >= MIG { (handle - MIG) >> 8 } else { handle.saturating_sub(1) }).unwrap_or(0)
}

/// What is to be done instead of answering; a call that hangs is not left any more.
fn instead(call: &str, gpu: Option<u32>) -> Option<nvmlReturn_t> {
    match script(|script| script.instead(call, gpu))? {
        Instead::Return(code) => Some(code),
        Instead::Hang => {
            let never = Mutex::new(());
            let mut guard = lock(&never);
            loop {
                guard = NOTHING.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// What the script says, or else this.
fn value(call: &str, gpu: u32, otherwise: u64) -> u64 {
    // The script's numbers are small, or meant to be absurd.
    script(|script| script.value(call, gpu)).map_or(otherwise, |value| value as u64)
}

fn low(value: u64) -> c_uint {
    // A script that says 4294967295 means all ones.
    c_uint::try_from(value).unwrap_or(c_uint::MAX)
}

unsafe fn text(to: *mut c_char, length: c_uint, text: &str) -> nvmlReturn_t {
    if text.len() >= length as usize {
        return INSUFFICIENT_SIZE;
    }
    for (at, byte) in text.bytes().chain([0]).enumerate() {
        unsafe { to.add(at).write(byte.cast_signed()) };
    }
    SUCCESS
}

macro_rules! about_a_gpu {
    ($($name:ident($($arg:ident: $type:ty),*) |$device:ident, $gpu:ident| $body:expr;)*) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($device: nvmlDevice_t, $($arg: $type),*) -> nvmlReturn_t {
            let $gpu = number($device);
            if let Some(code) = instead(stringify!($name), Some($gpu)) {
                return code;
            }
            unsafe { $body }
        }
    )*};
}

/// Functions that give one number.
macro_rules! numbers {
    ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty, |$gpu:ident| $otherwise:expr;)*) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(device: nvmlDevice_t, $($arg: $type,)* out: *mut $out) -> nvmlReturn_t {
            let $gpu = number(device);
            if let Some(code) = instead(stringify!($name), Some($gpu)) {
                return code;
            }
            $(let _argument = $arg;)*
            let answer = value(stringify!($name), $gpu, u64::from($otherwise));
            unsafe { out.write(<$out>::try_from(answer).unwrap_or(<$out>::MAX)) };
            SUCCESS
        }
    )*};
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlInit_v2() -> nvmlReturn_t {
    reload();
    instead("nvmlInit_v2", None).unwrap_or(SUCCESS)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlShutdown() -> nvmlReturn_t {
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(to: *mut c_char, length: c_uint) -> nvmlReturn_t {
    let version = script(|script| script.driver.clone());
    unsafe { text(to, length, version.as_deref().unwrap_or("570.86.15")) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetNVMLVersion(to: *mut c_char, length: c_uint) -> nvmlReturn_t {
    unsafe { text(to, length, "12.570.86.15") }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: *mut c_int) -> nvmlReturn_t {
    unsafe { version.write(12_080) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> nvmlReturn_t {
    reload();
    if let Some(code) = instead("nvmlDeviceGetCount_v2", None) {
        return code;
    }
    unsafe { count.write(script(|script| listed(script).count()) as c_uint) };
    SUCCESS
}

fn listed(script: &Script) -> impl Iterator<Item = u32> {
    (0..script.gpus.unwrap_or(2)).filter(|gpu| !script.gone.contains(gpu))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut nvmlDevice_t) -> nvmlReturn_t {
    let Some(gpu) = script(|script| listed(script).nth(index as usize)) else { return INVALID_ARGUMENT };
    if let Some(code) = instead("nvmlDeviceGetHandleByIndex_v2", Some(gpu)) {
        return code;
    }
    unsafe { device.write((gpu as usize + 1) as nvmlDevice_t) };
    SUCCESS
}

/// A UUID that looks like one and says which GPU it is of.
fn uuid(device: nvmlDevice_t) -> String {
    let handle = device as usize;
    if handle >= MIG {
        return format!("MIG-{:08x}-0000-0000-0000-{:012x}", number(device), handle & 0xff);
    }
    format!("GPU-{:08x}-aaaa-bbbb-cccc-0123456789ab", number(device))
}

about_a_gpu! {
    nvmlDeviceGetName(to: *mut c_char, length: c_uint) |device, _gpu| {
        let name = if device as usize >= MIG { "NVIDIA Stub 80GB MIG 1g.10gb" } else { "NVIDIA Stub 80GB" };
        text(to, length, name)
    };
    nvmlDeviceGetUUID(to: *mut c_char, length: c_uint) |device, _gpu| text(to, length, &uuid(device));
    nvmlDeviceGetSerial(to: *mut c_char, length: c_uint) |_device, gpu| text(to, length, &format!("16500{gpu:08}"));
    nvmlDeviceGetVbiosVersion(to: *mut c_char, length: c_uint) |_device, _gpu| text(to, length, "96.00.89.00.01");
    nvmlDeviceGetBoardPartNumber(to: *mut c_char, length: c_uint) |_device, _gpu| text(to, length, "900-00000-0000-000");
    nvmlDeviceGetGspFirmwareVersion(to: *mut c_char) |_device, _gpu| text(to, 64, "570.86.15");
    nvmlDeviceGetPciInfo_v3(pci: *mut nvmlPciInfo_t) |_device, gpu| {
        let mut info: nvmlPciInfo_t = std::mem::zeroed();
        (info.bus, info.pciDeviceId) = (0x80 + gpu, 0x2330_10de);
        let legacy = format!("0000:{:02X}:00.0", 0x80 + gpu);
        text(info.busIdLegacy.as_mut_ptr(), 16, &legacy);
        text(info.busId.as_mut_ptr(), 32, &format!("0000{legacy}"));
        pci.write(info);
        SUCCESS
    };
    nvmlDeviceGetUtilizationRates(rates: *mut nvmlUtilization_t) |_device, gpu| {
        let busy = value("nvmlDeviceGetUtilizationRates", gpu, (seconds() * 7 + u64::from(gpu) * 11) % 101);
        rates.write(nvmlUtilization_t { gpu: low(busy), memory: low(busy / 2) });
        SUCCESS
    };
    nvmlDeviceGetEncoderUtilization(percent: *mut c_uint, micros: *mut c_uint) |_device, gpu| {
        percent.write(low(value("nvmlDeviceGetEncoderUtilization", gpu, 0)));
        micros.write(167_000);
        SUCCESS
    };
    nvmlDeviceGetDecoderUtilization(percent: *mut c_uint, micros: *mut c_uint) |_device, gpu| {
        percent.write(low(value("nvmlDeviceGetDecoderUtilization", gpu, 0)));
        micros.write(167_000);
        SUCCESS
    };
    nvmlDeviceGetMemoryInfo_v2(memory: *mut nvmlMemory_v2_t) |_device, gpu| {
        let (total, reserved) = (80 << 30, 600 << 20);
        let used = value("nvmlDeviceGetMemoryInfo_v2", gpu, u64::from(gpu + 1) << 30);
        let version = (*memory).version;
        let free = (total - reserved) - u64::min(used, total - reserved);
        memory.write(nvmlMemory_v2_t { version, total, reserved, free, used });
        SUCCESS
    };
    nvmlDeviceGetViolationStatus(_policy: c_uint, time: *mut nvmlViolationTime_t) |_device, gpu| {
        let violationTime = value("nvmlDeviceGetViolationStatus", gpu, 0);
        time.write(nvmlViolationTime_t { referenceTime: seconds() * 1_000_000, violationTime });
        SUCCESS
    };
    nvmlDeviceGetPowerManagementLimitConstraints(least: *mut c_uint, most: *mut c_uint) |_device, _gpu| {
        least.write(200_000);
        most.write(700_000);
        SUCCESS
    };
    nvmlDeviceGetEccMode(current: *mut c_uint, pending: *mut c_uint) |_device, _gpu| {
        current.write(1);
        pending.write(1);
        SUCCESS
    };
    nvmlDeviceGetMigMode(current: *mut c_uint, pending: *mut c_uint) |_device, gpu| {
        let split = c_uint::from(script(|script| script.mig.contains_key(&gpu)));
        current.write(split);
        pending.write(split);
        SUCCESS
    };
    nvmlDeviceGetMaxMigDeviceCount(count: *mut c_uint) |_device, _gpu| {
        count.write(7);
        SUCCESS
    };
    nvmlDeviceGetMigDeviceHandleByIndex(index: c_uint, part: *mut nvmlDevice_t) |_device, gpu| {
        if index >= script(|script| script.mig.get(&gpu).copied()).unwrap_or(0) {
            return NOT_FOUND;
        }
        part.write((MIG + ((gpu as usize) << 8) + index as usize) as nvmlDevice_t);
        SUCCESS
    };
    nvmlDeviceGetNvLinkState(link: c_uint, active: *mut c_uint) |_device, gpu| {
        if link >= 4 {
            return INVALID_ARGUMENT;
        }
        active.write(low(value("nvmlDeviceGetNvLinkState", gpu, 1)));
        SUCCESS
    };
    nvmlDeviceGetRemappedRows(
        correctable: *mut c_uint, uncorrectable: *mut c_uint, pending: *mut c_uint, failed: *mut c_uint
    ) |_device, gpu| {
        correctable.write(0);
        uncorrectable.write(low(value("nvmlDeviceGetRemappedRows", gpu, 1)));
        pending.write(0);
        failed.write(0);
        SUCCESS
    };
    nvmlDeviceGetGpuFabricInfo(info: *mut nvmlGpuFabricInfo_t) |_device, gpu| {
        let state = u8::try_from(value("nvmlDeviceGetGpuFabricInfo", gpu, 3)).unwrap_or(u8::MAX);
        info.write(nvmlGpuFabricInfo_t { clusterUuid: [0; 16], status: 0, cliqueId: 0, state });
        SUCCESS
    };
    nvmlDeviceGetSramEccErrorStatus(status: *mut nvmlEccSramErrorStatus_t) |_device, gpu| {
        (*status).bThresholdExceeded = low(value("nvmlDeviceGetSramEccErrorStatus", gpu, 0));
        SUCCESS
    };
    nvmlDeviceGetMarginTemperature(margin: *mut nvmlMarginTemperature_t) |_device, gpu| {
        let told = script(|script| script.value("nvmlDeviceGetMarginTemperature", gpu));
        (*margin).marginTemperature = told.map_or(41, |degrees| degrees as c_int);
        SUCCESS
    };
    nvmlDeviceGetFieldValues(count: c_int, values: *mut nvmlFieldValue_t) |_device, gpu| {
        for at in 0..usize::try_from(count).unwrap_or(0) {
            field(gpu, &mut *values.add(at));
        }
        SUCCESS
    };
    nvmlDeviceGetComputeRunningProcesses_v3(count: *mut c_uint, list: *mut nvmlProcessInfo_t) |_device, gpu| {
        processes(gpu, 'C', count, list)
    };
    nvmlDeviceGetComputeRunningProcesses_v2(count: *mut c_uint, list: *mut nvmlProcessInfo_t) |_device, gpu| {
        processes(gpu, 'C', count, list)
    };
    nvmlDeviceGetGraphicsRunningProcesses_v3(count: *mut c_uint, list: *mut nvmlProcessInfo_t) |_device, gpu| {
        processes(gpu, 'G', count, list)
    };
    nvmlDeviceGetMPSComputeRunningProcesses_v3(count: *mut c_uint, list: *mut nvmlProcessInfo_t) |_device, gpu| {
        processes(gpu, 'M', count, list)
    };
}

numbers! {
    nvmlDeviceGetMinorNumber() -> c_uint, |gpu| gpu;
    nvmlDeviceGetClockInfo(kind: c_uint) -> c_uint, |gpu| 1_000 + gpu + kind;
    nvmlDeviceGetMaxClockInfo(kind: c_uint) -> c_uint, |_gpu| 1_980 + kind;
    nvmlDeviceGetCurrentClocksEventReasons() -> c_ulonglong, |_gpu| 1_u64;
    nvmlDeviceGetCurrentClocksThrottleReasons() -> c_ulonglong, |_gpu| 1_u64;
    nvmlDeviceGetPerformanceState() -> c_uint, |_gpu| 0_u32;
    nvmlDeviceGetPowerUsage() -> c_uint, |gpu| 100_000 + gpu * 1_000;
    nvmlDeviceGetEnforcedPowerLimit() -> c_uint, |_gpu| 700_000_u32;
    nvmlDeviceGetPowerManagementLimit() -> c_uint, |_gpu| 700_000_u32;
    nvmlDeviceGetPowerManagementDefaultLimit() -> c_uint, |_gpu| 700_000_u32;
    nvmlDeviceGetTotalEnergyConsumption() -> c_ulonglong, |_gpu| seconds() * 100_000;
    nvmlDeviceGetTemperature(sensor: c_uint) -> c_uint, |gpu| 40 + gpu + sensor;
    nvmlDeviceGetTemperatureThreshold(kind: c_uint) -> c_uint, |_gpu| 92 - kind;
    nvmlDeviceGetFanSpeed_v2(fan: c_uint) -> c_uint, |_gpu| 30 + fan;
    nvmlDeviceGetTotalEccErrors(error: c_uint, counter: c_uint) -> c_ulonglong, |_gpu| (1 - error.min(1)) * (counter + 1);
    nvmlDeviceGetMemoryErrorCounter(error: c_uint, counter: c_uint, place: c_uint) -> c_ulonglong, |_gpu| {
        (1 - error.min(1)) * (counter + 1) * u32::from(place == 2)
    };
    nvmlDeviceGetCurrPcieLinkGeneration() -> c_uint, |_gpu| 5_u32;
    nvmlDeviceGetCurrPcieLinkWidth() -> c_uint, |_gpu| 16_u32;
    nvmlDeviceGetMaxPcieLinkGeneration() -> c_uint, |_gpu| 5_u32;
    nvmlDeviceGetMaxPcieLinkWidth() -> c_uint, |_gpu| 16_u32;
    nvmlDeviceGetPcieReplayCounter() -> c_uint, |_gpu| 0_u32;
    nvmlDeviceGetPcieThroughput(counter: c_uint) -> c_uint, |_gpu| 1_000 + counter;
    nvmlDeviceGetNvLinkErrorCounter(link: c_uint, counter: c_uint) -> c_ulonglong, |_gpu| link + counter;
    nvmlDeviceGetPersistenceMode() -> c_uint, |_gpu| 1_u32;
    nvmlDeviceGetComputeMode() -> c_uint, |_gpu| 0_u32;
    // Hopper.
    nvmlDeviceGetArchitecture() -> c_uint, |_gpu| 9_u32;
    // Xid errors and uncorrected ECC errors.
    nvmlDeviceGetSupportedEventTypes() -> c_ulonglong, |_gpu| 0xa_u64;
}

/// Fields have numbers; of the others this driver says that they are not supported.
fn field(gpu: u32, out: &mut nvmlFieldValue_t) {
    let call = format!("field:{}", out.fieldId);
    let otherwise: Option<u64> = match out.fieldId {
        // Memory temperature, power at the instant, four kinds of errors of NVLink, recovery action.
        82 => Some(50 + u64::from(gpu)),
        186 => Some(101_000),
        38 | 45 | 52 | 59 | 230 => Some(0),
        _ => None,
    };
    (out.timestamp, out.latencyUsec, out.nvmlReturn) = ((seconds() * 1_000_000).cast_signed(), 1, SUCCESS);
    match (script(|script| script.value(&call, gpu)), otherwise) {
        // NVML_VALUE_TYPE_DOUBLE and NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
        (Some(told), _) => (out.valueType, out.value.dVal) = (0, told),
        (None, Some(number)) => (out.valueType, out.value.ullVal) = (3, number),
        (None, None) => out.nvmlReturn = NOT_SUPPORTED,
    }
}

unsafe fn processes(gpu: u32, kind: char, count: *mut c_uint, list: *mut nvmlProcessInfo_t) -> nvmlReturn_t {
    script(|script| {
        let of = || script.processes.iter().filter(|(g, k, ..)| (*g, *k) == (gpu, kind));
        let room = unsafe { count.read() } as usize;
        unsafe { count.write(of().count() as c_uint) };
        if room < of().count() {
            return INSUFFICIENT_SIZE;
        }
        for (at, (.., pid, bytes)) in of().enumerate() {
            let (gpuInstanceId, computeInstanceId) = (u32::MAX, u32::MAX);
            let process = nvmlProcessInfo_t { pid: *pid, usedGpuMemory: *bytes, gpuInstanceId, computeInstanceId };
            unsafe { list.add(at).write(process) };
        }
        SUCCESS
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetCreate(set: *mut nvmlEventSet_t) -> nvmlReturn_t {
    unsafe { set.write(1 as nvmlEventSet_t) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceRegisterEvents(
    device: nvmlDevice_t,
    _types: c_ulonglong,
    _set: nvmlEventSet_t,
) -> nvmlReturn_t {
    instead("nvmlDeviceRegisterEvents", Some(number(device))).unwrap_or(SUCCESS)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetFree(_set: nvmlEventSet_t) -> nvmlReturn_t {
    SUCCESS
}

/// The next event of the script that was not delivered yet. The script is looked at by those who ask about GPUs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetWait_v2(
    _set: nvmlEventSet_t,
    data: *mut nvmlEventData_t,
    millis: c_uint,
) -> nvmlReturn_t {
    const LOOK: Duration = Duration::from_millis(100);
    let mut delivered = lock(&DELIVERED);
    for _ in 0..u128::from(millis) / LOOK.as_millis() {
        if let Some((gpu, xid)) = script(|script| script.events.get(*delivered).copied()) {
            *delivered += 1;
            let (device, eventType) = ((gpu as usize + 1) as nvmlDevice_t, 8);
            let (gpuInstanceId, computeInstanceId) = (u32::MAX, u32::MAX);
            unsafe {
                data.write(nvmlEventData_t { device, eventType, eventData: xid, gpuInstanceId, computeInstanceId });
            };
            return SUCCESS;
        }
        delivered = NOTHING.wait_timeout(delivered, LOOK).unwrap_or_else(PoisonError::into_inner).0;
    }
    TIMEOUT
}
