//! Quantities: bytes, and the unit and scale in which a metric's integers are to be read.
//!
//! A recording holds integers only, as the kernel wrote them; [`Scale`] says how many base units one of them is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// `n` KiB.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// What is left after taking `n`; zero when there is less.
    #[must_use]
    pub const fn minus(self, n: u64) -> Self {
        Self(self.0.saturating_sub(n))
    }
}

impl fmt::Display for Bytes {
    /// `0 B`, `999 B`, `1.5 KiB`, `20.0 MiB`: one decimal above a KiB.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return f.pad(&format!("{} B", self.0));
        }
        let (mut tenths, mut unit) = (u128::from(self.0) * 10 / 1024, 0);
        while tenths >= 10_240 && unit + 1 < units.len() {
            tenths /= 1024;
            unit += 1;
        }
        f.pad(&format!("{}.{} {}", tenths / 10, tenths % 10, units[unit]))
    }
}

/// The base unit that a metric's value has after its [`Scale`] was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A count of things, events or packets.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// A part of one, 0 to 1.
    Ratio,
    /// Hertz.
    Hertz,
    /// Bytes a second.
    BytesPerSecond,
    /// A number that names something (a state, a mode); its help text lists the meanings.
    Code,
    /// Degrees Celsius.
    Celsius,
    /// Watts.
    Watts,
    /// Volts.
    Volts,
    /// Amperes.
    Amperes,
    /// Turns a minute.
    Rpm,
    /// A part of a hundred, 0 to 100. This and the three below are DCGM's: dashboards that know its series by name expect them.
    Percent,
    /// 2²⁰ bytes.
    Mebibytes,
    /// Millions of hertz.
    Megahertz,
    /// Thousandths of a joule.
    Millijoules,
}

impl Unit {
    /// Every unit; the position is its number on the wire and at rest.
    pub const ALL: [Self; 16] = [
        Self::Count,
        Self::Bytes,
        Self::Seconds,
        Self::Ratio,
        Self::Hertz,
        Self::BytesPerSecond,
        Self::Code,
        Self::Celsius,
        Self::Watts,
        Self::Volts,
        Self::Amperes,
        Self::Rpm,
        Self::Percent,
        Self::Mebibytes,
        Self::Megahertz,
        Self::Millijoules,
    ];

    /// The word for it: `bytes`, `celsius`, `bytes/second`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
            Self::Ratio => "ratio",
            Self::Hertz => "hertz",
            Self::BytesPerSecond => "bytes/second",
            Self::Code => "code",
            Self::Celsius => "celsius",
            Self::Watts => "watts",
            Self::Volts => "volts",
            Self::Amperes => "amperes",
            Self::Rpm => "rpm",
            Self::Percent => "percent",
            Self::Mebibytes => "mebibytes",
            Self::Megahertz => "megahertz",
            Self::Millijoules => "millijoules",
        }
    }
}

/// How many base units one recorded integer is: `value = integer × numerator ÷ denominator`. Neither is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scale {
    /// Multiplied by.
    pub numerator: u64,
    /// Divided by.
    pub denominator: u64,
}

impl Scale {
    /// The integer is the value.
    pub const ONE: Self = Self::of(1);
    /// Hundredths: `loadavg`, PSI averages, and clock ticks (`USER_HZ` is 100 on every Linux architecture we run on).
    pub const CENTI: Self = Self::per(100);
    /// Thousandths: milliseconds.
    pub const MILLI: Self = Self::per(1_000);
    /// Millionths: microseconds.
    pub const MICRO: Self = Self::per(1_000_000);
    /// Billionths: nanoseconds.
    pub const NANO: Self = Self::per(1_000_000_000);
    /// KiB, as `/proc/meminfo` counts.
    pub const KIB: Self = Self::of(1024);
    /// Sectors of 512 bytes, as `/proc/diskstats` counts whatever the disk's own sector is.
    pub const SECTOR: Self = Self::of(512);

    /// One integer is `numerator` base units.
    pub const fn of(numerator: u64) -> Self {
        Self { numerator, denominator: 1 }
    }

    /// `denominator` integers are one base unit.
    pub const fn per(denominator: u64) -> Self {
        Self { numerator: 1, denominator }
    }

    /// The value in base units, as near as a double can say it.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a double is what charts and exports take; the integer stays in the recording"
    )]
    pub fn apply(&self, integer: i64) -> f64 {
        integer as f64 * self.numerator as f64 / self.denominator as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_print_with_one_decimal() {
        let shown = |n| Bytes(n).to_string();
        assert_eq!(shown(0), "0 B");
        assert_eq!(shown(1023), "1023 B");
        assert_eq!(shown(1536), "1.5 KiB");
        assert_eq!(shown(20 << 20), "20.0 MiB");
        assert_eq!(shown(u64::MAX), "15.9 EiB");
    }

    #[test]
    fn a_scale_gives_base_units() {
        assert!((Scale::CENTI.apply(52) - 0.52).abs() < 1e-12);
        assert!((Scale::KIB.apply(2) - 2048.0).abs() < 1e-12);
    }
}
