//! Front ends: text in, a checked [`Net`] out. Parse, check, lower; every mistake of an input is collected before stopping.

use std::path::PathBuf;

use crate::ir::Graph;

/// What every front end makes: the graph as specified, nothing fused, weights in place, and what goes around it.
#[derive(Debug, Clone)]
pub struct Net {
    /// The spec's name, a Rust and C identifier.
    pub name: String,
    /// The network. One input and one output today.
    pub graph: Graph,
    /// How a picture becomes the input.
    pub preprocess: Preprocess,
    /// Class names in output order; empty where the spec has none.
    pub labels: Vec<String>,
    /// Where the weights came from, one line for the user ("seeded random weights (seed 1)").
    pub weights_from: String,
    /// Switches of the optional passes.
    pub passes: PassOptions,
    /// Files the net was made of (spec, checkpoint, labels), for rebuild tracking.
    pub files: Vec<PathBuf>,
}

/// Resampling filter; both are Pillow's antialiased ones (support grows with the scale).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Triangle.
    Bilinear,
    /// Cubic with a = -0.5.
    Bicubic,
}

/// How the original picture is brought to the input's height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// The shorter side becomes this long (the longer one is truncated to an integer), then the centre is cropped.
    ShorterSide(usize),
    /// Straight to the input's size, ignoring the aspect ratio.
    Squash,
}

/// Order of colour channels in the input tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// How a picture becomes the input tensor: resize, crop, then `x[c] = (p / 255 - mean[c]) / std[c]` in channel order.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocess {
    /// Geometry. A picture that already has the input's size is taken as it is.
    pub resize: Resize,
    /// Resampling.
    pub filter: Filter,
    /// Channel order of the input tensor; ignored with one channel (grey, by the ITU-R 601 luma as Pillow's `convert("L")`).
    pub order: ColorOrder,
    /// One element an input channel, in the input tensor's channel order, in units of the pixel range 0..1.
    pub mean: Vec<f64>,
    /// One element an input channel.
    pub std: Vec<f64>,
    /// The graph itself starts with [`crate::ir::op::Normalize`] and takes raw RGB pixel values 0..255 as f32;
    /// otherwise the caller normalises.
    pub in_graph: bool,
}

/// What `separate` does to standard convolutions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Separate {
    /// Nothing.
    Off,
    /// Every k x k convolution becomes depthwise + BN + activation + pointwise with weights of its own (an untrained spec).
    Structure,
    /// This many terms of the singular value decomposition per input channel.
    Rank(usize),
    /// As few terms as keep the relative weight error (Frobenius) of every layer within this bound.
    MaxError(f64),
}

/// The `[passes]` table of a spec.
#[derive(Debug, Clone, PartialEq)]
pub struct PassOptions {
    /// Standard convolutions to depthwise + pointwise.
    pub separate: Separate,
    /// `separate` may also rewrite the first convolution (the paper leaves it alone).
    pub separate_stem: bool,
    /// Names of passes switched off.
    pub skip: Vec<String>,
}

impl Default for PassOptions {
    fn default() -> Self {
        Self { separate: Separate::Off, separate_stem: false, skip: Vec::new() }
    }
}
