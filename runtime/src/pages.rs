//! Floats in large pages of memory, where the system has them.
//!
//! A network reads all of its weights once an inference: 14 to 22 MB, thousands of pages of 4 KiB, more than a core keeps the addresses of.
//! In pages of 2 MiB, V1 and V2 take 1 to 2 % less time, V3 large 4 % (Zen 4, a guest: a miss costs more there).
//!
//! Linux gives such pages to memory that asks for them before it is touched, if it has them and its administrator allows it
//! (`/sys/kernel/mm/transparent_hugepage/enabled` is `madvise` or `always`, as distributions ship it). Elsewhere this is memory as
//! any other.

use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};

/// Bytes of a large page on x86-64, and on AArch64 with small ones of 4 KiB.
const LARGE: usize = 2 << 20;
/// Bytes from which a large page is asked for: the rest of one is memory in vain.
const LEAST: usize = LARGE / 2;
/// The alignment of less: a cache line.
const LINE: usize = 64;

/// Floats at the start of a cache line or of a page.
pub struct Pages {
    at: NonNull<f32>,
    len: usize,
}

// SAFETY: the memory belongs to this value alone, as that of a `Vec<f32>` does.
unsafe impl Send for Pages {}
// SAFETY: as above; a shared one is only read.
unsafe impl Sync for Pages {}

impl Pages {
    /// `len` zeros.
    ///
    /// # Panics
    /// Where they are more than memory can address.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        // SAFETY: room for `len` floats is given, and so many are written: all bytes zero is 0.0.
        unsafe { Self::made(len, |at| at.write_bytes(0, len)) }
    }

    /// A copy of `floats`.
    #[must_use]
    pub fn copy(floats: &[f32]) -> Self {
        // SAFETY: room for as many floats as the slice has is given, nobody else's, and so many are written.
        unsafe { Self::made(floats.len(), |at| at.copy_from_nonoverlapping(NonNull::from_ref(floats).cast(), floats.len())) }
    }

    /// Memory for `len` floats as `write` leaves it.
    ///
    /// # Safety
    /// `write` writes `len` floats at the place that it is given, which has room for them.
    unsafe fn made(len: usize, write: impl FnOnce(NonNull<f32>)) -> Self {
        let layout = layout(len);
        if layout.size() == 0 {
            return Self { at: NonNull::dangling(), len: 0 };
        }
        // SAFETY: the layout has a size.
        let Some(at) = NonNull::new(unsafe { alloc(layout) }.cast::<f32>()) else { handle_alloc_error(layout) };
        if layout.align() == LARGE {
            advise(at, layout);
        }
        write(at);
        Self { at, len }
    }
}

/// Where `len` floats shall stand.
fn layout(len: usize) -> Layout {
    let bytes = len.checked_mul(size_of::<f32>());
    let layout = bytes.and_then(|bytes| {
        let align = if bytes >= LEAST { LARGE } else { LINE };
        Layout::from_size_align(bytes.checked_next_multiple_of(align)?, align).ok()
    });
    layout.unwrap_or_else(|| panic!("{len} floats are more than memory can address"))
}

/// Asks for large pages.
#[cfg(target_os = "linux")]
fn advise(at: NonNull<f32>, layout: Layout) {
    use core::ffi::{c_int, c_void};
    unsafe extern "C" {
        fn madvise(at: *mut c_void, len: usize, advice: c_int) -> c_int;
    }
    /// `MADV_HUGEPAGE`, the same number on every architecture.
    const HUGE: c_int = 14;
    // SAFETY: std links the C library, which has this function; the range is whole pages of an allocation, and this advice changes
    // no content. A system without large pages says so, and nothing else follows.
    unsafe { madvise(at.as_ptr().cast(), layout.size(), HUGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise(_: NonNull<f32>, _: Layout) {}

impl Drop for Pages {
    fn drop(&mut self) {
        let layout = layout(self.len);
        if layout.size() > 0 {
            // SAFETY: allocated with this layout, which follows from the length.
            unsafe { dealloc(self.at.as_ptr().cast(), layout) }
        }
    }
}

impl Deref for Pages {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `len` floats that were written when this was made; the borrow is that of `self`.
        unsafe { core::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, borrowed alone.
        unsafe { core::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }
}

impl Clone for Pages {
    fn clone(&self) -> Self {
        Self::copy(self)
    }
}

impl core::fmt::Debug for Pages {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pages").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_of_any_number_are_aligned_and_their_own() {
        for len in [0, 1, 17, LEAST / 4 - 1, LEAST / 4, LARGE / 4 + 3] {
            let mut zeros = Pages::zeroed(len);
            assert!(zeros.len() == len && zeros.iter().all(|&v| v == 0.0));
            let align = if len * 4 >= LEAST { LARGE } else { LINE };
            assert!(len == 0 || (zeros.as_ptr() as usize).is_multiple_of(align), "{len}");
            let number = |i: usize| (i % 1000) as f32;
            zeros.iter_mut().enumerate().for_each(|(i, v)| *v = number(i));
            let copy = zeros.clone();
            zeros.fill(-1.0);
            assert!(copy.iter().enumerate().all(|(i, v)| *v == number(i)));
        }
    }
}
