//! The messages of an upload: the second half of `agent.proto`.

use super::node::text_or_none;
use super::{ConvertError, Fields, MAX_GAPS, MAX_LINE, MAX_SOURCE_NAME, into_list, number_of, optional};
use crate::ids::{ItemNumber, RequestId};
use crate::item::{Digest, ItemHead, ItemKind, ItemTail};
use crate::session::{MAX_DEFLATED, MAX_PAYLOAD, Piece, RunId, SessionToken, UploadAnswer, UploadBegin, UploadPart};
use crate::wire::v1;

impl TryFrom<v1::UploadRequest> for UploadPart {
    type Error = ConvertError;
    fn try_from(r: v1::UploadRequest) -> Result<Self, ConvertError> {
        use v1::upload_request::Message as M;
        Ok(match Fields("UploadRequest").needed("message", r.message)? {
            M::Begin(m) => Self::Begin(m.try_into()?),
            M::Chunk(m) => Self::Piece(m.try_into()?),
            M::End(m) => Self::End(m.try_into()?),
        })
    }
}

impl From<UploadPart> for v1::UploadRequest {
    fn from(p: UploadPart) -> Self {
        use v1::upload_request::Message as M;
        Self {
            message: Some(match p {
                UploadPart::Begin(m) => M::Begin(m.into()),
                UploadPart::Piece(m) => M::Chunk(m.into()),
                UploadPart::End(m) => M::End(m.into()),
            }),
        }
    }
}

impl TryFrom<v1::UploadResponse> for UploadAnswer {
    type Error = ConvertError;
    fn try_from(r: v1::UploadResponse) -> Result<Self, ConvertError> {
        use v1::upload_response::Message as M;
        Ok(match Fields("UploadResponse").needed("message", r.message)? {
            M::Resume(m) => Self::Resume(Fields("UploadResume").quantity("offset", m.offset)?),
            M::Ack(m) => Self::Ack(Fields("UploadAck").quantity("offset", m.offset)?),
            M::Done(v1::UploadDone {}) => Self::Done,
        })
    }
}

impl From<UploadAnswer> for v1::UploadResponse {
    fn from(a: UploadAnswer) -> Self {
        use v1::upload_response::Message as M;
        Self {
            message: Some(match a {
                UploadAnswer::Resume(offset) => M::Resume(v1::UploadResume { offset }),
                UploadAnswer::Ack(offset) => M::Ack(v1::UploadAck { offset }),
                UploadAnswer::Done => M::Done(v1::UploadDone {}),
            }),
        }
    }
}

impl TryFrom<v1::UploadBegin> for UploadBegin {
    type Error = ConvertError;
    fn try_from(b: v1::UploadBegin) -> Result<Self, ConvertError> {
        let f = Fields("UploadBegin");
        if b.run == 0 {
            return Err(f.out_of_range("run", 0));
        }
        Ok(Self {
            token: SessionToken(f.array("session_token", &b.session_token)?),
            request: RequestId(b.request_id),
            run: RunId(b.run),
            item: ItemNumber(b.item),
            head: ItemHead {
                kind: f.choice("kind", &ItemKind::ALL, b.kind)?,
                path: f.parsed("path", &b.path)?,
                source: f.name("source", b.source, MAX_SOURCE_NAME)?,
                method: f.text("method", b.method, MAX_LINE)?,
                times: text_or_none(f.text("times", b.times, ItemHead::MAX_TIMES)?),
            },
        })
    }
}

impl From<UploadBegin> for v1::UploadBegin {
    fn from(b: UploadBegin) -> Self {
        Self {
            session_token: b.token.0.to_vec(),
            request_id: b.request.0,
            item: b.item.0,
            kind: number_of(&ItemKind::ALL, &b.head.kind),
            path: b.head.path.into(),
            source: b.head.source,
            method: b.head.method,
            times: b.head.times.unwrap_or_default(),
            run: b.run.0,
        }
    }
}

impl TryFrom<v1::UploadChunk> for Piece {
    type Error = ConvertError;
    fn try_from(c: v1::UploadChunk) -> Result<Self, ConvertError> {
        let f = Fields("UploadChunk");
        if c.plain_len == 0 || usize::try_from(c.plain_len).is_ok_and(|len| len > MAX_PAYLOAD) {
            return Err(f.out_of_range("plain_len", c.plain_len));
        }
        Ok(Self {
            offset: f.quantity("offset", c.offset)?,
            plain_len: c.plain_len,
            plain_crc32: c.plain_crc32,
            deflated: f.payload("deflated", c.deflated, MAX_DEFLATED)?,
        })
    }
}

impl From<Piece> for v1::UploadChunk {
    fn from(p: Piece) -> Self {
        Self { offset: p.offset, plain_len: p.plain_len, plain_crc32: p.plain_crc32, deflated: p.deflated }
    }
}

impl TryFrom<v1::UploadEnd> for ItemTail {
    type Error = ConvertError;
    fn try_from(e: v1::UploadEnd) -> Result<Self, ConvertError> {
        let f = Fields("UploadEnd");
        Ok(Self {
            size: f.quantity("size", e.size)?,
            sha256: Digest(f.array("sha256", &e.sha256)?),
            records: f.quantity("records", e.records)?,
            covered: optional(e.covered)?,
            gaps: f.list("gaps", e.gaps, MAX_GAPS)?,
        })
    }
}

impl From<ItemTail> for v1::UploadEnd {
    fn from(t: ItemTail) -> Self {
        Self {
            size: t.size,
            sha256: t.sha256.0.to_vec(),
            records: t.records,
            covered: t.covered.map(Into::into),
            gaps: into_list(t.gaps),
        }
    }
}
