//! Messages that are none, too large, nested, compressed without being asked, in the wrong order, or that lie.

use std::io::Write;

use anyhow::Result;
use casefile_evidence::recording::Hole;
use casefile_evidence::recording::delta::Encoder;
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::FrameSeq;
use casefile_proto::session::{FrameBatch, FromAgent};
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::session_request::Message;
use tonic::body::Body;

use super::case::{Answer, Case, Variant};
use super::raw::{SESSION, call, framed, nothing, open, whole};
use super::speaker::{Speaker, boot, message, raw_hello};
use crate::frames;

/// Plain bytes of the bomb.
const BOMB: usize = 256 << 20;

pub(super) const ALL: &[Variant] = &[
    Variant {
        name: "a message of 2 MiB",
        tried: |c| Box::pin(async move { raw(&c, &[], whole(framed(0, 2 << 20, &vec![0x0a; 2 << 20]))).await }),
    },
    Variant {
        name: "a message of 64 MiB",
        tried: |c| Box::pin(async move { raw(&c, &[], whole(framed(0, 64 << 20, &vec![0x0a; 64 << 20]))).await }),
    },
    Variant {
        name: "a message of 64 MiB that never comes",
        tried: |c| Box::pin(async move { raw(&c, &[], open(framed(0, 64 << 20, &[0; 100]))).await }),
    },
    Variant {
        name: "a message of 1 MiB that never comes",
        tried: |c| Box::pin(async move { raw(&c, &[], open(framed(0, 1 << 20, &[0; 100]))).await }),
    },
    Variant {
        name: "a length of 4 GiB",
        tried: |c| Box::pin(async move { raw(&c, &[], whole(framed(0, u32::MAX as usize, &[0; 100]))).await }),
    },
    Variant {
        name: "a length that is more than there is",
        tried: |c| Box::pin(async move { raw(&c, &[], whole(framed(0, 200, &[0; 100]))).await }),
    },
    Variant {
        name: "a length that is less than there is",
        tried: |c| Box::pin(async move { raw(&c, &[], whole(framed(0, 3, &[0xff; 100]))).await }),
    },
    Variant {
        name: "half a header of a message",
        tried: |c| Box::pin(async move { raw(&c, &[], whole(vec![0, 0, 0])).await }),
    },
    Variant {
        name: "no message at all, held",
        tried: |c| Box::pin(async move { raw(&c, &[], open(Vec::new())).await }),
    },
    Variant {
        name: "protobuf that is cut",
        tried: |c| Box::pin(async move { raw(&c, &[], message_of(&[0x0a, 0x7f, 8, 1, 0x12, 3, b'a'])).await }),
    },
    Variant {
        name: "protobuf that is noise",
        tried: |c| Box::pin(async move { raw(&c, &[], message_of(&[0xff; 3_000])).await }),
    },
    Variant {
        name: "unknown groups, nested 10,000 deep",
        // Field 99, begin of a group: 0x9b 0x06; its end: 0x9c 0x06.
        tried: |c| {
            Box::pin(async move {
                let nested = [[0x9b, 0x06].repeat(10_000), [0x9c, 0x06].repeat(10_000)].concat();
                raw(&c, &[], message_of(&nested)).await
            })
        },
    },
    Variant {
        name: "unknown groups, 500,000 opened and none closed",
        tried: |c| Box::pin(async move { raw(&c, &[], message_of(&[0x9b, 0x06].repeat(500_000))).await }),
    },
    Variant {
        name: "a field number of 0",
        tried: |c| Box::pin(async move { raw(&c, &[], message_of(&[0x00, 0x01])).await }),
    },
    Variant {
        name: "a name that is no UTF-8",
        // Hello with protocol 1 and a node of two bytes.
        tried: |c| Box::pin(async move { raw(&c, &[], message_of(&[0x0a, 6, 8, 1, 0x12, 2, 0xc3, 0x28])).await }),
    },
    Variant { name: "a message without a topic", tried: |c| Box::pin(async move { first(&c, nothing()).await }) },
    Variant {
        name: "compressed, and nothing was agreed",
        tried: |c| Box::pin(async move { raw(&c, &[], whole(framed(1, 4, &[0; 4]))).await }),
    },
    Variant {
        name: "a gzip bomb",
        tried: |c| {
            Box::pin(async move {
                let bomb = bomb()?;
                raw(&c, &[("grpc-encoding", "gzip")], whole(framed(1, bomb.len(), &bomb))).await
            })
        },
    },
    Variant {
        name: "a small message in gzip",
        tried: |c| {
            Box::pin(async move {
                let small = gzip(&[0x0a, 2, 8, 1])?;
                raw(&c, &[("grpc-encoding", "gzip")], whole(framed(1, small.len(), &small))).await
            })
        },
    },
    Variant {
        name: "an encoding that nobody knows",
        tried: |c| Box::pin(async move { raw(&c, &[("grpc-encoding", "br")], whole(framed(1, 4, &[0; 4]))).await }),
    },
    Variant {
        name: "a flag that there is not",
        tried: |c| Box::pin(async move { raw(&c, &[], whole(framed(7, 4, &[0; 4]))).await }),
    },
    Variant {
        name: "frames before hello",
        tried: |c| {
            Box::pin(async move {
                let mut me = Speaker::open(&c.site, &c.node()?, boot(2)).await?;
                let batch = me.batch(1);
                me.say(FromAgent::Frames(batch).into()).await;
                me.ended().await
            })
        },
    },
    Variant {
        name: "done before hello",
        tried: |c| Box::pin(async move { first(&c, message(Message::Done(v1::CollectionDone::default()))).await }),
    },
    Variant {
        name: "hello twice",
        tried: |c| {
            Box::pin(async move {
                let (mut me, _) = Speaker::stand(&c.site, &c.node()?, boot(2)).await?;
                me.say(message(Message::Hello(raw_hello(&c.node()?, boot(2))))).await;
                me.ended().await
            })
        },
    },
    Variant { name: "protocol 0", tried: |c| Box::pin(async move { hello(&c, |hello| hello.protocol = 0).await }) },
    Variant { name: "protocol 2", tried: |c| Box::pin(async move { hello(&c, |hello| hello.protocol = 2).await }) },
    Variant {
        name: "the largest protocol",
        tried: |c| Box::pin(async move { hello(&c, |hello| hello.protocol = u32::MAX).await }),
    },
    Variant {
        name: "hello without a clock",
        tried: |c| Box::pin(async move { hello(&c, |hello| hello.clock = None).await }),
    },
    Variant {
        name: "a boot of 15 bytes",
        tried: |c| Box::pin(async move { hello(&c, |hello| hello.boot_id = vec![2; 15]).await }),
    },
    Variant {
        name: "a recording header that is noise",
        tried: |c| Box::pin(async move { hello(&c, |hello| hello.recording_header = vec![0xa5; 3_000]).await }),
    },
    Variant {
        name: "a recording header and something behind it",
        tried: |c| {
            Box::pin(async move {
                hello(&c, |hello| hello.recording_header = [&hello.recording_header[..], &[0]].concat()).await
            })
        },
    },
    Variant {
        name: "no recording header",
        tried: |c| Box::pin(async move { hello(&c, |hello| hello.recording_header = Vec::new()).await }),
    },
    Variant {
        name: "a recording header of 1 MiB",
        tried: |c| Box::pin(async move { hello(&c, |hello| hello.recording_header = vec![0; 1 << 20]).await }),
    },
    Variant {
        name: "an agent's version of 100 KiB",
        tried: |c| Box::pin(async move { hello(&c, |hello| hello.agent_version = "9".repeat(100 << 10)).await }),
    },
    Variant {
        name: "a batch whose last frame is before its first",
        tried: |c| Box::pin(async move { batch(&c, |b| (b.first_seq, b.last_seq) = (5, 4)).await }),
    },
    Variant {
        name: "frame 0",
        tried: |c| Box::pin(async move { batch(&c, |b| (b.first_seq, b.last_seq) = (0, 0)).await }),
    },
    Variant {
        name: "the last frame that there can be",
        tried: |c| Box::pin(async move { batch(&c, |b| (b.first_seq, b.last_seq) = (u64::MAX, u64::MAX)).await }),
    },
    Variant {
        name: "a batch up to the last frame that there can be",
        tried: |c| Box::pin(async move { batch(&c, |b| b.last_seq = u64::MAX).await }),
    },
    Variant {
        name: "a batch that says it holds more than it does",
        tried: |c| Box::pin(async move { batch(&c, |b| b.last_seq += 5).await }),
    },
    Variant {
        name: "frames that overlap what is there",
        tried: |c| {
            Box::pin(async move {
                let (mut me, _) = Speaker::stand(&c.site, &c.node()?, boot(2)).await?;
                me.frames(3).await?;
                let mut later = v1::FrameBatch::from(me.batch(2));
                later.first_seq = 2;
                me.say(message(Message::Frames(later))).await;
                me.ended().await
            })
        },
    },
    Variant {
        name: "records that are noise",
        tried: |c| Box::pin(async move { batch(&c, |b| b.records = vec![0xa5; 3_000].into()).await }),
    },
    Variant {
        name: "no records",
        tried: |c| Box::pin(async move { batch(&c, |b| b.records = Vec::new().into()).await }),
    },
    Variant {
        name: "records of more than 1 MiB",
        tried: |c| Box::pin(async move { batch(&c, |b| b.records = vec![0; (1 << 20) + 1].into()).await }),
    },
    Variant {
        name: "every byte of a frame changed, one after the other",
        tried: |c| {
            Box::pin(async move {
                let mut how = Vec::new();
                let length = { Speaker::stand(&c.site, &c.node()?, boot(2)).await?.0.batch(1).records.len() };
                for at in (0..length).step_by(length.div_ceil(16).max(1)) {
                    let changed = batch(&c, |b| {
                        let mut records = b.records.to_vec();
                        if let Some(byte) = records.get_mut(at) {
                            *byte ^= 0x41;
                        }
                        b.records = records.into();
                    });
                    match changed.await? {
                        Answer::Refused(said) => how.push(said),
                        Answer::Accepted(said) => return Ok(Answer::accepted(format!("byte {at}: {said}"))),
                    }
                }
                how.dedup();
                Ok(Answer::refused(how.join(", ")))
            })
        },
    },
    Variant {
        name: "a record that says it is 4 GiB long",
        tried: |c| {
            Box::pin(async move {
                batch(&c, |b| {
                    let mut records = b.records.to_vec();
                    records.splice(..4, u32::MAX.to_le_bytes());
                    b.records = records.into();
                })
                .await
            })
        },
    },
    Variant {
        name: "a record that says it has a million series",
        tried: |c| {
            Box::pin(async move {
                batch(&c, |b| {
                    // length, type, checksum, body (evidence/FORMAT.md): the body says numbers beyond all that follows.
                    let mut records = b.records.to_vec();
                    let body: Vec<u8> = [0xc0, 0x84, 0x3d].repeat(200);
                    records.truncate(5);
                    records.splice(..4, u32::try_from(body.len()).unwrap_or(0).to_le_bytes());
                    records.extend([0; 4]);
                    records.extend(body);
                    b.records = records.into();
                })
                .await
            })
        },
    },
    Variant {
        name: "a header among the frames",
        tried: |c| {
            Box::pin(async move {
                let header = Encoder::new(frames::header(&c.node()?, boot(2))).header();
                batch(&c, |b| b.records = [header.as_slice(), &b.records[..]].concat().into()).await
            })
        },
    },
    Variant {
        name: "a hole of another boot",
        tried: |c| {
            Box::pin(async move {
                let mut encoder = Encoder::new(frames::header(&c.node()?, boot(9)));
                let mut records = Vec::new();
                let gap = Gap::new(GapReason::NotRecorded, "x".to_owned());
                encoder.hole(&Hole { boot: boot(9), seqs: Some((FrameSeq(1), FrameSeq(1))), gap }, &mut records);
                batch(&c, |b| b.records = records.into()).await
            })
        },
    },
    Variant {
        name: "a hole larger than its batch",
        tried: |c| {
            Box::pin(async move {
                let mut encoder = Encoder::new(frames::header(&c.node()?, boot(2)));
                let mut records = Vec::new();
                let gap = Gap::new(GapReason::NotRecorded, "x".to_owned());
                encoder.hole(&Hole { boot: boot(2), seqs: Some((FrameSeq(1), FrameSeq(u64::MAX))), gap }, &mut records);
                batch(&c, |b| b.records = records.into()).await
            })
        },
    },
    Variant {
        name: "100 gaps before a frame",
        tried: |c| {
            Box::pin(async move {
                let gap = v1::Gap::from(Gap::new(GapReason::NotRecorded, "x".to_owned()));
                batch(&c, |b| b.skipped = vec![gap; 100]).await
            })
        },
    },
    Variant {
        name: "a gap whose reason nobody knows",
        tried: |c| {
            Box::pin(async move {
                let mut gap = v1::Gap::from(Gap::new(GapReason::NotRecorded, "x".to_owned()));
                gap.reason = 99;
                batch(&c, |b| b.skipped = vec![gap]).await
            })
        },
    },
];

/// A session whose body is this.
async fn raw(case: &Case, headers: &[(&str, &str)], body: Body) -> Result<Answer> {
    call(&case.site.agent(&case.node()?).await?, SESSION, headers, body).await
}

fn message_of(bytes: &[u8]) -> Body {
    whole(framed(0, bytes.len(), bytes))
}

/// A session that begins with this.
async fn first(case: &Case, said: v1::SessionRequest) -> Result<Answer> {
    let mut me = Speaker::open(&case.site, &case.node()?, boot(2)).await?;
    me.say(said).await;
    me.ended().await
}

/// A session that begins with a hello that is changed.
async fn hello(case: &Case, change: impl FnOnce(&mut v1::Hello)) -> Result<Answer> {
    let mut said = raw_hello(&case.node()?, boot(2));
    change(&mut said);
    first(case, message(Message::Hello(said))).await
}

/// A session that stands, and then a batch that is changed.
async fn batch(case: &Case, change: impl FnOnce(&mut v1::FrameBatch)) -> Result<Answer> {
    let (mut me, _) = Speaker::stand(&case.site, &case.node()?, boot(2)).await?;
    let good: FrameBatch = me.batch(1);
    let mut said = v1::FrameBatch::from(good);
    change(&mut said);
    me.say(message(Message::Frames(said))).await;
    me.ended().await
}

fn gzip(plain: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain)?;
    Ok(encoder.finish()?)
}

/// Zeros without end, packed to a message that is small enough.
fn bomb() -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..BOMB >> 20 {
        encoder.write_all(&zeros)?;
    }
    Ok(encoder.finish()?)
}
