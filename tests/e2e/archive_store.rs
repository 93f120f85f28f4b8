//! Archives in an object store, a real program against a double of S3 (moto): copied, checked, gone from here when room is short,
//! and served all the same; and a store that is away, lets nobody in, or has no such bucket, which holds nothing up.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use casefile_proto::ids::IncidentId;
use casefile_proto::incident::{IncidentDetail, Whereabouts};
use casefile_proto::time::Window;
use casefile_tests::client::Client;
use casefile_tests::disk::SmallDisk;
use casefile_tests::program::{Running, Talking, command, run, said, stdout, tool};
use casefile_tests::proxy::{Line, Proxy};
use casefile_tests::scrape::{Answer, metrics, raw};
use casefile_tests::{Rig, host::FakeHost, now, wait};

const BUCKET: &str = "evidence";

/// What must be in no text.
const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI-hidden-bPxRfiCYEXAMPLEKEY";

/// The double of S3, with a bucket; `None`, said on standard error, when it is not installed.
struct S3 {
    at: SocketAddr,
    _program: Running,
}

impl S3 {
    /// `strict`: whoever asks later on must have a key that it knows, and it knows none.
    fn start(rig: &Rig, strict: bool) -> Option<Self> {
        let mut moto = tool("moto_server")?;
        let at = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap();
        moto.args(["-H", "127.0.0.1", "-p", &at.port().to_string()]);
        if strict {
            // The bucket is made without a key.
            moto.env("INITIAL_NO_AUTH_ACTION_COUNT", "1");
        }
        let log = std::fs::File::create(rig.path("moto.log")).unwrap();
        let program = Running::start(moto.stdout(log.try_clone().unwrap()).stderr(log));
        wait::until_blocking("the double of S3", || TcpStream::connect(at).ok());
        let made =
            raw(at, &format!("PUT /{BUCKET} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(made.unwrap().status, 200);
        Some(Self { at, _program: program })
    }

    /// The size of what lies under this key, as the double lists it to anybody.
    fn size(&self, key: &str) -> Option<u64> {
        let request = format!("GET /{BUCKET}?list-type=2 HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.at);
        let listed = raw(self.at, &request).unwrap();
        assert_eq!(listed.status, 200, "{}", listed.body);
        let (_, found) = listed.body.split_once(&format!("<Key>{key}</Key>"))?;
        found.split("<Size>").nth(1)?.split('<').next()?.parse().ok()
    }
}

/// A collector in a process of its own, with this store.
struct Collector {
    program: Talking,
    data: PathBuf,
}

impl Collector {
    fn start(rig: &Rig, data: &Path, store: SocketAddr, url: &str) -> Self {
        let credentials = rig.path("credentials");
        std::fs::write(
            &credentials,
            format!("[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"),
        )
        .unwrap();
        std::fs::create_dir_all(data).unwrap();
        // Where the harness looks for the collector's keys.
        std::os::unix::fs::symlink(data, rig.path("collector")).unwrap();
        let config = rig.path("collector.toml");
        let listen = rig.url().trim_start_matches("https://").to_owned();
        let text = format!(
            "listen = {listen:?}\ndata_dir = {data:?}\nreserve_mib = 0\nhttp = \"127.0.0.1:0\"\nobserve = \"127.0.0.1:0\"\n\
             [archive_store]\nurl = {url:?}\nendpoint = \"http://{store}\"\nallow_http = true\ncredentials_file = {credentials:?}\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut serve = command("casefile-collector");
        let mut program = Talking::start(serve.arg("serve").arg("--config").arg(&config), rig.path("collector.err"));
        program.until_it_says("collector started");
        Self { program, data: data.to_owned() }
    }

    fn at(&self, what: &str) -> SocketAddr {
        let said = self.program.said();
        let line = said.lines().find(|line| line.contains(what)).expect("it says where");
        line.split("addr=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap().parse().unwrap()
    }

    fn get(&self, rig: &Rig, path: &str, more: &str) -> Answer {
        let (at, token) = (self.at("the API answers over HTTP"), rig.owner().unwrap().reveal());
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n");
        raw(at, &format!("{head}{more}\r\n")).unwrap()
    }

    /// Of the command, with the owner's token.
    fn casefile(&self, args: &[&str]) -> String {
        let done = run("casefile", &[args, &["--data", self.data.to_str().unwrap()]].concat());
        assert!(done.status.success(), "{args:?}: {}", said(&done));
        stdout(&done)
    }

    fn metric(&self, name: &str) -> f64 {
        metrics(self.at("metrics and health answer")).of(name)
    }
}

/// Seals an incident about one node, and lets its agent go.
async fn seal(rig: &Rig) -> (Client, IncidentDetail) {
    let host = FakeHost::new(rig.path("host")).unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    let mut client = rig.client().await.unwrap();
    client.recorded("n1", Duration::from_secs(1)).await;
    let window = Window::new(now().before(Duration::from_secs(1)), now()).unwrap();
    let id = client.open(window, &["n1"], Duration::from_secs(30)).await.unwrap().id;
    let detail = client.sealed(id).await.unwrap();
    agent.stop().await;
    (client, detail)
}

async fn until_kept(client: &Client, id: IncidentId, kept: &[Whereabouts]) {
    wait::until(kept[0].name(), async || {
        let archive = client.clone().get(id).await.ok()?.incident.archive?;
        archive.kept.filter(|found| kept.contains(found))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_copied_goes_when_room_is_short_and_is_served_from_the_store_all_the_same() {
    let rig = Rig::new().unwrap();
    let Some(s3) = S3::start(&rig, false) else { return };
    let Some(disk) = SmallDisk::mount(&rig.path("disk"), 16 << 10) else { return };
    let line = Proxy::start(s3.at).await.unwrap();
    let mut collector = Collector::start(&rig, &disk.path("data"), line.addr(), "s3://evidence/case/files");
    collector.program.until_it_says("the archive store lets us in");

    let (client, detail) = seal(&rig).await;
    let (id, archive) = (detail.incident.id, detail.incident.archive.unwrap());
    until_kept(&client, id, &[Whereabouts::HereAndStore]).await;
    let file = disk.path("data/archives").join(&archive.file_name);
    let whole = std::fs::read(&file).unwrap();
    assert_eq!(s3.size(&format!("case/files/{}", archive.file_name)), Some(archive.size));
    assert_eq!(collector.metric("casefile_archives_uncopied"), 0.0);
    assert_eq!(collector.metric("casefile_archives_copied_total"), 1.0);
    assert!(collector.casefile(&["incidents"]).contains("here and in the store"));

    // Room is made where less than 12 % are free; evidence is taken down to 5 %.
    disk.fill_to(1200);
    until_kept(&client, id, &[Whereabouts::Store]).await;
    assert!(!file.exists());
    disk.make_room();

    // By the item, by ranges, by the command: fetched back once.
    let entry = format!("/api/v1/incidents/{id}/entries/bagit.txt");
    let part = collector.get(&rig, &entry, "Range: bytes=0-5\r\n");
    assert_eq!((part.status, part.body.as_str()), (206, "BagIt-"), "{}", part.head);
    assert_eq!(collector.metric("casefile_archives_fetched_total"), 1.0);
    std::fs::remove_file(&file).unwrap();
    let path = rig.path("case.tar.gz");
    collector.casefile(&["download", &id.to_string(), "-o", path.to_str().unwrap()]);
    assert!(std::fs::read(&path).unwrap() == whole, "to the byte what was sealed");
    let key = rig.path("signers");
    std::fs::write(&key, stdout(&run("casefile-collector", &["key", "--data", collector.data.to_str().unwrap()])))
        .unwrap();
    let verified = run("casefile", &["verify", path.to_str().unwrap(), "--signers", key.to_str().unwrap()]);
    assert!(verified.status.success() && stdout(&verified).contains("intact"), "{}", said(&verified));

    // A store that is away is no reason to say that there is nothing.
    std::fs::remove_file(&file).unwrap();
    line.set(Line { down: true, ..Line::default() });
    line.cut();
    let refused = collector.get(&rig, &format!("/api/v1/incidents/{id}/archive"), "");
    assert_eq!(refused.status, 503, "{}\n{}", refused.head, refused.body);
    assert!(refused.body.contains("it is in the archive store, and could not be fetched"), "{}", refused.body);
    line.set(Line::default());
    let whole = collector.get(&rig, &entry, "");
    assert!(whole.status == 200 && whole.body.starts_with("BagIt-"), "{}", whole.head);

    let log = stdout(&run("casefile-collector", &["audit", "--data", collector.data.to_str().unwrap(), "--json"]));
    for verb in ["copy-archive", "remove-archive"] {
        assert_eq!(log.matches(&format!("\"verb\":\"{verb}\"")).count(), 1, "{log}");
    }
    assert!(!collector.program.said().contains(SECRET) && !collector.program.said().contains(KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_at_the_start_holds_nothing_up_and_gets_everything_when_it_is_there() {
    let rig = Rig::new().unwrap();
    let Some(s3) = S3::start(&rig, false) else { return };
    let line = Proxy::start(s3.at).await.unwrap();
    line.set(Line { down: true, ..Line::default() });
    let mut collector = Collector::start(&rig, &rig.path("data"), line.addr(), "s3://evidence");
    collector.program.until_it_says("archives cannot be copied to the archive store");
    assert!(collector.program.said().contains("the store cannot be reached"), "{}", collector.program.said());

    let (client, detail) = seal(&rig).await;
    let id = detail.incident.id;
    until_kept(&client, id, &[Whereabouts::Here]).await;
    wait::until_blocking("what waits", || (collector.metric("casefile_archives_uncopied") == 1.0).then_some(()));
    assert!(collector.metric("casefile_archives_uncopied_oldest_timestamp_seconds") > 1e9);
    assert!(collector.metric("casefile_archive_store_failures_total{reason=\"unreachable\"}") >= 1.0);

    line.set(Line::default());
    collector.program.until_it_says("every archive is in the archive store again");
    // On a machine whose disk is nearly full it goes from here at once.
    until_kept(&client, id, &[Whereabouts::HereAndStore, Whereabouts::Store]).await;
    let archive = detail.incident.archive.unwrap();
    assert_eq!(s3.size(&archive.file_name), Some(archive.size));
    let said = collector.program.said();
    assert_eq!(said.matches("archives cannot be copied").count(), 1, "it is said once:\n{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_refused_and_a_bucket_that_is_not_there_are_told_by_their_code_and_nothing_of_the_key() {
    for (strict, url, reason) in [
        (true, "s3://evidence", "the store refuses our access key, or what is asked in its name (InvalidAccessKeyId)"),
        (false, "s3://elsewhere", "the store has no such bucket, or no such object (NoSuchBucket)"),
    ] {
        let rig = Rig::new().unwrap();
        let Some(s3) = S3::start(&rig, strict) else { return };
        let mut collector = Collector::start(&rig, &rig.path("data"), s3.at, url);
        collector.program.until_it_says("archives cannot be copied to the archive store");
        let said = collector.program.said();
        assert!(said.contains(reason), "{said}");
        assert!(!said.contains(SECRET) && !said.contains(KEY), "{said}");
        let (_, detail) = seal(&rig).await;
        assert!(rig.path("data/archives").join(detail.incident.archive.unwrap().file_name).exists());
    }
}
