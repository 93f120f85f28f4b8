//! Tests of connectivity at rest: `data/connectivity.jsonl`, one line for each node of each test, in the order in which the
//! tests were begun.
//!
//! Each line says all that is to be known of its test, so that it can be read alone, and of how many lines it is one: what is
//! missing of a test shows.

use std::collections::BTreeMap;
use std::io;

use casefile_proto::connectivity::target::Target;
use casefile_proto::connectivity::{ConnectivityTest, NodeOutcome, NodeResult};
use casefile_proto::ids::NodeName;
use casefile_proto::time::WallTime;
use serde::{Deserialize, Serialize};

/// One line. Keys come in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectivityLine {
    /// When the test was begun, on the collector's clock. All lines of one test have the same, and no other test of that collector.
    pub at: WallTime,
    /// The target's name in the collector's configuration.
    pub name: String,
    /// The target.
    pub target: Target,
    /// Who asked.
    pub asked_by: String,
    /// How many nodes were asked: as many lines the test has.
    pub of: u32,
    /// The node.
    pub node: NodeName,
    /// `tested`: its steps; `untested`: why not.
    #[serde(flatten)]
    pub outcome: NodeOutcome,
}

/// A test out of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptTest {
    /// The test; its nodes are those of which there is a line.
    pub test: ConnectivityTest,
    /// Nodes that were asked and of which there is no line.
    pub missing: u32,
    /// The number of its first line, from 1.
    pub line: u64,
}

/// The lines of a test, each with its end.
///
/// # Errors
/// Never: all of it can be written as JSON.
pub fn lines(test: &ConnectivityTest) -> io::Result<Vec<Vec<u8>>> {
    let of = u32::try_from(test.nodes.len()).unwrap_or(u32::MAX);
    let line = |row: &NodeResult| {
        let line = ConnectivityLine {
            at: test.at,
            name: test.name.clone(),
            target: test.target.clone(),
            asked_by: test.asked_by.clone(),
            of,
            node: row.node.clone(),
            outcome: row.outcome.clone(),
        };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        Ok(text)
    };
    test.nodes.iter().map(line).collect()
}

/// A test while its lines are gathered.
struct Gathered {
    kept: KeptTest,
    nodes: BTreeMap<NodeName, NodeOutcome>,
    of: u32,
}

/// Tests out of lines, each with its number; in the order in which they were begun. Of two lines of one node the first counts.
pub fn tests(lines: impl IntoIterator<Item = (u64, ConnectivityLine)>) -> Vec<KeptTest> {
    let mut tests: BTreeMap<(WallTime, String), Gathered> = BTreeMap::new();
    for (number, line) in lines {
        let ConnectivityLine { at, name, target, asked_by, of, node, outcome } = line;
        let gathered = tests.entry((at, name.clone())).or_insert_with(|| {
            let test = ConnectivityTest { at, name, target, asked_by, nodes: Vec::new() };
            Gathered { kept: KeptTest { test, missing: 0, line: number }, nodes: BTreeMap::new(), of }
        });
        gathered.of = gathered.of.max(of);
        gathered.nodes.entry(node).or_insert(outcome);
    }
    let whole = |Gathered { mut kept, nodes, of }: Gathered| {
        kept.missing = of.saturating_sub(u32::try_from(nodes.len()).unwrap_or(u32::MAX));
        kept.test.nodes = nodes.into_iter().map(|(node, outcome)| NodeResult { node, outcome }).collect();
        kept
    };
    tests.into_values().map(whole).collect()
}

#[cfg(test)]
mod tests {
    use casefile_proto::connectivity::{Untested, UntestedReason};

    use super::*;

    fn test(at: i64) -> ConnectivityTest {
        let row = |node: &str| NodeResult {
            node: node.parse().unwrap(),
            outcome: NodeOutcome::Untested(Untested { reason: UntestedReason::TooOld, detail: String::new() }),
        };
        ConnectivityTest {
            at: WallTime::from_secs(at),
            name: "api".to_owned(),
            target: "tcp://api:80".parse().unwrap(),
            asked_by: "kim".to_owned(),
            nodes: vec![row("a"), row("b")],
        }
    }

    fn parsed(text: &[Vec<u8>]) -> Vec<(u64, ConnectivityLine)> {
        (1..).zip(text.iter().map(|line| serde_json::from_slice(line).unwrap())).collect()
    }

    #[test]
    fn a_test_comes_back_out_of_its_lines_and_what_is_missing_of_it_shows() {
        let text = [lines(&test(7)).unwrap(), lines(&test(3)).unwrap()].concat();
        assert_eq!(
            String::from_utf8_lossy(&text[0]),
            "{\"at\":\"1970-01-01T00:00:07Z\",\"name\":\"api\",\"target\":\"tcp://api:80\",\"asked_by\":\"kim\",\"of\":2,\
             \"node\":\"a\",\"untested\":{\"reason\":\"too-old\"}}\n"
        );
        let kept = tests(parsed(&text));
        assert_eq!(
            kept.iter().map(|kept| (&kept.test, kept.missing, kept.line)).collect::<Vec<_>>(),
            [(&test(3), 0, 3), (&test(7), 0, 1)]
        );
        // A line that is there twice is one.
        let kept = tests(parsed(&[text[1].clone(), text[1].clone()]));
        assert_eq!((kept[0].test.nodes.len(), kept[0].missing), (1, 1));
    }
}
