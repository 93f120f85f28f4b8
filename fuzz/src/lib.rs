//! Every parser of outside bytes as a function of any bytes that may not panic, hang or grow, and that says itself what must
//! hold of what it gives. `fuzz/run` tries them with libFuzzer; `cargo test` tries their seeds.
//!
//! How to add a target: one file below `targets/` with a `TARGET`, one line in [`ALL`]; seeds below `corpus/<name>/`.
#![expect(clippy::unwrap_used, reason = "a surprise is a finding, and a panic is how a target tells one")]

mod input;
mod reference;
mod scratch;
pub mod seed;
mod targets;

/// One parser to be tried.
pub struct Target {
    /// Its name, that of its corpus too.
    pub name: &'static str,
    /// What it tries, one sentence.
    pub about: &'static str,
    /// Tries it; panics when something does not hold.
    pub run: fn(&[u8]),
    /// Seeds that are made rather than written down: what our own writers give.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const ALL: &[Target] = &[
    targets::lines::TARGET,
    targets::cri::TARGET,
    targets::text::TARGET,
    targets::pods::TARGET,
    targets::kmsg::TARGET,
    targets::signatures::TARGET,
    targets::journal::TARGET,
    targets::redact::TARGET,
    targets::gzip::TARGET,
    targets::names::TARGET,
    targets::globs::TARGET,
    targets::recording::TARGET,
    targets::archive::TARGET,
    targets::proto::TARGET,
    targets::proc::TARGET,
    targets::config::TARGET,
    targets::http::TARGET,
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    ALL.iter().find(|t| t.name == name)
}

/// No seeds but those that are written down.
fn none() -> Vec<Vec<u8>> {
    Vec::new()
}

/// The seeds of a target, each with a name: those that are made, and those that are written down below `corpus/`.
pub fn seeds(target: &Target) -> Vec<(String, Vec<u8>)> {
    let made = (target.seeds)().into_iter().enumerate().map(|(n, bytes)| (format!("made-{n}"), bytes));
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut written: Vec<_> = std::fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("every target has a corpus, {}: {e}", dir.display()))
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = String::from_utf8(std::fs::read(&path).unwrap()).unwrap();
            let bytes = seed::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            (path.file_stem().unwrap().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    written.sort();
    made.chain(written).collect()
}
