//! What a user gets wrong: flags, windows, names, files of configuration. Refused before anything is done, all problems
//! at once, with what to say instead, and with the exit code that scripts rely on.

use std::fs;
use std::time::Duration;

use casefile_tests::host::fixtures;
use casefile_tests::program::{command, run, said};
use casefile_tests::{Rig, now};

#[test]
fn a_configuration_with_three_problems_names_all_three_on_lines_of_their_own() {
    let rig = Rig::new().unwrap();
    let config = rig.path("bad.toml");
    let cases = [
        (
            "casefile-agent",
            "run",
            "collector = \"ftp://x\"\nnode = \"a/b\"\nring_mib = 1\n",
            ["collector: ", "node: ", "ring_mib: "],
        ),
        (
            "casefile-collector",
            "serve",
            "listen = \"nowhere\"\ndata_dir = \"relative\"\ndeadline_secs = 0\n",
            ["listen: ", "data_dir: ", "deadline_secs: "],
        ),
    ];
    for (name, verb, text, problems) in cases {
        fs::write(&config, text).unwrap();
        let output = run(name, &[verb, "--config", config.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let told = String::from_utf8_lossy(&output.stderr);
        for problem in problems {
            let lines = told.lines().filter(|line| line.trim_start().starts_with(problem)).count();
            assert_eq!(lines, 1, "{problem} of {name}:\n{told}");
        }
    }
}

#[test]
fn a_file_that_is_no_configuration_is_refused_and_never_quoted() {
    let rig = Rig::new().unwrap();
    let config = rig.path("config");
    for (name, verb) in [("casefile-agent", "run"), ("casefile-collector", "serve")] {
        for text in
            [&b"root:$6$secret:19000:0:::\n"[..], b"colector = \"x-secret\"\n", b"\xff\xfesecret", &[b'#'; 2 << 20]]
        {
            fs::write(&config, text).unwrap();
            let output = run(name, &[verb, "--config", config.to_str().unwrap()]);
            assert_eq!(output.status.code(), Some(1), "{name}: {}", said(&output));
            assert!(!said(&output).contains("secret") && !output.stderr.is_empty(), "{name}: {}", said(&output));
        }
        for path in ["/nonexistent/config.toml", "/dev/zero", "/"] {
            let output = run(name, &[verb, "--config", path]);
            assert_eq!(output.status.code(), Some(1), "{name} {path}: {}", said(&output));
            assert!(said(&output).contains(path), "{name}: {}", said(&output));
        }
    }
}

#[test]
fn what_is_no_command_exits_with_two_and_says_how_it_is_used() {
    let cases: [(&str, &[&str]); 13] = [
        ("casefile", &[]),
        ("casefile", &["no-such-verb"]),
        ("casefile", &["show"]),
        ("casefile", &["show", "a", "b"]),
        ("casefile", &["show", "a", "-o", "yaml"]),
        ("casefile", &["logs", "a", "--grep", "("]),
        ("casefile", &["download", "no-incident"]),
        ("casefile", &["collect", "--since", "1m", "--around", "03:12Z±1m"]),
        ("casefile-agent", &["run"]),
        ("casefile-agent", &["extract", "--since-time", "yesterday", "-o", "x"]),
        ("casefile-collector", &["serve"]),
        ("casefile-collector", &["local", "--warm-up", "0s"]),
        ("casefile-collector", &["local", "--listen", "0.0.0.0:7443"]),
    ];
    for (name, args) in cases {
        let output = run(name, args);
        assert_eq!(output.status.code(), Some(2), "{name} {args:?}: {}", said(&output));
        assert!(output.stdout.is_empty() && said(&output).contains("--help"), "{name} {args:?}: {}", said(&output));
    }
}

#[test]
fn an_extraction_that_cannot_be_meant_is_refused_and_makes_nothing() {
    let rig = Rig::new().unwrap();
    let out = rig.path("out.tar.gz");
    let root = fixtures().join("plain-vm");
    let hour = Duration::from_secs(3600);
    let (then, ahead) = (now().before(hour).to_string(), now().after(hour).to_string());
    let extract = |args: &[&str]| {
        let mut agent = command("casefile-agent");
        agent.arg("extract").args(args).args(["--ring", "/nowhere", "--host-root"]).arg(&root).arg("-o").arg(&out);
        agent.output().unwrap()
    };
    let just = now().to_string();
    let cases: [(&[&str], &str); 6] = [
        (&["--since-time", &just, "--until-time", &then], "reversed"),
        (&["--since-time", &then, "--until-time", &then], "empty"),
        (&["--since-time", &ahead], "future"),
        (&["--since-time", &then, "--source", "nosuch"], "no source \"nosuch\""),
        (&["--since-time", &then, "--source", ""], "no source"),
        (&["--since-time", &then, "--config", "/nonexistent"], "/nonexistent"),
    ];
    for (args, why) in cases {
        let output = extract(args);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{args:?}: {}", said(&output));
        assert!(said(&output).contains(why), "{args:?} is refused for {why}: {}", said(&output));
        assert_eq!(fs::read_dir(rig.path("")).unwrap().count(), 0, "{args:?} left something");
    }

    // Before all records is no mistake: there is an archive, and it says that there was nothing.
    let early = extract(&["--since-time", "1999-01-01T00:00:00Z", "--until-time", "1999-01-01T01:00:00Z"]);
    assert_eq!(early.status.code(), Some(5), "{}", said(&early));
    // What is there is precious.
    let before = fs::read(&out).unwrap();
    let again = extract(&["--since-time", &then]);
    assert!(matches!(again.status.code(), Some(1 | 2)) && said(&again).contains("--force"), "{}", said(&again));
    assert_eq!(fs::read(&out).unwrap(), before);
    assert_eq!(extract(&["--since-time", &then, "--force"]).status.code(), Some(5));
    assert_ne!(fs::read(&out).unwrap(), before);
    assert_eq!(fs::read_dir(rig.path("")).unwrap().count(), 1, "nothing but the archive is left");
}
