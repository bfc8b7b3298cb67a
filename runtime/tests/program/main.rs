//! Programs as data: what `Checked` refuses, and that streaming, rings, pitches and threads change no bit.

mod net;
mod rearranged;
mod refused;
mod streamed;
