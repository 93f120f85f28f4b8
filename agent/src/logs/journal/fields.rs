//! The fields of an entry that its text file and its line are made from.

use crate::journal::{Entry, Form, Fragment, Fragments, Journals, ReadAt, Rendered};

/// A field that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Message,
    Priority,
    Identifier,
    Comm,
    Pid,
    SyslogPid,
    Transport,
    Uid,
    SystemUnit,
    UserUnit,
    Unit,
    CoredumpUnit,
    ObjectUnit,
    MessageId,
    Dropped,
}

use Field::{
    Comm, CoredumpUnit, Dropped, Identifier, Message, MessageId, ObjectUnit, Pid, Priority, SyslogPid, SystemUnit,
    Transport, Uid, Unit, UserUnit,
};

const NAMES: [(&[u8], Field); 15] = [
    (b"MESSAGE", Message),
    (b"PRIORITY", Priority),
    (b"SYSLOG_IDENTIFIER", Identifier),
    (b"_COMM", Comm),
    (b"_PID", Pid),
    (b"SYSLOG_PID", SyslogPid),
    (b"_TRANSPORT", Transport),
    (b"_UID", Uid),
    (b"_SYSTEMD_UNIT", SystemUnit),
    (b"_SYSTEMD_USER_UNIT", UserUnit),
    (b"UNIT", Unit),
    (b"COREDUMP_UNIT", CoredumpUnit),
    (b"OBJECT_SYSTEMD_UNIT", ObjectUnit),
    (b"MESSAGE_ID", MessageId),
    (b"N_DROPPED", Dropped),
];

/// Names are short; what is longer than this is looked at no further.
const NAME_CAP: usize = 16 << 10;

/// Renders the value of a known field, and nothing of any other.
pub(super) struct Known;

impl Form for Known {
    fn render(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Rendered {
        let Some(equals) = payload.iter().position(|b| *b == b'=') else { return Rendered::default() };
        let (name, value) = (&payload[..equals], &payload[equals + 1..]);
        let Some(at) = NAMES.iter().position(|(n, _)| *n == name) else { return Rendered::default() };
        let cap = if at == Message as usize { value.len() } else { value.len().min(NAME_CAP) };
        out.extend_from_slice(&value[..cap]);
        Rendered { tag: u32::try_from(at + 1).unwrap_or(0), ..Rendered::default() }
    }
}

/// What an entry says in the fields that are looked at: of each the first value.
#[derive(Default)]
pub(super) struct Seen {
    text: Vec<u8>,
    values: [Option<(usize, usize)>; NAMES.len()],
    /// How much of the message is missing.
    pub(super) left_out: u64,
}

impl Seen {
    /// Reads them.
    pub(super) fn read<S: ReadAt>(&mut self, journals: &mut Journals<S>, entry: &Entry, known: &mut Fragments<Known>) {
        self.text.clear();
        self.values = Default::default();
        self.left_out = 0;
        journals.fields(entry, known, |f| self.take(f));
    }

    fn take(&mut self, fragment: Fragment<'_>) {
        let Some(at) = fragment.tag.checked_sub(1).and_then(|t| usize::try_from(t).ok()) else { return };
        if let Some(value @ None) = self.values.get_mut(at) {
            *value = Some((self.text.len(), self.text.len() + fragment.bytes.len()));
            self.text.extend_from_slice(fragment.bytes);
            if at == Message as usize {
                self.left_out = fragment.left_out;
            }
        }
    }

    /// A value, if the entry has it and it is not empty.
    pub(super) fn get(&self, field: Field) -> Option<&[u8]> {
        self.values[field as usize].map(|(begin, end)| &self.text[begin..end]).filter(|v| !v.is_empty())
    }

    /// Whether a field has this value.
    pub(super) fn is(&self, field: Field, value: &[u8]) -> bool {
        self.get(field) == Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_stands_at_its_own_place() {
        assert!(NAMES.iter().enumerate().all(|(at, (_, field))| *field as usize == at));
    }
}
