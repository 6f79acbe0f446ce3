//! Counts connections by address, so that whoever opens many and says nothing takes no places from others: one address
//! may hold three of four. And says seldom that somebody was turned away.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Addresses remembered before those that are gone are forgotten.
const ADDRESSES_MAX: usize = 1024;
/// That connections are turned away is logged at most so often.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Counts, by address, connections that places are kept from.
#[derive(Debug)]
pub struct Porch {
    each_max: usize,
    addresses: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

impl Porch {
    /// Before so many places: one address may stand here for three of four, at least for one.
    #[must_use]
    pub fn before(places: usize) -> Self {
        Self::with_each(places * 3 / 4)
    }

    fn with_each(each_max: usize) -> Self {
        Self {
            each_max: each_max.max(1),
            addresses: Mutex::default(),
        }
    }

    /// Waits for room for this address; `None` where there was none in time. Give the answer back by dropping it.
    pub async fn enter(&self, address: IpAddr, limit: Duration) -> Option<OwnedSemaphorePermit> {
        let room = self.room(address);
        let entered = tokio::time::timeout(limit, room.acquire_owned()).await;
        entered.ok().and_then(Result::ok)
    }

    /// The same without a wait.
    #[must_use]
    pub fn try_enter(&self, address: IpAddr) -> Option<OwnedSemaphorePermit> {
        self.room(address).try_acquire_owned().ok()
    }

    fn room(&self, address: IpAddr) -> Arc<Semaphore> {
        let address = address.to_canonical();
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

/// Places that all share, of which one address may hold a part.
#[derive(Debug)]
pub struct Places {
    porch: Porch,
    all: Arc<Semaphore>,
}

/// One of them; give it back by dropping it.
#[derive(Debug)]
pub struct Place {
    _of_address: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Places {
    /// So many, of which one address may hold three of four.
    #[must_use]
    pub fn new(places: usize) -> Self {
        Self {
            porch: Porch::before(places),
            all: Arc::new(Semaphore::new(places)),
        }
    }

    /// So many, of which one address leaves others `kept`.
    #[must_use]
    pub fn leaving(places: usize, kept: usize) -> Self {
        Self {
            porch: Porch::with_each(places.saturating_sub(kept)),
            all: Arc::new(Semaphore::new(places)),
        }
    }

    /// A place for this address.
    ///
    /// # Errors
    /// Says why there is none.
    pub fn take(&self, address: IpAddr) -> Result<Place, &'static str> {
        // by address first: who holds its share must not come between others and theirs
        let of_address = self.porch.try_enter(address);
        let of_address = of_address.ok_or("too many of its address at one time")?;
        let of_all = Arc::clone(&self.all).try_acquire_owned();
        Ok(Place {
            _of_address: of_address,
            _of_all: of_all.map_err(|_| "too many at one time")?,
        })
    }
}

/// When it may be said again that somebody was turned away: whoever connects in a loop must not fill the log.
#[derive(Debug, Default)]
pub struct Say(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    at: Option<Instant>,
    unsaid: u64,
}

impl Say {
    /// Counts one that was turned away. `Some` where that is to be said: of how many it was not said since the last time.
    #[must_use]
    pub fn now(&self) -> Option<u64> {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = |at: Instant| now.saturating_duration_since(at) < SAY_EVERY;
        if said.at.is_some_and(lately) {
            said.unsaid += 1;
            return None;
        }
        said.at = Some(now);
        Some(std::mem::take(&mut said.unsaid))
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

    #[test]
    fn one_address_leaves_a_quarter_of_the_places() {
        let places = Places::new(4);
        let here: IpAddr = "10.0.0.1".parse().unwrap();
        let also_here = "::ffff:10.0.0.1".parse().unwrap();
        let [there, third] = ["10.0.0.2", "10.0.0.3"].map(|a| a.parse().unwrap());
        let mut held: Vec<Place> = (0..3).map(|_| places.take(here).unwrap()).collect();
        assert!(places.take(here).unwrap_err().contains("its address"));
        assert!(places.take(also_here).is_err(), "the same address");
        held.push(places.take(there).unwrap());
        assert_eq!(places.take(third).unwrap_err(), "too many at one time");
        // who found none held nothing
        drop(held);
        let again: Vec<Place> = (0..3).map(|_| places.take(third).unwrap()).collect();
        assert_eq!(again.len(), 3);
    }

    #[test]
    fn one_address_leaves_as_many_as_are_kept() {
        let places = Places::leaving(10, 2);
        let [here, there]: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|a| a.parse().unwrap());
        let held: Vec<Place> = (0..8).map(|_| places.take(here).unwrap()).collect();
        assert!(places.take(here).unwrap_err().contains("its address"));
        let others: Vec<Place> = (0..2).map(|_| places.take(there).unwrap()).collect();
        assert_eq!(held.len() + others.len(), 10);
    }

    #[test]
    fn what_happens_all_the_time_is_said_now_and_then() {
        let (say, began) = (Say::default(), Instant::now());
        assert_eq!(say.at(began), Some(0));
        for _ in 0..1000 {
            assert_eq!(say.at(began + SAY_EVERY / 2), None);
        }
        assert_eq!(say.at(began + SAY_EVERY), Some(1000));
        assert_eq!(say.at(began + SAY_EVERY * 3), Some(0));
    }
}
