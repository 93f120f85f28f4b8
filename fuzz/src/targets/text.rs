//! Text logs of all styles in memory, beside the simplest reader that there is.

use casefile_agent::logs::fuzzing;
use casefile_proto::time::NANOS_PER_SEC;

use crate::input::{BEGIN, Input};
use crate::{Target, none, reference};

pub(crate) const TARGET: Target = Target {
    name: "text",
    about: "Plain text logs: recognising the style of the times, reading them, records of many lines",
    run,
    seeds: none,
};

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let asked = input.asked();
    let changed = BEGIN.offset(i64::from(input.short()) * NANOS_PER_SEC);
    let given = fuzzing::text(input.rest, changed, asked);
    let expected = reference::text(input.rest, changed);
    assert_eq!(given.is_some(), expected.is_some());
    if let (Some(given), Some(expected)) = (given, expected) {
        expected.compare(asked, &given);
    }
}
