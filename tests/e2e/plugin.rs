//! The same program as a plugin of kubectl: called by that name it speaks of itself as it is typed.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use casefile_tests::program::{binary, said, stdout};
use casefile_tests::{Rig, stop};

/// Runs it by the name that kubectl looks for.
#[expect(clippy::disallowed_methods, reason = "our own program, started by a test")]
fn plugin(dir: &Path, args: &[&str]) -> Output {
    let path = dir.join("kubectl-casefile");
    if !path.exists() {
        // A hard link is what an installation makes; the test's directory may be on another disk.
        let own = binary("casefile");
        std::fs::hard_link(&own, &path).or_else(|_| symlink(&own, &path)).unwrap();
    }
    let mut command = Command::new(path);
    for name in ["CASEFILE_COLLECTOR", "CASEFILE_DATA", "CASEFILE_TOKEN", "CASEFILE_TOKEN_FILE"] {
        command.env_remove(name);
    }
    command.current_dir(dir).args(args).output().unwrap()
}

#[test]
fn its_help_its_completions_and_its_man_pages_are_of_what_is_typed() {
    let dir = tempfile::tempdir().unwrap();
    let help = stdout(&plugin(dir.path(), &["--help"]));
    assert!(help.contains("Usage: kubectl casefile <COMMAND>"), "{help}");
    assert!(
        help.contains("\n  kubectl casefile collect --since 30m --wait") && help.contains("port-forward"),
        "{help}"
    );
    assert!(!help.lines().any(|line| line.trim_start().starts_with("casefile ")), "{help}");
    let help = stdout(&plugin(dir.path(), &["explain", "--help"]));
    assert!(help.contains("Usage: kubectl casefile explain") && help.contains("| kubectl casefile explain"), "{help}");
    let wrong = plugin(dir.path(), &["colect"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("Usage: kubectl casefile"), "{}", said(&wrong));
    let script = stdout(&plugin(dir.path(), &["completions", "bash"]));
    assert!(script.contains("-o default kubectl-casefile") || script.contains(" kubectl-casefile\n"), "{script}");
    let made = plugin(dir.path(), &["man", "."]);
    assert!(made.status.success(), "{}", said(&made));
    for page in ["kubectl-casefile.1", "kubectl-casefile-collect.1"] {
        assert!(dir.path().join(page).exists(), "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_what_the_program_does_and_says_what_to_try_where_no_collector_is_reached() {
    let rig = Rig::new().unwrap();
    let collector = rig.collector().await.unwrap();
    let (dir, data) = (tempfile::tempdir().unwrap(), rig.path("collector"));
    let nodes = plugin(dir.path(), &["nodes", "--data", data.to_str().unwrap()]);
    assert!(nodes.status.success() && stdout(&nodes).contains("NODE"), "{}", said(&nodes));
    stop(collector).await;
    let nodes = plugin(dir.path(), &["nodes", "--data", data.to_str().unwrap()]);
    let error = String::from_utf8_lossy(&nodes.stderr).into_owned();
    assert_eq!(nodes.status.code(), Some(1));
    assert!(error.starts_with("kubectl casefile: no collector answers") && error.contains("port-forward"), "{error}");
}
