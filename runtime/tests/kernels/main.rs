//! Every kernel on every instruction set of this machine against `reference`: random shapes, odd sizes, all activations, both
//! kinds of padding; any split into bands gives the same bits; entries with constant parameters give those of the others.

mod case;
mod conv;
mod depthwise;
mod misuse;
mod nan;
mod pointwise;
mod rearrange;
mod small;
mod winograd;
