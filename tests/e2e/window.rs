//! The window is `[from, until)`, to the record: what lies inside is in the case file, what lies outside is not.

use std::io::Read;
use std::ops::ControlFlow;
use std::time::Duration;

use casefile_evidence::recording::reader::Piece;
use casefile_proto::time::Window;
use casefile_review::casefile::CaseFile;
use casefile_tests::{Rig, host::FakeHost, now, stop};

/// The text of every entry that ends so.
pub(crate) fn all_text(file: &mut CaseFile, suffix: &str) -> String {
    let entries: Vec<_> = file.entries.list().iter().filter(|e| e.path.as_str().ends_with(suffix)).cloned().collect();
    assert!(!entries.is_empty(), "no entry ends in {suffix}");
    let mut text = String::new();
    for entry in entries {
        file.entries.entry(&entry.path).unwrap().read_to_string(&mut text).unwrap();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_and_frames_inside_the_window_are_there_and_those_outside_are_not() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    let mut client = rig.client().await.unwrap();
    client.recorded("n1", Duration::from_secs(3)).await;

    let until = now().before(Duration::from_millis(500));
    let from = until.before(Duration::from_secs(2));
    let window = Window::new(from, until).unwrap();
    // The agent's clock is the collector's, to within the bound of the measurement: the logs keep a second of distance.
    let before = from.before(Duration::from_secs(1));
    let inside = from.after(Duration::from_secs(1));
    let after = until.after(Duration::from_secs(1));
    for (at, word) in [(before, "too-early"), (inside, "in-the-window"), (after, "too-late")] {
        host.pod_line(at, &format!("pod {word}")).unwrap();
        host.plain_line(at, &format!("plain {word}")).unwrap();
    }
    let id = client.open(window, &["n1"], Duration::from_secs(30)).await.unwrap().id;
    client.sealed(id).await.unwrap();
    let mut file = client.download(id, &rig.path("case.tar.gz")).await.unwrap();

    for (suffix, word) in [("main.log", "pod"), ("app.log", "plain")] {
        let text = all_text(&mut file, suffix);
        assert!(text.contains(&format!("{word} in-the-window")), "{text}");
        assert!(!text.contains("too-early") && !text.contains("too-late"), "{text}");
    }
    let (_, entry) = file.recordings(None).remove(0);
    let mut frames = 0;
    let offset = file.coverage.nodes[0].clock.unwrap().ahead_nanos;
    let on_node = window.shifted(offset).unwrap();
    file.recording(&entry)
        .unwrap()
        .pieces(None, &mut |piece| {
            if let Piece::Frame(frame) = piece {
                assert!(on_node.contains(frame.at.wall), "a frame of {} is outside {on_node}", frame.at.wall);
                frames += 1;
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!((10..=21).contains(&frames), "{frames} frames in two seconds at ten a second");
    agent.stop().await;
    stop(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_before_all_records_gives_a_case_file_that_says_so() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    let mut client = rig.client().await.unwrap();
    client.recorded("n1", Duration::from_secs(1)).await;

    let until = now().before(Duration::from_secs(7200));
    let window = Window::new(until.before(Duration::from_secs(60)), until).unwrap();
    let id = client.open(window, &[], Duration::from_secs(30)).await.unwrap().id;
    let detail = client.sealed(id).await.unwrap();
    let coverage = detail.coverage.unwrap();
    assert!(!coverage.is_whole());
    let cpu = coverage.nodes[0].sources.iter().find(|s| s.source == "cpu").unwrap();
    assert_eq!(cpu.records, 0);
    let told = coverage.nodes[0].gaps.iter().chain(&cpu.gaps).any(|g| g.reason.name() == "not-recorded");
    assert!(told, "{:?}", coverage.nodes[0].gaps);
    agent.stop().await;
    stop(collector).await;
}
