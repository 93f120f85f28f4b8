//! NVMe controllers: which there are and in which state the driver has them, from `/sys/class/nvme`.
//!
//! Their own health log (SMART: wear, spare blocks, media errors) is not read. It has to be asked of the device by
//! an ioctl of `/dev/nvmeN`, which needs CAP_SYS_ADMIN and write access to a device through which anything may be done
//! to it: an agent that watches must not have that. The temperature in that log is in `hwmon`.

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::sample::MetricSpec;

use super::metrics::{DEVICES, METRICS};
use super::place::{Hold, Place, Reader};
use super::{Round, numbered};
use crate::sources::spec::named;
use crate::text::{self, BadLine};

const INFO: &MetricSpec = named(&METRICS, "node_nvme_info");
const ATTACHED: &MetricSpec = named(&METRICS, "casefile_nvme_transport_info");
const STATE: &MetricSpec = named(&METRICS, "casefile_nvme_state");

pub(super) const DIR: &str = "sys/class/nvme";

/// Controllers that are read: 32 are a full shelf, and each path of a fabric is one.
const MAX_CONTROLLERS: usize = 256;
/// Of these, with a directory kept open.
pub(super) const MAX_KEPT: usize = 16;

/// In the kernel's order (`enum nvme_ctrl_state`): the position is the code.
pub(super) const STATES: [&str; 7] = ["new", "live", "resetting", "connecting", "deleting", "deleting (no IO)", "dead"];

#[derive(Debug, Default)]
pub(super) struct Nvme {
    controllers: Vec<Controller>,
}

#[derive(Debug)]
struct Controller {
    place: Place,
    name: String,
    firmware: String,
    model: String,
    serial: String,
    id: String,
    transport: String,
    address: String,
}

impl Nvme {
    pub(super) fn measure(&mut self, round: Round, reader: &mut Reader<'_>) {
        let Some(mut names) = reader.names(DIR, |name| numbered(name, "nvme").is_some()) else {
            self.controllers.clear();
            return;
        };
        reader.out.reading(DEVICES, &["nvme"], i64::try_from(names.len()).unwrap_or(i64::MAX));
        let left_out = names.split_off(names.len().min(MAX_CONTROLLERS)).len();
        if left_out > 0 {
            let gap = Gap::new(GapReason::Budget, format!("more than {MAX_CONTROLLERS} NVMe controllers"));
            reader.out.gap(gap.counting(left_out as u64));
        }
        // What a controller is changes with its firmware, or when another one takes its name.
        if round == Round::Full || !names.iter().eq(self.controllers.iter().map(|c| &c.name)) {
            let looked_at = names.into_iter().enumerate();
            self.controllers =
                looked_at.map(|(i, name)| Controller::look(name, Hold::of(i, MAX_KEPT), reader)).collect();
        }
        for (i, controller) in self.controllers.iter_mut().enumerate() {
            // A disk that was changed between two measurements has the name of the one before.
            let serial = reader.line(&mut controller.place, "serial");
            if serial.is_some_and(|serial| serial != controller.serial) {
                *controller = Controller::look(controller.name.clone(), Hold::of(i, MAX_KEPT), reader);
            }
            controller.measure(reader);
        }
    }
}

impl Controller {
    fn look(name: String, hold: Hold, reader: &mut Reader<'_>) -> Self {
        let path = format!("{DIR}/{name}");
        let mut place = Place::new(reader.host, path, hold);
        let mut said = |file| reader.line(&mut place, file).unwrap_or_default();
        let (firmware, model, serial) = (said("firmware_rev"), said("model"), said("serial"));
        let (id, transport, address) = (said("cntlid"), said("transport"), said("address"));
        Self { place, name, firmware, model, serial, id, transport, address }
    }

    fn measure(&mut self, reader: &mut Reader<'_>) {
        reader.out.reading(ATTACHED, &[&self.name, &self.transport, &self.address], 1);
        // The state is a label too, as node_exporter has it.
        let Some(state) = reader.line(&mut self.place, "state") else { return };
        let labels = [&*self.name, &self.firmware, &self.model, &self.serial, &state, &self.id];
        reader.out.reading(INFO, &labels, 1);
        match code(&state) {
            Ok(code) => reader.out.reading(STATE, &[&self.name], code),
            Err(bad) => {
                let mut unparsed = text::Unparsed::default();
                unparsed.add(bad);
                reader.gap(unparsed, &self.place, "state");
            }
        }
    }
}

/// The number of a state.
pub(crate) fn code(state: &str) -> Result<i64, BadLine<'_>> {
    let position = STATES.iter().position(|known| *known == state);
    position
        .and_then(|i| i64::try_from(i).ok())
        .ok_or(BadLine { line: state.as_bytes(), why: "no state of a controller" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_kernels_numbers_and_the_help_lists_them() {
        assert_eq!((code("new"), code("live"), code("dead")), (Ok(0), Ok(1), Ok(6)));
        assert!(code("confused").is_err() && code("").is_err());
        for (number, state) in STATES.iter().enumerate() {
            assert!(STATE.help.contains(&format!("{number} {state}")), "{number} {state}");
        }
    }
}
