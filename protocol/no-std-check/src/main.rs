//! A program without the standard library that calls `windlass-protocol` as a device would: it owns
//! its panic handler and its memory, and takes nothing but C's start-up code and `memcpy` from the
//! host. It never becomes part of the product; `scripts/no_std.sh` builds and runs it.
//!
//! The exit code is the number of the first check that failed, 0 when all hold, 101 after a panic.
#![no_std]
#![no_main]

mod checks;
mod memory;

use core::panic::PanicInfo;

#[link(name = "c")]
unsafe extern "C" {
    fn _exit(code: i32) -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: `_exit` takes any number, ends the process and touches none of its memory.
    unsafe { _exit(101) }
}

/// The precompiled `alloc` names this symbol in its unwind tables; panics abort here, so nothing calls it.
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}

/// Where C's start-up code enters.
#[unsafe(no_mangle)]
pub extern "C" fn main() -> i32 {
    checks::first_failure()
}
