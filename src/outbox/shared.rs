//! A list that is replaced while others read it.

use std::sync::{Arc, PoisonError, RwLock};

/// A list that is replaced while others read it: who reads keeps the one it took.
#[derive(Debug)]
pub struct Shared<T>(RwLock<Arc<Vec<T>>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(RwLock::new(Arc::new(Vec::new())))
    }
}

impl<T> Shared<T> {
    /// As it is now.
    #[must_use]
    pub fn get(&self) -> Arc<Vec<T>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Replaces it.
    pub fn set(&self, all: Vec<T>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(all);
    }
}
