//! Programs as data: what `Checked` refuses, and that streaming, rings, pitches and threads change no bit. Arena, weights, input
//! and output stand against pages that cannot be touched, except under Miri.

#[cfg(all(unix, not(miri)))]
#[path = "../fence/mod.rs"]
mod fence;
mod net;
mod rearranged;
mod refused;
mod streamed;

#[cfg(all(unix, not(miri)))]
#[global_allocator]
static FENCE: fence::Fence = fence::Fence { always: true };
