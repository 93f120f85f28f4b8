//! The messages of a session: the first half of `agent.proto`.

use super::connectivity::{ability, ability_number};
use super::{
    ConvertError, Fields, MAX_COLLECTABLE, MAX_GAPS, MAX_SKIPPED, MAX_SOURCE_NAME, MAX_SOURCES, MAX_VERSION, into_list,
    nanos, number_of, optional, scope::selection,
};
use crate::coverage::SourceKind;
use crate::ids::{BootId, FrameSeq, RequestId};
use crate::session::{
    ClockAnswer, Collectable, CollectionAsk, CollectionDone, CollectionProgress, Ends, FrameBatch, FromAgent, Hello,
    MAX_HEADER, MAX_PAYLOAD, MAX_WINDOW_BATCHES, ProbeToken, RedactionKey, SessionToken, ToAgent, Welcome,
};
use crate::units::Bytes;
use crate::wire::v1;

/// The number of a frame, or 0 for none.
const fn seq_or_none(seq: u64) -> Option<FrameSeq> {
    if seq == 0 { None } else { Some(FrameSeq(seq)) }
}

fn seq(f: Fields, field: &'static str, seq: u64) -> Result<FrameSeq, ConvertError> {
    seq_or_none(f.quantity(field, seq)?).ok_or_else(|| f.out_of_range(field, 0))
}

fn none_as_zero(seq: Option<FrameSeq>) -> u64 {
    seq.map_or(0, |s| s.0)
}

impl TryFrom<v1::SessionRequest> for FromAgent {
    type Error = ConvertError;
    fn try_from(r: v1::SessionRequest) -> Result<Self, ConvertError> {
        use v1::session_request::Message as M;
        Ok(match Fields("SessionRequest").needed("message", r.message)? {
            M::Hello(m) => Self::Hello(m.try_into()?),
            M::Frames(m) => Self::Frames(m.try_into()?),
            M::Clock(m) => Self::Clock(m.try_into()?),
            M::Progress(m) => Self::Progress(m.try_into()?),
            M::Done(m) => Self::Done(m.try_into()?),
            M::Connectivity(m) => Self::Connectivity(m.try_into()?),
        })
    }
}

impl From<FromAgent> for v1::SessionRequest {
    fn from(m: FromAgent) -> Self {
        use v1::session_request::Message as M;
        Self {
            message: Some(match m {
                FromAgent::Hello(m) => M::Hello(m.into()),
                FromAgent::Frames(m) => M::Frames(m.into()),
                FromAgent::Clock(m) => M::Clock(m.into()),
                FromAgent::Progress(m) => M::Progress(m.into()),
                FromAgent::Done(m) => M::Done(m.into()),
                FromAgent::Connectivity(m) => M::Connectivity(m.into()),
            }),
        }
    }
}

impl TryFrom<v1::SessionResponse> for ToAgent {
    type Error = ConvertError;
    fn try_from(r: v1::SessionResponse) -> Result<Self, ConvertError> {
        use v1::session_response::Message as M;
        Ok(match Fields("SessionResponse").needed("message", r.message)? {
            M::Welcome(m) => Self::Welcome(m.try_into()?),
            M::Ack(m) => Self::Ack(seq(Fields("FrameAck"), "up_to_seq", m.up_to_seq)?),
            M::Clock(m) => Self::Probe(ProbeToken(m.token)),
            M::Collect(m) => Self::Collect(m.try_into()?),
            M::Cancel(m) => Self::Cancel(RequestId(m.request_id)),
            M::RedactionKey(m) => Self::Redact(m.try_into()?),
            M::Connectivity(m) => Self::TestConnectivity(m.try_into()?),
        })
    }
}

impl From<ToAgent> for v1::SessionResponse {
    fn from(m: ToAgent) -> Self {
        use v1::session_response::Message as M;
        Self {
            message: Some(match m {
                ToAgent::Welcome(m) => M::Welcome(m.into()),
                ToAgent::Ack(FrameSeq(up_to_seq)) => M::Ack(v1::FrameAck { up_to_seq }),
                ToAgent::Probe(ProbeToken(token)) => M::Clock(v1::ClockProbe { token }),
                ToAgent::Collect(m) => M::Collect(m.into()),
                ToAgent::Cancel(RequestId(request_id)) => M::Cancel(v1::CollectionCancel { request_id }),
                ToAgent::Redact(key) => M::RedactionKey(key.into()),
                ToAgent::TestConnectivity(m) => M::Connectivity(m.into()),
            }),
        }
    }
}

impl TryFrom<v1::Hello> for Hello {
    type Error = ConvertError;
    fn try_from(h: v1::Hello) -> Result<Self, ConvertError> {
        let f = Fields("Hello");
        f.short("recording_header", h.recording_header.len(), MAX_HEADER)?;
        Ok(Self {
            protocol: h.protocol,
            node: f.parsed("node", &h.node)?,
            boot: BootId::from_bytes(f.array("boot_id", &h.boot_id)?),
            agent_version: f.name("agent_version", h.agent_version, MAX_VERSION)?,
            clock: f.needed("clock", h.clock)?.into(),
            recording_header: f.payload("recording_header", h.recording_header.into(), MAX_HEADER)?,
            last_seq: seq_or_none(f.quantity("last_seq", h.last_seq)?),
            collectable: f.list("collectable", h.collectable, MAX_COLLECTABLE)?,
            connectivity: ability(h.connectivity),
        })
    }
}

impl From<Hello> for v1::Hello {
    fn from(h: Hello) -> Self {
        Self {
            protocol: h.protocol,
            node: h.node.into(),
            boot_id: h.boot.as_bytes().to_vec(),
            agent_version: h.agent_version,
            clock: Some(h.clock.into()),
            recording_header: h.recording_header.into(),
            last_seq: none_as_zero(h.last_seq),
            collectable: into_list(h.collectable),
            connectivity: ability_number(h.connectivity),
        }
    }
}

impl TryFrom<v1::CollectableSource> for Collectable {
    type Error = ConvertError;
    fn try_from(c: v1::CollectableSource) -> Result<Self, ConvertError> {
        let f = Fields("CollectableSource");
        Ok(Self { name: f.name("name", c.name, MAX_SOURCE_NAME)?, kind: f.choice("kind", &SourceKind::ALL, c.kind)? })
    }
}

impl From<Collectable> for v1::CollectableSource {
    fn from(c: Collectable) -> Self {
        Self { name: c.name, kind: number_of(&SourceKind::ALL, &c.kind) }
    }
}

impl TryFrom<v1::Welcome> for Welcome {
    type Error = ConvertError;
    fn try_from(w: v1::Welcome) -> Result<Self, ConvertError> {
        let f = Fields("Welcome");
        if !(1..=MAX_WINDOW_BATCHES).contains(&w.window_batches) {
            return Err(f.out_of_range("window_batches", w.window_batches));
        }
        Ok(Self {
            protocol: w.protocol,
            token: SessionToken(f.array("session_token", &w.session_token)?),
            have: seq_or_none(f.quantity("have_seq", w.have_seq)?),
            catch_up: f.duration("catch_up_nanos", w.catch_up_nanos)?,
            window_batches: w.window_batches,
            redaction_key: w.redaction_key.map(TryInto::try_into).transpose()?,
        })
    }
}

impl TryFrom<v1::RedactionKey> for RedactionKey {
    type Error = ConvertError;
    fn try_from(k: v1::RedactionKey) -> Result<Self, ConvertError> {
        Ok(Self(Fields("RedactionKey").array("key", &k.key)?))
    }
}

impl From<RedactionKey> for v1::RedactionKey {
    fn from(k: RedactionKey) -> Self {
        Self { key: k.0.to_vec() }
    }
}

impl From<Welcome> for v1::Welcome {
    fn from(w: Welcome) -> Self {
        Self {
            protocol: w.protocol,
            session_token: w.token.0.to_vec(),
            have_seq: none_as_zero(w.have),
            catch_up_nanos: nanos(w.catch_up),
            window_batches: w.window_batches,
            redaction_key: w.redaction_key.map(Into::into),
        }
    }
}

impl TryFrom<v1::FrameBatch> for FrameBatch {
    type Error = ConvertError;
    fn try_from(b: v1::FrameBatch) -> Result<Self, ConvertError> {
        let f = Fields("FrameBatch");
        let (first, last) = (seq(f, "first_seq", b.first_seq)?, seq(f, "last_seq", b.last_seq)?);
        if last < first {
            return Err(f.out_of_range("last_seq", last.0));
        }
        Ok(Self {
            first,
            last,
            records: f.payload("records", b.records, MAX_PAYLOAD)?,
            skipped: f.list("skipped", b.skipped, MAX_SKIPPED)?,
            ends: match b.continued {
                false => Ends::Here,
                true if first == last => Ends::Later,
                true => return Err(f.out_of_range("last_seq", last.0)),
            },
        })
    }
}

impl From<FrameBatch> for v1::FrameBatch {
    fn from(b: FrameBatch) -> Self {
        Self {
            first_seq: b.first.0,
            last_seq: b.last.0,
            records: b.records,
            skipped: into_list(b.skipped),
            continued: b.ends == Ends::Later,
        }
    }
}

impl TryFrom<v1::ClockAnswer> for ClockAnswer {
    type Error = ConvertError;
    fn try_from(a: v1::ClockAnswer) -> Result<Self, ConvertError> {
        let f = Fields("ClockAnswer");
        Ok(Self { token: ProbeToken(a.token), clock: f.needed("clock", a.clock)?.into() })
    }
}

impl From<ClockAnswer> for v1::ClockAnswer {
    fn from(a: ClockAnswer) -> Self {
        Self { token: a.token.0, clock: Some(a.clock.into()) }
    }
}

impl TryFrom<v1::CollectionAsk> for CollectionAsk {
    type Error = ConvertError;
    fn try_from(a: v1::CollectionAsk) -> Result<Self, ConvertError> {
        let f = Fields("CollectionAsk");
        if a.budget_bytes == 0 {
            return Err(f.out_of_range("budget_bytes", 0));
        }
        Ok(Self {
            request: RequestId(a.request_id),
            window: f.inner("window", a.window)?,
            budget: Bytes(f.quantity("budget_bytes", a.budget_bytes)?),
            deadline: f.duration("deadline_nanos", a.deadline_nanos)?,
            sources: f.names("sources", a.sources, MAX_SOURCES)?,
            select: optional(a.select)?.unwrap_or_default(),
            clock: a.clock.map(Into::into),
        })
    }
}

impl From<CollectionAsk> for v1::CollectionAsk {
    fn from(a: CollectionAsk) -> Self {
        Self {
            request_id: a.request.0,
            window: Some(a.window.into()),
            budget_bytes: a.budget.0,
            deadline_nanos: nanos(a.deadline),
            sources: a.sources,
            select: selection(a.select),
            clock: a.clock.map(Into::into),
        }
    }
}

impl TryFrom<v1::CollectionProgress> for CollectionProgress {
    type Error = ConvertError;
    fn try_from(p: v1::CollectionProgress) -> Result<Self, ConvertError> {
        let f = Fields("CollectionProgress");
        Ok(Self {
            request: RequestId(p.request_id),
            source: f.name("source", p.source, MAX_SOURCE_NAME)?,
            records: f.quantity("records", p.records)?,
            bytes: Bytes(f.quantity("bytes", p.bytes)?),
        })
    }
}

impl From<CollectionProgress> for v1::CollectionProgress {
    fn from(p: CollectionProgress) -> Self {
        Self { request_id: p.request.0, source: p.source, records: p.records, bytes: p.bytes.0 }
    }
}

impl TryFrom<v1::CollectionDone> for CollectionDone {
    type Error = ConvertError;
    fn try_from(d: v1::CollectionDone) -> Result<Self, ConvertError> {
        let f = Fields("CollectionDone");
        Ok(Self {
            request: RequestId(d.request_id),
            sources: f.list("sources", d.sources, MAX_SOURCES)?,
            gaps: f.list("gaps", d.gaps, MAX_GAPS)?,
        })
    }
}

impl From<CollectionDone> for v1::CollectionDone {
    fn from(d: CollectionDone) -> Self {
        Self { request_id: d.request.0, sources: into_list(d.sources), gaps: into_list(d.gaps) }
    }
}
