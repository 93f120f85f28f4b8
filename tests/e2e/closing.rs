//! How programs end: asked by a signal they end soon, in order, and say what they finished; whoever reads what they print
//! may go away, and where they print to may be full.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use casefile_tests::host::{FakeHost, fixtures};
use casefile_tests::program::{Running, Talking, command, run, said};
use casefile_tests::{Rig, audit, now, wait};
use rustix::process::Signal;

/// An orderly end takes less than this, also where both sides of a conversation are asked at once.
const SOON: Duration = Duration::from_secs(8);

/// Asks it to end and sees to it that it does.
fn ends(program: Talking, signal: Signal) -> String {
    let asked = Instant::now();
    let (status, said) = program.stop(signal);
    assert!(asked.elapsed() < SOON, "it took {:?} to end:\n{said}", asked.elapsed());
    assert_eq!(status.code(), Some(0), "{status}\n{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn serve_and_agent_run_end_on_a_signal_and_say_what_they_did() {
    for signal in [Signal::TERM, Signal::INT] {
        let rig = Rig::new().unwrap();
        let host = FakeHost::new(rig.path("host")).unwrap();
        let listen = rig.url().trim_start_matches("https://").to_owned();
        let (server, agent) = (rig.path("c.toml"), rig.agent_config("n1", host.root()).unwrap());
        std::fs::write(&server, format!("listen = {listen:?}\ndata_dir = {:?}\n", rig.path("collector"))).unwrap();
        rig.enlist("n1").unwrap();
        let with = |name: &str, verb: &str, config: &Path| {
            let mut command = command(name);
            command.arg(verb).arg("--config").arg(config);
            command
        };
        let mut server = Talking::start(&mut with("casefile-collector", "serve", &server), rig.path("c.err"));
        server.until_it_says("collector started");
        let mut agent = Talking::start(&mut with("casefile-agent", "run", &agent), rig.path("a.err"));
        agent.until_it_says("session stands");
        let frames = || audit::directory(&rig.ring("n1")).ok().map_or(0, |audit| audit.frames);
        wait::until_blocking("two frames", || (frames() >= 2).then_some(()));

        let said = ends(agent, signal);
        assert!(said.contains("recorder stopped frames=") && said.contains("lost=0"), "{said}");
        let said = ends(server, signal);
        assert!(said.contains("collector stopped") && said.contains("opened"), "{said}");
        // What was said to be done is on the disk: the last frame of the recorder too.
        assert!(frames() >= 2);
    }
}

#[test]
fn local_ends_on_a_signal_before_during_and_after_its_first_case_file() {
    for (until, once, code) in [
        ("before the first case file", None, 0),
        ("before the first case file", Some("--once"), 1),
        ("recording goes on", None, 0),
    ] {
        let rig = Rig::new().unwrap();
        let warm_up = if until.starts_with("before") { "1h" } else { "1s" };
        let mut local = command("casefile-collector");
        local.args(["local", "--warm-up", warm_up, "--listen", "127.0.0.1:0", "--data"]).arg(rig.path("data"));
        local.args(once).stdout(File::create(rig.path("out")).unwrap());
        let mut local = Talking::start(&mut local, rig.path("err"));
        local.until_it_says(until);
        let asked = Instant::now();
        let (status, said) = local.stop(Signal::INT);
        assert!(asked.elapsed() < SOON, "{:?}\n{said}", asked.elapsed());
        assert_eq!(status.code(), Some(code), "{said}");
        assert!(said.contains("stopped: ") && said.contains("everything is in"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        assert_eq!(!std::fs::read(rig.path("out")).unwrap().is_empty(), until == "recording goes on", "{said}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let rig = Rig::new().unwrap();
    let data = rig.path("data");
    let args = ["local", "--once", "--warm-up", "1s", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()];
    let made = run("casefile-collector", &args);
    let file = casefile_tests::program::stdout(&made).lines().next().unwrap_or_default().to_owned();
    assert!(made.status.success(), "{}", said(&made));
    let commands: [(&str, Vec<&str>); 8] = [
        ("casefile", vec!["show", &file]),
        ("casefile", vec!["ls", &file]),
        ("casefile", vec!["series", &file]),
        ("casefile", vec!["series", &file, "node_cpu_seconds_total"]),
        ("casefile", vec!["verify", &file]),
        ("casefile", vec!["cat", &file, "data/coverage.json"]),
        ("casefile", vec!["completions", "bash"]),
        ("casefile-collector", vec!["key", "--data", data.to_str().unwrap()]),
    ];
    for (name, args) in commands {
        // `| true`: nobody ever reads.
        let (quiet, status) = without_reader(command(name).args(&args));
        assert!(quiet.is_empty() && status == Some(0), "{name} {args:?}: {status:?} {quiet}");
        // `| head -1`: one line, and then nobody.
        let mut child = command(name).args(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::with_capacity(64, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty() && !line.is_empty(), "{args:?}: {}", said(&output));
        // A full disk is no reader that went away: what was asked for is not there, and that is an error.
        let full = command(name).args(&args).stdout(File::create("/dev/full").unwrap()).output().unwrap();
        assert_eq!(full.status.code(), Some(1), "{name} {args:?}: {}", said(&full));
        assert!(said(&full).contains("No space left"), "{name} {args:?}: {}", said(&full));
    }
}

/// Runs it with a standard output that is closed before it begins; what it says and how it ends.
fn without_reader(command: &mut Command) -> (String, Option<i32>) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).output().unwrap();
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
}

/// A standard error that takes nothing: a pipe that nobody reads, or a file on a full disk.
fn deaf(command: &mut Command, how: &str) {
    if how == "full" {
        command.stderr(File::create("/dev/full").unwrap());
    } else {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        command.stderr(writer);
    }
}

#[test]
fn what_cannot_be_said_on_standard_error_stops_no_work() {
    let since = now().before(Duration::from_secs(60)).to_string();
    for how in ["full", "closed"] {
        let rig = Rig::new().unwrap();
        let mut local = command("casefile-collector");
        local.args(["local", "--once", "--warm-up", "1s", "--listen", "127.0.0.1:0", "--data"]).arg(rig.path("data"));
        deaf(&mut local, how);
        let output = local.output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "local, {how}: {}", said(&output));

        let mut extract = command("casefile-agent");
        extract.args(["extract", "--since-time", &since, "--ring", "/nowhere", "-o"]).arg(rig.path("x.tar.gz"));
        extract.arg("--host-root").arg(fixtures().join("plain-vm"));
        deaf(&mut extract, how);
        assert_eq!(extract.output().unwrap().status.code(), Some(5), "extract, {how}");
        assert!(run("casefile", &["verify", rig.path("x.tar.gz").to_str().unwrap()]).status.success());

        // It logs when it starts, and again when its collector is not there: each would have ended what logged it.
        let config = rig.path("agent.toml");
        let text = format!("node = \"n1\"\ncollector = {:?}\ndata_dir = {:?}\n", rig.url(), rig.path("agent-n1"));
        std::fs::write(&config, text).unwrap();
        let mut agent = command("casefile-agent");
        agent.arg("run").arg("--config").arg(&config);
        deaf(&mut agent, how);
        let mut agent = Running::start(&mut agent);
        let frames = || audit::directory(&rig.ring("n1")).ok().map_or(0, |audit| audit.frames);
        wait::until_blocking("frames of an agent that nobody hears", || (frames() >= 3).then_some(()));
        assert!(agent.0.try_wait().unwrap().is_none(), "it goes on, {how}");
        agent.kill();
    }
}
