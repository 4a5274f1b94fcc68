//! What the two protocols' targets have in common: how much memory is held, and what every head promises.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use forkhorn::protocol::{BodyLength, Limits, RequestHead};

/// A head keeps its limits. Gives how many bytes of body may follow it.
pub fn longest_body(head: &RequestHead, limits: &Limits) -> u64 {
    assert!(head.bytes.len() <= limits.max_head_bytes && head.fields.len() <= limits.max_fields);
    let length = match head.body {
        BodyLength::None => 0,
        BodyLength::Known(length) => length,
        BodyLength::Unknown => limits.max_body_bytes,
    };
    assert!(length <= limits.max_body_bytes);
    length
}

/// How many bytes are allocated now.
pub fn held() -> usize {
    HELD.load(Ordering::Relaxed)
}

/// Counts what is held.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
