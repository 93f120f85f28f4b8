//! The rules that a machine can hold: who may use which crate, who may know whom, how a file begins.
//!
//! Text only: it reads the tree as it stands and names every offence at once.

use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// Where an outside crate may appear: crate, then the paths (prefixes) that may name it. `Cargo.toml` features and the
/// generated code are not looked at.
const ALLOWED: &[(&str, &[&str])] = &[
    ("prost", &["proto/", "fuzz/"]),
    ("tonic_prost", &["proto/"]),
    ("protox", &["proto/build.rs", "proto/tests/"]),
    (
        "tonic",
        &[
            "agent/src/uplink",
            "proto/src/codec.rs",
            "collector/src/ingest/",
            "collector/src/admin.rs",
            "collector/src/api/",
            "collector/src/cluster/",
            "collector/src/identity/",
            "collector/src/lib.rs",
            "identity/",
            "collector/tests/",
            "review/src/bin/casefile/",
            "tests/",
        ],
    ),
    ("tonic_health", &["collector/src/observe/", "collector/src/lib.rs", "tests/"]),
    ("axum", &["collector/src/api/rest/"]),
    (
        "hyper",
        &[
            "collector/src/observe/",
            "tests/harness/apiserver",
            "collector/src/api/rest/listener.rs",
            "review/src/bin/casefile/review.rs",
        ],
    ),
    (
        "hyper_util",
        &[
            "identity/src/dial.rs",
            "tests/harness/apiserver",
            "collector/src/observe/",
            "collector/src/api/rest/listener.rs",
            "review/src/bin/casefile/review.rs",
        ],
    ),
    ("percent_encoding", &["collector/src/api/rest/asked.rs"]),
    (
        "http_body_util",
        &[
            "collector/src/observe/",
            "collector/src/cluster/",
            "tests/harness/apiserver",
            "tests/exam/hostile/",
            "review/src/bin/casefile/review.rs",
        ],
    ),
    ("tokio", &["identity/", "agent/", "collector/", "review/src/bin/casefile/", "tests/"]),
    ("tokio_stream", &["agent/", "collector/", "review/src/bin/casefile/", "tests/"]),
    ("sysinfo", &["agent/src/sources/inventory"]),
    ("libc", &["agent/src/calls.rs", "agent/src/sandbox/syscalls.rs", "agent/src/sandbox/check/"]),
    ("landlock", &["agent/src/sandbox/access.rs"]),
    ("seccompiler", &["agent/src/sandbox/syscalls.rs"]),
    ("rusqlite", &["collector/src/store/sqlite"]),
    ("object_store", &["collector/src/archives/bucket", "collector/src/archives/tests.rs"]),
    // Named in the manifest alone, for what they must and must not bring along.
    ("reqwest", &[]),
    ("idna_adapter", &[]),
    ("ssh_key", &["evidence/src/archive/sign.rs", "evidence/src/archive/verify.rs"]),
    (
        "flate2",
        &[
            "evidence/src/archive/",
            "evidence/src/recording/block.rs",
            "evidence/benches/",
            "evidence/tests/",
            "agent/src/logs/",
            "agent/benches/logs/",
            "agent/tests/",
            "fuzz/",
            "tests/e2e/forged_file.rs",
            "tests/e2e/hostile_file.rs",
            "tests/exam/hostile/",
            "tests/e2e/secrets.rs",
        ],
    ),
    ("lz4_flex", &["agent/src/journal/inflate.rs", "agent/tests/logs/journal"]),
    ("ruzstd", &["agent/src/journal/inflate.rs", "agent/tests/logs/journal"]),
    (
        "clap",
        &[
            "agent/src/args.rs",
            "agent/src/main.rs",
            "collector/src/args.rs",
            "collector/src/main.rs",
            "review/src/bin/casefile/",
            "tests/exam/args.rs",
        ],
    ),
    ("tracing_subscriber", &["agent/src/main.rs", "collector/src/main.rs"]),
    ("tracing", &["agent/", "collector/"]),
    (
        "anyhow",
        &[
            "agent/src/main.rs",
            "collector/src/main.rs",
            "collector/src/admin.rs",
            "collector/src/local.rs",
            "review/src/bin/casefile/",
            "tests/",
            "agent/benches/",
            "evidence/benches/",
        ],
    ),
    ("kube", &["collector/src/cluster/"]),
    // The definition of the kind is compared with the types.
    ("nvml_wrapper", &["agent/src/sources/gpu/"]),
    ("nvml_wrapper_sys", &["agent/src/sources/gpu/raw.rs", "tests/stub-nvml/"]),
    ("rustls", &["identity/"]),
    ("rcgen", &["identity/", "agent/src/connectivity/tests", "collector/src/identity/tests.rs", "tests/exam/hostile/"]),
    ("x509_parser", &["identity/src/authority.rs", "identity/src/stranger.rs"]),
    (
        "tokio_rustls",
        &[
            "identity/",
            "agent/src/connectivity/tests",
            "collector/src/identity/",
            "collector/src/ingest/listener",
            "collector/src/api/rest/listener.rs",
            "collector/src/lib.rs",
            "tests/",
        ],
    ),
    ("fuser", &["tests/exam/power/mount.rs"]),
    // Manifests are parsed, not searched.
    ("serde_saphyr", &["tests/e2e/deploy/", "collector/src/cluster/collections/schema_tests.rs"]),
    ("hmac", &["redact/src/key.rs"]),
    ("memchr", &["redact/"]),
    // The module that writes Parquet has the same name.
    ("parquet", &["review/src/export/"]),
];

/// The crates of the workspace, each in its directory.
const MEMBERS: [&str; 9] = ["proto", "evidence", "redact", "identity", "agent", "collector", "review", "tests", "fuzz"];

/// Names that say nothing of what is in a file.
const EMPTY_NAMES: &[&str] = &["common", "util", "utils", "helpers", "misc"];

/// A file longer than this holds a second idea.
const MAX_LINES: usize = 700;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace root").to_owned()
}

/// Every Rust file of the workspace, relative to its root, with its text.
fn rust_files() -> Vec<(String, String)> {
    let root = root();
    let mut dirs: Vec<_> = MEMBERS.map(|d| root.join(d)).into();
    let mut files = vec![];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("list a directory of the workspace") {
            let path = entry.expect("read a directory entry").path();
            if path.is_dir() && path.file_name().is_some_and(|n| n != "target" && n != "testdata") {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = read(&path);
                let name = path.strip_prefix(&root).expect("a path below the root").to_string_lossy().into_owned();
                files.push((name, text));
            }
        }
    }
    files.sort();
    assert!(files.len() > 50, "the walk found only {} files", files.len());
    files
}

#[expect(clippy::disallowed_methods, reason = "our own tree, not a node's")]
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

fn none(offences: &[String]) {
    assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
}

#[test]
fn every_outside_crate_stays_where_it_belongs() {
    let files = rust_files();
    let mut offences = vec![];
    for (name, places) in ALLOWED {
        let named = Regex::new(&format!(r"(^|[^\w:./]){name}::")).expect("a regular expression");
        for (file, text) in &files {
            if places.iter().any(|place| file.starts_with(place)) {
                continue;
            }
            for (number, line) in text.lines().enumerate() {
                if !line.trim_start().starts_with("//") && named.is_match(line) {
                    offences.push(format!("{file}:{}: {name} may appear only in {places:?}", number + 1));
                }
            }
        }
    }
    none(&offences);
}

#[test]
fn every_file_says_first_what_lives_in_it() {
    let offences: Vec<_> = rust_files()
        .iter()
        .filter(|(_, text)| !text.starts_with("//! ") || text.starts_with("//! x\n"))
        .map(|(file, _)| format!("{file}: begins with no //! line"))
        .collect();
    none(&offences);
}

#[test]
fn no_file_is_named_after_nothing_and_none_holds_two_ideas() {
    let mut offences = vec![];
    for (file, text) in rust_files() {
        let stem = Path::new(&file).file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        if EMPTY_NAMES.contains(&stem.as_str()) {
            offences.push(format!("{file}: {stem} names no idea"));
        }
        let lines = text.lines().count();
        if lines > MAX_LINES {
            offences.push(format!("{file}: {lines} lines: is there a second idea in it?"));
        }
    }
    none(&offences);
}

#[test]
fn an_exception_to_a_lint_gives_its_reason() {
    let exception =
        Regex::new(r"(?s)#!?\[(?:cfg_attr\([^,]*, )?(?:allow|expect)\(.*?\)\]").expect("a regular expression");
    let mut offences = vec![];
    for (file, text) in rust_files() {
        for hit in exception.find_iter(&text) {
            if !hit.as_str().contains("reason") && file != "tests/e2e/tidy.rs" {
                offences.push(format!("{file}: {} gives no reason", hit.as_str()));
            }
        }
    }
    none(&offences);
}

#[test]
fn the_layers_know_each_other_one_way_only() {
    // Left never knows right, but for the collector's `local`, which runs an agent.
    let forbidden: &[(&str, &[&str])] = &[
        ("proto", &["casefile-evidence", "casefile-agent", "casefile-review", "casefile-collector"]),
        ("evidence", &["casefile-agent", "casefile-review", "casefile-collector", "tokio", "tonic", "kube", "tracing"]),
        (
            "redact",
            &[
                "casefile-proto",
                "casefile-evidence",
                "casefile-agent",
                "casefile-review",
                "casefile-collector",
                "tokio",
                "tonic",
                "kube",
                "tracing",
            ],
        ),
        (
            "identity",
            &["casefile-evidence", "casefile-agent", "casefile-review", "casefile-collector", "kube", "tracing"],
        ),
        ("review", &["casefile-agent", "casefile-collector", "kube", "tracing"]),
        ("agent", &["casefile-review", "casefile-collector", "kube"]),
    ];
    let mut offences = vec![];
    for (package, names) in forbidden {
        let manifest: toml::Table = read(&root().join(package).join("Cargo.toml")).parse().expect("a manifest is TOML");
        let dependencies = manifest["dependencies"].as_table().expect("a table of dependencies");
        for name in *names {
            if dependencies.contains_key(*name) {
                offences.push(format!("{package}/Cargo.toml: must not depend on {name}"));
            }
        }
    }
    let agents: Vec<_> = rust_files()
        .into_iter()
        .filter(|(file, text)| file.starts_with("collector/src/") && text.contains("casefile_agent::"))
        .map(|(file, _)| file)
        .filter(|file| file != "collector/src/local.rs" && !file.starts_with("collector/src/local/"))
        .collect();
    offences.extend(agents.iter().map(|file| format!("{file}: only local.rs may know the agent")));
    none(&offences);
}

#[test]
fn what_opens_an_archive_links_no_network() {
    let library = |package: &str| {
        #[expect(clippy::disallowed_methods, reason = "cargo itself, at test time")]
        let tree = std::process::Command::new(env!("CARGO"))
            .args([
                "tree",
                "--offline",
                "--locked",
                "--no-default-features",
                "-e",
                "normal",
                "--prefix",
                "none",
                "-p",
                package,
            ])
            .current_dir(root())
            .output()
            .expect("run cargo tree");
        assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
        String::from_utf8_lossy(&tree.stdout).into_owned()
    };
    for package in ["casefile-evidence", "casefile-redact", "casefile-review"] {
        for line in library(package).lines() {
            let name = line.split(' ').next().unwrap_or_default();
            assert!(!["tokio", "tonic", "hyper", "kube", "rustls"].contains(&name), "{package} links {name}");
        }
    }
}

#[test]
fn every_dependency_of_the_workspace_is_used_by_a_member() {
    let workspace: toml::Table = read(&root().join("Cargo.toml")).parse().expect("the manifest is TOML");
    let members: Vec<_> = MEMBERS.iter().map(|m| read(&root().join(m).join("Cargo.toml"))).collect();
    let declared = workspace["workspace"]["dependencies"].as_table().expect("a table");
    let unused: Vec<_> = declared
        .keys()
        .filter(|name| {
            !members
                .iter()
                .any(|m| m.lines().any(|l| l.starts_with(&format!("{name}.")) || l.starts_with(&format!("{name} ="))))
        })
        .map(|name| format!("Cargo.toml: nobody uses {name}"))
        .collect();
    none(&unused);
}

#[test]
fn every_path_that_the_readme_and_the_documents_name_is_there() {
    let named =
        Regex::new(r"`((?:proto|evidence|redact|agent|collector|review|deploy|tests|bench|fuzz|\.ci)/[\w./-]*)`")
            .expect("a regular expression");
    let mut offences = vec![];
    let mut found = 0;
    for document in ["README.md", "SECURITY.md", "evidence/FORMAT.md", "deploy/README.md"] {
        for hit in named.captures_iter(&read(&root().join(document))) {
            found += 1;
            if !root().join(&hit[1]).exists() {
                offences.push(format!("{document}: names {}, which is not there", &hit[1]));
            }
        }
    }
    assert!(found >= 7, "the README has lost its map: only {found} paths are named");
    none(&offences);
}
