//! The calls of NVML that `nvml-wrapper` has no wrapper for. The only unsafe code of the GPU source.
//!
//! # Safety
//!
//! Every call below has the same argument. The function pointer was looked up in the library that `nvml` holds open, under
//! the name and with the type that the bindings, made from NVIDIA's `nvml.h`, have for it; `nvml` outlives the call. The
//! device handle comes from a [`Device`] of that library. What is written to are local variables of the types that the
//! header names, alive and not shared during the call, with the version number set where the structure has one; they are
//! read only when the call says that it succeeded. NVML may be called from several threads.

#![expect(unsafe_code, reason = "functions of a C library without a safe wrapper; see above")]

use nvml_wrapper::Device;
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::struct_wrappers::device::FieldValueSample;
use nvml_wrapper_sys::bindings::{
    nvmlEccSramErrorStatus_t, nvmlFieldValue_t, nvmlGpuFabricInfo_t, nvmlMarginTemperature_t, nvmlReturn_t, nvmlValue_t,
};

/// What NVML tells about remapped rows of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RemappedRows {
    pub(super) correctable: u32,
    pub(super) uncorrectable: u32,
    pub(super) pending: bool,
    pub(super) failed: bool,
}

/// The registration of a GPU with the NVLink fabric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fabric {
    pub(super) state: u32,
    pub(super) status: u32,
}

/// `NVML_STRUCT_VERSION(type, number)` of `nvml.h`: the size of the structure and its version in one number.
fn versioned<T>(number: u32) -> u32 {
    u32::try_from(size_of::<T>()).unwrap_or(0) | (number << 24)
}

/// `nvmlDeviceGetRemappedRows`.
pub(super) fn remapped_rows(device: &Device<'_>) -> Result<RemappedRows, NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceGetRemappedRows.as_ref())?;
    let (mut correctable, mut uncorrectable, mut pending, mut failed) = (0, 0, 0, 0);
    // SAFETY: as the head of this file says; four numbers to be written.
    let ended = unsafe {
        call(device.handle(), &raw mut correctable, &raw mut uncorrectable, &raw mut pending, &raw mut failed)
    };
    nvml_try(ended)?;
    Ok(RemappedRows { correctable, uncorrectable, pending: pending != 0, failed: failed != 0 })
}

/// `nvmlDeviceGetCurrentClocksEventReasons`: what drivers before 535 call throttle reasons.
pub(super) fn clocks_event_reasons(device: &Device<'_>) -> Result<u64, NvmlError> {
    let lib = device.nvml().lib();
    let call = nvml_sym(lib.nvmlDeviceGetCurrentClocksEventReasons.as_ref())
        .or_else(|_| nvml_sym(lib.nvmlDeviceGetCurrentClocksThrottleReasons.as_ref()))?;
    let mut reasons = 0;
    // SAFETY: as the head of this file says; one number to be written, under either name.
    nvml_try(unsafe { call(device.handle(), &raw mut reasons) })?;
    Ok(reasons)
}

/// `nvmlDeviceGetGpuFabricInfo`.
pub(super) fn fabric(device: &Device<'_>) -> Result<Fabric, NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceGetGpuFabricInfo.as_ref())?;
    let mut info = nvmlGpuFabricInfo_t { clusterUuid: [0; 16], status: 0, cliqueId: 0, state: 0 };
    // SAFETY: as the head of this file says; one structure without a version.
    nvml_try(unsafe { call(device.handle(), &raw mut info) })?;
    let status: nvmlReturn_t = info.status;
    Ok(Fabric { state: u32::from(info.state), status })
}

/// `nvmlDeviceGetSramEccErrorStatus`: whether errors in SRAM passed what is allowed.
pub(super) fn sram_threshold_exceeded(device: &Device<'_>) -> Result<bool, NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceGetSramEccErrorStatus.as_ref())?;
    let mut status = nvmlEccSramErrorStatus_t {
        version: versioned::<nvmlEccSramErrorStatus_t>(1),
        aggregateUncParity: 0,
        aggregateUncSecDed: 0,
        aggregateCor: 0,
        volatileUncParity: 0,
        volatileUncSecDed: 0,
        volatileCor: 0,
        aggregateUncBucketL2: 0,
        aggregateUncBucketSm: 0,
        aggregateUncBucketPcie: 0,
        aggregateUncBucketMcu: 0,
        aggregateUncBucketOther: 0,
        bThresholdExceeded: 0,
    };
    // SAFETY: as the head of this file says; one structure, version 1.
    nvml_try(unsafe { call(device.handle(), &raw mut status) })?;
    Ok(status.bThresholdExceeded != 0)
}

/// `nvmlDeviceGetFieldValues` of one link: numbers that only grow, each for itself.
pub(super) fn fields_of_link<const N: usize>(
    device: &Device<'_>,
    link: u32,
    ids: [u32; N],
) -> Result<[Result<u64, NvmlError>; N], NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceGetFieldValues.as_ref())?;
    let mut values = ids.map(|id| nvmlFieldValue_t {
        fieldId: id,
        scopeId: link,
        timestamp: 0,
        latencyUsec: 0,
        valueType: 0,
        nvmlReturn: 0,
        value: nvmlValue_t { ullVal: 0 },
    });
    let count = i32::try_from(N).map_err(|_| NvmlError::InvalidArg)?;
    // SAFETY: as the head of this file says; an array of as many structures as the call is told.
    nvml_try(unsafe { call(device.handle(), count, values.as_mut_ptr()) })?;
    Ok(values.map(|value| {
        let number = match FieldValueSample::try_from(value)?.value? {
            SampleValue::U32(n) => u64::from(n),
            SampleValue::U64(n) => n,
            SampleValue::I64(n) => u64::try_from(n).map_err(|_| NvmlError::NoData)?,
            // No counter is a fraction; one that is told as one is rounded down.
            SampleValue::F64(x) if x.is_finite() && (0.0..9e15).contains(&x) => x as u64,
            SampleValue::F64(_) => return Err(NvmlError::NoData),
        };
        Ok(number)
    }))
}

/// `nvmlDeviceGetMarginTemperature`: degrees until it slows down for heat; below zero when it does.
pub(super) fn margin_temperature(device: &Device<'_>) -> Result<i32, NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceGetMarginTemperature.as_ref())?;
    let mut margin = nvmlMarginTemperature_t { version: versioned::<nvmlMarginTemperature_t>(1), marginTemperature: 0 };
    // SAFETY: as the head of this file says; one structure, version 1.
    nvml_try(unsafe { call(device.handle(), &raw mut margin) })?;
    Ok(margin.marginTemperature)
}
