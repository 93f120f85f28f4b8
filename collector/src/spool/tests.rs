//! What a spool takes, keeps and gives back.

use std::io::Write as _;

use casefile_evidence::archive::chunk::{Chunk, Chunker, Pack};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::ItemNumber;
use casefile_proto::item::{Digest, ItemHead, ItemKind, ItemTail};
use casefile_proto::session::{Piece, RunId};
use casefile_proto::units::Bytes;

use super::receive::{Begun, Receiving, Refusal, Spool};
use super::*;

const RUN: RunId = RunId(7);

fn head(path: &str) -> ItemHead {
    ItemHead {
        kind: ItemKind::Log,
        path: path.parse().unwrap(),
        source: "files".to_owned(),
        method: "read".to_owned(),
        times: None,
    }
}

/// Content of several chunks, as an agent cuts it.
struct Sent {
    pieces: Vec<Piece>,
    tail: ItemTail,
}

fn sent(content: &[&[u8]]) -> Sent {
    let (mut pieces, mut offset) = (Vec::new(), 0);
    let mut all = Chunker::new(Pack::Store, |_| Ok(()));
    for part in content {
        all.write_all(part).unwrap();
        let mut one = Chunker::new(Pack::Deflate, |chunk: Chunk| {
            let Chunk { plain_len, plain_crc32, deflated } = chunk;
            pieces.push(Piece { offset, plain_len, plain_crc32, deflated: deflated.into() });
            offset += u64::from(plain_len);
            Ok(())
        });
        one.write_all(part).unwrap();
        one.finish().unwrap();
    }
    let (size, sha256) = all.finish().unwrap();
    let gaps = vec![Gap::new(GapReason::RotatedAway, "one line")];
    Sent { pieces, tail: ItemTail { size, sha256, records: 3, covered: None, gaps } }
}

fn open(dir: &Path) -> Spool {
    Spool::open(dir.to_owned(), Bytes::mib(1)).unwrap()
}

fn begin(spool: &Spool, number: u32, path: &str) -> Box<Receiving> {
    match spool.begin(RUN, ItemNumber(number), head(path)).unwrap() {
        Begun::Open(receiving) => receiving,
        Begun::Whole(item) => panic!("{item:?} is whole already"),
    }
}

/// Received from begin to end.
fn whole(spool: &Spool, number: u32, path: &str, sent: &Sent) -> SpooledItem {
    let mut receiving = begin(spool, number, path);
    for piece in &sent.pieces {
        receiving.piece(piece.clone()).unwrap();
    }
    receiving.end(sent.tail.clone()).unwrap()
}

fn plain(item: &SpooledItem) -> Vec<u8> {
    let (mut checker, mut plain, mut all) = (Checker::new(), Vec::new(), Vec::new());
    for chunk in item.chunks().unwrap() {
        checker.check(&chunk.unwrap(), &mut plain).unwrap();
        all.extend_from_slice(&plain);
    }
    all
}

#[test]
fn an_item_is_whole_when_its_end_says_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(&dir.path().join("not/there/yet"));
    let sent = sent(&[b"first ", b"second ", b"third"]);
    let mut receiving = begin(&spool, 0, "logs/a.log");
    for piece in sent.pieces {
        receiving.piece(piece).unwrap();
    }
    assert_eq!(receiving.sync().unwrap(), sent.tail.size);
    let item = receiving.end(sent.tail.clone()).unwrap();
    assert_eq!((item.head.clone(), item.tail.clone()), (head("logs/a.log"), Some(sent.tail.clone())));
    assert_eq!(plain(&item), b"first second third");
    assert_eq!(item.content().unwrap(), Content { size: sent.tail.size, sha256: sent.tail.sha256 });
    assert_eq!(read_dir(&dir.path().join("not/there/yet")).unwrap(), std::slice::from_ref(&item));
    // Also for who begins it again, in this life of the collector or the next.
    for spool in [spool, open(&dir.path().join("not/there/yet"))] {
        assert!(matches!(spool.begin(RUN, ItemNumber(0), head("logs/a.log")), Ok(Begun::Whole(w)) if *w == item));
    }
}

#[test]
fn an_upload_cut_at_any_byte_of_its_file_resumes_and_ends_with_the_same_digest() {
    let sent = sent(&[b"one ", b"two ", b"three"]);
    let whole = {
        let dir = tempfile::tempdir().unwrap();
        let mut receiving = begin(&open(dir.path()), 0, "logs/a.log");
        sent.pieces.iter().for_each(|p| receiving.piece(p.clone()).unwrap());
        std::fs::read(receiving.end(sent.tail.clone()).unwrap().path).unwrap()
    };
    let ends: Vec<u64> = sent.pieces.iter().map(|p| p.offset + u64::from(p.plain_len)).collect();
    for cut in 0..whole.len() {
        let dir = tempfile::tempdir().unwrap();
        drop(begin(&open(dir.path()), 0, "logs/a.log"));
        let path = dir.path().join("000-000000.chunks");
        std::fs::write(&path, &whole[..cut]).unwrap();
        // What is sealed of it when it never comes back.
        let cut_short = read_dir(dir.path()).unwrap();
        let mut receiving = begin(&open(dir.path()), 0, "logs/a.log");
        let offset = receiving.offset();
        assert!(offset == 0 || ends.contains(&offset), "cut at {cut}: resumes at {offset}");
        match cut_short.as_slice() {
            [] => assert_eq!(offset, 0),
            [item] => assert_eq!((item.tail.clone(), item.content().unwrap().size), (None, offset)),
            more => panic!("{more:?}"),
        }
        for piece in sent.pieces.iter().filter(|p| p.offset >= offset) {
            receiving.piece(piece.clone()).unwrap();
        }
        let item = receiving.end(sent.tail.clone()).unwrap();
        assert_eq!(plain(&item), b"one two three", "cut at {cut}");
    }
}

#[test]
fn what_was_not_synced_may_be_anything_and_is_not_there() {
    let sent = sent(&[b"good", b"lost in the crash"]);
    let dir = tempfile::tempdir().unwrap();
    let mut receiving = begin(&open(dir.path()), 0, "logs/a.log");
    sent.pieces.iter().for_each(|p| receiving.piece(p.clone()).unwrap());
    drop(receiving);
    let path = dir.path().join("000-000000.chunks");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len();
    bytes[last - 8..].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let items = read_dir(dir.path()).unwrap();
    assert_eq!(plain(&items[0]), b"good");
    assert_eq!(items[0].content().unwrap().size, 4);
    assert_eq!(begin(&open(dir.path()), 0, "logs/a.log").offset(), 4);
}

#[test]
fn a_piece_that_is_broken_or_out_of_place_is_refused_and_what_is_there_stays() {
    let sent = sent(&[b"first", b"second"]);
    let dir = tempfile::tempdir().unwrap();
    let mut receiving = begin(&open(dir.path()), 0, "logs/a.log");
    receiving.piece(sent.pieces[0].clone()).unwrap();
    let (first, second) = (sent.pieces[0].clone(), sent.pieces[1].clone());
    assert!(matches!(receiving.piece(first), Err(Refusal::Offset { expected: 5, got: 0 })));
    let late = Piece { offset: 6, ..second.clone() };
    assert!(matches!(receiving.piece(late), Err(Refusal::Offset { expected: 5, got: 6 })));
    let wrong = Piece { plain_crc32: !second.plain_crc32, ..second.clone() };
    assert!(matches!(receiving.piece(wrong), Err(Refusal::Chunk(_))));
    let bomb = Piece { plain_len: 1 << 20, ..second.clone() };
    assert!(matches!(receiving.piece(bomb), Err(Refusal::Chunk(_))));
    receiving.piece(second).unwrap();
    assert_eq!(plain(&receiving.end(sent.tail).unwrap()), b"firstsecond");
}

#[test]
fn an_item_whose_digest_differs_is_not_kept_and_can_be_sent_again() {
    let sent = sent(&[b"content"]);
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    for wrong in [
        ItemTail { sha256: Digest([0; 32]), ..sent.tail.clone() },
        ItemTail { size: sent.tail.size + 1, ..sent.tail.clone() },
    ] {
        let mut receiving = begin(&spool, 0, "logs/a.log");
        assert_eq!(receiving.offset(), 0);
        receiving.piece(sent.pieces[0].clone()).unwrap();
        assert!(matches!(receiving.end(wrong), Err(Refusal::Content { held: 7, .. })));
        assert_eq!(read_dir(dir.path()).unwrap(), []);
    }
    let mut receiving = begin(&spool, 0, "logs/a.log");
    receiving.piece(sent.pieces[0].clone()).unwrap();
    assert!(receiving.end(sent.tail).is_ok());
}

#[test]
fn the_budget_counts_all_items_of_a_run_also_after_a_restart() {
    let part = vec![b'x'; 400 << 10];
    let sent = sent(&[&part]);
    let dir = tempfile::tempdir().unwrap();
    {
        let spool = open(dir.path());
        for number in 0..2 {
            let mut receiving = begin(&spool, number, &format!("logs/{number}.log"));
            receiving.piece(sent.pieces[0].clone()).unwrap();
            if number == 0 {
                receiving.end(sent.tail.clone()).unwrap();
            }
        }
        let refused = begin(&spool, 2, "logs/2.log").piece(sent.pieces[0].clone());
        assert!(matches!(refused, Err(Refusal::Budget(b)) if b == Bytes::mib(1)));
    }
    let spool = open(dir.path());
    // Beginning one again takes nothing from the budget.
    for _ in 0..3 {
        assert_eq!(begin(&spool, 1, "logs/1.log").offset(), 400 << 10);
    }
    assert!(begin(&spool, 2, "logs/2.log").piece(sent.pieces[0].clone()).is_err());
    // Another run has a budget of its own.
    let Begun::Open(mut other) = spool.begin(RunId(8), ItemNumber(2), head("logs/2.log")).unwrap() else { panic!() };
    other.piece(sent.pieces[0].clone()).unwrap();
}

#[test]
fn the_newest_upload_of_an_item_wins() {
    let sent = sent(&[b"first", b"second"]);
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let mut old = begin(&spool, 0, "logs/a.log");
    old.piece(sent.pieces[0].clone()).unwrap();
    let mut new = begin(&spool, 0, "logs/a.log");
    assert_eq!(new.offset(), 5);
    assert!(matches!(old.piece(sent.pieces[1].clone()), Err(Refusal::Superseded)));
    assert!(matches!(old.sync(), Err(Refusal::Superseded)));
    new.piece(sent.pieces[1].clone()).unwrap();
    assert!(new.end(sent.tail).is_ok());
}

#[test]
fn nothing_is_written_after_close() {
    let sent = sent(&[b"first", b"second"]);
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let mut receiving = begin(&spool, 0, "logs/a.log");
    receiving.piece(sent.pieces[0].clone()).unwrap();
    spool.close();
    assert!(matches!(receiving.piece(sent.pieces[1].clone()), Err(Refusal::Closed)));
    assert!(matches!(receiving.sync(), Err(Refusal::Closed)));
    assert!(matches!(receiving.end(sent.tail), Err(Refusal::Closed)));
    assert!(matches!(spool.begin(RUN, ItemNumber(1), head("logs/b.log")), Err(Refusal::Closed)));
    assert_eq!(plain(&read_dir(dir.path()).unwrap()[0]), b"first");
}

#[test]
fn an_item_number_that_comes_as_something_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    drop(begin(&spool, 0, "logs/a.log"));
    let other = spool.begin(RUN, ItemNumber(0), head("logs/b.log"));
    assert!(matches!(other, Err(Refusal::OtherItem)));
    assert!(matches!(spool.begin(RUN, ItemNumber(u32::MAX), head("logs/b.log")), Err(Refusal::TooMany { .. })));
    let begun = |run: u64| spool.begin(RunId(run), ItemNumber(0), head("logs/a.log"));
    let refused = (100..200).map(begun).find_map(Result::err);
    assert!(matches!(refused, Some(Refusal::TooMany { what: "runs", .. })), "runs without an end");
}

#[test]
fn each_path_is_given_once_a_whole_item_before_a_cut_one_and_a_later_run_before_an_earlier() {
    let (short, long) = (sent(&[b"cut"]), sent(&[b"whole"]));
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let receive = |run: u64, number: u32, path: &str, sent: &Sent, whole: bool| {
        let Begun::Open(mut receiving) = spool.begin(RunId(run), ItemNumber(number), head(path)).unwrap() else {
            panic!("there already")
        };
        receiving.piece(sent.pieces[0].clone()).unwrap();
        if whole {
            receiving.end(sent.tail.clone()).unwrap();
        }
    };
    // The agent was restarted in the middle, and the second run found the files in another order.
    receive(1, 0, "logs/b.log", &long, true);
    receive(1, 1, "logs/a.log", &short, false);
    receive(2, 0, "logs/a.log", &long, true);
    receive(2, 1, "logs/b.log", &short, false);
    receive(2, 2, "logs/c.log", &short, false);
    drop(spool.begin(RunId(2), ItemNumber(3), head("logs/nothing.log")).unwrap());
    let items = read_dir(dir.path()).unwrap();
    let found: Vec<_> = items.iter().map(|i| (i.head.path.as_str(), i.run.0, i.tail.is_some())).collect();
    assert_eq!(found, [("logs/a.log", 2, true), ("logs/b.log", 1, true), ("logs/c.log", 2, false)]);
    assert_eq!(read_dir(&dir.path().join("absent")).unwrap(), []);
}

#[test]
fn an_item_that_was_begun_and_has_no_file_yet_is_not_there_and_hinders_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let first = sent(&[b"whole"]);
    let whole = whole(&spool, 0, "logs/a.log", &first);
    drop(begin(&spool, 1, "logs/b.log"));
    // The power failed between the two names.
    std::fs::remove_file(Place { run: 0, item: ItemNumber(1) }.chunks(dir.path())).unwrap();
    assert_eq!(read_dir(dir.path()).unwrap(), [whole]);
    assert_eq!(begin(&open(dir.path()), 1, "logs/b.log").offset(), 0);
}

#[test]
fn an_item_that_is_said_to_be_whole_and_has_no_file_is_not_there_and_is_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let (lost, kept) = (sent(&[b"lost"]), sent(&[b"kept"]));
    let spool = open(dir.path());
    // The power failed when the new name of the description was on the disk and the name of the file was not.
    std::fs::remove_file(whole(&spool, 1, "a.log", &lost).path).unwrap();
    whole(&spool, 2, "b.log", &kept);
    drop(spool);
    let paths = |items: Vec<SpooledItem>| items.iter().map(|i| i.head.path.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(paths(read_dir(dir.path()).unwrap()), ["b.log"]);
    let spool = open(dir.path());
    assert_eq!(begin(&spool, 1, "a.log").offset(), 0);
    assert_eq!(plain(&whole(&spool, 1, "a.log", &lost)), b"lost");
    assert_eq!(paths(read_dir(dir.path()).unwrap()), ["a.log", "b.log"]);
}

#[test]
fn a_torn_description_is_none_and_its_item_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place { run: 0, item: ItemNumber(0) };
    let sent = sent(&[b"one ", b"two"]);
    let mut receiving = begin(&open(dir.path()), 0, "logs/a.log");
    receiving.piece(sent.pieces[0].clone()).unwrap();
    drop(receiving);
    for torn in ["", "{\"number\":0,"] {
        std::fs::write(place.meta(dir.path()), torn).unwrap();
        assert_eq!(read_dir(dir.path()).unwrap(), []);
        // What lies there could be another item's, so it is not gone on with.
        assert_eq!(begin(&open(dir.path()), 0, "logs/a.log").offset(), 0);
    }
    let item = whole(&open(dir.path()), 0, "logs/a.log", &sent);
    assert_eq!(plain(&item), b"one two");
}
