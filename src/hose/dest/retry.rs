//! How long to wait before the next attempt, and when to give up, as the service does it.
//!
//! The pause doubles from attempt to attempt, up to a longest, give or take 15 %. When the policy's time is used up
//! there is no further attempt; the last one is made at its very end.

use std::time::Duration;

use super::RetryPolicy;

/// The service's jitter: a pause is this share longer or shorter, at most.
const JITTER: f64 = 0.15;

/// The attempts at one request.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: RetryPolicy,
    next: Duration,
    used: Duration,
    attempts: u32,
    counts_first: bool,
    random: u64,
}

impl Backoff {
    /// The policy's time begins with the first failure, as for HTTP endpoints and Splunk. The seed decides the jitter:
    /// two deliveries that failed together should not come back together.
    pub fn from_first_failure(policy: RetryPolicy, seed: u64) -> Self {
        Self {
            next: policy.first_pause,
            policy,
            used: Duration::ZERO,
            attempts: 0,
            counts_first: false,
            random: seed,
        }
    }

    /// The policy's time begins with the first attempt, as for OpenSearch.
    pub fn from_first_attempt(policy: RetryPolicy, seed: u64) -> Self {
        Self { counts_first: true, ..Self::from_first_failure(policy, seed) }
    }

    /// How many attempts have failed.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// An attempt has failed, and this much of its time counts. Answers how long to wait before the next, or `None`
    /// where there is none. `at_least` is what the server asked for (`Retry-After`): it is granted as far as the
    /// longest pause goes.
    pub fn failed(&mut self, counted: Duration, at_least: Option<Duration>) -> Option<Duration> {
        self.attempts += 1;
        if self.attempts > 1 || self.counts_first {
            self.used += counted;
        }
        let left = self.policy.duration.checked_sub(self.used).filter(|left| !left.is_zero())?;
        let longest = self.policy.longest_pause;
        let pause = self.next.min(longest).mul_f64(self.jitter());
        let asked = at_least.unwrap_or_default().min(longest);
        let pause = pause.max(asked).min(left);
        self.next = self.next.saturating_mul(2).min(longest);
        self.used += pause;
        Some(pause)
    }

    /// An attempt has failed, and the next is made at once at no cost: something has been put right since (new
    /// credentials).
    pub fn repeated(&mut self) {
        self.attempts += 1;
    }

    /// A factor around 1.
    fn jitter(&mut self) -> f64 {
        // SplitMix64: one addition and three mixes are random enough for a pause.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let unit = (mixed >> 11) as f64 / (1u64 << 53) as f64;
        1.0 + JITTER * (2.0 * unit - 1.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pauses(mut backoff: Backoff, counted: Duration) -> Vec<Duration> {
        std::iter::from_fn(|| backoff.failed(counted, None)).collect()
    }

    #[test]
    fn the_service_s_policy_doubles_from_a_second_to_two_minutes() {
        let policy = RetryPolicy { duration: Duration::from_hours(2), ..RetryPolicy::default() };
        let pauses = pauses(Backoff::from_first_failure(policy, 7), Duration::ZERO);
        let expected = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 120.0, 120.0];
        for (pause, expected) in pauses.iter().zip(expected) {
            let seconds = pause.as_secs_f64();
            assert!((expected * 0.85..=expected * 1.15).contains(&seconds), "{seconds} for {expected}");
        }
        assert_eq!(pauses.iter().sum::<Duration>(), policy.duration);
    }

    #[test]
    fn the_seed_decides() {
        let of = |seed| {
            pauses(Backoff::from_first_failure(RetryPolicy::default(), seed), Duration::from_millis(3))
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn only_one_kind_counts_the_first_attempt() {
        let seconds = Duration::from_secs;
        let policy = RetryPolicy { duration: seconds(10), ..RetryPolicy::default() };
        assert_eq!(Backoff::from_first_attempt(policy, 0).failed(seconds(11), None), None);
        let mut backoff = Backoff::from_first_failure(policy, 0);
        assert!(backoff.failed(seconds(11), None).is_some());
        assert_eq!(backoff.failed(seconds(11), None), None);
        assert_eq!(backoff.attempts(), 2);
        let never = RetryPolicy { duration: Duration::ZERO, ..policy };
        assert_eq!(Backoff::from_first_failure(never, 0).failed(Duration::ZERO, None), None);
    }

    #[test]
    fn what_the_server_asks_for_is_granted_up_to_the_longest_pause() {
        let mut backoff = Backoff::from_first_failure(RetryPolicy::default(), 0);
        assert_eq!(
            backoff.failed(Duration::ZERO, Some(Duration::from_secs(30))),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            backoff.failed(Duration::ZERO, Some(Duration::from_hours(1))),
            Some(Duration::from_mins(2))
        );
    }

    proptest! {
        #[test]
        fn the_time_is_used_up_and_never_exceeded(
            duration_ms in 0u64..10_000_000,
            first_ms in 1u64..5_000,
            longest_ms in 1u64..200_000,
            counted_ms in 0u64..5_000,
            seed: u64,
        ) {
            let ms = Duration::from_millis;
            let policy = RetryPolicy {
                duration: ms(duration_ms), first_pause: ms(first_ms), longest_pause: ms(longest_ms),
            };
            let mut backoff = Backoff::from_first_failure(policy, seed);
            let mut total = Duration::ZERO;
            let mut rounds = 0u32;
            loop {
                if rounds > 0 {
                    total += ms(counted_ms);
                }
                let Some(pause) = backoff.failed(ms(counted_ms), None) else { break };
                total += pause;
                rounds += 1;
                prop_assert!(pause <= policy.longest_pause.mul_f64(1.16).max(ms(1)));
                if rounds > 20_000 {
                    break;
                }
            }
            prop_assert!(total <= policy.duration + ms(counted_ms) || rounds == 0);
            prop_assert!(total >= policy.duration || rounds > 20_000);
        }
    }
}
