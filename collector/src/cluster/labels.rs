//! Selectors of labels as kubectl writes them: `app=api,tier in (web, edge),env!=test,!canary`. Pure.

use super::meta::Labels;

/// The most parts of one selector.
const MAX_PARTS: usize = 64;

/// What must be true of labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    name: String,
    must: Must,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Must {
    Exist,
    NotExist,
    In(Vec<String>),
    NotIn(Vec<String>),
}

impl Selector {
    /// Of a text; an empty one is true of everything. An error says what is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = split(text)?;
        if parts.len() > MAX_PARTS {
            return Err(format!("a selector has at most {MAX_PARTS} parts"));
        }
        Ok(Self { parts: parts.into_iter().map(part).collect::<Result<_, _>>()? })
    }

    /// What a service says: these labels, each of this value.
    pub fn all(labels: &Labels) -> Self {
        let part = |(name, value): &(Box<str>, Box<str>)| Part {
            name: name.to_string(),
            must: Must::In(vec![value.to_string()]),
        };
        Self { parts: labels.iter().map(part).collect() }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether it is true of these labels. As in Kubernetes, what is not there is not one of any values.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.parts.iter().all(|part| {
            let value = labels.iter().find(|(name, _)| **name == *part.name).map(|(_, value)| &**value);
            match &part.must {
                Must::Exist => value.is_some(),
                Must::NotExist => value.is_none(),
                Must::In(values) => value.is_some_and(|value| values.iter().any(|v| v == value)),
                Must::NotIn(values) => value.is_none_or(|value| values.iter().all(|v| v != value)),
            }
        })
    }
}

/// At the commas that are in no parentheses.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut begin, mut within) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match (c, within) {
            ('(', false) => within = true,
            (')', true) => within = false,
            ('(' | ')', _) => return Err(format!("the parentheses do not match in {text:?}")),
            (',', false) => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if within {
        return Err(format!("the parentheses do not match in {text:?}"));
    }
    parts.push(&text[begin..]);
    if parts.len() == 1 && parts[0].trim().is_empty() {
        parts.clear();
    }
    Ok(parts)
}

fn part(text: &str) -> Result<Part, String> {
    let text = text.trim();
    let made = |name: &str, must: Must| {
        let name = name.trim();
        let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        if name.is_empty() || !name.chars().all(letter) {
            return Err(format!("{name:?} is no name of a label, in {text:?}"));
        }
        Ok(Part { name: name.to_owned(), must })
    };
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some((name, values)) = text.split_once('(') {
        let values = values.trim_end().trim_end_matches(')').split(',').map(|value| value.trim().to_owned()).collect();
        let name = name.trim();
        return match name.rsplit_once(char::is_whitespace) {
            Some((name, "notin")) => made(name, Must::NotIn(values)),
            Some((name, "in")) => made(name, Must::In(values)),
            _ => Err(format!("say NAME in (…) or NAME notin (…), not {text:?}")),
        };
    }
    if let Some((name, value)) = text.split_once("!=") {
        return made(name, Must::NotIn(one(value)));
    }
    if let Some((name, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return made(name, Must::In(one(value)));
    }
    match text.strip_prefix('!') {
        Some(name) => made(name, Must::NotExist),
        None => made(text, Must::Exist),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
        Selector::parse(selector).unwrap().matches(&labels)
    }

    #[test]
    fn selectors_mean_what_they_mean_to_kubectl() {
        let api = [("app", "api"), ("tier", "web"), ("example.com/x", "1")];
        for yes in [
            "",
            "app=api",
            "app==api",
            "app = api , tier=web",
            "app",
            "!canary",
            "env!=test",
            "tier in (web, edge)",
            "tier notin (db)",
            "missing notin (a)",
            "example.com/x=1,app in (api)",
        ] {
            assert!(matches(yes, &api), "{yes}");
        }
        for no in ["app=web", "canary", "!app", "app!=api", "tier in (db,edge)", "tier notin (web)", "missing in (a)"] {
            assert!(!matches(no, &api), "{no}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_with_the_part_that_is_none() {
        for (bad, named) in [
            ("=api", "\"\""),
            ("app in api)", "parentheses"),
            ("app in (api", "parentheses"),
            ("app within (a)", "app within (a)"),
            ("a b", "a b"),
            ("app=api,,tier", "\"\""),
        ] {
            let error = Selector::parse(bad).unwrap_err();
            assert!(error.contains(named), "{bad}: {error}");
        }
    }
}
