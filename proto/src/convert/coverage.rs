//! Times, windows, gaps and coverage: `common.proto`.

use std::collections::BTreeMap;

use super::scope::{scope, selection};
use super::{
    ConvertError, Fields, MAX_COVERED, MAX_GAPS, MAX_KEY_ID, MAX_NODES, MAX_RULES, MAX_SOURCE_NAME, MAX_SOURCES,
    Problem, into_list, number_of, optional,
};
use crate::coverage::{
    Amendment, ClosedGap, Cost, Coverage, NodeCoverage, NodeState, OutcomeCounts, Redaction, SourceCoverage, SourceKind,
};
use crate::gap::{Gap, GapReason};
use crate::time::{BootTime, ClockOffset, Stamp, WallTime, Window};
use crate::wire::v1;

impl TryFrom<v1::Window> for Window {
    type Error = ConvertError;
    fn try_from(w: v1::Window) -> Result<Self, ConvertError> {
        Self::new(WallTime::from_nanos(w.from_unix_nanos), WallTime::from_nanos(w.until_unix_nanos))
            .map_err(|e| Fields("Window").wrong("until_unix_nanos", Problem::Invalid(e.to_string())))
    }
}

impl From<Window> for v1::Window {
    fn from(w: Window) -> Self {
        Self { from_unix_nanos: w.from().nanos(), until_unix_nanos: w.until().nanos() }
    }
}

impl From<v1::Stamp> for Stamp {
    fn from(s: v1::Stamp) -> Self {
        Self { wall: WallTime::from_nanos(s.wall_unix_nanos), boot: BootTime::from_nanos(s.boot_nanos) }
    }
}

impl From<Stamp> for v1::Stamp {
    fn from(s: Stamp) -> Self {
        Self { wall_unix_nanos: s.wall.nanos(), boot_nanos: s.boot.nanos() }
    }
}

impl From<v1::ClockOffset> for ClockOffset {
    fn from(c: v1::ClockOffset) -> Self {
        Self { ahead_nanos: c.ahead_nanos, bound_nanos: c.bound_nanos }
    }
}

impl From<ClockOffset> for v1::ClockOffset {
    fn from(c: ClockOffset) -> Self {
        Self { ahead_nanos: c.ahead_nanos, bound_nanos: c.bound_nanos }
    }
}

impl TryFrom<v1::Gap> for Gap {
    type Error = ConvertError;
    fn try_from(g: v1::Gap) -> Result<Self, ConvertError> {
        let f = Fields("Gap");
        Ok(Self {
            reason: f.choice("reason", &GapReason::ALL, g.reason)?,
            interval: optional(g.interval)?,
            count: g.count.map(|n| f.quantity("count", n)).transpose()?,
            detail: f.text("detail", g.detail, Self::MAX_DETAIL)?,
        })
    }
}

impl From<Gap> for v1::Gap {
    fn from(g: Gap) -> Self {
        Self {
            reason: number_of(&GapReason::ALL, &g.reason),
            interval: g.interval.map(Into::into),
            count: g.count,
            detail: g.detail,
        }
    }
}

impl TryFrom<v1::OutcomeCounts> for OutcomeCounts {
    type Error = ConvertError;
    fn try_from(o: v1::OutcomeCounts) -> Result<Self, ConvertError> {
        let f = Fields("OutcomeCounts");
        Ok(Self {
            complete: f.quantity("complete", o.complete)?,
            partial: f.quantity("partial", o.partial)?,
            absent: f.quantity("absent", o.absent)?,
            failed: f.quantity("failed", o.failed)?,
            timed_out: f.quantity("timed_out", o.timed_out)?,
            skipped: f.quantity("skipped", o.skipped)?,
        })
    }
}

impl From<OutcomeCounts> for v1::OutcomeCounts {
    fn from(o: OutcomeCounts) -> Self {
        let OutcomeCounts { complete, partial, absent, failed, timed_out, skipped } = o;
        Self { complete, partial, absent, failed, timed_out, skipped }
    }
}

impl TryFrom<v1::SourceCoverage> for SourceCoverage {
    type Error = ConvertError;
    fn try_from(s: v1::SourceCoverage) -> Result<Self, ConvertError> {
        let f = Fields("SourceCoverage");
        let covered: Vec<Window> = f.list("covered", s.covered, MAX_COVERED)?;
        if covered.windows(2).any(|pair| pair[1].from() < pair[0].until()) {
            return Err(f.wrong("covered", Problem::Invalid("is not in order, or overlaps".to_owned())));
        }
        Ok(Self {
            source: f.name("source", s.source, MAX_SOURCE_NAME)?,
            kind: f.choice("kind", &SourceKind::ALL, s.kind)?,
            asked: f.inner("asked", s.asked)?,
            covered,
            // Absent says the same as all zero: it has no ticks.
            outcomes: optional(s.outcomes)?.unwrap_or_default(),
            records: f.quantity("records", s.records)?,
            items: f.quantity("items", s.items)?,
            gaps: f.list("gaps", s.gaps, MAX_GAPS)?,
            cost: Cost { took_nanos: f.quantity("took_nanos", s.took_nanos)?, bytes: f.quantity("bytes", s.bytes)? },
            redaction: optional(s.redaction)?,
        })
    }
}

impl From<SourceCoverage> for v1::SourceCoverage {
    fn from(s: SourceCoverage) -> Self {
        Self {
            source: s.source,
            kind: number_of(&SourceKind::ALL, &s.kind),
            asked: Some(s.asked.into()),
            covered: into_list(s.covered),
            outcomes: (s.outcomes != OutcomeCounts::default()).then(|| s.outcomes.into()),
            records: s.records,
            items: s.items,
            gaps: into_list(s.gaps),
            took_nanos: s.cost.took_nanos,
            bytes: s.cost.bytes,
            redaction: s.redaction.map(Into::into),
        }
    }
}

impl TryFrom<v1::Redaction> for Redaction {
    type Error = ConvertError;
    fn try_from(r: v1::Redaction) -> Result<Self, ConvertError> {
        let f = Fields("Redaction");
        f.short("rules", r.rules.len(), MAX_RULES)?;
        let mut rules = BTreeMap::new();
        for v1::RuleCount { rule, count } in r.rules {
            let f = Fields("RuleCount");
            let (rule, count) = (f.name("rule", rule, MAX_SOURCE_NAME)?, f.quantity("count", count)?);
            if rules.insert(rule, count).is_some() {
                return Err(f.wrong("rule", Problem::Invalid("is there twice".to_owned())));
            }
        }
        Ok(Self { key_id: f.name("key_id", r.key_id, MAX_KEY_ID)?, rules })
    }
}

impl From<Redaction> for v1::Redaction {
    fn from(r: Redaction) -> Self {
        let rules = r.rules.into_iter().map(|(rule, count)| v1::RuleCount { rule, count }).collect();
        Self { key_id: r.key_id, rules }
    }
}

impl TryFrom<v1::NodeCoverage> for NodeCoverage {
    type Error = ConvertError;
    fn try_from(n: v1::NodeCoverage) -> Result<Self, ConvertError> {
        let f = Fields("NodeCoverage");
        Ok(Self {
            node: f.parsed("node", &n.node)?,
            state: f.choice("state", &NodeState::ALL, n.state)?,
            clock: n.clock.map(Into::into),
            sources: f.list("sources", n.sources, MAX_SOURCES)?,
            gaps: f.list("gaps", n.gaps, MAX_GAPS)?,
            amended: optional(n.amended)?,
        })
    }
}

impl TryFrom<v1::Amendment> for Amendment {
    type Error = ConvertError;
    fn try_from(a: v1::Amendment) -> Result<Self, ConvertError> {
        Ok(Self {
            revision: a.revision,
            sealed_at: WallTime::from_nanos(a.sealed_unix_nanos),
            closed: Fields("Amendment").list("closed", a.closed, MAX_GAPS)?,
        })
    }
}

impl From<Amendment> for v1::Amendment {
    fn from(a: Amendment) -> Self {
        Self { revision: a.revision, sealed_unix_nanos: a.sealed_at.nanos(), closed: into_list(a.closed) }
    }
}

impl TryFrom<v1::ClosedGap> for ClosedGap {
    type Error = ConvertError;
    fn try_from(c: v1::ClosedGap) -> Result<Self, ConvertError> {
        let f = Fields("ClosedGap");
        let source = Some(c.source).filter(|source| !source.is_empty());
        Ok(Self {
            source: source.map(|source| f.name("source", source, MAX_SOURCE_NAME)).transpose()?,
            gap: f.inner("gap", c.gap)?,
        })
    }
}

impl From<ClosedGap> for v1::ClosedGap {
    fn from(c: ClosedGap) -> Self {
        Self { source: c.source.unwrap_or_default(), gap: Some(c.gap.into()) }
    }
}

impl From<NodeCoverage> for v1::NodeCoverage {
    fn from(n: NodeCoverage) -> Self {
        Self {
            node: n.node.into(),
            state: number_of(&NodeState::ALL, &n.state),
            clock: n.clock.map(Into::into),
            sources: into_list(n.sources),
            gaps: into_list(n.gaps),
            amended: n.amended.map(Into::into),
        }
    }
}

impl TryFrom<v1::Coverage> for Coverage {
    type Error = ConvertError;
    fn try_from(c: v1::Coverage) -> Result<Self, ConvertError> {
        let f = Fields("Coverage");
        Ok(Self {
            window: f.inner("window", c.window)?,
            nodes: f.list("nodes", c.nodes, MAX_NODES)?,
            scope: scope(f, c.sources, c.select)?,
            cluster: optional(c.cluster)?,
        })
    }
}

impl From<Coverage> for v1::Coverage {
    fn from(c: Coverage) -> Self {
        Self {
            window: Some(c.window.into()),
            nodes: into_list(c.nodes),
            sources: c.scope.sources,
            select: selection(c.scope.select),
            cluster: c.cluster.map(Into::into),
        }
    }
}
