//! A program that runs nets on the inputs in one file and writes their outputs to another. What a test adds to it: the nets, and
//! `fn nets`, which calls [`net!`] for each.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

type Input = std::vec::IntoIter<f32>;
type Output = Vec<f32>;

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: both functions hand on what they are given.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is the one that is asked for here.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer is the system allocator's, see `alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

macro_rules! net {
    ($net:ty, $runs:expr, $input:ident, $output:ident) => {
        let mut net = <$net>::boxed();
        for _ in 0..$runs {
            let x: Vec<f32> = $input.by_ref().take(<$net>::INPUT_LEN).collect();
            let mut y = vec![f32::NAN; <$net>::OUTPUT_LEN];
            mnc::Net::run(&mut *net, &x, &mut y).unwrap();
            let mut again = vec![f32::NAN; <$net>::OUTPUT_LEN];
            let mut arena = mnc::Arena::boxed();
            arena.as_mut_slice().fill(f32::NAN);
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            <$net>::run_in(&mut arena, x.as_slice().try_into().unwrap(), again.as_mut_slice().try_into().unwrap());
            assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), before, "{}: run allocated", stringify!($net));
            assert!(y.iter().zip(&again).all(|(a, b)| a.to_bits() == b.to_bits()), "{}: run and run_in differ", stringify!($net));
            let mut team = mnc::Team::new(3);
            let mut shared = vec![f32::NAN; <$net>::OUTPUT_LEN];
            mnc::Net::run_on(&mut *net, &mut team, &x, &mut shared).unwrap();
            assert!(y.iter().zip(&shared).all(|(a, b)| a.to_bits() == b.to_bits()), "{}: run and run_on differ", stringify!($net));
            assert_eq!(<$net>::ARENA_BYTES, std::mem::size_of_val(arena.as_mut_slice()));
            $output.push(y.len() as f32);
            $output.extend(y);
        }
    };
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let bytes = std::fs::read(&args[1]).unwrap();
    let input: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let (mut input, mut output) = (input.into_iter(), Vec::new());
    nets(&mut input, &mut output);
    assert!(input.next().is_none());
    let bytes: Vec<u8> = output.iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(&args[2], bytes).unwrap();
}
