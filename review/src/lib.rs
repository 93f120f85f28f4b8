//! Understands an archive, a ring or last words: series, logs, coverage, summary.
//!
//! Knows nothing of how they were made, and talks to no network: a case file must open on a laptop when every server is
//! down. Derivations (rates, ratios) belong here and nowhere else.

pub mod casefile;
pub mod checks;
pub mod compare;
pub mod connectivity;
pub mod derived;
pub mod display;
pub mod entries;
pub mod export;
pub mod finding;
pub mod gpu;
pub mod kubernetes;
pub mod logs;
pub mod page;
pub mod past;
pub mod replay;
pub mod report;
pub mod review;
pub mod runbook;
pub mod series;
pub mod seriesset;
pub mod signatures;
pub mod summary;
pub mod timeline;
pub mod told;
pub mod use_matrix;
pub mod verdict;
pub mod when;
pub mod written;
