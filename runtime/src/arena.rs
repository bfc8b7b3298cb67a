//! The memory that a net's intermediate tensors share: one aligned block.

/// For [`crate::boxed_net`], whose caller may be without `std` itself.
#[cfg(feature = "std")]
#[doc(hidden)]
pub use std::boxed::Box;

/// Zeroed floats at the alignment of a cache line. `const`, so it can be a `static` in `.bss` where there is no heap.
#[repr(C, align(64))]
#[derive(Debug, Clone)]
pub struct Arena<const FLOATS: usize>([f32; FLOATS]);

impl<const FLOATS: usize> Arena<FLOATS> {
    /// An arena of zeros.
    #[must_use]
    pub const fn new() -> Self {
        Self([0.0; FLOATS])
    }

    /// An arena of zeros on the heap, never on the stack.
    #[cfg(feature = "std")]
    #[must_use]
    pub fn boxed() -> Box<Self> {
        // SAFETY: the type is an array of f32, for which all bytes zero is the value 0.0.
        unsafe { Box::new_zeroed().assume_init() }
    }

    /// All elements.
    #[must_use]
    pub const fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl<const FLOATS: usize> Default for Arena<FLOATS> {
    fn default() -> Self {
        Self::new()
    }
}

/// Gives a struct whose one field is `arena: Arena<FLOATS>` the function `boxed`, where the runtime has its feature `std`.
/// Emitted code calls this: it has no unsafe of its own, and does not know the features of the program it is part of.
#[cfg(feature = "std")]
#[macro_export]
macro_rules! boxed_net {
    ($name:ident, $floats:expr) => {
        impl $name {
            /// The net with a zeroed arena, on the heap from the start: it is never on the stack.
            #[allow(dead_code, reason = "no program needs every item of a net")]
            #[must_use]
            pub fn boxed() -> $crate::arena::Box<Self> {
                // The pattern has no `..`: this compiles only if the arena is the one field.
                fn only_field($name { arena }: &$name) -> &$crate::arena::Arena<{ $floats }> {
                    arena
                }
                let _ = only_field;
                const {
                    assert!(::core::mem::size_of::<$name>() == ::core::mem::size_of::<$crate::arena::Arena<{ $floats }>>());
                    assert!(::core::mem::align_of::<$name>() == ::core::mem::align_of::<$crate::arena::Arena<{ $floats }>>());
                }
                let arena = $crate::arena::Arena::<{ $floats }>::boxed();
                // SAFETY: a struct with that one field and of its size and alignment is that field in memory, so a pointer to
                // the one is a pointer to the other, from an allocation of the same layout.
                unsafe { $crate::arena::Box::from_raw($crate::arena::Box::into_raw(arena).cast::<$name>()) }
            }
        }
    };
}

/// Without `std` there is no heap and no `boxed`.
#[cfg(not(feature = "std"))]
#[macro_export]
macro_rules! boxed_net {
    ($name:ident, $floats:expr) => {};
}

/// Gives a net the function `resident`, where the runtime has its feature `std`. Emitted code calls this: it does not know the
/// features of the program it is part of.
#[cfg(feature = "std")]
#[macro_export]
macro_rules! resident_net {
    ($name:ident, $program:expr, $weights:expr) => {
        impl $name {
            /// The net with its arena and a copy of its weights in large pages of memory, where the system has them: some per cent
            /// faster, for [`Self::WEIGHT_BYTES`] more of memory.
            #[allow(dead_code, reason = "no program needs every item of a net")]
            #[must_use]
            pub fn resident() -> $crate::resident::Resident {
                $crate::resident::Resident::new($program, $weights, Self::INPUTS, Self::OUTPUTS)
            }
        }
    };
    ($name:ident, $program:expr) => {
        impl $name {
            /// The net with its arena and a copy of `weights` in large pages of memory, where the system has them: some per cent
            /// faster, for [`Self::WEIGHT_BYTES`] more of memory.
            #[allow(dead_code, reason = "no program needs every item of a net")]
            #[must_use]
            pub fn resident(weights: $crate::packed::PackedWeights<'_, Self>) -> $crate::resident::Resident {
                $crate::resident::Resident::new($program, weights.floats(), Self::INPUTS, Self::OUTPUTS)
            }
        }
    };
}

/// Without `std` there is no heap and no `resident`.
#[cfg(not(feature = "std"))]
#[macro_export]
macro_rules! resident_net {
    ($($net:tt)*) => {};
}

#[cfg(test)]
mod tests {
    use super::*;

    static IN_BSS: std::sync::Mutex<Arena<100>> = std::sync::Mutex::new(Arena::new());

    #[test]
    fn arenas_are_aligned_and_zero() {
        let mut on_heap = Arena::<100_000>::boxed();
        assert_eq!(on_heap.as_mut_slice().as_ptr() as usize % 64, 0);
        assert!(on_heap.as_mut_slice().iter().all(|&v| v == 0.0));
        let mut guard = IN_BSS.lock().unwrap();
        assert_eq!(guard.as_mut_slice().as_ptr() as usize % 64, 0);
    }
}
