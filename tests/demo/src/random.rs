//! Numbers that look like chance and are the same each time, on every machine: integers and the four operations only.

/// A sequence of numbers (SplitMix64; Steele, Lea and Flood, 2014).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence of this name: those of two names have nothing in common.
    pub(crate) fn of(name: &str) -> Self {
        // FNV-1a.
        Self(name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)))
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to 1, without 1.
    pub(crate) fn unit(&mut self) -> f64 {
        // 32 bits are more than any series shows.
        f64::from(u32::try_from(self.next() >> 32).unwrap_or(0)) / 4_294_967_296.0
    }

    /// Between two numbers.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// An integer below `n`; 0 where `n` is 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or(0).checked_rem(n).unwrap_or(0)
    }

    /// One of them.
    pub(crate) fn pick<'t, T>(&mut self, of: &'t [T]) -> Option<&'t T> {
        of.get(self.below(of.len()))
    }

    /// So many hexadecimal digits.
    pub(crate) fn hex(&mut self, digits: usize) -> String {
        let mut out = String::with_capacity(digits + 16);
        while out.len() < digits {
            out.push_str(&format!("{:016x}", self.next()));
        }
        out.truncate(digits);
        out
    }

    /// A random UUID (RFC 9562, version 4).
    pub(crate) fn uuid(&mut self) -> String {
        let hex = self.hex(32);
        format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
    }
}

/// A quantity that wanders about its mean, as loads do: what it was a moment ago matters.
#[derive(Debug, Clone)]
pub(crate) struct Wander {
    mean: f64,
    spread: f64,
    slow: f64,
}

impl Wander {
    /// About this mean; by this part of it at most, or nearly.
    pub(crate) fn about(mean: f64, spread: f64) -> Self {
        Self { mean, spread, slow: 0.0 }
    }

    /// The next value, never below zero.
    pub(crate) fn next(&mut self, random: &mut Random) -> f64 {
        self.slow = self.slow * 0.96 + (random.unit() - 0.5) * 0.22;
        let quick = (random.unit() + random.unit() - 1.0) * 0.35;
        (self.mean * (1.0 + self.spread * (self.slow + quick).clamp(-1.0, 1.0))).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_the_same_each_time_and_another_for_each_name() {
        let first = |name| Random::of(name).next();
        assert_eq!(first("web-01"), first("web-01"));
        assert_ne!(first("web-01"), first("web-02"));
        // The reference's third number of seed 1234567.
        let mut random = Random(1_234_567);
        assert_eq!([random.next(), random.next(), random.next()][2], 9_817_491_932_198_370_423);
    }

    #[test]
    fn what_wanders_stays_near_its_mean() {
        let (mut random, mut load) = (Random::of("x"), Wander::about(10.0, 0.3));
        let values: Vec<f64> = (0..2_000).map(|_| load.next(&mut random)).collect();
        assert!(values.iter().all(|v| (6.9..=13.1).contains(v)));
        let mean = values.iter().sum::<f64>() / 2_000.0;
        assert!((9.5..10.5).contains(&mean), "{mean}");
    }

    #[test]
    fn a_uuid_is_one() {
        let uuid = Random::of("x").uuid();
        assert_eq!((uuid.len(), &uuid[14..15], &uuid[19..20]), (36, "4", "a"));
    }
}
