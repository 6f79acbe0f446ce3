//! Where connections stand until it is known that they mean it: an address may have so many there and no more, so that
//! whoever opens connections and says nothing takes no places from others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Addresses remembered before those that are gone are forgotten.
const ADDRESSES_MAX: usize = 1024;

/// Counts, by address, who has not yet said what it wants.
#[derive(Debug)]
pub struct Porch {
    each_max: usize,
    addresses: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

impl Porch {
    /// Before so many places: one address may wait for three of four.
    #[must_use]
    pub fn before(places: usize) -> Self {
        Self {
            each_max: (places * 3 / 4).max(1),
            addresses: Mutex::default(),
        }
    }

    /// Waits for room for this address; `None` where there was none in time. Give the answer back by dropping it.
    pub async fn enter(&self, address: IpAddr, limit: Duration) -> Option<OwnedSemaphorePermit> {
        let room = self.room(address);
        let entered = tokio::time::timeout(limit, room.acquire_owned()).await;
        entered.ok().and_then(Result::ok)
    }

    fn room(&self, address: IpAddr) -> Arc<Semaphore> {
        let mut all = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(room) = all.get(&address).and_then(Weak::upgrade) {
            return room;
        }
        if all.len() >= ADDRESSES_MAX {
            all.retain(|_, room| room.strong_count() > 0);
        }
        let room = Arc::new(Semaphore::new(self.each_max));
        all.insert(address, Arc::downgrade(&room));
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_address_takes_no_room_from_another() {
        let porch = Porch::before(4);
        let [here, there] = ["10.0.0.1", "10.0.0.2"].map(|a| a.parse().unwrap());
        let soon = Duration::from_millis(20);
        let mut inside = Vec::new();
        for _ in 0..3 {
            inside.push(porch.enter(here, soon).await.unwrap());
        }
        assert!(porch.enter(here, soon).await.is_none());
        assert!(porch.enter(there, soon).await.is_some());
        inside.pop();
        assert!(porch.enter(here, soon).await.is_some());
        drop(inside);
        for n in 0..2 * u32::try_from(ADDRESSES_MAX).unwrap() {
            let address = IpAddr::V4(std::net::Ipv4Addr::from_bits(n));
            assert!(porch.enter(address, soon).await.is_some());
        }
        assert!(porch.addresses.lock().unwrap().len() <= ADDRESSES_MAX);
    }
}
