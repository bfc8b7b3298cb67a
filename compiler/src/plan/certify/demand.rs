//! What a kernel reads, and whether its parameters agree with its shapes.

use super::super::{Kernel, Place, Residual, Step, WeightId};
use crate::ir::Shape;
use mnc_runtime::kernel::FILL;
use mnc_runtime::params::{self, Axis, Tap};

/// What a step asks of the world.
#[derive(Default)]
pub(super) struct Demand {
    /// What is read, with the shape that must stand there.
    pub(super) reads: Vec<(Place, Shape)>,
    /// Constants and their lengths; `None` for one that no memory could hold.
    pub(super) weights: Vec<(WeightId, Option<usize>)>,
    /// The kernel may write over what it reads at `output`.
    pub(super) in_place: bool,
    /// Parameters that contradict the step's shapes.
    pub(super) odd: Option<&'static str>,
}

impl Demand {
    fn weight(&mut self, id: WeightId, len: Option<usize>) {
        self.weights.push((id, len));
    }

    /// `rows` rows of `n` elements, each in whole groups of `group`.
    fn packed(&mut self, id: WeightId, rows: Option<usize>, n: usize, group: usize) {
        let whole = n.div_ceil(group).checked_mul(group);
        self.weight(id, rows.and_then(|r| r.checked_mul(whole?)));
    }

    /// A second operand; a kernel that works in place must find it elsewhere.
    fn operand(&mut self, place: Place, shape: Shape, output: Place) {
        if place == output {
            self.odd = Some("its second operand is what it overwrites");
        }
        self.reads.push((place, shape));
    }

    fn residual(&mut self, residual: Residual, step: &Step) {
        match residual {
            Residual::None => {}
            Residual::InPlace => {
                self.in_place = true;
                if step.input == step.output {
                    self.odd = Some("it accumulates on its own input");
                }
                self.reads.push((step.output, step.output_shape));
            }
            Residual::From(place) => self.operand(place, step.output_shape, step.output),
        }
    }

    fn expect(&mut self, holds: bool, otherwise: &'static str) {
        if !holds {
            self.odd = Some(otherwise);
        }
    }
}

/// What `step` asks of the world.
pub(super) fn demand(step: &Step) -> Demand {
    let (x, y) = (step.input_shape, step.output_shape);
    let mut d = Demand::default();
    if !matches!(step.kernel, Kernel::Constant { .. }) {
        d.reads.push((step.input, x));
    }
    const SHAPES: &str = "its parameters are not those of its shapes";
    match &step.kernel {
        Kernel::Conv { params: p, weight, bias, pad_value, residual } => {
            let (in_c, out_c) = p.group().unwrap_or((p.in_c, p.out_c));
            d.expect(p.group().is_some(), "its groups do not divide its channels");
            // The panels of all groups stand one behind the other.
            let taps = p.taps().checked_mul(in_c);
            d.expect(
                p.has_method() && (p.method == params::Method::Direct || pad_value.is_none()),
                "its method cannot compute its windows",
            );
            d.packed(*weight, taps.and_then(|t| t.checked_mul(p.groups)), out_c, 16);
            d.packed(*bias, Some(p.groups), out_c, 16);
            pad_value.iter().for_each(|&v| d.weight(v, Some(p.in_c)));
            d.residual(*residual, step);
            d.expect((p.in_h, p.in_w, p.in_c) == hwc(x) && (p.out_h, p.out_w, p.out_c) == hwc(y), SHAPES);
            d.expect(![p.kernel_h, p.kernel_w, p.stride_h, p.stride_w, p.dilation_h, p.dilation_w].contains(&0), SHAPES);
        }
        Kernel::Depthwise { params: p, weight, bias, pad_value } => {
            let out_c = p.in_c * p.multiplier;
            d.packed(*weight, p.kernel_h.checked_mul(p.kernel_w), out_c, 16);
            d.packed(*bias, Some(1), out_c, 16);
            pad_value.iter().for_each(|&v| d.weight(v, Some(p.in_c)));
            d.expect((p.in_h, p.in_w, p.in_c) == hwc(x) && (p.out_h, p.out_w, out_c) == hwc(y), SHAPES);
            d.expect(![p.kernel_h, p.kernel_w, p.stride_h, p.stride_w, p.dilation_h, p.dilation_w].contains(&0), SHAPES);
        }
        Kernel::Pointwise { params: p, weight, bias, residual } => {
            match p.method {
                params::Method::Direct | params::Method::Winograd2 | params::Method::Winograd4 => {
                    d.packed(*weight, Some(p.in_c), p.out_c, 16)
                }
                // Seven factors of half the rows and half the columns each.
                params::Method::Strassen => d.packed(*weight, p.in_c.checked_mul(7).map(|k| k / 4), p.out_c, 16),
            }
            d.packed(*bias, Some(1), p.out_c, 16);
            d.residual(*residual, step);
            d.expect(p.has_method(), "a method that cannot compute it");
            d.expect(p.method == params::Method::Direct || *residual == Residual::None, "it adds a residual to what takes none");
            d.expect(!(p.pool && *residual != Residual::None), "it adds a residual to a pooled output");
            let out = if p.pool { (1, 1, p.out_c) } else { (p.h, p.w, p.out_c) };
            d.expect((p.h, p.w, p.in_c) == hwc(x) && out == hwc(y), SHAPES);
        }
        Kernel::Pool(params::Pool { kind: _, in_h, in_w, c, out_h, out_w, kernel_h, kernel_w, .. }) => {
            d.expect((*in_h, *in_w, *c) == hwc(x) && (*out_h, *out_w, *c) == hwc(y), SHAPES);
            d.expect(*kernel_h > 0 && *kernel_w > 0, SHAPES);
        }
        Kernel::GlobalPool { pixels, c } => d.expect(*pixels == x.h * x.w && (1, 1, *c) == hwc(y) && x.c == *c, SHAPES),
        Kernel::Add { other, len, act: _ } => {
            d.in_place = true;
            d.operand(*other, x, step.output);
            d.expect(x == y && *len == x.elements(), SHAPES);
        }
        Kernel::Scale { scale, pixels, c, act: _ } => {
            d.in_place = true;
            d.operand(*scale, Shape::hwc(1, 1, *c), step.output);
            d.expect(x == y && *pixels == x.h * x.w && *c == x.c, SHAPES);
        }
        Kernel::Act { len, act: _ } => {
            d.in_place = true;
            d.expect(x == y && *len == x.elements(), SHAPES);
        }
        Kernel::Softmax { pixels, c } => {
            d.in_place = true;
            d.expect(x == y && *pixels == x.h * x.w && *c == x.c, SHAPES);
        }
        Kernel::Normalize { pixels, order, scale, shift } => {
            d.weight(*scale, Some(x.c));
            d.weight(*shift, Some(x.c));
            d.expect(x == y && *pixels == x.h * x.w && order.len() == x.c && order.iter().all(|&o| o < x.c), SHAPES);
        }
        Kernel::Pad { top, left, value } => {
            value.iter().for_each(|&v| d.weight(v, Some(x.c)));
            d.expect(top + x.h <= y.h && left + x.w <= y.w && x.c == y.c, SHAPES);
        }
        Kernel::Concat { axis, parts } => {
            let along = |s: Shape| match axis {
                Axis::H => s.h,
                Axis::W => s.w,
                Axis::C => s.c,
            };
            let other = |s: Shape| match axis {
                Axis::H => (s.w, s.c),
                Axis::W => (s.h, s.c),
                Axis::C => (s.h, s.w),
            };
            d.expect(parts.first() == Some(&(step.input, x)), "it joins other tensors than it reads first");
            d.expect(parts.iter().map(|p| along(p.1)).sum::<usize>() == along(y), SHAPES);
            d.expect(parts.iter().all(|p| other(p.1) == other(y)), SHAPES);
            parts.iter().skip(1).for_each(|&(place, shape)| d.operand(place, shape, step.output));
        }
        Kernel::Gather { tables, fill: _ } => {
            let (from, to) = ([x.h, x.w, x.c], [y.h, y.w, y.c]);
            let fits = |(i, table): (usize, &Option<Vec<usize>>)| match table {
                None => from[i] == to[i],
                Some(t) => t.len() == to[i] && t.iter().all(|&at| at < from[i] || at == FILL),
            };
            d.expect(tables.iter().enumerate().all(fits), SHAPES);
        }
        Kernel::Binary { kind: _, other, other_shape, act: _ } => {
            d.in_place = true;
            d.operand(*other, *other_shape, step.output);
            let one = |a: usize, b: usize, out: usize| a.max(b) == out && (a == out || a == 1) && (b == out || b == 1);
            let o = *other_shape;
            d.expect(one(x.h, o.h, y.h) && one(x.w, o.w, y.w) && one(x.c, o.c, y.c), SHAPES);
            d.expect(x == y || step.input != step.output, "it overwrites what is of another shape");
        }
        Kernel::PRelu { slope, pixels, c } => {
            d.in_place = true;
            d.weight(*slope, Some(*c));
            d.expect(x == y && *pixels == x.h * x.w && *c == x.c, SHAPES);
        }
        Kernel::Transpose { order } => {
            let dims = [x.h, x.w, x.c];
            let permutation = (0..3).all(|axis| order.contains(&axis));
            d.expect(permutation && order.map(|axis| dims[axis % 3]) == [y.h, y.w, y.c], SHAPES);
        }
        Kernel::Mean { axes } => {
            let of = |axis: usize, len: usize| if axes[axis] { 1 } else { len };
            d.expect((of(0, x.h), of(1, x.w), of(2, x.c)) == hwc(y), SHAPES);
        }
        Kernel::Interpolate { rows, columns } => {
            let inside = |taps: &[Tap], len: usize| taps.iter().all(|t| t.low < len && t.high < len);
            d.expect((rows.len(), columns.len(), x.c) == hwc(y) && inside(rows, x.h) && inside(columns, x.w), SHAPES);
        }
        Kernel::ConvTranspose { params: p, weight, bias } => {
            let (in_c, out_c) = p.group().unwrap_or((p.in_c, p.out_c));
            d.expect(p.group().is_some(), "its groups do not divide its channels");
            let taps = p.kernel_h.checked_mul(p.kernel_w).and_then(|t| t.checked_mul(in_c));
            d.packed(*weight, taps.and_then(|t| t.checked_mul(p.groups)), out_c, 16);
            d.packed(*bias, Some(p.groups), out_c, 16);
            d.expect((p.in_h, p.in_w, p.in_c) == hwc(x) && (p.out_h, p.out_w, p.out_c) == hwc(y), SHAPES);
            d.expect(![p.kernel_h, p.kernel_w, p.stride_h, p.stride_w, p.dilation_h, p.dilation_w].contains(&0), SHAPES);
        }
        Kernel::Copy { len } => {
            d.in_place = true;
            d.expect(*len == x.elements() && *len == y.elements(), SHAPES);
        }
        Kernel::Constant { value, len } => {
            d.weight(*value, Some(*len));
            d.expect(*len == y.elements(), SHAPES);
        }
    }
    d
}

fn hwc(s: Shape) -> (usize, usize, usize) {
    (s.h, s.w, s.c)
}
