//! Tests of connectivity: `connectivity.proto`.

use std::net::{IpAddr, SocketAddr};

use super::{ConvertError, Fields, MAX_LINE, MAX_NODES, Problem, into_list, nanos, number_of, optional};
use crate::connectivity::steps::{
    Answered, Certificate, Connect, Failure, Http, MAX_ADDRESSES, MAX_CERTIFICATES, Resolve, Shown, Step, Steps, Tls,
    Trust, Went,
};
use crate::connectivity::target::{Scheme, Target};
use crate::connectivity::{
    Ability, Blame, ConnectivityAnswer, ConnectivityAsk, ConnectivityTest, Judged, ListedTarget, MAX_DEADLINE,
    MAX_DETAIL, MAX_REMARKS, MAX_TARGET_NAME, MAX_TARGETS, NodeOutcome, NodeResult, TargetList, TestAsk, TestId,
    Untested, UntestedReason, Verdict,
};
use crate::ids::NodeName;
use crate::item::Digest;
use crate::time::WallTime;
use crate::wire::v1;

/// The most bytes of the target that a caller names.
const MAX_ASKED: usize = 2 * MAX_LINE;
/// The most bytes of the name of a version of TLS.
const MAX_TLS_VERSION: usize = 32;
/// The most bytes of a protocol in ALPN that are told.
const MAX_ALPN: usize = 64;
/// The most bytes of the sentence of a verdict, and of a remark: they name nodes.
const MAX_SENTENCE: usize = 4 << 10;

/// What an agent says that this version does not know is that it does not know how.
pub(super) fn ability(number: i32) -> Ability {
    match v1::ConnectivityTests::try_from(number) {
        Ok(v1::ConnectivityTests::On) => Ability::On,
        Ok(v1::ConnectivityTests::Off) => Ability::Off,
        Ok(v1::ConnectivityTests::Unspecified) | Err(_) => Ability::Unknown,
    }
}

pub(super) fn ability_number(ability: Ability) -> i32 {
    let of = match ability {
        Ability::Unknown => v1::ConnectivityTests::Unspecified,
        Ability::Off => v1::ConnectivityTests::Off,
        Ability::On => v1::ConnectivityTests::On,
    };
    of.into()
}

/// A deadline of more than nothing and at most [`MAX_DEADLINE`].
fn deadline(f: Fields, nanos: u64) -> Result<std::time::Duration, ConvertError> {
    let deadline = f.duration("deadline_nanos", nanos)?;
    if deadline.is_zero() || deadline > MAX_DEADLINE {
        return Err(f.out_of_range("deadline_nanos", nanos));
    }
    Ok(deadline)
}

impl TryFrom<v1::ConnectivityTarget> for Target {
    type Error = ConvertError;
    fn try_from(t: v1::ConnectivityTarget) -> Result<Self, ConvertError> {
        let f = Fields("ConnectivityTarget");
        let scheme = f.choice("scheme", &Scheme::ALL, t.scheme)?;
        let port = u16::try_from(t.port).map_err(|_| f.out_of_range("port", t.port))?;
        let port = Some(port).filter(|port| *port != 0);
        Self::new(scheme, &t.host, port, &t.path).map_err(|e| f.wrong("host", Problem::Invalid(e.to_string())))
    }
}

impl From<Target> for v1::ConnectivityTarget {
    fn from(t: Target) -> Self {
        Self {
            scheme: number_of(&Scheme::ALL, &t.scheme()),
            host: t.host().to_owned(),
            port: t.port().map_or(0, u32::from),
            path: t.path().to_owned(),
        }
    }
}

impl TryFrom<v1::ConnectivityAsk> for ConnectivityAsk {
    type Error = ConvertError;
    fn try_from(a: v1::ConnectivityAsk) -> Result<Self, ConvertError> {
        let f = Fields("ConnectivityAsk");
        Ok(Self {
            test: TestId(a.test_id),
            target: f.inner("target", a.target)?,
            deadline: deadline(f, a.deadline_nanos)?,
        })
    }
}

impl From<ConnectivityAsk> for v1::ConnectivityAsk {
    fn from(a: ConnectivityAsk) -> Self {
        Self { test_id: a.test.0, target: Some(a.target.into()), deadline_nanos: nanos(a.deadline) }
    }
}

impl TryFrom<v1::ConnectivityAnswer> for ConnectivityAnswer {
    type Error = ConvertError;
    fn try_from(a: v1::ConnectivityAnswer) -> Result<Self, ConvertError> {
        let f = Fields("ConnectivityAnswer");
        Ok(Self { test: TestId(a.test_id), outcome: f.inner("result", a.result)? })
    }
}

impl From<ConnectivityAnswer> for v1::ConnectivityAnswer {
    fn from(a: ConnectivityAnswer) -> Self {
        Self { test_id: a.test.0, result: Some(a.outcome.into()) }
    }
}

impl TryFrom<v1::NodeConnectivityResult> for NodeOutcome {
    type Error = ConvertError;
    fn try_from(r: v1::NodeConnectivityResult) -> Result<Self, ConvertError> {
        use v1::node_connectivity_result::Result as R;
        Ok(match Fields("NodeConnectivityResult").needed("result", r.result)? {
            R::Steps(steps) => Self::Tested(Box::new(steps.try_into()?)),
            R::Untested(untested) => Self::Untested(untested.try_into()?),
        })
    }
}

impl From<NodeOutcome> for v1::NodeConnectivityResult {
    fn from(o: NodeOutcome) -> Self {
        use v1::node_connectivity_result::Result as R;
        Self {
            result: Some(match o {
                NodeOutcome::Tested(steps) => R::Steps((*steps).into()),
                NodeOutcome::Untested(untested) => R::Untested(untested.into()),
            }),
        }
    }
}

impl TryFrom<v1::Untested> for Untested {
    type Error = ConvertError;
    fn try_from(u: v1::Untested) -> Result<Self, ConvertError> {
        let f = Fields("Untested");
        Ok(Self {
            reason: f.choice("reason", &UntestedReason::ALL, u.reason)?,
            detail: f.text("detail", u.detail, MAX_DETAIL)?,
        })
    }
}

impl From<Untested> for v1::Untested {
    fn from(u: Untested) -> Self {
        Self { reason: number_of(&UntestedReason::ALL, &u.reason), detail: u.detail }
    }
}

impl TryFrom<v1::StepResults> for Steps {
    type Error = ConvertError;
    fn try_from(s: v1::StepResults) -> Result<Self, ConvertError> {
        let f = Fields("StepResults");
        let steps = Self {
            resolve: f.inner("resolve", s.resolve)?,
            connect: optional(s.connect)?,
            tls: optional(s.tls)?,
            http: optional(s.http)?,
        };
        if steps.is_sound() {
            Ok(steps)
        } else {
            Err(f.wrong("resolve", Problem::Invalid("a step does not follow from the one before".to_owned())))
        }
    }
}

impl From<Steps> for v1::StepResults {
    fn from(s: Steps) -> Self {
        Self {
            resolve: Some(s.resolve.into()),
            connect: s.connect.map(Into::into),
            tls: s.tls.map(Into::into),
            http: s.http.map(Into::into),
        }
    }
}

impl TryFrom<v1::StepOutcome> for Went {
    type Error = ConvertError;
    fn try_from(o: v1::StepOutcome) -> Result<Self, ConvertError> {
        let f = Fields("StepOutcome");
        let detail = f.text("detail", o.detail, MAX_DETAIL)?;
        let took_nanos = f.quantity("took_nanos", o.took_nanos)?;
        Ok(match (o.reached, o.failure) {
            (false, 0) if took_nanos == 0 && detail.is_empty() => Self::NotReached,
            (false, failure) => return Err(f.out_of_range("failure", failure)),
            (true, 0) => Self::Ok { took_nanos, detail },
            (true, failure) => {
                Self::Failed { failure: f.choice("failure", &Failure::ALL, failure)?, took_nanos, detail }
            }
        })
    }
}

impl From<Went> for v1::StepOutcome {
    fn from(w: Went) -> Self {
        match w {
            Went::Ok { took_nanos, detail } => Self { reached: true, failure: 0, detail, took_nanos },
            Went::Failed { failure, took_nanos, detail } => {
                Self { reached: true, failure: number_of(&Failure::ALL, &failure), detail, took_nanos }
            }
            Went::NotReached => Self { reached: false, failure: 0, detail: String::new(), took_nanos: 0 },
        }
    }
}

impl TryFrom<v1::ResolveResult> for Resolve {
    type Error = ConvertError;
    fn try_from(r: v1::ResolveResult) -> Result<Self, ConvertError> {
        let f = Fields("ResolveResult");
        f.short("addresses", r.addresses.len(), MAX_ADDRESSES)?;
        let addresses = r.addresses.iter().map(|a| f.parsed::<IpAddr>("addresses", a)).collect::<Result<_, _>>()?;
        Ok(Self { went: f.inner("outcome", r.outcome)?, addresses })
    }
}

impl From<Resolve> for v1::ResolveResult {
    fn from(r: Resolve) -> Self {
        Self { outcome: Some(r.went.into()), addresses: r.addresses.iter().map(ToString::to_string).collect() }
    }
}

impl TryFrom<v1::ConnectResult> for Connect {
    type Error = ConvertError;
    fn try_from(r: v1::ConnectResult) -> Result<Self, ConvertError> {
        let f = Fields("ConnectResult");
        let address = match r.address.as_str() {
            "" => None,
            text => Some(f.parsed::<SocketAddr>("address", text)?),
        };
        Ok(Self { went: f.inner("outcome", r.outcome)?, address })
    }
}

impl From<Connect> for v1::ConnectResult {
    fn from(c: Connect) -> Self {
        Self { outcome: Some(c.went.into()), address: c.address.map(|a| a.to_string()).unwrap_or_default() }
    }
}

impl TryFrom<v1::TlsResult> for Tls {
    type Error = ConvertError;
    fn try_from(r: v1::TlsResult) -> Result<Self, ConvertError> {
        let f = Fields("TlsResult");
        Ok(Self { went: f.inner("outcome", r.outcome)?, shown: optional(r.shown)? })
    }
}

impl From<Tls> for v1::TlsResult {
    fn from(t: Tls) -> Self {
        Self { outcome: Some(t.went.into()), shown: t.shown.map(Into::into) }
    }
}

impl TryFrom<v1::TlsShown> for Shown {
    type Error = ConvertError;
    fn try_from(s: v1::TlsShown) -> Result<Self, ConvertError> {
        let f = Fields("TlsShown");
        Ok(Self {
            version: f.name("version", s.version, MAX_TLS_VERSION)?,
            alpn: Some(f.text("alpn", s.alpn, MAX_ALPN)?).filter(|alpn| !alpn.is_empty()),
            certificates: f.list("certificates", s.certificates, MAX_CERTIFICATES)?,
            name_fits: s.name_fits,
            trust: f.choice("trust", &Trust::ALL, s.trust)?,
        })
    }
}

impl From<Shown> for v1::TlsShown {
    fn from(s: Shown) -> Self {
        Self {
            version: s.version,
            alpn: s.alpn.unwrap_or_default(),
            certificates: into_list(s.certificates),
            name_fits: s.name_fits,
            trust: number_of(&Trust::ALL, &s.trust),
        }
    }
}

impl TryFrom<v1::ShownCertificate> for Certificate {
    type Error = ConvertError;
    fn try_from(c: v1::ShownCertificate) -> Result<Self, ConvertError> {
        let f = Fields("ShownCertificate");
        Ok(Self {
            subject: f.text("subject", c.subject, MAX_DETAIL)?,
            issuer: f.text("issuer", c.issuer, MAX_DETAIL)?,
            not_before: WallTime::from_nanos(c.not_before_unix_nanos),
            not_after: WallTime::from_nanos(c.not_after_unix_nanos),
            sha256: Digest(f.array("sha256", &c.sha256)?),
        })
    }
}

impl From<Certificate> for v1::ShownCertificate {
    fn from(c: Certificate) -> Self {
        Self {
            subject: c.subject,
            issuer: c.issuer,
            not_before_unix_nanos: c.not_before.nanos(),
            not_after_unix_nanos: c.not_after.nanos(),
            sha256: c.sha256.0.to_vec(),
        }
    }
}

impl TryFrom<v1::HttpResult> for Http {
    type Error = ConvertError;
    fn try_from(r: v1::HttpResult) -> Result<Self, ConvertError> {
        let f = Fields("HttpResult");
        Ok(Self { went: f.inner("outcome", r.outcome)?, answered: optional(r.answered)? })
    }
}

impl From<Http> for v1::HttpResult {
    fn from(h: Http) -> Self {
        Self { outcome: Some(h.went.into()), answered: h.answered.map(Into::into) }
    }
}

impl TryFrom<v1::HttpAnswered> for Answered {
    type Error = ConvertError;
    fn try_from(a: v1::HttpAnswered) -> Result<Self, ConvertError> {
        let status = u16::try_from(a.status).ok().filter(|status| (100..=999).contains(status));
        Ok(Self {
            status: status.ok_or_else(|| Fields("HttpAnswered").out_of_range("status", a.status))?,
            server_time: a.server_unix_nanos.map(WallTime::from_nanos),
            node_time: WallTime::from_nanos(a.node_unix_nanos),
        })
    }
}

impl From<Answered> for v1::HttpAnswered {
    fn from(a: Answered) -> Self {
        Self {
            status: a.status.into(),
            server_unix_nanos: a.server_time.map(WallTime::nanos),
            node_unix_nanos: a.node_time.nanos(),
        }
    }
}

impl TryFrom<v1::ListTargetsResponse> for TargetList {
    type Error = ConvertError;
    fn try_from(r: v1::ListTargetsResponse) -> Result<Self, ConvertError> {
        Ok(Self { targets: Fields("ListTargetsResponse").list("targets", r.targets, MAX_TARGETS)? })
    }
}

impl From<TargetList> for v1::ListTargetsResponse {
    fn from(l: TargetList) -> Self {
        Self { targets: into_list(l.targets) }
    }
}

impl TryFrom<v1::ListedTarget> for ListedTarget {
    type Error = ConvertError;
    fn try_from(t: v1::ListedTarget) -> Result<Self, ConvertError> {
        let f = Fields("ListedTarget");
        Ok(Self { name: f.name("name", t.name, MAX_TARGET_NAME)?, target: f.inner("target", t.target)? })
    }
}

impl From<ListedTarget> for v1::ListedTarget {
    fn from(t: ListedTarget) -> Self {
        Self { name: t.name, target: Some(t.target.into()) }
    }
}

impl TryFrom<v1::TestConnectivityRequest> for TestAsk {
    type Error = ConvertError;
    fn try_from(r: v1::TestConnectivityRequest) -> Result<Self, ConvertError> {
        let f = Fields("TestConnectivityRequest");
        f.short("nodes", r.nodes.len(), MAX_NODES)?;
        Ok(Self {
            target: f.name("target", r.target, MAX_ASKED)?,
            nodes: r.nodes.iter().map(|n| f.parsed::<NodeName>("nodes", n)).collect::<Result<_, _>>()?,
            deadline: if r.deadline_nanos == 0 { None } else { Some(deadline(f, r.deadline_nanos)?) },
        })
    }
}

impl From<TestAsk> for v1::TestConnectivityRequest {
    fn from(a: TestAsk) -> Self {
        Self { target: a.target, nodes: into_list(a.nodes), deadline_nanos: a.deadline.map_or(0, nanos) }
    }
}

impl TryFrom<v1::TestConnectivityResponse> for Judged {
    type Error = ConvertError;
    fn try_from(r: v1::TestConnectivityResponse) -> Result<Self, ConvertError> {
        let f = Fields("TestConnectivityResponse");
        Ok(Self { test: f.inner("test", r.test)?, verdict: f.inner("verdict", r.verdict)? })
    }
}

impl From<Judged> for v1::TestConnectivityResponse {
    fn from(j: Judged) -> Self {
        Self { test: Some(j.test.into()), verdict: Some(j.verdict.into()) }
    }
}

impl TryFrom<v1::ConnectivityTest> for ConnectivityTest {
    type Error = ConvertError;
    fn try_from(t: v1::ConnectivityTest) -> Result<Self, ConvertError> {
        let f = Fields("ConnectivityTest");
        Ok(Self {
            at: WallTime::from_nanos(t.at_unix_nanos),
            name: f.name("name", t.name, MAX_TARGET_NAME)?,
            target: f.inner("target", t.target)?,
            asked_by: f.text("asked_by", t.asked_by, MAX_LINE)?,
            nodes: f.list("nodes", t.nodes, MAX_NODES)?,
        })
    }
}

impl From<ConnectivityTest> for v1::ConnectivityTest {
    fn from(t: ConnectivityTest) -> Self {
        Self {
            at_unix_nanos: t.at.nanos(),
            name: t.name,
            target: Some(t.target.into()),
            asked_by: t.asked_by,
            nodes: into_list(t.nodes),
        }
    }
}

impl TryFrom<v1::NodeConnectivity> for NodeResult {
    type Error = ConvertError;
    fn try_from(n: v1::NodeConnectivity) -> Result<Self, ConvertError> {
        let f = Fields("NodeConnectivity");
        Ok(Self { node: f.parsed("node", &n.node)?, outcome: f.inner("result", n.result)? })
    }
}

impl From<NodeResult> for v1::NodeConnectivity {
    fn from(n: NodeResult) -> Self {
        Self { node: n.node.into(), result: Some(n.outcome.into()) }
    }
}

impl TryFrom<v1::ConnectivityVerdict> for Verdict {
    type Error = ConvertError;
    fn try_from(v: v1::ConnectivityVerdict) -> Result<Self, ConvertError> {
        let f = Fields("ConnectivityVerdict");
        f.short("nodes", v.nodes.len(), MAX_NODES)?;
        f.short("remarks", v.remarks.len(), MAX_REMARKS)?;
        Ok(Self {
            blame: f.choice("blame", &Blame::ALL, v.blame)?,
            step: if v.step == 0 { None } else { Some(f.choice("step", &Step::ALL, v.step)?) },
            nodes: v.nodes.iter().map(|n| f.parsed::<NodeName>("nodes", n)).collect::<Result<_, _>>()?,
            sentence: f.text("sentence", v.sentence, MAX_SENTENCE)?,
            remarks: v.remarks.into_iter().map(|r| f.text("remarks", r, MAX_SENTENCE)).collect::<Result<_, _>>()?,
        })
    }
}

impl From<Verdict> for v1::ConnectivityVerdict {
    fn from(v: Verdict) -> Self {
        Self {
            blame: number_of(&Blame::ALL, &v.blame),
            step: v.step.map_or(0, |step| number_of(&Step::ALL, &step)),
            nodes: into_list(v.nodes),
            sentence: v.sentence,
            remarks: v.remarks,
        }
    }
}
