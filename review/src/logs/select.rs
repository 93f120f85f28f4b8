//! Which records are wanted. Pure.

use casefile_proto::ids::NodeName;
use casefile_proto::time::Window;
use regex::Regex;
use regex::bytes::Regex as BytesRegex;

use super::origin::{JOURNAL_ENTRIES, Origin};

/// Which records of which logs; empty lists want everything.
///
/// What names pods wants pod logs only, what names units wants the journal only; both together want both.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    /// Of these nodes.
    pub nodes: Vec<NodeName>,
    /// Of these log sources. [`JOURNAL_ENTRIES`] is the journal once more, and must be named.
    pub sources: Vec<String>,
    /// Of these units, with or without `.service`.
    pub units: Vec<String>,
    /// Of pods in these namespaces.
    pub namespaces: Vec<String>,
    /// Of pods whose name one of these matches.
    pub pods: Vec<Regex>,
    /// Of no pod whose name one of these matches.
    pub exclude_pods: Vec<Regex>,
    /// Of containers whose name one of these matches.
    pub containers: Vec<Regex>,
    /// Of no container whose name one of these matches.
    pub exclude_containers: Vec<Regex>,
    /// Records that one of these matches.
    pub include: Vec<BytesRegex>,
    /// No record that one of these matches.
    pub exclude: Vec<BytesRegex>,
    /// Records of this part of the window, on the collector's clock.
    pub range: Option<Window>,
    /// Of each log only so many of the last of them.
    pub tail: Option<u64>,
}

impl Selector {
    /// Whether a log is wanted.
    pub(super) fn wants(&self, node: &NodeName, origin: &Origin) -> bool {
        self.wants_node(node) && self.wants_source(&origin.source) && self.wants_origin(origin)
    }

    pub(super) fn wants_node(&self, node: &NodeName) -> bool {
        self.nodes.is_empty() || self.nodes.contains(node)
    }

    pub(super) fn wants_source(&self, source: &str) -> bool {
        match self.sources.as_slice() {
            [] => source != JOURNAL_ENTRIES,
            named => named.iter().any(|s| s == source),
        }
    }

    fn wants_origin(&self, origin: &Origin) -> bool {
        let names_pods = !(self.namespaces.is_empty() && self.pods.is_empty() && self.containers.is_empty());
        if origin.namespace.is_some() {
            return (names_pods || self.units.is_empty()) && self.wants_pod(origin);
        }
        if self.units.is_empty() {
            return !names_pods;
        }
        self.units.iter().any(|unit| origin.is_unit(unit))
    }

    fn wants_pod(&self, origin: &Origin) -> bool {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let (namespace, pod, container) = (text(&origin.namespace), text(&origin.pod), text(&origin.container));
        let one_of = |list: &[Regex], name: &str| list.iter().any(|re| re.is_match(name));
        (self.namespaces.is_empty() || self.namespaces.contains(&namespace))
            && (self.pods.is_empty() || one_of(&self.pods, &pod))
            && (self.containers.is_empty() || one_of(&self.containers, &container))
            && !one_of(&self.exclude_pods, &pod)
            && !one_of(&self.exclude_containers, &container)
    }

    /// Whether a record with this text is wanted.
    pub(super) fn wants_text(&self, text: &[u8]) -> bool {
        (self.include.is_empty() || self.include.iter().any(|re| re.is_match(text)))
            && !self.exclude.iter().any(|re| re.is_match(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(selector: &Selector) -> Vec<&'static str> {
        let node = "n1".parse().unwrap();
        let all = [
            "logs/kernel.log",
            "logs/pods/shop_api-0_u/main.log",
            "logs/pods/shop_api-0_u/proxy.log",
            "logs/pods/pay_db-0_u/main.log",
            "logs/journal/kubelet.service.log",
            "logs/journal/entries.jsonl",
            "logs/files/var/log/syslog",
        ];
        all.into_iter().filter(|path| selector.wants(&node, &Origin::of(path).unwrap())).collect()
    }

    fn regexes(list: &[&str]) -> Vec<Regex> {
        list.iter().map(|re| Regex::new(re).unwrap()).collect()
    }

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn without_a_word_everything_is_wanted_once() {
        let all = wanted(&Selector::default());
        assert!(all.len() == 6 && !all.contains(&"logs/journal/entries.jsonl"), "{all:?}");
        let entries = Selector { sources: texts(&[JOURNAL_ENTRIES]), ..Selector::default() };
        assert_eq!(wanted(&entries), ["logs/journal/entries.jsonl"]);
        let elsewhere = Selector { nodes: vec!["n2".parse().unwrap()], ..Selector::default() };
        assert!(wanted(&elsewhere).is_empty());
    }

    #[test]
    fn pods_and_units_are_chosen_by_what_names_them() {
        let shop = Selector { namespaces: texts(&["shop"]), ..Selector::default() };
        assert_eq!(wanted(&shop), ["logs/pods/shop_api-0_u/main.log", "logs/pods/shop_api-0_u/proxy.log"]);
        let main = Selector { containers: regexes(&["^ma"]), pods: regexes(&["api"]), ..Selector::default() };
        assert_eq!(wanted(&main), ["logs/pods/shop_api-0_u/main.log"]);
        let without = Selector { exclude_containers: regexes(&["proxy"]), ..shop.clone() };
        assert_eq!(wanted(&without), ["logs/pods/shop_api-0_u/main.log"]);
        let unit = Selector { units: texts(&["kubelet"]), ..Selector::default() };
        assert_eq!(wanted(&unit), ["logs/journal/kubelet.service.log"]);
        let both = Selector { units: texts(&["kubelet"]), ..shop };
        assert_eq!(wanted(&both).len(), 3);
        let no_proxy = Selector { exclude_containers: regexes(&["proxy"]), ..Selector::default() };
        assert_eq!(wanted(&no_proxy).len(), 5, "what leaves a container out leaves everything else in");
    }

    #[test]
    fn a_record_is_chosen_by_its_text_whatever_its_bytes() {
        let re = |list: &[&str]| list.iter().map(|re| BytesRegex::new(re).unwrap()).collect();
        let selector =
            Selector { include: re(&["oom", r"(?-u)\xff"]), exclude: re(&["harmless"]), ..Selector::default() };
        assert!(selector.wants_text(b"an oom\nin its second line") && selector.wants_text(b"\xff"));
        assert!(!selector.wants_text(b"nothing") && !selector.wants_text(b"a harmless oom"));
    }
}
