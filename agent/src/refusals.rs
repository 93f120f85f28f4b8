//! Firmware commands that a driver says were refused, counted by the device's PCI address. The `kernel` source counts
//! the lines as it passes them; `hardware` reads the counts and stops asking for what makes the driver write them.
//!
//! On network cards whose functions are restricted (SR-IOV, cards that another host manages), each counter that
//! anybody reads makes `mlx5_core` log a line: an agent that reads on fills the kernel log that it is there to keep.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::pci::PciAddress;

/// Devices that are counted one by one. The rest are counted together.
const MAX_DEVICES: usize = 256;

/// The counts since the agent started. One thread adds, another reads.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    by_device: BTreeMap<PciAddress, u64>,
    /// Of devices for which there was no room: they count for every device, since nobody knows better.
    others: u64,
}

impl Refusals {
    /// One more line about this device.
    pub fn add(&self, device: PciAddress) {
        let counts = &mut *self.counts();
        if counts.by_device.len() < MAX_DEVICES || counts.by_device.contains_key(&device) {
            *counts.by_device.entry(device).or_default() += 1;
        } else {
            counts.others += 1;
        }
    }

    /// Lines so far that were, or may have been, about this device.
    pub fn of(&self, device: PciAddress) -> u64 {
        let counts = self.counts();
        counts.by_device.get(&device).copied().unwrap_or(0) + counts.others
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The device of which this line of the kernel says that its firmware refused to give out a register, such as
/// `mlx5_core 0000:1a:00.0: mlx5_cmd_out_err:838:(pid 9): ACCESS_REG(0x805) op_mod(0x1) failed, status …`.
///
/// The name of the function differs by kernel (`mlx5_cmd_check` before Linux 5.19), and the name of an interface may
/// stand after the address. `drivers/net/ethernet/mellanox/mlx5/core/cmd.c`.
pub fn refusing_device(line: &str) -> Option<PciAddress> {
    let (address, said) = line.strip_prefix("mlx5_core ")?.split_once(": ")?;
    let address = PciAddress::parse(address.split_once(' ').map_or(address, |(address, _interface)| address))?;
    let (_, command) = said.split_once("ACCESS_REG(")?;
    command.contains("failed").then_some(address)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> PciAddress {
        PciAddress::parse(text).unwrap()
    }

    #[test]
    fn a_refused_register_is_recognised_however_the_kernel_words_it() {
        for line in [
            "mlx5_core 0000:1a:00.0: mlx5_cmd_out_err:838:(pid 9): ACCESS_REG(0x805) op_mod(0x1) failed, status bad operation(0x2), syndrome (0x305684), err(-22)",
            "mlx5_core 0000:1a:00.0: mlx5_cmd_check:810:(pid 923941): ACCESS_REG(0x805) op_mod(0x1) failed, status bad parameter(0x3), syndrome (0x305684)",
            "mlx5_core 0000:1a:00.0 ens1f0: mlx5_cmd_out_err:838:(pid 9): ACCESS_REG(0x805) op_mod(0x1) failed, status bad operation(0x2)",
        ] {
            assert_eq!(refusing_device(line), Some(address("0000:1a:00.0")), "{line}");
        }
    }

    #[test]
    fn other_lines_are_not_refusals() {
        for line in [
            "mlx5_core 0000:1a:00.0 eth1: Link down",
            "mlx5_core 0000:1a:00.0: mlx5_cmd_out_err:838:(pid 9): QUERY_VPORT_COUNTER(0x770) op_mod(0x0) failed, status bad parameter(0x3)",
            "mlx5_core: ACCESS_REG(0x805) op_mod(0x1) failed",
            "someone wrote mlx5_core 0000:1a:00.0: ACCESS_REG(0x805) op_mod(0x1) failed",
            "mlx5_core 0000:1a:00.9: ACCESS_REG(0x805) op_mod(0x1) failed",
            "mlx5_core 0000:1a:00.0: ACCESS_REG(0x805) op_mod(0x1) done",
        ] {
            assert_eq!(refusing_device(line), None, "{line}");
        }
    }

    #[test]
    fn devices_are_counted_apart_until_there_are_too_many() {
        let refusals = Refusals::default();
        let device = |n: usize| address(&format!("{n:04x}:00:00.0"));
        (0..MAX_DEVICES).for_each(|n| refusals.add(device(n)));
        refusals.add(device(7));
        assert_eq!((refusals.of(device(7)), refusals.of(device(8)), refusals.of(device(MAX_DEVICES))), (2, 1, 0));
        refusals.add(device(MAX_DEVICES));
        assert_eq!((refusals.of(device(7)), refusals.of(device(8)), refusals.of(device(MAX_DEVICES))), (3, 2, 1));
    }

    proptest! {
        #[test]
        fn any_line_is_a_refusal_or_none(line in "(mlx5_core )?.{0,60}") {
            let _ = refusing_device(&line);
        }
    }
}
