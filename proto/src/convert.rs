//! Between the wire and the domain: `TryFrom` a generated message (what came in is checked), `From` a domain value (what
//! goes out is right by its type). The only place that sees both.
//!
//! Every length that a peer chooses has a limit here, with a name. What is refused names its message and field. Whether a
//! message may be said at that moment is not decided here.

mod cluster;
mod connectivity;
mod coverage;
mod identity;
mod incident;
mod node;
mod scope;
mod session;
mod upload;

use std::str::FromStr;
use std::time::Duration;

/// The most nodes that one message names.
pub const MAX_NODES: usize = 10_000;
/// The most sources that one node has in one message.
pub const MAX_SOURCES: usize = 1_024;
/// The most gaps of one source, item or node in one message.
pub const MAX_GAPS: usize = 1_024;
/// The most intervals that one source covers in one message.
pub const MAX_COVERED: usize = 4_096;
/// The most bytes of the name of a source.
pub const MAX_SOURCE_NAME: usize = 128;
/// The most bytes of a line for people: a title, a name that somebody gave himself, a method.
pub const MAX_LINE: usize = 1_024;
/// The most bytes of a text for people: the reason of an incident, why it failed.
pub const MAX_TEXT: usize = 16 * 1_024;
/// The most bytes of the version of a program.
pub const MAX_VERSION: usize = 64;
/// The most intervals that one batch of frames declares as left out.
pub const MAX_SKIPPED: usize = 64;
/// The most things that an agent says it can collect.
pub const MAX_COLLECTABLE: usize = 256;
/// The most rules of redaction that one source says it applied.
pub const MAX_RULES: usize = 1_024;
/// The most bytes of the id of a key.
pub const MAX_KEY_ID: usize = 64;
/// The most incidents on one page.
pub const MAX_PAGE: u32 = 1_000;
/// The largest count, size or number of nanoseconds: 2^56, so that sums over thousands of them cannot overflow 64 bits.
pub const MAX_QUANTITY: u64 = 1 << 56;

/// Why a message that came in is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}.{field}: {problem}")]
pub struct ConvertError {
    /// The message, by its name in the `.proto` files.
    pub message: &'static str,
    /// Its field.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It must be there.
    #[error("is missing")]
    Missing,
    /// It is longer than its limit: bytes of a text, entries of a list.
    #[error("is longer than {limit}")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// The number is outside what it may be.
    #[error("is {number}, which is out of range")]
    OutOfRange {
        /// The number.
        number: i128,
    },
    /// It does not have the form that it must have; what came in is quoted escaped and cut.
    #[error("{0}")]
    Invalid(String),
}

/// Checks the fields of one message.
#[derive(Clone, Copy)]
struct Fields(&'static str);

impl Fields {
    const fn wrong(self, field: &'static str, problem: Problem) -> ConvertError {
        ConvertError { message: self.0, field, problem }
    }

    fn out_of_range(self, field: &'static str, number: impl Into<i128>) -> ConvertError {
        self.wrong(field, Problem::OutOfRange { number: number.into() })
    }

    /// A field that must be there.
    fn needed<T>(self, field: &'static str, value: Option<T>) -> Result<T, ConvertError> {
        value.ok_or(self.wrong(field, Problem::Missing))
    }

    /// A message that must be there.
    fn inner<W, D: TryFrom<W, Error = ConvertError>>(
        self,
        field: &'static str,
        value: Option<W>,
    ) -> Result<D, ConvertError> {
        D::try_from(self.needed(field, value)?)
    }

    /// A list of messages.
    fn list<W, D: TryFrom<W, Error = ConvertError>>(
        self,
        field: &'static str,
        values: Vec<W>,
        limit: usize,
    ) -> Result<Vec<D>, ConvertError> {
        self.short(field, values.len(), limit)?;
        values.into_iter().map(D::try_from).collect()
    }

    fn short(self, field: &'static str, len: usize, limit: usize) -> Result<(), ConvertError> {
        if len > limit { Err(self.wrong(field, Problem::TooLong { limit })) } else { Ok(()) }
    }

    /// A text of at most this many bytes.
    fn text(self, field: &'static str, value: String, limit: usize) -> Result<String, ConvertError> {
        self.short(field, value.len(), limit)?;
        Ok(value)
    }

    /// A text of 1 to this many bytes.
    fn name(self, field: &'static str, value: String, limit: usize) -> Result<String, ConvertError> {
        if value.is_empty() {
            return Err(self.wrong(field, Problem::Missing));
        }
        self.text(field, value, limit)
    }

    /// A list of texts of 1 to [`MAX_SOURCE_NAME`] bytes.
    fn names(self, field: &'static str, values: Vec<String>, limit: usize) -> Result<Vec<String>, ConvertError> {
        self.short(field, values.len(), limit)?;
        values.into_iter().map(|value| self.name(field, value, MAX_SOURCE_NAME)).collect()
    }

    /// A text that is parsed into a domain type.
    fn parsed<T: FromStr>(self, field: &'static str, value: &str) -> Result<T, ConvertError>
    where
        T::Err: ToString,
    {
        value.parse().map_err(|e: T::Err| self.wrong(field, Problem::Invalid(e.to_string())))
    }

    /// Bytes of one fixed length.
    fn array<const N: usize>(self, field: &'static str, value: &[u8]) -> Result<[u8; N], ConvertError> {
        value
            .try_into()
            .map_err(|_| self.wrong(field, Problem::Invalid(format!("has {} bytes instead of {N}", value.len()))))
    }

    /// Bytes of a limited length, at least one.
    fn payload(self, field: &'static str, value: bytes::Bytes, limit: usize) -> Result<bytes::Bytes, ConvertError> {
        if value.is_empty() {
            return Err(self.wrong(field, Problem::Missing));
        }
        self.short(field, value.len(), limit)?;
        Ok(value)
    }

    /// A count or size of at most [`MAX_QUANTITY`].
    fn quantity(self, field: &'static str, value: u64) -> Result<u64, ConvertError> {
        if value > MAX_QUANTITY { Err(self.out_of_range(field, value)) } else { Ok(value) }
    }

    /// Nanoseconds of at most [`MAX_QUANTITY`].
    fn duration(self, field: &'static str, nanos: u64) -> Result<Duration, ConvertError> {
        self.quantity(field, nanos).map(Duration::from_nanos)
    }

    /// The entry of `all` with this number on the wire, counted from 1.
    fn choice<T: Copy>(self, field: &'static str, all: &[T], number: i32) -> Result<T, ConvertError> {
        usize::try_from(number)
            .ok()
            .and_then(|n| n.checked_sub(1))
            .and_then(|i| all.get(i).copied())
            .ok_or_else(|| self.out_of_range(field, number))
    }
}

/// The number on the wire of an entry of `all`; every value of a closed list is in its `ALL`, so 0 is never sent.
fn number_of<T: PartialEq>(all: &[T], value: &T) -> i32 {
    all.iter().position(|v| v == value).and_then(|i| i32::try_from(i + 1).ok()).unwrap_or(0)
}

/// Nanoseconds on the wire; what is longer than 584 years is said as that.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).min(MAX_QUANTITY)
}

fn into_list<D, W: From<D>>(values: Vec<D>) -> Vec<W> {
    values.into_iter().map(W::from).collect()
}

fn optional<W, D: TryFrom<W, Error = ConvertError>>(value: Option<W>) -> Result<Option<D>, ConvertError> {
    value.map(D::try_from).transpose()
}
