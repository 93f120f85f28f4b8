//! The head of an answer that a test of connectivity gets, and targets of such tests: whatever a server says, whatever is written.

use casefile_agent::connectivity::http::parse;
use casefile_proto::connectivity::target::Target as Url;

use crate::{Target, none};

pub(crate) const TARGET: Target =
    Target { name: "http", about: "The head of an answer of HTTP, and URLs of targets", run, seeds: none };

fn run(bytes: &[u8]) {
    let whole = parse(bytes);
    if let Ok(Some(head)) = whole {
        assert!((100..=999).contains(&head.status));
        // What is behind it changes nothing.
        assert_eq!(parse(&[bytes, b"HTTP/1.1 500 x\r\n\r\n"].concat()), whole);
    }
    // One that is refused stays so, however it goes on.
    if whole.is_err() {
        assert!(parse(&[bytes, b"\r\n\r\n"].concat()).is_err());
    }
    if let Ok(target) = String::from_utf8_lossy(bytes).parse::<Url>() {
        let written = target.to_string();
        assert_eq!(written.parse().as_ref(), Ok(&target));
        assert!(written.bytes().all(|b| b.is_ascii_graphic()) && written.len() <= Url::MAX_TEXT + 16);
    }
}
