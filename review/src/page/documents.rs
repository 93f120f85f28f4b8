//! What was concluded when the case file was sealed: the review, the findings, the timeline, as they stand in it.
//!
//! They are another program's words by now, perhaps another version's: what does not parse is told and left out, and the rest is shown.

use casefile_proto::time::WallTime;
use serde_json::Value;

use crate::casefile::CaseFile;
use crate::finding::Finding;
use crate::review::Review;
use crate::written;

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
        let rows = written::rows(case, &mut documents.unread).into_iter();
        documents.rows = rows.filter_map(|row| serde_json::to_value(row).ok()).collect();
        documents
    }

    /// All but the rows of the timeline, which may be many.
    pub fn without_rows(case: &mut CaseFile) -> Self {
        let mut unread: Vec<_> = case.newer().into_iter().collect();
        // What was parsed is written again, so that whoever shows it finds in it what our forms have, and nothing else.
        let review = written::document(case, &mut unread).and_then(|document| serde_json::to_value(document).ok());
        let findings = written::findings(case, &mut unread);
        Self { review, findings, rows: Vec::new(), unread }
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
