//! Every kernel on every instruction set of this machine against `reference`: random shapes, odd sizes, all activations, both
//! kinds of padding; any split into bands gives the same bits; entries with constant parameters give those of the others.
//! All operands stand against pages that cannot be touched, except under Miri, which knows no such pages and needs none.

mod case;
mod conv;
mod depthwise;
#[cfg(all(unix, not(miri)))]
#[path = "../fence/mod.rs"]
mod fence;
mod misuse;
mod nan;
mod pointwise;
mod rearrange;
mod small;
mod strassen;
mod winograd;

#[cfg(all(unix, not(miri)))]
#[global_allocator]
static FENCE: fence::Fence = fence::Fence { always: true };
