//! Copying, fetching back and making room, over a store in memory that can be spoilt.

use std::path::Path;
use std::time::Duration;

use casefile_proto::coverage::Coverage;
use casefile_proto::incident::IncidentState;
use casefile_proto::item::Digest;
use casefile_proto::scope::Scope;
use casefile_proto::time::Window;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::incident::machine::Plan;
use crate::incident::test_rig::{ask, until};
use crate::observe::health::Run;
use crate::store::sqlite::SqliteStore;

const NAME: &str = "s3://evidence/x";

struct Rig {
    dir: tempfile::TempDir,
    data: Arc<DataDir>,
    index: Arc<dyn Store>,
    store: Arc<InMemory>,
    stats: Arc<Stats>,
    run: watch::Sender<Run>,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = Arc::new(DataDir::open(&dir.path().join("data")).unwrap());
        let index: Arc<dyn Store> = Arc::new(SqliteStore::open(&data.index()).unwrap());
        let (store, stats) = (Arc::new(InMemory::new()), Arc::default());
        Self { dir, data, index, store, stats, run: watch::Sender::new(Run::Go) }
    }

    /// A sealed incident with an archive of these bytes; over, unless it may be amended.
    fn seal(&self, bytes: &[u8], over: bool) -> IncidentSummary {
        let window = Window::new(WallTime::from_secs(100), WallTime::from_secs(200)).unwrap();
        let plan = Plan::new(window, WallTime::from_secs(150), Duration::from_secs(30));
        let mut record = self.index.open_incident(&ask(window, &[], None).ask, &plan, &[]).unwrap();
        record.state = IncidentState::Sealed;
        record.over = over;
        let archive = SealedArchive {
            file_name: format!("{}.tar.gz", record.id),
            size: bytes.len() as u64,
            sha256: Digest(Sha256::digest(bytes).into()),
            sealed_at: WallTime::from_secs(300 + i64::try_from(record.id.0).unwrap()),
            whole: true,
            revision: 1,
            kept: None,
        };
        std::fs::write(self.data.archives().join(&archive.file_name), bytes).unwrap();
        record.archive = Some(archive);
        let coverage = Coverage { window, nodes: vec![], scope: Scope::default(), cluster: None };
        self.index.save_sealed(&record, &coverage).unwrap();
        self.stats.sealed.one();
        record.summary()
    }

    fn archives_over(&self, store: Arc<dyn ObjectStore>) -> Archives {
        let audit = Audit::open(&self.data.audit(), Arc::new(crate::clock::now)).unwrap();
        let space = Space::watch(self.data.root(), Some(Bytes(0)), Arc::clone(&self.stats)).unwrap();
        let parts = Parts { space, stats: Arc::clone(&self.stats), audit: Arc::new(audit) };
        let local = Archives::local(Arc::clone(&self.data), Arc::clone(&self.index));
        local.with_bucket(Bucket::over(store, "x"), NAME.to_owned(), parts)
    }

    fn archives(&self) -> Archives {
        self.archives_over(Arc::clone(&self.store) as _)
    }

    /// Copies, and makes no room by itself: nobody knows how full the disk is that this runs on.
    fn copying(&self, archives: &Archives) -> JoinHandle<()> {
        let (archives, mut run) = (archives.clone(), self.run.subscribe());
        tokio::spawn(async move {
            tokio::select! {
                () = archives.keep_copying(archives.remote.as_ref().unwrap()) => {}
                _ = run.wait_for(|run| matches!(run, Run::Stop)) => {}
            }
        })
    }

    /// Starts copying, and waits until this many archives are left.
    async fn copied_but(&self, left: u64) -> Archives {
        let archives = self.archives();
        self.copying(&archives);
        until("the copies", || waiting(&archives).filter(|waiting| waiting.count == left)).await;
        archives
    }

    fn file(&self, incident: &IncidentSummary) -> PathBuf {
        self.data.archives().join(&archive(incident).file_name)
    }

    async fn stored(&self, incident: &IncidentSummary) -> Option<Vec<u8>> {
        let found = self.store.get(&key(incident)).await.ok()?;
        Some(found.bytes().await.unwrap().to_vec())
    }

    fn told(&self) -> String {
        String::from_utf8(std::fs::read(self.data.audit()).unwrap()).unwrap()
    }
}

fn archive(incident: &IncidentSummary) -> &SealedArchive {
    incident.archive.as_ref().unwrap()
}

fn key(incident: &IncidentSummary) -> Key {
    Key::from(format!("x/{}", archive(incident).file_name))
}

fn waiting(archives: &Archives) -> Option<Waiting> {
    archives.waiting().unwrap()
}

async fn kept(archives: &Archives, incident: &IncidentSummary) -> Whereabouts {
    let placed = archives.place(vec![incident.clone()]).await.unwrap();
    archive(&placed[0]).kept.unwrap()
}

async fn here(archives: &Archives, incident: &IncidentSummary) -> Result<Vec<u8>, NotHere> {
    let here = archives.here(incident.id, archive(incident), None).await?;
    Ok(std::fs::read(here.path()).unwrap_or_default())
}

fn left_over(dir: &Path) -> Vec<String> {
    let all = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    all.filter(|name| name.ends_with(".partial")).collect()
}

#[tokio::test]
async fn a_sealed_archive_is_copied_and_what_waits_is_known() {
    let rig = Rig::new();
    let (first, second) = (rig.seal(b"one", true), rig.seal(b"two", true));
    let before = rig.archives();
    let oldest = Some(archive(&first).sealed_at);
    assert_eq!(waiting(&before), Some(Waiting { count: 2, bytes: 6, oldest }));
    assert_eq!(kept(&before, &first).await, Whereabouts::Here);
    let archives = rig.copied_but(0).await;
    assert_eq!(waiting(&archives), Some(Waiting::default()));
    assert_eq!(rig.stored(&first).await.as_deref(), Some(&b"one"[..]));
    assert_eq!(kept(&archives, &second).await, Whereabouts::HereAndStore);
    until("both counted", || (rig.stats.archives_copied_bytes.get() == 6).then_some(())).await;
    assert_eq!(rig.stats.archives_copied.get(), 2);
    assert_eq!(rig.told().matches("copy-archive").count(), 2);
    // What is sealed later follows by itself.
    let third = rig.seal(b"three", true);
    until("the third copy", || (rig.stats.archives_copied.get() == 3).then_some(())).await;
    assert_eq!(rig.stored(&third).await.as_deref(), Some(&b"three"[..]));
}

#[tokio::test]
async fn a_large_archive_goes_in_parts_and_is_the_same_there() {
    let rig = Rig::new();
    let bytes: Vec<u8> = (0..20u32 << 20).map(|n| (n / 7) as u8).collect();
    let incident = rig.seal(&bytes, true);
    rig.copied_but(0).await;
    assert!(rig.stored(&incident).await.unwrap() == bytes);
}

#[tokio::test]
async fn other_bytes_under_the_name_are_left_alone_and_keep_no_other_archive_back() {
    let rig = Rig::new();
    let (taken, free) = (rig.seal(b"ours", true), rig.seal(b"free", true));
    rig.store.put(&key(&taken), PutPayload::from_static(b"mine")).await.unwrap();
    let archives = rig.copied_but(1).await;
    let left = waiting(&archives).unwrap();
    assert_eq!((left.bytes, left.oldest), (4, Some(archive(&taken).sealed_at)));
    assert_eq!(rig.stored(&taken).await.as_deref(), Some(&b"mine"[..]), "the same size, and not overwritten");
    assert_eq!(kept(&archives, &taken).await, Whereabouts::Here);
    assert_eq!(kept(&archives, &free).await, Whereabouts::HereAndStore);
    assert!(rig.stats.copy_failures.of(Failure::Differs).get() > 0);
    // Moved away there, it is copied.
    rig.store.delete(&key(&taken)).await.unwrap();
    until("the copy", || waiting(&archives).filter(|waiting| waiting.count == 0)).await;
    assert_eq!(rig.stored(&taken).await.as_deref(), Some(&b"ours"[..]));
}

#[tokio::test]
async fn a_file_that_is_not_what_was_sealed_is_not_copied() {
    let rig = Rig::new();
    let large = vec![7; 9 << 20];
    let (small, large) = (rig.seal(b"sealed", true), rig.seal(&large, true));
    std::fs::write(rig.file(&small), b"spoilt").unwrap();
    std::fs::write(rig.file(&large), vec![8; 9 << 20]).unwrap();
    rig.copied_but(2).await;
    until("both failures", || (rig.stats.copy_failures.of(Failure::Unreadable).get() >= 2).then_some(())).await;
    assert_eq!((rig.stored(&small).await, rig.stored(&large).await), (None, None));
}

#[tokio::test]
async fn a_copy_that_was_not_noted_is_found_again_and_a_restart_goes_on() {
    let rig = Rig::new();
    let done = rig.seal(b"done", true);
    // Put, and then the collector was gone before it could be noted.
    rig.store.put(&key(&done), PutPayload::from_static(b"done")).await.unwrap();
    let slow = ThrottleConfig { wait_put_per_call: Duration::from_secs(3_600), ..ThrottleConfig::default() };
    let slow = rig.archives_over(Arc::new(ThrottledStore::new(Arc::clone(&rig.store) as Arc<dyn ObjectStore>, slow)));
    let copying = rig.copying(&slow);
    let open = rig.seal(b"open", true);
    until("the first", || waiting(&slow).filter(|waiting| waiting.count == 1)).await;
    rig.run.send_replace(Run::Stop);
    copying.await.unwrap();
    assert_eq!(rig.stored(&open).await, None, "it stopped in the middle, and did not wait for the store");

    rig.run.send_replace(Run::Go);
    let archives = rig.copied_but(0).await;
    assert_eq!(kept(&archives, &open).await, Whereabouts::HereAndStore);
    assert_eq!(rig.stored(&open).await.as_deref(), Some(&b"open"[..]));
}

#[tokio::test]
async fn what_is_in_the_store_alone_is_fetched_once_for_everybody_and_held_against_its_digest() {
    let rig = Rig::new();
    let incident = rig.seal(b"evidence", true);
    let archives = rig.copied_but(0).await;
    std::fs::remove_file(rig.file(&incident)).unwrap();
    assert_eq!(kept(&archives, &incident).await, Whereabouts::Store);
    let (one, two) = tokio::join!(here(&archives, &incident), here(&archives, &incident));
    assert_eq!((one.unwrap(), two.unwrap()), (b"evidence".to_vec(), b"evidence".to_vec()));
    assert_eq!(kept(&archives, &incident).await, Whereabouts::HereAndStore);
    assert_eq!(rig.stats.archives_fetched.get(), 1);

    std::fs::remove_file(rig.file(&incident)).unwrap();
    for bytes in [&b"evidencf"[..], b"evidence and more", b"evid"] {
        rig.store.put(&key(&incident), PutPayload::from(bytes.to_vec())).await.unwrap();
        let refused = here(&archives, &incident).await.unwrap_err();
        assert!(matches!(&refused, NotHere::Failed(failed) if failed.kind == Failure::Differs), "{refused}");
    }
    rig.store.delete(&key(&incident)).await.unwrap();
    let refused = here(&archives, &incident).await.unwrap_err();
    assert!(matches!(&refused, NotHere::Failed(failed) if failed.kind == Failure::NotFound), "{refused}");
    assert!(!rig.file(&incident).exists());
    assert_eq!(left_over(&rig.data.archives()), [""; 0]);
}

#[tokio::test]
async fn whoever_does_not_wait_is_told_that_it_is_on_its_way_and_finds_it_later() {
    let rig = Rig::new();
    let incident = rig.seal(b"evidence", true);
    rig.copied_but(0).await;
    std::fs::remove_file(rig.file(&incident)).unwrap();
    let slow = ThrottleConfig { wait_get_per_call: Duration::from_millis(300), ..ThrottleConfig::default() };
    let archives =
        rig.archives_over(Arc::new(ThrottledStore::new(Arc::clone(&rig.store) as Arc<dyn ObjectStore>, slow)));
    let refused = archives.here(incident.id, archive(&incident), Some(Duration::ZERO)).await.unwrap_err();
    assert!(matches!(refused, NotHere::Fetching), "{refused}");
    until("the archive", || rig.file(&incident).exists().then_some(())).await;
}

#[tokio::test]
async fn an_archive_in_another_store_is_neither_fetched_nor_said_to_be_missing() {
    let rig = Rig::new();
    let (there, lost) = (rig.seal(b"there", true), rig.seal(b"lost", true));
    rig.index.copied(there.id, 1, "s3://other").unwrap();
    for incident in [&there, &lost] {
        std::fs::remove_file(rig.file(incident)).unwrap();
    }
    let without = Archives::local(Arc::clone(&rig.data), Arc::clone(&rig.index));
    for archives in [&rig.archives(), &without] {
        assert_eq!(kept(archives, &there).await, Whereabouts::Store);
        assert!(matches!(here(archives, &there).await, Err(NotHere::Elsewhere)));
        assert_eq!(kept(archives, &lost).await, Whereabouts::Missing);
        assert_eq!(here(archives, &lost).await.unwrap(), b"", "a path that cannot be opened");
    }
    // Nothing can be copied of the one, and the other stays declared.
    let archives = rig.copied_but(1).await;
    assert_eq!(waiting(&archives).unwrap().bytes, 4);
}

#[tokio::test]
async fn room_is_made_of_the_oldest_that_no_amendment_needs_and_that_the_store_still_has() {
    let rig = Rig::new();
    let live = rig.seal(b"may be amended", false);
    let (gone, first, second) = (rig.seal(b"gone", true), rig.seal(b"first", true), rig.seal(b"second", true));
    let archives = rig.copied_but(0).await;
    rig.run.send_replace(Run::Stop);
    rig.store.delete(&key(&gone)).await.unwrap();
    let remote = archives.remote.as_ref().unwrap();
    assert_eq!(archives.free(remote, Bytes(3)).await, Ok(Bytes(5)));
    let there = |incident: &IncidentSummary| rig.file(incident).exists();
    assert_eq!((there(&live), there(&gone), there(&first), there(&second)), (true, true, false, true));
    assert_eq!(kept(&archives, &gone).await, Whereabouts::Here, "the store lost it, so it waits to be copied again");
    assert_eq!(kept(&archives, &first).await, Whereabouts::Store);
    assert_eq!((rig.told().matches("remove-archive").count(), rig.stats.archives_removed.get()), (1, 1));
    // Whoever is about to open one keeps it.
    let reading = archives.here(second.id, archive(&second), None).await.unwrap();
    assert_eq!(archives.free(remote, Bytes(3)).await, Ok(Bytes(0)));
    drop(reading);
    assert_eq!(archives.free(remote, Bytes(100)).await, Ok(Bytes(6)), "no more than there is");
    assert!(there(&live));
}

#[tokio::test]
async fn nothing_leaves_and_nothing_goes_that_cannot_be_recorded() {
    let rig = Rig::new();
    let copied = rig.seal(b"copied", true);
    let archives = rig.copied_but(0).await;
    rig.run.send_replace(Run::Stop);
    let remote = archives.remote.as_ref().unwrap();
    remote.parts.audit.spoil(&rig.dir.path().join("aside"));
    assert_eq!(archives.free(remote, Bytes(1)).await.unwrap_err().kind, Failure::Unrecorded);
    assert!(rig.file(&copied).exists());
    rig.run.send_replace(Run::Go);
    let second = rig.seal(b"second", true);
    rig.copying(&archives);
    until("the failure", || (rig.stats.copy_failures.of(Failure::Unrecorded).get() > 0).then_some(())).await;
    assert_eq!(rig.stored(&second).await, None);
}

#[tokio::test]
async fn an_archive_for_which_there_is_no_room_is_refused_and_evidence_has_its_room() {
    let rig = Rig::new();
    let mut incident = rig.seal(b"evidence", true);
    let archives = rig.copied_but(0).await;
    std::fs::remove_file(rig.file(&incident)).unwrap();
    incident.archive.as_mut().unwrap().size = 1 << 60;
    let refused = here(&archives, &incident).await.unwrap_err();
    assert!(matches!(&refused, NotHere::Failed(failed) if failed.kind == Failure::NoRoom), "{refused}");
}
