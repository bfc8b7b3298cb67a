//! An allocator that puts floats against memory that cannot be touched: a read or write of one element too many, even one that a
//! vector load makes and throws away, ends the test with a segmentation fault.
//!
//! Floats are what has an alignment of 4, or of a vector and more. Each block stands on pages of its own, either with its end
//! at the end of the last page or with its beginning at that of the first, and with a page on both sides that allows nothing. Addresses
//! are not used again, so a use after the end of a block's life is a fault too.
//!
//! `MNC_FENCE=off` leaves those who always fence to the system's allocator, which the address sanitizer and Valgrind replace by
//! theirs: these see every byte on both sides of a block at once, and never-written ones, but no access by hand-written assembly.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};

/// At least a page, the largest that such systems have.
pub const PAGE: usize = if cfg!(target_arch = "x86_64") { 4096 } else { 65536 };

/// Address space for all blocks.
const SPACE: usize = 1 << 38;

/// The allocator. Where it does not fence, it is the system's.
pub struct Fence {
    /// Fence all threads always, blocks at one side and the other by turns; else only what runs in [`fenced`].
    pub always: bool,
}

/// Where the page next to a block is that allows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Just before the first byte.
    Before,
    /// Just behind the last byte.
    Behind,
}

static START: AtomicUsize = AtomicUsize::new(0);
static USED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SIDE: Cell<Option<Side>> = const { Cell::new(None) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Runs `f` with its floats fenced on `side`.
#[allow(dead_code, reason = "not of those who always fence")]
pub fn fenced<T>(side: Side, f: impl FnOnce() -> T) -> T {
    SIDE.set(Some(side));
    let result = f();
    SIDE.set(None);
    result
}

/// Lets no one touch the whole pages of a block of [`fenced`] that `bytes` of it begin and end at, as long as it lives.
#[allow(dead_code, reason = "not of those who always fence")]
pub fn forbid(block: &mut [f32], bytes: std::ops::Range<usize>) {
    assert!(bytes.start.is_multiple_of(PAGE) && bytes.end.is_multiple_of(PAGE) && bytes.end <= size_of_val(block));
    let at = block.as_mut_ptr().cast::<u8>().wrapping_add(bytes.start).cast::<c_void>();
    assert!((at as usize).is_multiple_of(PAGE) && own(at as usize), "a fenced block of whole pages");
    // SAFETY: the pages belong to the block. Touching them afterwards is what the caller's test must not do.
    unsafe { mprotect(at, bytes.len(), MprotectFlags::empty()) }.expect("the pages are mapped");
}

/// Whether `MNC_FENCE` is `off`. Asking allocates text alone, which is not fenced.
fn off() -> bool {
    static OFF: OnceLock<bool> = OnceLock::new();
    *OFF.get_or_init(|| std::env::var_os("MNC_FENCE").is_some_and(|v| v == "off"))
}

/// Whether an address is in the fenced space.
fn own(address: usize) -> bool {
    let start = START.load(Ordering::Relaxed);
    start != 0 && (start..start + SPACE).contains(&address)
}

/// The beginning of the space, reserved on first use; 0 where the system refuses.
fn start() -> usize {
    let known = START.load(Ordering::Acquire);
    if known != 0 {
        return known;
    }
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new mapping at an address of the system's choice touches no other.
    let Ok(new) = (unsafe { mmap_anonymous(null_mut(), SPACE, ProtFlags::empty(), flags) }) else { return 0 };
    match START.compare_exchange(0, new as usize, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => new as usize,
        Err(first) => {
            // SAFETY: another thread was first; nobody knows of this mapping.
            let _ = unsafe { munmap(new, SPACE) };
            first
        }
    }
}

/// A block on pages of its own.
fn block(layout: Layout, side: Side) -> Option<NonNull<u8>> {
    let bytes = layout.size().checked_next_multiple_of(PAGE)?;
    let start = start();
    let at = USED.fetch_add(bytes + PAGE, Ordering::Relaxed);
    if start == 0 || layout.align() > PAGE || at.checked_add(bytes + PAGE)? > SPACE - PAGE {
        return None;
    }
    // The page before belongs to the block before, or is the first of all.
    let pages = (start + PAGE + at) as *mut u8;
    // SAFETY: these pages were reserved above and given to nobody else.
    unsafe { mprotect(pages.cast(), bytes, MprotectFlags::READ | MprotectFlags::WRITE) }.ok()?;
    NonNull::new(match side {
        Side::Before => pages,
        Side::Behind => pages.wrapping_add((bytes - layout.size()) & !(layout.align() - 1)),
    })
}

impl Fence {
    fn side(&self, layout: Layout) -> Option<Side> {
        if layout.size() == 0 || !matches!(layout.align(), 4 | 16..) {
            return None;
        }
        if self.always {
            if off() {
                return None;
            }
            let count = COUNT.try_with(|c| c.replace(c.get() + 1)).ok()?;
            // By turns, but not so that every second operand of a kernel stands on the same side in all tests.
            let mixed = (count + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63;
            return Some(if mixed == 0 { Side::Behind } else { Side::Before });
        }
        SIDE.try_with(Cell::get).ok()?
    }
}

// SAFETY: blocks are the system allocator's, or at least `size` bytes of pages that nobody else has, aligned as asked; which of
// the two shows in the address.
unsafe impl GlobalAlloc for Fence {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.side(layout).and_then(|side| block(layout, side)) {
            Some(block) => block.as_ptr(),
            // SAFETY: the layout is not of zero bytes, as the caller promises.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if !own(ptr as usize) {
            // SAFETY: it came from there.
            return unsafe { System.dealloc(ptr, layout) };
        }
        let first = (ptr as usize & !(PAGE - 1)) as *mut c_void;
        let bytes = layout.size().next_multiple_of(PAGE);
        // SAFETY: these are the whole pages of the block, which the caller gives up.
        let _ =
            unsafe { madvise(first, bytes, Advice::LinuxDontNeed).and_then(|()| mprotect(first, bytes, MprotectFlags::empty())) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    fn floats(side: Side) -> Vec<f32> {
        fenced(side, || {
            let mut v = vec![1.0; 100];
            while v.as_ptr().align_offset(PAGE) != if side == Side::Before { 0 } else { 100 } {
                v = v.clone();
            }
            v
        })
    }

    #[test]
    #[ignore = "ends the process: run by `one_element_too_many_is_a_fault`"]
    fn reads_behind() {
        let v = floats(Side::Behind);
        // SAFETY: it is not safe, which is what the other test wants to see.
        let x = unsafe { v.as_ptr().add(100).read_volatile() };
        println!("{x}");
    }

    #[test]
    #[ignore = "ends the process: run by `one_element_too_many_is_a_fault`"]
    fn writes_before() {
        let mut v = floats(Side::Before);
        // SAFETY: as above.
        unsafe { v.as_mut_ptr().sub(1).write_volatile(1.0) };
    }

    /// In a process of its own: otherwise nothing here would mean anything.
    #[test]
    fn one_element_too_many_is_a_fault() {
        let here = module_path!().split_once("::").expect("a module").1;
        for name in ["reads_behind", "writes_before"] {
            let test = std::env::current_exe().expect("this test");
            let mut run = Command::new(test);
            run.args(["--ignored", "--exact", &format!("{here}::{name}")]).env_remove("MNC_FENCE");
            // Sanitizers would make a report and an exit code of the signal.
            run.env("ASAN_OPTIONS", "handle_segv=0").env("TSAN_OPTIONS", "handle_segv=0");
            let out = run.output().expect("it runs");
            assert_eq!(out.status.signal(), Some(11), "{name}: {out:?}");
        }
    }
}
