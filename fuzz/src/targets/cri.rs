//! Container logs in memory, beside the simplest reader that there is.

use casefile_agent::logs::fuzzing;

use crate::input::Input;
use crate::{Target, none, reference};

pub(crate) const TARGET: Target =
    Target { name: "cri", about: "Container logs: lines joined to records, the window, the budget", run, seeds: none };

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let asked = input.asked();
    reference::cri(&[input.rest]).compare(asked, &fuzzing::cri(input.rest, asked));
}
