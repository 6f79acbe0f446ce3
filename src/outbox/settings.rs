//! Settings of deliveries, with the unit in every name.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::machine::RetryLimits;

/// How much longer than an attempt its lease is, so that none is repeated while it runs.
const LEASE_MARGIN_SECONDS: u32 = 30;

/// How often and how patiently a delivery is tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutboxSettings {
    /// `outbox.attempts_max`: failures after which a delivery is given up and shown as dead.
    pub attempts_max: u32,
    /// `outbox.retry_first_seconds`: wait after the first failure; doubles with each.
    pub retry_first_seconds: u32,
    /// `outbox.retry_longest_seconds`: no wait is longer.
    pub retry_longest_seconds: u32,
    /// `outbox.attempt_timeout_seconds`: an attempt that takes longer has failed.
    pub attempt_timeout_seconds: u32,
}

impl Default for OutboxSettings {
    fn default() -> Self {
        Self {
            attempts_max: 100,
            retry_first_seconds: 2,
            retry_longest_seconds: 300,
            attempt_timeout_seconds: 60,
        }
    }
}

impl OutboxSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the setting that is out of range and what it may be.
    pub fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: u32, low: u32, high: u32| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(format!(
                    "outbox.{name} is {value}, must be between {low} and {high}"
                ))
            }
        };
        within("attempts_max", self.attempts_max, 1, 10_000)?;
        within("retry_first_seconds", self.retry_first_seconds, 1, 3600)?;
        within(
            "retry_longest_seconds",
            self.retry_longest_seconds,
            self.retry_first_seconds,
            86_400,
        )?;
        within(
            "attempt_timeout_seconds",
            self.attempt_timeout_seconds,
            1,
            600,
        )
    }

    /// The same for the machine.
    #[must_use]
    pub fn retry_limits(&self) -> RetryLimits {
        let ms = |seconds: u32| i64::from(seconds) * 1000;
        RetryLimits {
            attempts_max: self.attempts_max,
            first_ms: ms(self.retry_first_seconds),
            longest_ms: ms(self.retry_longest_seconds),
            lease_ms: ms(self.attempt_timeout_seconds + LEASE_MARGIN_SECONDS),
        }
    }

    /// See `attempt_timeout_seconds`.
    #[must_use]
    pub fn attempt_timeout(&self) -> Duration {
        Duration::from_secs(self.attempt_timeout_seconds.into())
    }
}
