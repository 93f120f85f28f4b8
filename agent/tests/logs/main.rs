//! The log sources over trees of files: exactly the records of the window, whatever the files do; and what is missing is
//! said. Each file here is one side of that.
#![expect(clippy::unwrap_used, reason = "in a test, also in what tests have in common, a surprise is a failure")]

mod budget;
mod hostile;
mod journal;
mod journal_damage;
mod journal_file;
mod journal_tools;
mod kernel;
mod lies;
mod names;
mod pstore;
mod real_node;
mod rotation;
mod swaps;
mod times;
mod tree;
mod window;
