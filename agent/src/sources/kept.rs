//! A kernel file that a source reads at every tick: opened once, read again from its beginning, opened anew when the
//! thing behind it went away and came back; and what a failed read means as a gap.

use casefile_proto::gap::{Gap, GapReason};
use rustix::io::Errno;

use super::Measurement;
use crate::host::{Host, HostError, KeptFile};
use crate::runner::lane::chain;

/// A file that is kept open from the first time that it is there.
#[derive(Debug)]
pub(crate) struct Kept {
    path: String,
    cap: usize,
    form: Form,
    file: Option<KeptFile>,
}

/// How the kernel gives a file out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// In pieces: only an empty read is the end.
    Pieces,
    /// In one piece: a read that does not fill the buffer had all of it.
    Whole,
}

/// Whether a file was there to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Its content is in the buffer.
    Read,
    /// This machine has no such file now.
    Missing,
}

impl Kept {
    /// Reads at most `cap` bytes of `path` below the host's root; a larger file is an error.
    pub(crate) fn new(path: impl Into<String>, cap: usize) -> Self {
        Self { path: path.into(), cap, form: Form::Pieces, file: None }
    }

    /// The same for a file that the kernel writes in one piece (`single_open`, one sysfs or sysctl value): saves the
    /// read that would only say that there is no more. Not for files of many records, such as `/proc/diskstats`.
    pub(crate) fn whole(path: impl Into<String>, cap: usize) -> Self {
        Self { form: Form::Whole, ..Self::new(path, cap) }
    }

    /// The path below the host's root.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The content now. A file that vanished under its descriptor (a disk or an interface that was removed and came
    /// back) is opened once more before it counts as missing.
    pub(crate) fn read(&mut self, host: &Host, buf: &mut Vec<u8>) -> Result<Found, HostError> {
        if let Some(file) = &self.file {
            match self.fill(file, buf) {
                Ok(()) => return Ok(Found::Read),
                Err(error) if error.is_not_found() => self.file = None,
                Err(error) => return Err(error),
            }
        }
        let opened = host.keep(&self.path).and_then(|file| self.fill(&file, buf).map(|()| file));
        match opened {
            Ok(file) => {
                self.file = Some(file);
                Ok(Found::Read)
            }
            Err(error) if error.is_not_found() => Ok(Found::Missing),
            Err(error) => Err(error),
        }
    }

    fn fill(&self, file: &KeptFile, buf: &mut Vec<u8>) -> Result<(), HostError> {
        match self.form {
            Form::Pieces => file.read(buf, self.cap),
            Form::Whole => file.read_record(buf, self.cap),
        }
    }

    /// The content now, or `None`: a file that is missing is no gap, one that cannot be read is.
    pub(crate) fn read_if_there<'b>(
        &mut self,
        host: &Host,
        buf: &'b mut Vec<u8>,
        out: &mut Measurement,
    ) -> Option<&'b [u8]> {
        match self.read_or_gap(host, buf, out)? {
            Found::Read => Some(buf),
            Found::Missing => None,
        }
    }

    /// The content now, or `None` with a gap: every machine has this file.
    pub(crate) fn read_expected<'b>(
        &mut self,
        host: &Host,
        buf: &'b mut Vec<u8>,
        out: &mut Measurement,
    ) -> Option<&'b [u8]> {
        match self.read_or_gap(host, buf, out)? {
            Found::Read => Some(buf),
            Found::Missing => {
                out.gap(Gap::new(GapReason::SourceAbsent, format!("/{} is not there", self.path)));
                None
            }
        }
    }

    fn read_or_gap(&mut self, host: &Host, buf: &mut Vec<u8>, out: &mut Measurement) -> Option<Found> {
        self.read(host, buf).map_err(|error| out.gap(unreadable(&error))).ok()
    }
}

/// A small file that is read seldom and not kept open: its content, or `None` as with [`said`].
pub(crate) fn glance<'b>(
    host: &Host,
    path: &str,
    cap: usize,
    buf: &'b mut Vec<u8>,
    out: &mut Measurement,
) -> Option<&'b [u8]> {
    said(host.read(path, buf, cap), out).then_some(buf)
}

/// Whether reading a small file gave something. What is missing, and what the driver cannot say (`EINVAL` of a link
/// that is down, `EOPNOTSUPP`, `ENODEV`, `ENODATA`), is no gap; what may not be read is.
pub(crate) fn said(read: Result<(), HostError>, out: &mut Measurement) -> bool {
    match read {
        Ok(()) => true,
        Err(error) if error.is_not_found() || is_unsupported(&error) => false,
        Err(error) => {
            out.gap(unreadable(&error));
            false
        }
    }
}

/// The gap of a file that could not be read.
pub(crate) fn unreadable(error: &HostError) -> Gap {
    let reason = match error {
        _ if error.is_permission() => GapReason::PermissionDenied,
        _ if error.is_not_found() => GapReason::SourceAbsent,
        HostError::Refused { .. } => GapReason::RefusedUnsafePath,
        HostError::TooLarge { .. } => GapReason::Budget,
        HostError::Io { .. } => GapReason::SourceFailed,
    };
    Gap::new(reason, chain(error))
}

/// Whether the driver has no answer to this (`EINVAL`: the speed of a link that is down; `ENODATA`: a sensor of which
/// nothing is known now), or the kernel has switched it off.
pub(crate) fn is_unsupported(error: &HostError) -> bool {
    error.is_unsupported() || matches!(error.errno(), Some(Errno::INVAL | Errno::NODATA))
}
