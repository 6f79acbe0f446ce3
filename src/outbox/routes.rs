//! Which courier serves which destination.

use std::sync::Arc;

use async_trait::async_trait;

use super::machine::Outcome;
use super::{Attempt, Courier};
use crate::clock::UnixMillis;
use crate::store::outbox::Batch;

/// Couriers by destination: each serves those that are its own.
#[derive(Default)]
pub struct Routes(Vec<(Vec<String>, Arc<dyn Courier>)>);

impl Routes {
    /// Adds a courier for these destinations.
    pub fn add(&mut self, destinations: Vec<String>, courier: Arc<dyn Courier>) {
        self.0.push((destinations, courier));
    }

    /// Names of all destinations.
    #[must_use]
    pub fn destinations(&self) -> Vec<String> {
        self.0.iter().flat_map(|(names, _)| names.clone()).collect()
    }
}

#[async_trait]
impl Courier for Routes {
    async fn deliver(&self, destination: &str, batch: &Batch, now_ms: UnixMillis) -> Attempt {
        let serves = |names: &[String]| names.iter().any(|name| name == destination);
        match self.0.iter().find(|(names, _)| serves(names)) {
            Some((_, courier)) => courier.deliver(destination, batch, now_ms).await,
            None => match self.0.iter().find(|(_, c)| c.serves(destination)) {
                Some((_, courier)) => courier.deliver(destination, batch, now_ms).await,
                None => Outcome::Later("is not in the settings any more".into()).into(),
            },
        }
    }
}
