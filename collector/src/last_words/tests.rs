//! What is acknowledged is on the disk; who may write is one at a time.

use casefile_evidence::recording::Header;
use casefile_evidence::recording::delta::Encoder;
use casefile_evidence::recording::reader::{Piece, Recording};
use casefile_proto::ids::BootId;
use casefile_proto::sample::{Frame, Schema};
use casefile_proto::time::{BootTime, Stamp};
use tokio::sync::Semaphore;

use super::*;

const RETENTION: Retention = Retention { bytes: Bytes::mib(64), age: Duration::from_secs(3600) };

/// Numbers in the order of asking.
#[derive(Default)]
struct Numbers(Mutex<Vec<NodeName>>);

impl NodeNumbers for Numbers {
    fn number(&self, node: &NodeName) -> Result<u64, NoNumber> {
        let mut known = self.0.lock().unwrap();
        if !known.contains(node) {
            known.push(node.clone());
        }
        Ok(known.iter().position(|n| n == node).unwrap() as u64 + 1)
    }
    fn known(&self) -> Result<Vec<(NodeName, u64)>, NoNumber> {
        Ok((1..).zip(&*self.0.lock().unwrap()).map(|(number, node)| (node.clone(), number)).collect())
    }
}

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn encoder(of: &str) -> Encoder {
    Encoder::new(Header {
        node: node(of),
        boot: BootId::from_bytes([3; 16]),
        agent_version: "0.1.0".to_owned(),
        schema: Arc::new(Schema::default()),
    })
}

fn records(encoder: &mut Encoder, seqs: std::ops::RangeInclusive<u64>) -> Records {
    // Behind a header comes a keyframe.
    let (mut out, mut frames) = (encoder.header(), Vec::new());
    encoder.restart();
    for seq in seqs {
        let wall = WallTime::from_secs(1_795_405_450 + i64::try_from(seq).unwrap());
        let at = Stamp { wall, boot: BootTime::from_nanos(seq * 1_000_000_000) };
        let frame = Frame {
            boot: BootId::from_bytes([3; 16]),
            seq: FrameSeq(seq),
            at,
            samples: Vec::new(),
            events: Vec::new(),
        };
        encoder.frame(&frame, &mut out);
        frames.push(Last { boot: frame.boot, seq: frame.seq, at });
    }
    Records { bytes: vec![out.into()], frames }
}

/// Where answers arrive, and a permit for each append.
struct Side {
    done: mpsc::Sender<Stored>,
    stored: mpsc::Receiver<Stored>,
    memory: Arc<Semaphore>,
}

impl Side {
    fn new() -> Self {
        let (done, stored) = mpsc::channel(64);
        Self { done, stored, memory: Arc::new(Semaphore::new(64)) }
    }

    async fn append(&self, writer: &Writer, records: Records, up_to: u64) -> Result<(), LastWordsError> {
        let held_back = Arc::clone(&self.memory).acquire_owned().await.unwrap();
        writer.append(records, FrameSeq(up_to), self.done.clone(), held_back).await
    }
}

fn seqs(dir: &Path) -> Vec<u64> {
    let mut found = Vec::new();
    Recording::open_dir(dir)
        .unwrap()
        .pieces(None, &mut |piece| {
            if let Piece::Frame(frame) = piece {
                found.push(frame.seq.0);
            }
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    found
}

#[tokio::test]
async fn what_is_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let numbers = Arc::new(Numbers::default());
    {
        let words = LastWords::open(dir.path(), numbers.clone(), RETENTION, Arc::default()).unwrap();
        assert_eq!((words.held(&node("a")), words.dir(&node("a"))), (None, None));
        let (writer, last) = words.writer(&node("a")).await.unwrap();
        assert_eq!(last, None);
        let (mut side, mut encoder) = (Side::new(), encoder("a"));
        side.append(&writer, records(&mut encoder, 1..=3), 3).await.unwrap();
        side.append(&writer, records(&mut encoder, 4..=4), 4).await.unwrap();
        assert_eq!(side.stored.recv().await.unwrap().unwrap(), FrameSeq(3));
        assert_eq!(side.stored.recv().await.unwrap().unwrap(), FrameSeq(4));
        assert_eq!(words.held(&node("a")).unwrap().last.unwrap().seq, FrameSeq(4));
        assert_eq!(words.dir(&node("a")), Some(dir.path().join("1")), "named by its number");
        words.close().await;
        assert!(matches!(side.append(&writer, records(&mut encoder, 5..=5), 5).await, Err(LastWordsError::Closed)));
        assert!(matches!(words.writer(&node("a")).await, Err(LastWordsError::Closed)));
    }
    assert_eq!(seqs(&dir.path().join("1")), [1, 2, 3, 4]);
    let words = LastWords::open(dir.path(), numbers, RETENTION, Arc::default()).unwrap();
    assert_eq!(words.held(&node("a")).unwrap().last.unwrap().seq, FrameSeq(4));
    assert_eq!(words.writer(&node("a")).await.unwrap().1.unwrap().seq, FrameSeq(4));
    words.close().await;
}

#[tokio::test]
async fn a_new_writer_takes_the_right_from_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let words = LastWords::open(dir.path(), Arc::new(Numbers::default()), RETENTION, Arc::default()).unwrap();
    let (old, _) = words.writer(&node("a")).await.unwrap();
    let (mut side, mut first, mut second) = (Side::new(), encoder("a"), encoder("a"));
    side.append(&old, records(&mut first, 1..=2), 2).await.unwrap();
    let (new, last) = words.writer(&node("a")).await.unwrap();
    assert_eq!(last.unwrap().seq, FrameSeq(2), "what was queued before counts");
    assert_eq!(side.stored.recv().await.unwrap().unwrap(), FrameSeq(2));
    side.append(&old, records(&mut first, 3..=3), 3).await.unwrap();
    assert!(matches!(side.stored.recv().await.unwrap(), Err(LastWordsError::Superseded(_))));
    side.append(&new, records(&mut second, 3..=3), 3).await.unwrap();
    assert_eq!(side.stored.recv().await.unwrap().unwrap(), FrameSeq(3));
    words.close().await;
    assert_eq!(seqs(&dir.path().join("1")), [1, 2, 3]);
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_acknowledged_and_the_next_writer_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let words = LastWords::open(dir.path(), Arc::new(Numbers::default()), RETENTION, Arc::default()).unwrap();
    let (writer, _) = words.writer(&node("a")).await.unwrap();
    let (mut side, mut good) = (Side::new(), encoder("a"));
    side.append(&writer, records(&mut good, 1..=2), 2).await.unwrap();
    assert_eq!(side.stored.recv().await.unwrap().unwrap(), FrameSeq(2));
    let garbage = Records { bytes: vec![Buffer::from_static(b"garbage")], frames: Vec::new() };
    side.append(&writer, garbage, 3).await.unwrap();
    assert!(matches!(side.stored.recv().await.unwrap(), Err(LastWordsError::Store { .. })));
    // Nobody knows what became of it, so nothing more is taken in this turn.
    side.append(&writer, records(&mut good, 3..=3), 3).await.unwrap();
    assert!(side.stored.recv().await.unwrap().is_err());
    let (writer, last) = words.writer(&node("a")).await.unwrap();
    assert_eq!(last.unwrap().seq, FrameSeq(2));
    side.append(&writer, records(&mut encoder("a"), 3..=3), 3).await.unwrap();
    assert_eq!(side.stored.recv().await.unwrap().unwrap(), FrameSeq(3));
    words.close().await;
    assert_eq!(side.memory.available_permits(), 64, "memory is given back with each answer");
}

#[tokio::test]
async fn nodes_do_not_share_a_directory_and_pins_can_come_before_any_frame() {
    let dir = tempfile::tempdir().unwrap();
    let words = LastWords::open(dir.path(), Arc::new(Numbers::default()), RETENTION, Arc::default()).unwrap();
    let mut side = Side::new();
    words.pin(&node("b"), IncidentId(1), WallTime::from_secs(5)).await.unwrap();
    for name in ["a", "b", "c"] {
        let (writer, _) = words.writer(&node(name)).await.unwrap();
        side.append(&writer, records(&mut encoder(name), 1..=1), 1).await.unwrap();
        side.stored.recv().await.unwrap().unwrap();
    }
    words.unpin(&node("b"), IncidentId(1)).await.unwrap();
    words.unpin(&node("nobody"), IncidentId(1)).await.unwrap();
    let held: Vec<_> = words.nodes().into_iter().map(|(name, held)| (name, held.last.map(|l| l.seq.0))).collect();
    assert_eq!(held, ["a", "b", "c"].map(|name| (node(name), Some(1))));
    words.close().await;
}
