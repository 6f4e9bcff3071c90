//! The memory that relayed bytes pass through: a bounded number of large buffers, lent for as long as bytes are in
//! them. A circuit that waits for bytes holds none.
//!
//! When all are lent, because many receivers don't read, circuits go on with small ones of their own.

use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::{RELAY_BUFFER, RELAY_BUFFERS, RELAY_BUFFERS_KEPT, RELAY_SMALL_BUFFER};

/// The buffers of one relay.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Pool>);

#[derive(Debug, Default)]
struct Pool {
    free: Vec<Box<[u8]>>,
    /// Large buffers that exist, lent or free.
    made: usize,
}

/// A buffer; given back when dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    pool: Option<Arc<Buffers>>,
}

impl Buffers {
    /// A large buffer while there are, else a small one.
    pub(super) fn take(self: &Arc<Self>) -> Buffer {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = match pool.free.pop() {
            Some(bytes) => bytes,
            None if pool.made < RELAY_BUFFERS => {
                pool.made += 1;
                vec![0; RELAY_BUFFER].into_boxed_slice()
            }
            None => {
                return Buffer { bytes: vec![0; RELAY_SMALL_BUFFER].into_boxed_slice(), pool: None };
            }
        };
        Buffer { bytes, pool: Some(self.clone()) }
    }

    /// Large buffers that exist.
    pub(super) fn made(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).made
    }
}

impl std::ops::Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(pool) = &self.pool else { return };
        let mut pool = pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.free.len() < RELAY_BUFFERS_KEPT {
            pool.free.push(std::mem::take(&mut self.bytes));
        } else {
            pool.made -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_are_held_the_large_ones_are_bounded_and_come_back() {
        let buffers = Arc::new(Buffers::default());
        let held: Vec<Buffer> = (0..RELAY_BUFFERS + 10).map(|_| buffers.take()).collect();
        assert_eq!(buffers.made(), RELAY_BUFFERS);
        assert!(held[..RELAY_BUFFERS].iter().all(|buffer| buffer.len() == RELAY_BUFFER));
        assert!(held[RELAY_BUFFERS..].iter().all(|buffer| buffer.len() == RELAY_SMALL_BUFFER));
        drop(held);
        assert_eq!(buffers.made(), RELAY_BUFFERS_KEPT, "what a peak took is given back");
        assert_eq!(buffers.take().len(), RELAY_BUFFER);
    }
}
