//! What machine code that is not Rust calls: the JIT's code in memory, and object files linked with `libmnc_rt.a`.
//!
//! ```c
//! // Where one inference reads and writes; opaque, at most 64 bytes, aligned to 8.
//! typedef struct { uint64_t words[8]; } mnc_rt_memory;
//! // Finds the CPU's instruction set and fills in the operands; they stay the caller's.
//! void mnc_rt_6_begin(mnc_rt_memory *memory, const float *weights, const float *input, float *output, float *arena);
//! // The part of thread `thread` of `threads` of the stage in `record`. Returns 0, or 1 where `record` is none; nothing was
//! // computed then.
//! uint32_t mnc_rt_6_stage(const mnc_rt_memory *memory, const uint64_t *record, uint64_t thread, uint64_t threads);
//! ```
//! Records are written by [`crate::program::encode`]. All threads must be done with a stage before one begins the next. The number
//! in the names is [`crate::stamp::FORMAT`], the version of both records and functions: code and library of different versions do not
//! link. A third symbol, `mnc_rt_6_stamp`, is [`STAMP`].
//!
//! The static library is this crate compiled without `std` and with `--cfg mnc_static_library`, which alone gives the
//! functions their names: a Rust program may hold any number of versions of the crate.

use crate::isa::Isa;
use crate::program::record::{NoRecord, Record};
use crate::program::run::{Inference, Memory as Operands};

/// The name of [`begin`] in `libmnc_rt.a`.
pub const BEGIN: &str = "mnc_rt_6_begin";
/// The name of [`stage`] in `libmnc_rt.a`.
pub const STAGE: &str = "mnc_rt_6_stage";

/// The stamp of the static library, as text that ends with a zero.
#[cfg_attr(mnc_static_library, unsafe(export_name = "mnc_rt_6_stamp"))]
pub static STAMP: [u8; LIBRARY.len()] = {
    let mut bytes = [0; LIBRARY.len()];
    bytes.copy_from_slice(LIBRARY.as_bytes());
    bytes
};

/// Its text.
const LIBRARY: &str = concat!("mnc-stamp: kind=runtime version=", env!("CARGO_PKG_VERSION"), " format=6\0");

/// Bytes that a caller sets aside for a [`Memory`], aligned to 8.
pub const MEMORY_BYTES: usize = 64;

/// Where one inference reads and writes, and by which instructions.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Memory(Operands);

const _: () = assert!(size_of::<Memory>() <= MEMORY_BYTES && align_of::<Memory>() <= 8);

// SAFETY: it only holds addresses; whoever calls [`stage`] with them promises what threads need.
unsafe impl Sync for Memory {}

impl Memory {
    /// Of an inference by `isa`; the pointers are used by [`stage`] alone.
    #[must_use]
    pub const fn new(isa: Isa, weights: *const f32, input: *const f32, output: *mut f32, arena: *mut f32) -> Self {
        Self(Operands { isa, weights, arena, input, output })
    }
}

/// Finds the CPU's instruction set and fills in the operands of an inference.
///
/// # Safety
/// [`MEMORY_BYTES`] bytes can be written at `memory`, which is aligned to 8.
#[cfg_attr(mnc_static_library, unsafe(export_name = "mnc_rt_6_begin"))]
pub unsafe extern "C" fn begin(memory: *mut Memory, weights: *const f32, input: *const f32, output: *mut f32, arena: *mut f32) {
    // SAFETY: the caller's promise; a `Memory` is no larger.
    unsafe { memory.write(Memory::new(Isa::detect(), weights, input, output, arena)) };
}

/// The part of thread `thread` of `threads` of the stage in `record`: 0, or 1 where `record` is none of this version.
///
/// # Safety
/// `record` is what [`crate::program::encode`] wrote (a copy of its words, aligned to 8), or at least has as many words as its
/// second one says. The operands in `memory` are as long as the program says, `threads` is at most the
/// program's, every thread below it calls this once for every stage, all before one goes on to the next, and nothing else
/// uses the operands meanwhile.
#[cfg_attr(mnc_static_library, unsafe(export_name = "mnc_rt_6_stage"))]
pub unsafe extern "C" fn stage(memory: *const Memory, record: *const usize, thread: usize, threads: usize) -> u32 {
    // SAFETY: every record has at least a version and a length.
    let head = unsafe { core::slice::from_raw_parts(record, 2) };
    let Ok(len) = Record::len(head) else { return 1 };
    // SAFETY: the caller has as many words as the second says.
    let words = unsafe { core::slice::from_raw_parts(record, len) };
    match Record::decode(words) {
        Ok(record) => {
            // SAFETY: the caller's promise; the checksum says that the record is as it was written.
            unsafe { Inference::stage_alone(&record, (*memory).0, thread, threads) };
            0
        }
        Err(NoRecord) => 1,
    }
}

/// The part of thread `thread` of `threads` of stage `stage` of `program`, whose steps are those from `first` on: what code in the
/// memory of the process calls, where the program need not be read back from records.
///
/// # Safety
/// `program` lives. The operands in `memory` are as long as it says, `threads` is at most the program's, every thread below it calls
/// this once for every stage, all before one goes on to the next, and nothing else uses the operands meanwhile.
#[cfg(feature = "std")]
pub unsafe extern "C" fn stage_of(
    memory: *const Memory,
    program: *const crate::program::Owned,
    stage: usize,
    first: usize,
    thread: usize,
    threads: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { Inference::stage_of((*program).checked(), (stage, first), (*memory).0, thread, threads) };
}

#[cfg(mnc_static_library)]
mod alone {
    /// Nothing in here panics; where it does, that is a mistake, and nobody is left to tell.
    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an invalid instruction ends the program and does nothing else.
            unsafe {
                core::arch::asm!("ud2", options(noreturn, nomem, nostack))
            };
        }
    }
}
