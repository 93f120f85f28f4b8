//! The API over loopback, with nodes that the test plays.

use std::time::Duration;

use casefile_proto::node::Link::Connected;
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::incident_service_client::IncidentServiceClient;
use casefile_proto::wire::v1::node_service_client::NodeServiceClient;
use tokio::sync::oneshot;
use tonic::Code;

use super::refused::Kind;
use super::*;
use crate::archives::Archives;
use crate::audit::Audit;
use crate::cluster::chooser::Chooser;
use crate::identity::Identity;
use crate::identity::authorise::Authorise;
use crate::incident::test_nodes::{START, window};
use crate::incident::test_rig::{Rig, ask, clock};
use crate::ingest::Clock;
use crate::ingest::listener::{self, Limits, Secured};
use crate::store::sqlite::SqliteStore;
use casefile_identity::dial::{Api, dial_as};
use casefile_identity::token::Token;

/// What is asked of a rig's incidents, nodes and archives.
pub(super) fn verbs(rig: &Rig, audit: &Arc<Audit>) -> Verbs {
    let fleet = Arc::clone(&rig.fleet) as Arc<dyn crate::incident::fleet::Fleet>;
    let chooser = Chooser::new(Arc::clone(&fleet), None);
    let archives = Archives::local(Arc::clone(&rig.data), Arc::clone(&rig.store));
    let (audit, clock, connectivity) = (Arc::clone(audit), clock(Arc::default()), rig.connectivity());
    Verbs::new(rig.incidents.clone(), archives, fleet, audit, clock, connectivity, chooser)
}

struct Served {
    rig: Rig,
    channel: Api,
    audit: Arc<Audit>,
    /// Ends the listener with the test.
    _stop: oneshot::Sender<()>,
}

impl Served {
    async fn start() -> Self {
        let rig = Rig::start(&[("a", Connected)]).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let now: Clock = Arc::new(crate::clock::now);
        let audit = Arc::new(Audit::open(&rig.data.audit(), Arc::clone(&now)).unwrap());
        let tokens = Arc::new(SqliteStore::in_memory());
        let life = Duration::from_hours(1);
        let identity = Identity::open(&rig.data.keys(), tokens, Arc::clone(&audit), now, life).unwrap();
        let identity = Arc::new(identity);
        let secured = Secured { tls: identity.tls(), authorise: Authorise::new(identity) };
        let routes = people(Arc::new(verbs(&rig, &audit)));
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(async move {
            listener::serve(listener, routes, secured, Limits::default(), Arc::default(), async {
                drop(stopped.await);
            })
            .await
            .unwrap();
        });
        let owner = Token::load(&rig.data.keys().join("owner.token")).unwrap();
        let to = addr.to_string().parse().unwrap();
        let channel = dial_as(&to, &owner, |endpoint| endpoint).await.unwrap();
        Self { rig, channel, audit, _stop: stop }
    }

    fn incidents(&self) -> IncidentServiceClient<Api> {
        IncidentServiceClient::new(self.channel.clone())
    }

    /// A sealed incident of node a: its name, and its archive as it lies on the disk.
    async fn sealed(&mut self) -> (String, Vec<u8>) {
        let opened = self.rig.incidents.open(ask(window(0, 50), &[], None)).await.unwrap();
        let (node, asked, spool) = self.rig.asked().await;
        self.rig.answer(&node, &asked, &spool).await;
        let archive = self.rig.ended(opened.id).await.incident.archive.unwrap();
        (opened.id.to_string(), std::fs::read(self.rig.incidents.archive(&archive)).unwrap())
    }
}

fn request(from: i64, until: i64, nodes: &[&str]) -> v1::OpenIncidentRequest {
    let at = |seconds: i64| (START + seconds) * 1_000_000_000;
    v1::OpenIncidentRequest {
        window: Some(v1::Window { from_unix_nanos: at(from), until_unix_nanos: at(until) }),
        nodes: nodes.iter().map(|n| (*n).to_owned()).collect(),
        deadline_nanos: 1,
        ..Default::default()
    }
}

async fn drained(mut pieces: tonic::Streaming<v1::DownloadArchiveResponse>) -> Vec<v1::DownloadArchiveResponse> {
    let mut all = Vec::new();
    while let Some(piece) = pieces.message().await.unwrap() {
        all.push(piece);
    }
    all
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_told_which_sense_it_lacks() {
    let served = Served::start().await;
    let mut client = served.incidents();
    let cases = [
        (request(50, 50, &[]), Code::InvalidArgument, "empty"),
        (request(50, 0, &[]), Code::InvalidArgument, "reversed"),
        (request(1_000, 2_000, &[]), Code::InvalidArgument, "nothing of it has happened yet"),
        (request(0, 50, &["b"]), Code::NotFound, "Known: a"),
        (request(0, 50, &["../b"]), Code::InvalidArgument, "node name"),
        (v1::OpenIncidentRequest::default(), Code::InvalidArgument, "window: is missing"),
    ];
    for (request, code, words) in cases {
        let refused = client.open_incident(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), code, "{request:?}");
        assert!(refused.message().contains(words), "{refused:?}");
    }
    let nobody = client.get_incident(v1::GetIncidentRequest { incident: "INC-9".to_owned() }).await.unwrap_err();
    assert_eq!(nobody.code(), Code::NotFound);
}

#[tokio::test]
async fn an_incident_is_opened_watched_to_its_end_and_shown_with_its_coverage() {
    let mut served = Served::start().await;
    let mut client = served.incidents();
    let long = v1::OpenIncidentRequest { deadline_nanos: 0, title: "why".to_owned(), ..request(0, 50, &["a"]) };
    let opened = client.open_incident(long).await.unwrap().into_inner().incident.unwrap();
    assert_eq!((opened.name.as_str(), opened.title.as_str()), ("INC-000001", "why"));
    let watch = v1::WatchIncidentRequest { incident: opened.name.clone() };
    let mut watched = client.watch_incident(watch.clone()).await.unwrap().into_inner();
    let first = watched.message().await.unwrap().unwrap();
    assert_eq!(first.incident.unwrap().state, v1::IncidentState::Gathering as i32);
    let early = client
        .download_archive(v1::DownloadArchiveRequest { incident: opened.name.clone(), offset: 0, revision: 0 })
        .await;
    assert_eq!(early.unwrap_err().code(), Code::FailedPrecondition);

    let (node, asked, spool) = served.rig.asked().await;
    served.rig.answer(&node, &asked, &spool).await;
    let mut last = None;
    while let Some(view) = watched.message().await.unwrap() {
        last = Some(view);
    }
    let last = last.unwrap();
    assert_eq!(last.incident.unwrap().state, v1::IncidentState::Sealed as i32);
    assert_eq!(last.nodes[0].state, v1::NodeProgressState::Answered as i32);
    let mut again = client.watch_incident(watch).await.unwrap().into_inner();
    assert!(again.message().await.unwrap().is_some(), "a finished incident is shown once");
    assert!(again.message().await.unwrap().is_none());

    let shown = client.get_incident(v1::GetIncidentRequest { incident: opened.name }).await.unwrap().into_inner();
    assert_eq!(shown.coverage.unwrap().nodes[0].node, "a");
    assert!(shown.incident.unwrap().archive.unwrap().whole);
}

#[tokio::test]
async fn an_archive_is_downloaded_in_pieces_and_resumed_at_any_offset() {
    let mut served = Served::start().await;
    let (incident, file) = served.sealed().await;
    let mut client = served.incidents();
    let size = u64::try_from(file.len()).unwrap();
    for offset in [0, 1, size / 2, size - 1, size] {
        let ask = v1::DownloadArchiveRequest { incident: incident.clone(), offset, revision: 0 };
        let pieces = drained(client.download_archive(ask).await.unwrap().into_inner()).await;
        assert_eq!(pieces[0].archive.as_ref().unwrap().size, size, "the first piece says what it is a piece of");
        assert_eq!(pieces[0].offset, offset);
        let data = pieces.iter().flat_map(|p| p.data.to_vec()).collect::<Vec<_>>();
        assert_eq!(data, file[usize::try_from(offset).unwrap()..]);
    }
    let ask = v1::DownloadArchiveRequest { incident, offset: size + 1, revision: 0 };
    assert_eq!(client.download_archive(ask).await.unwrap_err().code(), Code::OutOfRange);
}

#[tokio::test]
async fn an_archive_that_is_not_as_it_was_sealed_is_not_given_out_as_if() {
    let mut served = Served::start().await;
    let (incident, file) = served.sealed().await;
    let archives = served.rig.data.archives();
    let path = std::fs::read_dir(archives).unwrap().next().unwrap().unwrap().path();
    std::fs::write(path, &file[..file.len() / 2]).unwrap();
    let ask = v1::DownloadArchiveRequest { incident, offset: 0, revision: 0 };
    let mut pieces = served.incidents().download_archive(ask).await.unwrap().into_inner();
    assert_eq!(pieces.message().await.unwrap_err().code(), Code::DataLoss);
}

#[tokio::test]
async fn incidents_come_page_by_page_newest_first() {
    let served = Served::start().await;
    let mut client = served.incidents();
    for _ in 0..3 {
        client.open_incident(request(0, 50, &[])).await.unwrap();
    }
    let page = |before: &str| v1::ListIncidentsRequest { page_size: 2, before: before.to_owned() };
    let first = client.list_incidents(page("")).await.unwrap().into_inner();
    let names = |page: &v1::ListIncidentsResponse| page.incidents.iter().map(|i| i.name.clone()).collect::<Vec<_>>();
    assert_eq!((names(&first), first.more), (vec!["INC-000003".to_owned(), "INC-000002".to_owned()], true));
    let second = client.list_incidents(page("INC-000002")).await.unwrap().into_inner();
    assert_eq!((names(&second), second.more), (vec!["INC-000001".to_owned()], false));
}

#[tokio::test]
async fn nodes_are_listed_with_the_collectors_clock() {
    let served = Served::start().await;
    let listed = NodeServiceClient::new(served.channel.clone()).list_nodes(v1::ListNodesRequest {}).await.unwrap();
    let listed = listed.into_inner();
    assert_eq!((listed.nodes[0].name.as_str(), listed.nodes[0].connected), ("a", true));
    assert!(listed.now_unix_nanos >= START * 1_000_000_000);
}

#[tokio::test]
async fn too_many_streams_are_refused_and_one_that_ended_makes_room() {
    let streams = streams::Streams::new("watchers", 1);
    let (release, held) = oneshot::channel::<()>();
    let open = streams.open(|_outlet: streams::Outlet<()>| async { drop(held.await) }).unwrap();
    let refused = streams.open(|_outlet: streams::Outlet<()>| async {}).map(drop).unwrap_err();
    assert_eq!(refused.kind, Kind::TooMany);
    release.send(()).unwrap();
    let room = async {
        while streams.open(|_outlet: streams::Outlet<()>| async {}).is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), room).await.unwrap();
    drop(open);
}

#[tokio::test]
async fn who_opens_and_who_fetches_is_recorded_first_and_nothing_is_fetched_that_is_not_recorded() {
    let mut served = Served::start().await;
    let (incident, _) = served.sealed().await;
    let mut client = served.incidents();
    let opened = client.open_incident(request(0, 50, &["a"])).await.unwrap().into_inner().incident.unwrap();
    assert_eq!(opened.requested_by, "owner", "who asked is who has proven it");
    let ask = v1::DownloadArchiveRequest { incident, offset: 0, revision: 0 };
    drained(client.download_archive(ask.clone()).await.unwrap().into_inner()).await;
    let mut verbs = Vec::new();
    let log = served.rig.data.audit();
    crate::audit::read(&log, |line| verbs.push((line.entry.who.clone(), line.entry.verb.word()))).unwrap();
    let owner = |verb| ("owner".to_owned(), verb);
    assert_eq!(verbs, [owner("open-incident"), owner("download-archive")]);

    served.audit.spoil(&served.rig.dir.path().join("aside"));
    let refused = client.download_archive(ask).await.unwrap_err();
    assert!(refused.code() == Code::Unavailable && refused.message().contains("audit log"), "{refused}");
    std::fs::remove_dir(&log).unwrap();
}
