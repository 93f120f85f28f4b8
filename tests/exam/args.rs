//! The command line: `exam`, `list`, and one verb for each item, made out of the list of items.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::item::{ALL, Item, Tier, Whose};
use crate::report::Form;

/// What is to be done.
pub(crate) enum Verb {
    /// Name the items.
    List,
    /// Run all items.
    Exam {
        /// How much of it.
        tier: Tier,
        /// Everybody's seed.
        seed: u64,
        /// Where the report for machines goes.
        json: Option<PathBuf>,
        /// Whose machine it is.
        machine: Whose,
    },
    /// Run one.
    One {
        /// Which.
        item: &'static Item,
        /// How many times.
        times: u64,
        /// Its seed.
        seed: u64,
        /// How its report looks.
        form: Form,
        /// Whose machine it is.
        machine: Whose,
    },
}

const AFTER_HELP: &str = "\
Examples:
  cargo run --release -p casefile-tests -- exam --tier short
  cargo run --release -p casefile-tests -- damage --times 100000 --seed 7
  cargo run --release -p casefile-tests -- exam --tier full --json exam.json

Environment:
  CASEFILE_ALLOW_NO_SKIP   an item that is skipped counts as failed

Exit codes: 0 passed, 1 the exam itself could not be run, 2 usage, 3 an item failed";

/// Reads the command line; ends the program where it is wrong or asks for help.
pub(crate) fn parse() -> Verb {
    let matches = command().get_matches();
    match matches.subcommand() {
        Some(("exam", given)) => Verb::Exam {
            tier: if given.get_one::<String>("tier").is_some_and(|t| t == "full") { Tier::Full } else { Tier::Short },
            seed: seed(given),
            json: given.get_one::<PathBuf>("json").cloned(),
            machine: whose(given),
        },
        Some((name, given)) => match Item::named(name) {
            Some(item) => Verb::One {
                item,
                times: given.get_one::<u64>("times").copied().unwrap_or(item.short),
                seed: seed(given),
                form: if given.get_one::<String>("output").is_some_and(|o| o == "json") {
                    Form::Json
                } else {
                    Form::Text
                },
                machine: whose(given),
            },
            None => Verb::List,
        },
        None => Verb::List,
    }
}

fn whose(given: &ArgMatches) -> Whose {
    if given.get_flag("shared-machine") { Whose::Shared } else { Whose::Ours }
}

/// The seed that was given, else one of this moment: it is printed, and replays.
fn seed(given: &ArgMatches) -> u64 {
    given.get_one::<u64>("seed").copied().unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::from(since.subsec_nanos()) ^ (since.as_secs() % 1_000_000)
    })
}

fn command() -> Command {
    let seed = || {
        Arg::new("seed")
            .long("seed")
            .value_name("N")
            .value_parser(value_parser!(u64))
            .help("Replays what a run decided")
    };
    let shared = || {
        Arg::new("shared-machine")
            .long("shared-machine")
            .action(ArgAction::SetTrue)
            .help("Other things run here too: what takes too long is told and not judged")
    };
    let exam = Command::new("exam")
        .about("Run all items")
        .arg(
            Arg::new("tier")
                .long("tier")
                .value_name("TIER")
                .default_value("short")
                .value_parser(PossibleValuesParser::new(["short", "full"]))
                .help("How much of it"),
        )
        .args([seed(), shared()])
        .arg(
            Arg::new("json")
                .long("json")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Write the report for machines here"),
        );
    let items = ALL.iter().map(|item| {
        let times = Arg::new("times")
            .long("times")
            .value_name("N")
            .value_parser(value_parser!(u64).range(1..))
            .help(format!("How many {} [default: {}; full: {}]", item.counts, item.short, item.full));
        let output = Arg::new("output")
            .short('o')
            .long("output")
            .value_name("FORM")
            .default_value("text")
            .value_parser(PossibleValuesParser::new(["text", "json"]))
            .help("How the report looks");
        Command::new(item.name).about(item.proves).args([times, seed(), shared(), output])
    });
    Command::new("casefile-tests")
        .about("Tries what Casefile promises on its real programs")
        .after_help(AFTER_HELP)
        .arg_required_else_help(true)
        .subcommand_required(true)
        .subcommand(exam)
        .subcommand(Command::new("list").about("Name the items and what each proves"))
        .subcommands(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_has_a_verb_for_every_item() {
        command().debug_assert();
        for item in ALL {
            assert!(command().find_subcommand(item.name).is_some(), "{}", item.name);
            assert!(item.short <= item.full && !["exam", "list"].contains(&item.name), "{}", item.name);
        }
    }
}
