//! Where the log of an entry comes from, as its path says it: source, pod, container, unit, file. Pure.
//!
//! Paths were made safe when they were written (`=2F` for a slash); here they are made readable again, and are therefore
//! as untrusted as every text of a node.

/// The complete journal entries as JSON lines: the same evidence as the texts of the units, once more.
pub const JOURNAL_ENTRIES: &str = "journal-entries";

/// One log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The log source: `kernel`, `pods`, `files`, `journal`; or [`JOURNAL_ENTRIES`].
    pub source: String,
    /// The namespace of the pod.
    pub namespace: Option<String>,
    /// The pod.
    pub pod: Option<String>,
    /// The pod's uid.
    pub pod_uid: Option<String>,
    /// The container.
    pub container: Option<String>,
    /// The unit of the journal.
    pub unit: Option<String>,
    /// The file on the node.
    pub file: Option<String>,
}

impl Origin {
    /// Out of the path below the node's directory; `None` for what is no log.
    pub fn of(below: &str) -> Option<Self> {
        let rest = below.strip_prefix("logs/")?;
        let Some((source, rest)) = rest.split_once('/') else {
            return Some(Self { source: without_ending(rest), ..Self::default() });
        };
        let mut origin = Self { source: source.to_owned(), ..Self::default() };
        match source {
            "pods" => {
                let (dir, file) = rest.split_once('/').unwrap_or((rest, ""));
                let dir = readable(dir);
                let mut parts = dir.splitn(3, '_');
                origin.namespace = parts.next().map(str::to_owned);
                origin.pod = parts.next().map(str::to_owned);
                origin.pod_uid = parts.next().map(str::to_owned);
                origin.container = Some(without_ending(file)).filter(|c| !c.is_empty());
            }
            "journal" if rest == "entries.jsonl" => JOURNAL_ENTRIES.clone_into(&mut origin.source),
            "journal" => origin.unit = Some(without_ending(rest)),
            "files" => origin.file = Some(format!("/{}", readable(rest))),
            _ => origin.file = Some(readable(rest)),
        }
        Some(origin)
    }

    /// In a word or two, for a line: `shop/api-0/main`, `kubelet.service`, `/var/log/syslog`, `kernel`.
    pub fn label(&self) -> String {
        match (&self.namespace, &self.unit, &self.file) {
            (Some(namespace), _, _) => {
                let rest = [&self.pod, &self.container].into_iter().flatten();
                rest.fold(namespace.clone(), |label, part| label + "/" + part)
            }
            (_, Some(unit), _) => unit.clone(),
            (_, _, Some(file)) => file.clone(),
            _ => self.source.clone(),
        }
    }

    /// Whether this is the unit of that name, given with or without `.service`.
    pub fn is_unit(&self, name: &str) -> bool {
        self.unit.as_deref().is_some_and(|unit| unit == name || unit.strip_suffix(".service") == Some(name))
    }
}

fn without_ending(name: &str) -> String {
    readable(name.strip_suffix(".log").unwrap_or(name))
}

/// The text that a safe component was made of. One that was cut when it was written stays cut.
fn readable(component: &str) -> String {
    let mut out = Vec::with_capacity(component.len());
    let mut rest = component.as_bytes();
    while let [b, after @ ..] = rest {
        let escaped = match rest {
            [b'=', hi, lo, ..] => digit(*hi).zip(digit(*lo)).map(|(hi, lo)| hi << 4 | lo),
            _ => None,
        };
        match escaped {
            Some(byte) => {
                out.push(byte);
                rest = &rest[3..];
            }
            None => {
                out.push(*b);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn digit(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use casefile_proto::item::safe_component;

    use super::*;

    #[test]
    fn a_path_says_where_a_log_comes_from() {
        for (path, source, label) in [
            ("logs/kernel.log", "kernel", "kernel"),
            ("logs/pods/shop_api-0_0a1b/main.log", "pods", "shop/api-0/main"),
            ("logs/pods/shop_api-0_0a1b", "pods", "shop/api-0"),
            ("logs/pods/odd/x.log", "pods", "odd/x"),
            ("logs/journal/kubelet.service.log", "journal", "kubelet.service"),
            ("logs/journal/entries.jsonl", JOURNAL_ENTRIES, JOURNAL_ENTRIES),
            ("logs/files/var/log/syslog", "files", "/var/log/syslog"),
            ("logs/pstore/dmesg-efi-1", "pstore", "dmesg-efi-1"),
        ] {
            let origin = Origin::of(path).unwrap();
            assert_eq!((origin.source.as_str(), origin.label().as_str()), (source, label), "{path}");
        }
        assert_eq!(Origin::of("state/mounts.jsonl"), None);
        let unit = Origin::of("logs/journal/kubelet.service.log").unwrap();
        assert!(unit.is_unit("kubelet") && unit.is_unit("kubelet.service") && !unit.is_unit("kube"));
    }

    #[test]
    fn a_name_that_was_made_safe_is_readable_again() {
        for name in ["systemd-fsck@dev-disk-by\\x2duuid.service", "a b=c", "größer", ".hidden"] {
            assert_eq!(readable(&safe_component(name)), name);
        }
        assert_eq!(readable("=4"), "=4");
        assert_eq!(readable("=zz=FF"), "=zz\u{fffd}");
    }
}
