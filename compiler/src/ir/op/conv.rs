//! Dense convolution: `y[o] = act(bias[o] + sum x[ky, kx, c] * w[ky, kx, c, o] (+ residual[o]))`.

use std::borrow::Cow;

use mnc_runtime::params::span;

use super::{Activation, ShapeError, shape_err};
use crate::ir::shape::window_out;
use crate::ir::{ConstId, Consts, Padding, Shape};

/// Attributes of [`crate::ir::Op::Conv`]. A front end makes it bare (no padding, no activation, nothing fused).
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    /// Input channels.
    pub in_c: usize,
    /// Output channels.
    pub out_c: usize,
    /// Window rows and columns.
    pub kernel: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// From one row or column of the window to the next in the input; 1 where they are neighbours.
    pub dilation: [usize; 2],
    /// Divides both channel counts; output channel `o` reads only the input channels of its group `o / (out_c / groups)`.
    /// 1 is the usual convolution. For kernels that know no groups the plan packs [`Conv::dense_weight`].
    pub groups: usize,
    /// Fused padding.
    pub pad: Padding,
    /// What the padding holds, one element an input channel; zero where absent.
    pub pad_value: Option<ConstId>,
    /// `[kernel_h][kernel_w][in_c / groups][out_c]`
    pub weight: ConstId,
    /// `[out_c]`
    pub bias: Option<ConstId>,
    /// Fused activation, applied last.
    pub act: Activation,
    /// The last input, of the output's shape, is added before the activation. Not together with `pool`.
    pub residual: bool,
    /// The mean over the output's rows and columns is the result (fused global pooling). Pointwise only.
    pub pool: bool,
}

impl Conv {
    /// 1x1 at stride 1 without padding or groups: a matrix product over pixels.
    #[must_use]
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.groups == 1 && self.pad.is_zero()
    }

    /// The weights as `[kernel_h][kernel_w][in_c][out_c]`: with groups, zero outside each group's block.
    #[must_use]
    pub fn dense_weight<'a>(&self, consts: &'a Consts) -> Cow<'a, [f32]> {
        let weight = consts.get(self.weight);
        if self.groups == 1 {
            return Cow::Borrowed(weight);
        }
        let (group_in, group_out) = (self.in_c / self.groups, self.out_c / self.groups);
        let taps = self.kernel[0] * self.kernel[1];
        let mut dense = vec![0.0; taps * self.in_c * self.out_c];
        for (tap, c) in (0..taps).flat_map(|tap| (0..self.in_c).map(move |c| (tap, c))) {
            let columns = c / group_in * group_out..(c / group_in + 1) * group_out;
            let (from, to) = ((tap * group_in + c % group_in) * self.out_c, (tap * self.in_c + c) * self.out_c);
            dense[to + columns.start..to + columns.end].copy_from_slice(&weight[from + columns.start..from + columns.end]);
        }
        Cow::Owned(dense)
    }

    /// Rows and columns of the output before a fused pool.
    pub(super) fn window(&self, x: Shape) -> Option<(usize, usize)> {
        Some((
            window_out(x.h, self.pad.top, self.pad.bottom, span(self.kernel[0], self.dilation[0]), self.stride[0])?,
            window_out(x.w, self.pad.left, self.pad.right, span(self.kernel[1], self.dilation[1]), self.stride[1])?,
        ))
    }

    pub(super) fn infer(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        let x = inputs[0];
        if x.c != self.in_c {
            return shape_err!("a convolution of {} channels cannot take {x}", self.in_c);
        }
        if self.groups == 0 || !self.in_c.is_multiple_of(self.groups) || !self.out_c.is_multiple_of(self.groups) {
            return shape_err!("{} groups do not divide {} input and {} output channels", self.groups, self.in_c, self.out_c);
        }
        let Some((h, w)) = self.window(x) else {
            return shape_err!("a {}x{} window does not fit into {x}", self.kernel[0], self.kernel[1]);
        };
        if self.pool && !self.is_pointwise() {
            return shape_err!("only a pointwise convolution can carry a fused pool");
        }
        let out = Shape { n: x.n, h, w, c: self.out_c };
        if self.residual && (self.pool || inputs[inputs.len() - 1] != out) {
            return shape_err!("the fused residual is {}, the output {out}", inputs[inputs.len() - 1]);
        }
        Ok(if self.pool { Shape { h: 1, w: 1, ..out } } else { out })
    }

    pub(super) fn macs(&self, x: Shape) -> u64 {
        let (h, w) = self.window(x).unwrap_or((0, 0));
        (h * w * self.out_c) as u64 * (self.kernel[0] * self.kernel[1] * (self.in_c / self.groups)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_become_blocks() {
        let mut consts = Consts::default();
        let weight = consts.add(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let conv = Conv {
            in_c: 4,
            out_c: 4,
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            groups: 2,
            pad: Padding::ZERO,
            pad_value: None,
            weight,
            bias: None,
            act: Activation::None,
            residual: false,
            pool: false,
        };
        let dense = [1.0, 2.0, 0.0, 0.0, 5.0, 6.0, 0.0, 0.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 7.0, 8.0];
        assert_eq!(conv.dense_weight(&consts).as_ref(), dense);
        assert_eq!(conv.macs(Shape::hwc(2, 2, 4)), 4 * 4 * 2);
        assert!(Conv { groups: 3, ..conv }.infer(&[Shape::hwc(2, 2, 4)]).is_err());
    }
}
