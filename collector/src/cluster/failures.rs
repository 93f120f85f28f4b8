//! How many tokens that are none an address may show: each costs the API server a review, and whoever shows garbage must not be
//! able to make a flood of them. Pure: the time is an argument.
//!
//! A review is paid for before it is made, and whoever shows a good token gets back what he paid.

use std::collections::HashMap;
use std::net::IpAddr;

use casefile_proto::time::BootTime;

/// Bad tokens that an address may show at once. Many people may be behind one.
const BURST: u32 = 16;

/// Nanoseconds after which it may show another one.
const EACH: u64 = 1_000_000_000;

/// Addresses that are told apart; those beyond share one account.
const ADDRESSES: usize = 4_096;

/// The accounts of addresses.
#[derive(Debug, Default)]
pub(super) struct Failures {
    accounts: HashMap<Option<IpAddr>, Account>,
}

/// What an address has left.
#[derive(Debug, Clone, Copy)]
struct Account {
    left: u32,
    /// Up to when what grows by time was added.
    at: BootTime,
}

/// That a review was paid for, and by whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paid(Option<IpAddr>);

impl Failures {
    /// Pays for a review; `None`: there is nothing left.
    pub(super) fn pay(&mut self, from: IpAddr, now: BootTime) -> Option<Paid> {
        let mut from = Some(network(from));
        if self.accounts.len() >= ADDRESSES && !self.accounts.contains_key(&from) {
            self.accounts.retain(|_, account| account.now(now).left < BURST);
            if self.accounts.len() >= ADDRESSES {
                from = None;
            }
        }
        let account = self.accounts.entry(from).or_insert(Account { left: BURST, at: now });
        *account = account.now(now);
        account.left = account.left.checked_sub(1)?;
        Some(Paid(from))
    }

    /// The token was good, or nobody could say.
    pub(super) fn pay_back(&mut self, paid: Paid) {
        if let Some(account) = self.accounts.get_mut(&paid.0) {
            account.left = (account.left + 1).min(BURST);
        }
    }
}

impl Account {
    fn now(self, now: BootTime) -> Self {
        let passed = now.nanos().saturating_sub(self.at.nanos()) / EACH;
        let more = u32::try_from(passed).unwrap_or(u32::MAX);
        let left = self.left.saturating_add(more).min(BURST);
        let at = if left == BURST { self.at.max(now) } else { BootTime::from_nanos(self.at.nanos() + passed * EACH) };
        Self { left, at }
    }
}

/// Whoever has one address of IPv6 has all of its network (RFC 4291 §2.5.4).
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::from((u128::from(v6) & !u128::from(u64::MAX)).to_be_bytes()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> BootTime {
        BootTime::from_nanos(secs * EACH)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn garbage_is_reviewed_a_few_times_and_then_once_a_second_and_good_tokens_without_end() {
        let mut failures = Failures::default();
        let passed = (0..1_000).filter(|_| failures.pay(ip("192.0.2.1"), at(5)).is_some()).count();
        assert_eq!(passed, BURST as usize);
        assert!(failures.pay(ip("192.0.2.2"), at(5)).is_some(), "another address");
        let passed = (0..600).filter(|n| failures.pay(ip("192.0.2.1"), at(5 + n / 10)).is_some()).count();
        assert_eq!(passed, 59);
        for _ in 0..1_000 {
            let paid = failures.pay(ip("192.0.2.3"), at(5)).unwrap();
            failures.pay_back(paid);
        }
    }

    #[test]
    fn whoever_has_many_addresses_is_not_served_by_each_of_them() {
        let mut failures = Failures::default();
        let passed = (0..1_000).filter(|n| failures.pay(ip(&format!("2001:db8::{n:x}")), at(0)).is_some()).count();
        assert_eq!(passed, BURST as usize);
        for n in 0..100_000_u32 {
            failures.pay(std::net::Ipv4Addr::from(n).into(), at(0));
        }
        assert!(failures.accounts.len() <= ADDRESSES + 1);
        failures.pay(ip("10.0.0.1"), at(60)).unwrap();
        assert!(failures.accounts.len() <= 2, "those that showed nothing for a while are forgotten");
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let mut failures = Failures::default();
        while failures.pay(ip("192.0.2.1"), at(100)).is_some() {}
        assert!(failures.pay(ip("192.0.2.1"), at(0)).is_none());
        assert!(failures.pay(ip("192.0.2.1"), at(100)).is_none());
    }
}
