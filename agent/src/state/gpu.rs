//! The GPUs at collection time, below `gpu/`: what each is and says, who holds them, and the same as a text for people.
//!
//! Read from what the source `gpu` was told a moment ago; where no source runs, a child of its own is asked once.

use std::io::Write;

use casefile_proto::gap::Gap;

use super::rows::Rows;
use super::{StateSpec, Table};
use crate::host::Host;
use crate::sources::gpu::latest;
use crate::sources::gpu::report::Report;

/// What each GPU is, and everything that NVML says of it.
pub(super) const GPUS: StateSpec = StateSpec {
    name: "gpus",
    about: "the driver (first row) and each GPU with everything that NVML says of it, at most 5 s old; limits and settings at most 15 s",
    file: "gpu/gpus.jsonl",
    write: |host, out| write(host, out, |report, rows| report.gpu_rows(&mut |row| rows.row(&row?))),
};

/// Who holds them.
pub(super) const PROCESSES: StateSpec = StateSpec {
    name: "gpu-processes",
    about: "processes that hold a GPU, with the memory that they hold, from NVML; name and cgroup from /proc; pod and container from the cgroup",
    file: "gpu/processes.jsonl",
    write: |host, out| write(host, out, |report, rows| report.process_rows(&mut |row| rows.row(&row?))),
};

/// The same, for people.
pub(super) const REPORT: StateSpec = StateSpec {
    name: "gpu-report",
    about: "the same as a text for people, in the manner of nvidia-smi -q",
    file: "gpu/report.txt",
    write: report,
};

/// GPUs and processes of a machine; a process holds several GPUs.
const MAX_ROWS: u64 = 65_536;

fn write(
    host: &Host,
    out: &mut dyn Write,
    give: impl FnOnce(&Report, &mut Rows<'_>) -> std::io::Result<()>,
) -> std::io::Result<Table> {
    let report = match latest::now(host) {
        Ok(report) => report,
        Err(gap) => return Ok(nothing(gap)),
    };
    let mut rows = Rows::new(out, MAX_ROWS);
    give(&report, &mut rows)?;
    let mut table = rows.end();
    table.gaps.extend(report.gaps());
    Ok(table)
}

fn report(host: &Host, out: &mut dyn Write) -> std::io::Result<Table> {
    match latest::now(host) {
        Ok(report) => {
            out.write_all(report.text().as_bytes())?;
            Ok(Table { rows: 1, gaps: report.gaps() })
        }
        Err(gap) => Ok(nothing(gap)),
    }
}

fn nothing(gap: Gap) -> Table {
    Table { rows: 0, gaps: vec![gap] }
}
