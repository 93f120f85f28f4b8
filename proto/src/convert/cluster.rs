//! Coverage of the cluster: `common.proto`.

use super::{ConvertError, Fields, MAX_COVERED, MAX_GAPS, MAX_SOURCE_NAME, Problem, into_list};
use crate::cluster::{ClusterCoverage, KindCoverage};
use crate::scope::Selection;
use crate::time::Window;
use crate::wire::v1;

impl TryFrom<v1::ClusterCoverage> for ClusterCoverage {
    type Error = ConvertError;
    fn try_from(c: v1::ClusterCoverage) -> Result<Self, ConvertError> {
        let f = Fields("ClusterCoverage");
        f.short("namespaces", c.namespaces.len(), Self::MAX_NAMESPACES)?;
        let namespaces = c.namespaces.into_iter().map(|name| f.name("namespaces", name, Selection::MAX_NAME));
        Ok(Self {
            asked: f.inner("asked", c.asked)?,
            namespaces: namespaces.collect::<Result<_, _>>()?,
            kinds: f.list("kinds", c.kinds, Self::MAX_KINDS)?,
            gaps: f.list("gaps", c.gaps, MAX_GAPS)?,
        })
    }
}

impl From<ClusterCoverage> for v1::ClusterCoverage {
    fn from(c: ClusterCoverage) -> Self {
        Self {
            asked: Some(c.asked.into()),
            namespaces: c.namespaces,
            kinds: into_list(c.kinds),
            gaps: into_list(c.gaps),
        }
    }
}

impl TryFrom<v1::KindCoverage> for KindCoverage {
    type Error = ConvertError;
    fn try_from(k: v1::KindCoverage) -> Result<Self, ConvertError> {
        let f = Fields("KindCoverage");
        let covered: Vec<Window> = f.list("covered", k.covered, MAX_COVERED)?;
        if covered.windows(2).any(|pair| pair[1].from() < pair[0].until()) {
            return Err(f.wrong("covered", Problem::Invalid("is not in order, or overlaps".to_owned())));
        }
        Ok(Self {
            kind: f.name("kind", k.kind, MAX_SOURCE_NAME)?,
            covered,
            objects: f.quantity("objects", k.objects)?,
            changes: f.quantity("changes", k.changes)?,
            gaps: f.list("gaps", k.gaps, MAX_GAPS)?,
        })
    }
}

impl From<KindCoverage> for v1::KindCoverage {
    fn from(k: KindCoverage) -> Self {
        Self {
            kind: k.kind,
            covered: into_list(k.covered),
            objects: k.objects,
            changes: k.changes,
            gaps: into_list(k.gaps),
        }
    }
}
