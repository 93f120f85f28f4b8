//! What `review` and `report` are told.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::source::SourceArgs;

pub(super) const REVIEW_EXAMPLES: &str = "\
Examples:
  casefile review INC-000123_….tar.gz            opens the page of a case file in the browser
  casefile review INC-000123                     the same of an incident of a collector
  casefile review FILE --no-open                 prints the address instead
  casefile review /var/lib/casefile/agent/ring   the same over what a node has recorded itself

The page is served on this machine alone, to whoever has the address with its token, until Ctrl-C.";

/// What `review` is told.
#[derive(Args, Debug)]
pub(crate) struct ReviewArgs {
    /// What is read.
    #[command(flatten)]
    pub(crate) from: SourceArgs,
    /// How it is shown.
    #[command(flatten)]
    pub(crate) page: PageArgs,
}

/// How a page is shown.
#[derive(Args, Debug)]
pub(crate) struct PageArgs {
    /// Print the address and open no browser.
    #[arg(long)]
    pub(crate) no_open: bool,
    /// Where to listen: an address of this machine itself; port 0 is any free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0", value_parser = loopback)]
    pub(crate) listen: SocketAddr,
}

/// What `report` is told.
#[derive(Args, Debug)]
pub(crate) struct ReportArgs {
    /// What is read.
    #[command(flatten)]
    pub(crate) from: SourceArgs,
    /// Where to write the page; `-` is standard output.
    #[arg(short = 'o', long = "output", value_name = "FILE", default_value = "report.html", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "say ADDRESS:PORT, such as 127.0.0.1:0".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("evidence is shown on this machine alone: 127.0.0.1 or [::1] (a collector serves it to others, with roles)"
            .to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_file_is_shown_on_this_machine_alone() {
        assert!(loopback("127.0.0.1:0").is_ok() && loopback("[::1]:8080").is_ok());
        for bad in ["0.0.0.0:80", "192.0.2.1:80", "[::]:80", "localhost", "127.0.0.1"] {
            assert!(loopback(bad).is_err(), "{bad}");
        }
    }
}
