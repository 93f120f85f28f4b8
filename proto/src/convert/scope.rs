//! What of a node's evidence is asked: `LogSelection` of `common.proto`, and the fields that go with it.

use super::{ConvertError, Fields, MAX_SOURCES};
use crate::scope::{Scope, Selection};
use crate::wire::v1;

fn selected(f: Fields, field: &'static str, names: Vec<String>) -> Result<Vec<String>, ConvertError> {
    f.short(field, names.len(), Selection::MAX_NAMES)?;
    names.into_iter().map(|name| f.name(field, name, Selection::MAX_NAME)).collect()
}

impl TryFrom<v1::LogSelection> for Selection {
    type Error = ConvertError;
    fn try_from(s: v1::LogSelection) -> Result<Self, ConvertError> {
        let f = Fields("LogSelection");
        Ok(Self {
            namespaces: selected(f, "namespaces", s.namespaces)?,
            pods: selected(f, "pods", s.pods)?,
            units: selected(f, "units", s.units)?,
        })
    }
}

/// Nothing where everything is selected, so that what asks for nothing special is what it always was.
pub(super) fn selection(s: Selection) -> Option<v1::LogSelection> {
    if s.is_everything() {
        return None;
    }
    Some(v1::LogSelection { namespaces: s.namespaces, pods: s.pods, units: s.units })
}

/// Out of the two fields that carry it.
pub(super) fn scope(f: Fields, sources: Vec<String>, select: Option<v1::LogSelection>) -> Result<Scope, ConvertError> {
    Ok(Scope {
        sources: f.names("sources", sources, MAX_SOURCES)?,
        select: super::optional(select)?.unwrap_or_default(),
    })
}
