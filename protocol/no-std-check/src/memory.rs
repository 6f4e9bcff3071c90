//! The program's memory: a fixed arena handed out from front to back and never taken back, the
//! simplest allocator a device could have. It never asks the host for memory.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Bytes; the checks use a few tens of kilobytes, most of it by secp256k1's contexts.
const ARENA: usize = 4 * 1024 * 1024;

#[repr(align(64))]
struct Arena {
    bytes: UnsafeCell<[u8; ARENA]>,
    used: AtomicUsize,
}

// SAFETY: every allocation claims its own range of `bytes` with one atomic exchange of `used`, so no
// two callers ever hold the same byte.
unsafe impl Sync for Arena {}

// SAFETY: a returned pointer is inside the static arena, aligned as asked (the arena itself is
// aligned to 64, greater alignments are refused), and its range is never handed out again.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > 64 {
            return null_mut();
        }
        let claim = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            let end = used.next_multiple_of(layout.align()).checked_add(layout.size())?;
            (end <= ARENA).then_some(end)
        });
        match claim {
            Ok(used) => {
                let start = used.next_multiple_of(layout.align());
                // SAFETY: `start + size <= ARENA`, checked above.
                unsafe { self.bytes.get().cast::<u8>().add(start) }
            }
            Err(_) => null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static MEMORY: Arena = Arena { bytes: UnsafeCell::new([0; ARENA]), used: AtomicUsize::new(0) };
