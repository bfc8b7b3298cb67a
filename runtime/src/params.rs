//! Shapes and options of every kernel: the vocabulary that plan, back ends and kernels share.
//!
//! Plain numbers, no pointers. All sizes are in elements, all tensors are NHWC with batch 1, so an element `(y, x, c)` of an
//! `h x w x c_n` tensor stands at `(y * w + x) * c_n + c`. `y` runs first over rows so that a kernel can be asked for a band of
//! output rows: that is how stages stream and how threads share a layer.

use core::fmt;

use crate::pack::{PANEL, STRASSEN_GROUP};

/// A number among sizes and options: an f32 by its bits, so that what holds it can be compared and hashed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Real(u32);

impl Real {
    /// `x`, to the bit.
    #[must_use]
    pub const fn new(x: f32) -> Self {
        Self(x.to_bits())
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> f32 {
        f32::from_bits(self.0)
    }
}

impl fmt::Debug for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.get())
    }
}

impl fmt::Display for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// The activation function at the end of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    /// `x`
    #[default]
    None,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, 0), 6)` (MobileNets, arXiv 1704.04861, as implemented)
    Relu6,
    /// `x * relu6(x + 3) / 6` (MobileNetV3, arXiv 1905.02244, section 5.2)
    HSwish,
    /// `relu6(x + 3) / 6`
    HSigmoid,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `tanh(x)`
    Tanh,
    /// `x / (1 + exp(-x))`, 0 at minus infinity (SiLU, or Swish: arXiv 1702.03118, 1710.05941)
    Silu,
    /// `x < 0 ? slope * x : x`; the slope is finite.
    LeakyRelu(Real),
    /// `min(max(x, least), most)`; either bound may be infinite.
    Clip(Real, Real),
    /// `max(0, min(1, alpha * x + beta))`, both finite. With 1/6 and 1/2 it is [`Activation::HSigmoid`].
    HardSigmoid(Real, Real),
}

impl fmt::Display for Activation {
    /// `none`, `relu6`, `leaky_relu(0.1)`: the name in tables and text forms.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Relu => f.write_str("relu"),
            Self::Relu6 => f.write_str("relu6"),
            Self::HSwish => f.write_str("hswish"),
            Self::HSigmoid => f.write_str("hsigmoid"),
            Self::Sigmoid => f.write_str("sigmoid"),
            Self::Tanh => f.write_str("tanh"),
            Self::Silu => f.write_str("silu"),
            Self::LeakyRelu(slope) => write!(f, "leaky_relu({slope})"),
            Self::Clip(least, most) => write!(f, "clip({least}, {most})"),
            Self::HardSigmoid(alpha, beta) => write!(f, "hard_sigmoid({alpha}, {beta})"),
        }
    }
}

/// From the first of `kernel` taps, `dilation` apart, to the last, both included; 0 where either number is, and the largest number
/// where there is none so large.
#[must_use]
pub const fn span(kernel: usize, dilation: usize) -> usize {
    if kernel == 0 || dilation == 0 { 0 } else { (kernel - 1).saturating_mul(dilation).saturating_add(1) }
}

/// A convolution `[in_h, in_w, in_c] -> [out_h, out_w, out_c]`, or a transposed one, which takes every input element to where a
/// convolution of the same sizes, from output to input, would have read it: input row `i` adds to output rows
/// `i * stride_h + ky * dilation_h - pad_top`. Group `g` of `groups` makes the output channels from
/// `g * out_c / groups` on of the input channels from `g * in_c / groups` on, as many as a group has. Weights packed by
/// [`crate::pack::grouped`] with `k = taps * in_c / groups` rows ordered `(ky, kx, c)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conv {
    /// Input rows.
    pub in_h: usize,
    /// Input columns.
    pub in_w: usize,
    /// Input channels.
    pub in_c: usize,
    /// Output rows.
    pub out_h: usize,
    /// Output columns.
    pub out_w: usize,
    /// Output channels.
    pub out_c: usize,
    /// Divides both channel counts; 1 for a dense convolution, whose outputs read all input channels.
    pub groups: usize,
    /// Window rows.
    pub kernel_h: usize,
    /// Window columns.
    pub kernel_w: usize,
    /// Vertical step between windows.
    pub stride_h: usize,
    /// Horizontal step between windows.
    pub stride_w: usize,
    /// Input rows from one row of a window to the next.
    pub dilation_h: usize,
    /// Input columns from one column of a window to the next.
    pub dilation_w: usize,
    /// Padding rows above the input; those below follow from `out_h`.
    pub pad_top: usize,
    /// Padding columns left of the input; those on the right follow from `out_w`.
    pub pad_left: usize,
    /// Applied to every output after bias and residual.
    pub act: Activation,
    /// How it is computed, which decides how its weights are packed. Transposed ones are direct.
    pub method: Method,
}

/// How a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// As the sum that it is; weights packed by [`crate::pack::grouped`].
    Direct,
    /// Two by two outputs at once by [Winograd's minimal filtering](https://arxiv.org/abs/1509.09308) F(2x2, 3x3) with 16 products in place
    /// of 36, for 3x3 windows without gaps at stride 1 and zeros outside of the input; weights transformed by [`crate::pack::winograd`],
    /// then packed by [`crate::pack::grouped`].
    Winograd2,
    /// The same of four by four outputs, F(4x4, 3x3), with 36 products in place of 144; it rounds some times as much.
    Winograd4,
    /// Of a pointwise convolution seven products of quarters in place of eight (Strassen's method in Winograd's form, one level: Higham,
    /// "Accuracy and Stability of Numerical Algorithms", section 23.1); weights packed by [`crate::pack::strassen`].
    Strassen,
}

impl Method {
    /// Output rows that are made of the same input rows: a band, wherever it starts and ends, reads those of the windows of
    /// all of them.
    #[must_use]
    pub const fn tile(self) -> usize {
        match self {
            Method::Direct | Method::Strassen | Method::Winograd2 => 1,
            Method::Winograd4 => 4,
        }
    }
}

/// The most input channels of [`Method::Strassen`]: weights of wider layers come from memory, and are no gain.
pub const STRASSEN_CHANNELS: usize = 512;

impl Conv {
    /// Rows of packed weights for each input channel: elements of a window, or of a transformed one.
    #[must_use]
    pub const fn taps(&self) -> usize {
        match self.method {
            Method::Direct | Method::Strassen => self.kernel_h.saturating_mul(self.kernel_w),
            Method::Winograd2 => 16,
            Method::Winograd4 => 36,
        }
    }

    /// Whether the method can compute windows of this kind.
    #[must_use]
    pub const fn has_method(&self) -> bool {
        match self.method {
            Method::Direct => true,
            Method::Winograd2 | Method::Winograd4 => {
                self.kernel_h == 3
                    && self.kernel_w == 3
                    && self.stride_h == 1
                    && self.stride_w == 1
                    && self.dilation_h == 1
                    && self.dilation_w == 1
            }
            Method::Strassen => false,
        }
    }

    /// Input rows from the first of a window to its last, both included.
    #[must_use]
    pub const fn span_h(&self) -> usize {
        span(self.kernel_h, self.dilation_h)
    }

    /// Input columns from the first of a window to its last, both included.
    #[must_use]
    pub const fn span_w(&self) -> usize {
        span(self.kernel_w, self.dilation_w)
    }

    /// Input and output channels of a group; `None` where the groups do not divide them.
    #[must_use]
    pub const fn group(&self) -> Option<(usize, usize)> {
        match (self.in_c.checked_div(self.groups), self.out_c.checked_div(self.groups)) {
            (Some(i), Some(o)) if i * self.groups == self.in_c && o * self.groups == self.out_c => Some((i, o)),
            _ => None,
        }
    }

    /// Whether bands of whole panels of output channels are whole panels of each group too, so that threads can share by channels.
    #[must_use]
    pub const fn aligned(&self) -> bool {
        match self.group() {
            Some((_, out_c)) => self.groups == 1 || out_c.is_multiple_of(PANEL),
            None => false,
        }
    }
}

/// A depthwise convolution: `out_c = in_c * multiplier`, output channel `o` reads input channel `o / multiplier`
/// (the order of PyTorch's grouped and Keras' depthwise convolution). Weights packed by [`crate::pack::depthwise`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Depthwise {
    /// Input rows.
    pub in_h: usize,
    /// Input columns.
    pub in_w: usize,
    /// Input channels.
    pub in_c: usize,
    /// Outputs per input channel.
    pub multiplier: usize,
    /// Output rows.
    pub out_h: usize,
    /// Output columns.
    pub out_w: usize,
    /// Window rows.
    pub kernel_h: usize,
    /// Window columns.
    pub kernel_w: usize,
    /// Vertical step between windows.
    pub stride_h: usize,
    /// Horizontal step between windows.
    pub stride_w: usize,
    /// Input rows from one row of a window to the next.
    pub dilation_h: usize,
    /// Input columns from one column of a window to the next.
    pub dilation_w: usize,
    /// Padding rows above the input.
    pub pad_top: usize,
    /// Padding columns left of the input.
    pub pad_left: usize,
    /// Applied to every output after the bias.
    pub act: Activation,
}

impl Depthwise {
    /// Input rows from the first of a window to its last, both included.
    #[must_use]
    pub const fn span_h(&self) -> usize {
        span(self.kernel_h, self.dilation_h)
    }

    /// Input columns from the first of a window to its last, both included.
    #[must_use]
    pub const fn span_w(&self) -> usize {
        span(self.kernel_w, self.dilation_w)
    }
}

/// A 1x1 convolution at stride 1, or a dense layer: `[pixels, in_c] x [in_c, out_c]`. Weights packed by
/// [`crate::pack::panels`] with `k = in_c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pointwise {
    /// Output rows (1 for a dense layer).
    pub h: usize,
    /// Output columns (1 for a dense layer).
    pub w: usize,
    /// Input channels.
    pub in_c: usize,
    /// Output channels.
    pub out_c: usize,
    /// Applied to every output after bias and residual.
    pub act: Activation,
    /// The mean over all pixels is written instead of the pixels: the output is `[1, 1, out_c]` (fused global average pooling).
    pub pool: bool,
    /// How it is computed, which decides how its weights are packed.
    pub method: Method,
}

impl Pointwise {
    /// Whether the method can compute a layer of this size: Strassen's wants pairs of pixels, halves of input channels, and output channels in whole
    /// groups.
    #[must_use]
    pub const fn has_method(&self) -> bool {
        match self.method {
            Method::Direct => true,
            Method::Winograd2 | Method::Winograd4 => false,
            Method::Strassen => {
                !self.pool
                    && self.w.is_multiple_of(2)
                    && self.in_c.is_multiple_of(2)
                    && self.in_c <= STRASSEN_CHANNELS
                    && self.out_c.is_multiple_of(STRASSEN_GROUP)
            }
        }
    }

    /// Floats of the packed weights; the largest number where there is none so large.
    #[must_use]
    pub const fn weights(&self) -> usize {
        let panels = self.out_c.div_ceil(PANEL).saturating_mul(PANEL).saturating_mul(self.in_c);
        match self.method {
            Method::Direct | Method::Winograd2 | Method::Winograd4 => panels,
            Method::Strassen => (panels / 4).saturating_mul(7),
        }
    }
}

/// What a pooling window computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// The largest element; padding never wins.
    Max,
    /// The mean of the elements inside the input, or of the whole window ([`Pool::count_padding`]).
    Average,
}

/// A pooling layer; channels are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pool {
    /// What a window computes.
    pub kind: PoolKind,
    /// Input rows.
    pub in_h: usize,
    /// Input columns.
    pub in_w: usize,
    /// Channels.
    pub c: usize,
    /// Output rows.
    pub out_h: usize,
    /// Output columns.
    pub out_w: usize,
    /// Window rows.
    pub kernel_h: usize,
    /// Window columns.
    pub kernel_w: usize,
    /// Vertical step between windows.
    pub stride_h: usize,
    /// Horizontal step between windows.
    pub stride_w: usize,
    /// Padding rows above the input.
    pub pad_top: usize,
    /// Padding columns left of the input.
    pub pad_left: usize,
    /// A mean is over the whole window, the padding as zeros; else over the elements inside the input.
    pub count_padding: bool,
}

/// An axis of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Axis {
    /// Rows.
    H,
    /// Columns.
    W,
    /// Channels.
    C,
}

/// What is computed of two tensors, element by element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryKind {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
}

/// An output row or column of a linear interpolation: `x[low] * (1 - weight) + x[high] * weight`, `x[low]` where the weight is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tap {
    /// The first input row or column.
    pub low: usize,
    /// The second.
    pub high: usize,
    /// Of the second; finite.
    pub weight: Real,
}

impl Tap {
    /// As numbers: both positions, the weight by its bits.
    #[must_use]
    pub const fn words(self) -> [usize; 3] {
        [self.low, self.high, self.weight.get().to_bits() as usize]
    }
}
