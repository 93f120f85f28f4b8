//! What was concluded when the case file was sealed: the review, the findings, the timeline, as they stand in it.
//!
//! They are another program's words by now, perhaps another version's: what does not parse is told and left out, and the rest is shown.

use std::io::{BufRead, BufReader, Read};

use casefile_evidence::archive::layout;
use casefile_proto::time::WallTime;
use casefile_proto::units::Bytes;
use serde_json::Value;

use crate::casefile::{CaseFile, chain};
use crate::finding::Finding;
use crate::review::Review;

/// The most that the review may have.
const MAX_REVIEW: Bytes = Bytes::mib(16);
/// The most findings that are looked at: more than a person reads.
const MAX_FINDINGS: usize = 5_000;
/// The most rows that are looked at.
const MAX_ROWS: usize = 200_000;
/// The longest line of one of the documents: a finding with all its evidence.
const MAX_LINE: u64 = 4 << 20;

/// The documents.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    /// `review.json`; `None`: the case file has none.
    pub review: Option<Value>,
    /// The findings in order of rank.
    pub findings: Vec<Finding>,
    /// The rows in order of time.
    pub rows: Vec<Value>,
    /// What could not be read, and why.
    pub unread: Vec<(String, String)>,
}

impl Documents {
    /// Reads them. Never fails: what is not there is not there, and what is broken is told.
    pub fn read(case: &mut CaseFile) -> Self {
        let mut documents = Self::without_rows(case);
        let mut unread = Vec::new();
        documents.rows = lines(case, layout::TIMELINE, MAX_ROWS, &mut unread);
        documents.unread.append(&mut unread);
        documents
    }

    /// All but the rows of the timeline, which may be many.
    pub fn without_rows(case: &mut CaseFile) -> Self {
        let mut documents = Self::default();
        if case.entries.find(&layout::path(layout::REVIEW)).is_some() {
            let read = case.entries.read(&layout::path(layout::REVIEW), MAX_REVIEW).map_err(|error| chain(&error));
            match read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string())) {
                Ok(review) => documents.review = Some(review),
                Err(why) => documents.unread.push((layout::REVIEW.to_owned(), why)),
            }
        }
        let mut unread = Vec::new();
        documents.findings = lines(case, layout::FINDINGS, MAX_FINDINGS, &mut unread);
        documents.unread.append(&mut unread);
        documents
    }

    /// Out of a review that was made just now.
    ///
    /// # Errors
    /// Never: all of it can be written as JSON.
    pub fn of(review: Review) -> serde_json::Result<Self> {
        Ok(Self {
            review: Some(serde_json::to_value(review.document)?),
            findings: review.findings,
            rows: review.timeline.into_iter().map(serde_json::to_value).collect::<Result<_, _>>()?,
            unread: Vec::new(),
        })
    }

    /// When the first anomaly was.
    pub fn first_anomaly(&self) -> Option<WallTime> {
        self.verdict("first_anomaly")?.get("at")?.as_str()?.parse().ok()
    }

    /// A part of the verdict.
    pub fn verdict(&self, name: &str) -> Option<&Value> {
        self.review.as_ref()?.get("verdict")?.get(name).filter(|value| !value.is_null())
    }
}

fn lines<T: serde::de::DeserializeOwned>(
    case: &mut CaseFile,
    entry: &'static str,
    most: usize,
    unread: &mut Vec<(String, String)>,
) -> Vec<T> {
    let path = layout::path(entry);
    let mut all = Vec::new();
    if case.entries.find(&path).is_none() {
        return all;
    }
    let mut read = match case.entries.entry(&path) {
        Ok(read) => BufReader::new(read),
        Err(error) => {
            unread.push((entry.to_owned(), chain(&error)));
            return all;
        }
    };
    let (mut line, mut number) = (Vec::new(), 0_u64);
    loop {
        line.clear();
        number += 1;
        match (&mut read).take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) => return all,
            Ok(_) if all.len() >= most => {
                unread.push((entry.to_owned(), format!("only the first {most} lines are looked at")));
                return all;
            }
            Ok(_) => match serde_json::from_slice(&line) {
                Ok(one) => all.push(one),
                Err(error) => unread.push((format!("{entry}, line {number}"), error.to_string())),
            },
            Err(error) => {
                unread.push((entry.to_owned(), error.to_string()));
                return all;
            }
        }
        // A file full of what does not parse is told once and not for ever.
        if unread.len() > 20 {
            return all;
        }
    }
}
