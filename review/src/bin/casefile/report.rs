//! `casefile report`: writes the report of any case file again, with today's page and today's checks.

use std::io::Write;

use anyhow::{Context, Result};
use casefile_review::report::report_html;

use crate::args::ReportArgs;
use crate::output::{self, talk};
use crate::{Ended, review, source};

/// Writes it.
pub(crate) fn run(args: &ReportArgs) -> Result<Ended> {
    let mut case = source::open(&args.from)?;
    let documents = review::documents(&mut case)?;
    let page = report_html(&mut case, &documents, None);
    if args.output.as_os_str() == "-" {
        std::io::stdout().lock().write_all(&page).context(output::STDOUT)?;
        return Ok(Ended::Done);
    }
    std::fs::write(&args.output, &page).with_context(|| format!("write the report to {}", args.output.display()))?;
    talk!("{}: {} KiB, opens in any browser, without a network", args.output.display(), page.len().div_ceil(1024));
    Ok(Ended::Done)
}
