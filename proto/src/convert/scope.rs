//! What of a node's evidence is asked: `LogSelection` of `common.proto`, and the fields that go with it.

use super::{ConvertError, Fields, MAX_LINE, MAX_SOURCES};
use crate::scope::{Chosen, ClusterSelection, Scope, Selection};
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
        chosen: None,
    })
}

impl TryFrom<v1::ClusterSelection> for ClusterSelection {
    type Error = ConvertError;
    fn try_from(s: v1::ClusterSelection) -> Result<Self, ConvertError> {
        let f = Fields("ClusterSelection");
        Ok(Self {
            namespaces: selected(f, "namespaces", s.namespaces)?,
            selector: f.text("selector", s.selector, Self::MAX_SELECTOR)?,
            services: selected(f, "services", s.services)?,
            workloads: selected(f, "workloads", s.workloads)?,
            pods: selected(f, "pods", s.pods)?,
            node_selector: f.text("node_selector", s.node_selector, Self::MAX_SELECTOR)?,
        })
    }
}

impl From<ClusterSelection> for v1::ClusterSelection {
    fn from(s: ClusterSelection) -> Self {
        let ClusterSelection { namespaces, selector, services, workloads, pods, node_selector } = s;
        Self { namespaces, selector, services, workloads, pods, node_selector }
    }
}

impl TryFrom<v1::Chosen> for Chosen {
    type Error = ConvertError;
    fn try_from(c: v1::Chosen) -> Result<Self, ConvertError> {
        let f = Fields("Chosen");
        f.short("notes", c.notes.len(), Self::MAX_NOTES)?;
        let notes = c.notes.into_iter().map(|note| f.text("notes", note, MAX_LINE));
        Ok(Self {
            asked: f.inner("asked", c.asked)?,
            pods: f.quantity("pods", c.pods)?,
            nodes: f.quantity("nodes", c.nodes)?,
            notes: notes.collect::<Result<_, _>>()?,
        })
    }
}

impl From<Chosen> for v1::Chosen {
    fn from(c: Chosen) -> Self {
        Self { asked: Some(c.asked.into()), pods: c.pods, nodes: c.nodes, notes: c.notes }
    }
}

/// What was chosen, before anybody knows what it becomes. Nothing where nothing is said.
pub(super) fn asked_of_cluster(asked: Option<v1::ClusterSelection>) -> Result<Option<Box<Chosen>>, ConvertError> {
    let asked: Option<ClusterSelection> = super::optional(asked)?;
    let asked = asked.filter(|asked| !asked.is_empty());
    Ok(asked.map(|asked| Box::new(Chosen { asked, ..Chosen::default() })))
}
