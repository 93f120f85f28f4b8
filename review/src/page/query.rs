//! The query of an address: names and values, decoded, with caps. Pure.

use casefile_proto::ids::NodeName;
use casefile_proto::time::{WallTime, Window};

/// The longest query that is looked at, in bytes.
const MAX_QUERY: usize = 16 << 10;

/// What was asked, and cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The question makes no sense: 400.
    #[error("{0}")]
    Question(String),
    /// There is no such thing in the case file: 404.
    #[error("{0}")]
    Nothing(String),
    /// What there is cannot be read: 500.
    #[error("{0}")]
    Unreadable(String),
}

impl Refused {
    /// The status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::Question(_) => 400,
            Self::Nothing(_) => 404,
            Self::Unreadable(_) => 500,
        }
    }
}

impl From<crate::casefile::CaseFileError> for Refused {
    fn from(error: crate::casefile::CaseFileError) -> Self {
        Self::Unreadable(crate::casefile::chain(&error))
    }
}

/// The names and values of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Out of what stands behind the question mark.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        if text.len() > MAX_QUERY {
            return Err(Refused::Question(format!("the query is longer than {MAX_QUERY} bytes")));
        }
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decoded(name)?, decoded(value)?))
        };
        let parts = text.split('&').filter(|part| !part.is_empty());
        let all: Option<_> = parts.map(pair).collect();
        all.map(Self).ok_or_else(|| Refused::Question("the query is not encoded as one".to_owned()))
    }

    /// The first value of a name, when it is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The value of a name that must be there.
    pub fn need(&self, name: &str) -> Result<&str, Refused> {
        self.get(name).ok_or_else(|| Refused::Question(format!("`{name}` is missing")))
    }

    /// A number, at most `most`.
    pub fn number(&self, name: &str, otherwise: usize, most: usize) -> Result<usize, Refused> {
        match self.get(name) {
            None => Ok(otherwise.min(most)),
            Some(text) => match text.parse::<usize>() {
                Ok(number) => Ok(number.min(most)),
                Err(_) => Err(Refused::Question(format!("`{name}` is no number"))),
            },
        }
    }

    /// The names of metrics in `metric`, between commas.
    pub fn metrics(&self, most: usize) -> Result<Vec<&str>, Refused> {
        let all: Vec<_> = self.need("metric")?.split(',').filter(|name| !name.is_empty()).collect();
        if all.len() > most {
            return Err(Refused::Question(format!("more than {most} metrics at once")));
        }
        Ok(all)
    }

    /// A node.
    pub fn node(&self, name: &str) -> Result<Option<NodeName>, Refused> {
        let node = |text: &str| text.parse().map_err(|_| Refused::Question(format!("`{name}` is no name of a node")));
        self.get(name).map(node).transpose()
    }

    /// `from` and `until`; of what is not said, the ends of `all`.
    pub fn window(&self, all: Window) -> Result<Window, Refused> {
        let time = |name: &str, otherwise: WallTime| match self.get(name) {
            None => Ok(otherwise),
            Some(text) => {
                text.parse().map_err(|_| Refused::Question(format!("`{name}` is no time as RFC 3339 has it")))
            }
        };
        let (from, until) = (time("from", all.from())?, time("until", all.until())?);
        Window::new(from, until).map_err(|error| Refused::Question(error.to_string()))
    }
}

fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        match (first, after) {
            (b'%', [hi, lo, after @ ..]) => {
                let digit = |b: &u8| (*b as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
                out.push(digit(hi)? << 4 | digit(lo)?);
                rest = after;
            }
            (b'%', _) => return None,
            (b'+', _) => {
                out.push(b' ');
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_and_what_is_none_is_refused() {
        let query = Query::parse("node=n1&grep=a%2Bb+%5B&empty=&limit=7").unwrap();
        assert_eq!((query.get("node"), query.get("grep"), query.get("empty")), (Some("n1"), Some("a+b ["), None));
        assert_eq!((query.number("limit", 1, 5), query.number("cols", 3, 5)), (Ok(5), Ok(3)));
        for bad in ["a=%", "a=%2", "a=%zz", "a=%ff"] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(query.need("x").unwrap_err().status(), 400);
        assert!(Query::parse("node=%00").unwrap().node("node").is_err());
    }

    #[test]
    fn a_window_that_is_not_said_is_the_whole_and_a_reversed_one_is_refused() {
        let all = Window::new(WallTime::from_secs(0), WallTime::from_secs(100)).unwrap();
        let window = |text: &str| Query::parse(text).unwrap().window(all);
        assert_eq!(window(""), Ok(all));
        assert_eq!(window("from=1970-01-01T00:00:10Z").unwrap().from(), WallTime::from_secs(10));
        assert_eq!(window("from=1970-01-01T00:00:10Z&until=1970-01-01T00:00:05Z").unwrap_err().status(), 400);
    }
}
