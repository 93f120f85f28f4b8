//! Bulk never delays what a node says of itself: an upload over a slow line, and how late frames come meanwhile.

use std::time::Duration;

use casefile_proto::time::Window;
use casefile_tests::host::FakeHost;
use casefile_tests::proxy::{Line, Proxy};
use casefile_tests::{Rig, now, stop};

/// Of the line: an upload of the log below takes some ten seconds.
const RATE: u64 = 1 << 20;

/// How old the newest frame at the collector may be while an upload fills the line. A dead node's last evidence is at most
/// two seconds old.
const LATE: Duration = Duration::from_secs(2);

/// Text that cannot be compressed by much, with a time at the begin of each line.
fn bulky(host: &FakeHost, bytes: usize) {
    let (mut text, mut state) = (String::with_capacity(bytes), 0x9e37_79b9_7f4a_7c15_u64);
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = now().before(Duration::from_secs(1));
    while text.len() < bytes {
        text.push_str(&format!("{at} "));
        for _ in 0..900 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push(char::from(letters[usize::try_from(state >> 58).unwrap()]));
        }
        text.push('\n');
    }
    host.append("var/log/app.log", &text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_come_in_time_while_an_upload_fills_the_line() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    let proxy = Proxy::start(rig.listen()).await.unwrap();
    let agent = rig.agent_through("n1", host.root(), proxy.addr()).unwrap();
    let mut client = rig.client().await.unwrap();
    client.recorded("n1", Duration::from_secs(2)).await;
    bulky(&host, 16 << 20);
    proxy.set(Line { rate: Some(RATE), ..Line::default() });

    let window = Window::new(now().before(Duration::from_secs(5)), now()).unwrap();
    let id = client.open(window, &["n1"], Duration::from_secs(120)).await.unwrap().id;
    let (mut ages, began) = (Vec::new(), now());
    let detail = loop {
        tokio::select! {
            sealed = async { client.clone().sealed(id).await } => break sealed.unwrap(),
            () = async {
                loop {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    let Ok(nodes) = client.clone().nodes().await else { continue };
                    let held = nodes.first().and_then(|n| n.last_words).unwrap();
                    ages.push(now().nanos_since(held.until()));
                }
            } => {}
        }
    };
    let took = now().nanos_since(began) / 1_000_000;
    ages.sort_unstable();
    let at = |share: usize| ages[(ages.len() * share / 100).min(ages.len() - 1)] / 1_000_000;
    eprintln!("upload of {took} ms at {RATE} bytes/s; newest frame: median {} ms, p99 {} ms old", at(50), at(99));
    let node = &detail.coverage.unwrap().nodes[0];
    let files = node.sources.iter().find(|s| s.source == "files").unwrap();
    assert!(files.cost.bytes > 15 << 20, "it was uploaded: {files:#?}");
    assert!(took > 5_000, "the line was not filled: {took} ms");
    assert!(u128::try_from(at(99)).unwrap() < LATE.as_millis(), "frames came {} ms late", at(99));
    agent.stop().await;
    stop(collector).await;
}
