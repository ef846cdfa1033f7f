//! An allocator that counts what a thread has on the heap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

pub(crate) struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// Bytes that this thread has on the heap, from which on the peak is measured.
pub(crate) fn start() -> usize {
    let held = HELD.get();
    PEAK.set(held);
    held
}

/// The most bytes that this thread has had on the heap since `start`.
pub(crate) fn peak() -> usize {
    PEAK.get()
}

fn taken(size: usize) {
    let held = HELD.get().wrapping_add(size);
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

/// Memory from another thread may be given back here.
fn given_back(size: usize) {
    HELD.set(HELD.get().saturating_sub(size));
}

// SAFETY: everything is the system's allocator's; the counters are plain cells that allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: as the caller has promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        given_back(layout.size());
        // SAFETY: as the caller has promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Old and new are there at the same time, at worst.
        taken(new_size);
        given_back(layout.size());
        // SAFETY: as the caller has promised.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}
