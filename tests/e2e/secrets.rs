//! Secrets in logs are masked on the node: none of them is in the archive, nor in any directory of ours.

use std::fs;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use casefile_evidence::recording::reader::{Piece, Recording};
use casefile_proto::time::{WallTime, Window};
use casefile_review::casefile::CaseFile;
use casefile_tests::secrets::{KIND_COUNT, Planted, Search, planted};
use casefile_tests::{Rig, host::FakeHost, now, stop};

const _: () = assert!(KIND_COUNT >= 25, "the promise is about 25 kinds");

/// Every kind in several contexts.
const COUNT: usize = 232;

const POD: &str = "var/log/pods/shop_api-0_0a1b2c3d-1111-2222-3333-444455556666/main";

/// Writes the secrets into every kind of log, spread over the second before `until`, with lines of no interest between.
fn plant(host: &FakeHost, secrets: &[Planted], until: WallTime) {
    let mut at = until.before(Duration::from_secs(2));
    let mut tick = move || {
        at = at.after(Duration::from_millis(1));
        at
    };
    let mut rotated = Vec::new();
    for (n, secret) in secrets.iter().enumerate() {
        for line in &secret.lines {
            match n % 5 {
                0 => host.append(&format!("{POD}/0.log"), &format!("{} stderr F {line}\n", tick())).unwrap(),
                // The runtime splits long lines where it likes: in the middle of a secret, too.
                1 => {
                    let middle = line.find(&secret.secret).map_or(line.len() / 2, |i| i + secret.secret.len() / 2);
                    let (first, rest) = line.split_at(line.ceil_char_boundary(middle));
                    host.append(&format!("{POD}/0.log"), &format!("{} stdout P {first}\n", tick())).unwrap();
                    host.append(&format!("{POD}/0.log"), &format!("{} stdout F {rest}\n", tick())).unwrap();
                }
                2 => rotated.extend(format!("{} stdout F {line}\n", tick()).into_bytes()),
                3 => host.append("var/log/app.log", &format!("{} {line}\n", tick())).unwrap(),
                // Several lines of one record.
                _ => host.append("var/log/trace.log", &format!("{} failed:\n  {line}\n", tick())).unwrap(),
            }
        }
        host.append(&format!("{POD}/0.log"), &format!("{} stdout F request {n} served\n", tick())).unwrap();
    }
    let file = fs::File::create(host.root().join(POD).join("0.log.20261123-024410.gz")).unwrap();
    let mut gz = flate2::write::GzEncoder::new(file, flate2::Compression::default());
    gz.write_all(&rotated).unwrap();
    gz.finish().unwrap();
}

/// What the frames of a recording say in words: every label and every event.
fn words(recording: &mut Recording) -> String {
    let mut words = String::new();
    recording
        .pieces(None, &mut |piece| {
            if let Piece::Frame(frame) = piece {
                words.push_str(&format!("{:?}\n", frame.events));
                for sample in &frame.samples {
                    words.push_str(&format!("{:?} {:?}\n", sample.defined, sample.outcome));
                }
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    words
}

/// Every entry of a case file, and what its recordings say.
fn unpacked(file: &mut CaseFile) -> Vec<(String, Vec<u8>)> {
    let entries: Vec<_> = file.entries.list().iter().map(|e| e.path.clone()).collect();
    let mut all = Vec::new();
    for path in entries {
        let mut bytes = Vec::new();
        file.entries.entry(&path).unwrap().read_to_end(&mut bytes).unwrap();
        all.push((path.to_string(), bytes));
    }
    for (_, entry) in file.recordings(None) {
        let words = words(&mut file.recording(&entry).unwrap());
        all.push((format!("{entry} in words"), words.into_bytes()));
    }
    all
}

fn none_left(search: &Search<'_>, what: &str, bytes: &[u8]) {
    let left: Vec<_> = search.bytes(bytes).iter().map(|one| format!("{}: {}", one.kind, one.secret)).collect();
    assert!(left.is_empty(), "{} secrets are left in {what}:\n{}", left.len(), left.join("\n"));
}

fn nothing_in_a_recording(search: &Search<'_>, dir: &Path) {
    let words = words(&mut Recording::open_dir(dir).unwrap());
    assert!(words.len() > 10_000, "the recording in {} says next to nothing", dir.display());
    none_left(search, &dir.display().to_string(), words.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_planted_secret_is_left_in_the_case_file_or_in_any_directory_of_ours() {
    let secrets = planted(1, COUNT);
    let search = Search::new(&secrets);
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    // The kernel's command line and its log: what becomes labels and events of the recording.
    let url = planted(2, KIND_COUNT).into_iter().find(|p| p.kind == "password in a URL").unwrap();
    let (url, kernel) = ([url.clone()], [planted(3, KIND_COUNT).swap_remove(3)]);
    host.append("proc/cmdline", &format!("BOOT_IMAGE=/vmlinuz root=/dev/vda1 ks={}\n", url[0].lines[0])).unwrap();
    fs::write(
        host.root().join("dev/kmsg"),
        format!("6,1,1000,-;clone with {}\n6,2,2000,-;eth0: link is up\n", kernel[0].lines[0]),
    )
    .unwrap();
    let collector = rig.collector().await.unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    let mut client = rig.client().await.unwrap();
    client.recorded("n1", Duration::from_secs(2)).await;

    let until = now();
    plant(&host, &secrets, until);
    // They are there to be found: a search that finds nothing in the logs would find nothing anywhere.
    let (_, there) = search.tree(&host.root().join("var/log"));
    assert!(there.len() > COUNT / 2, "{} of {COUNT} are found in the plain logs", there.len());

    let window = Window::new(until.before(Duration::from_secs(60)), until).unwrap();
    let id = client.open(window, &["n1"], Duration::from_secs(60)).await.unwrap().id;
    client.sealed(id).await.unwrap();
    let mut file = client.download(id, &rig.path("case.tar.gz")).await.unwrap();

    let coverage = &file.coverage.nodes[0];
    for source in ["pods", "files"] {
        let row = coverage.sources.iter().find(|row| row.source == source).unwrap();
        let redaction = row.redaction.as_ref().expect("what was masked is told");
        assert!(redaction.rules.values().sum::<u64>() >= 60, "{source}: {redaction:?}");
        assert!(row.records >= 80, "{source}: {row:?}");
    }
    let entries = unpacked(&mut file);
    let text: String = entries.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect();
    assert!(text.contains("request 7 served") && text.contains("[redacted:"), "what is no secret is still there");
    for (entry, bytes) in &entries {
        none_left(&search, entry, bytes);
        none_left(&Search::new(&url), entry, bytes);
        none_left(&Search::new(&kernel), entry, bytes);
    }
    agent.stop().await;
    stop(collector).await;
    for search in [&search, &Search::new(&url), &Search::new(&kernel)] {
        nothing_in_a_recording(search, &rig.ring("n1"));
        for dir in ["agent-n1", "collector"] {
            let (searched, left) = search.tree(&rig.path(dir));
            assert!(searched > 10_000 && left.is_empty(), "{searched} bytes of {dir}: {left:#?}");
        }
    }
}
