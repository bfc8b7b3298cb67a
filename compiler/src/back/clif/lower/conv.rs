//! Dense convolution by windows.
//!
//! ```text
//! for a row: for 8 output channels:
//!     pixels whose window touches the left or right edge: one at a time
//!     the others: tiles of 4; for ky inside the input: a run of `dot` over (kx, c), which is contiguous
//! ```
//! With a padding content, a missing tap reads that instead of the input, one tap at a time.

use cranelift_codegen::ir::{InstBuilder, Value};
use mnc_runtime::params::Conv;

use super::dot::{PANEL_ROW, Run, Tile, panel};
use super::window::Axis;
use crate::back::clif::emit::{Emit, FLOAT, Int, bytes};

/// Pixels a tile.
const PIXELS: usize = 4;

/// The layer, and its tensors.
struct Layer<'p> {
    p: &'p Conv,
    rows: Axis,
    columns: Axis,
    x: Value,
    pad_value: Option<Value>,
    residual: Option<Value>,
    y: Value,
}

/// A group of output channels in one output row.
#[derive(Clone, Copy)]
struct Group {
    /// Its first channel.
    first: Int,
    /// How many.
    channels: usize,
    /// Its weights.
    w: Value,
    /// Its biases.
    bias: Value,
    /// The output row.
    row: Value,
    /// Input row of the first tap.
    origin: Int,
}

/// Emits the body; `pointers` as [`super::super::class::Class::Conv`] says.
pub(super) fn lower(e: &mut Emit<'_>, p: &Conv, pad_value: bool, residual: bool, pointers: &[Value], rows: [Value; 2]) {
    let (x, w, bias) = (pointers[0], pointers[1], pointers[2]);
    let layer = Layer {
        p,
        rows: Axis {
            input: p.in_h,
            output: p.out_h,
            kernel: p.kernel_h,
            stride: p.stride_h,
            dilation: p.dilation_h,
            pad: p.pad_top,
        },
        columns: Axis {
            input: p.in_w,
            output: p.out_w,
            kernel: p.kernel_w,
            stride: p.stride_w,
            dilation: p.dilation_w,
            pad: p.pad_left,
        },
        x,
        pad_value: pad_value.then(|| pointers[3]),
        residual: residual.then(|| pointers[3 + usize::from(pad_value)]),
        y: pointers[pointers.len() - 1],
    };
    let k = p.kernel_h * p.kernel_w * p.in_c;
    e.each(rows[0], rows[1], 1, [], |e, row, []| {
        let origin = layer.rows.origin(e, row);
        e.groups(p.out_c, 8, |e, first, channels| {
            let offset = e.mul(first, FLOAT);
            let group = Group { first, channels, w: panel(e, w, first, k), bias: e.at(bias, offset), row, origin };
            layer.row(e, group);
        });
        []
    });
}

impl Layer<'_> {
    /// All pixels of a row.
    fn row(&self, e: &mut Emit<'_>, group: Group) {
        let (first, last) = self.columns.inside();
        let (mut left, mut right): (Int, Int) = (first.into(), last.into());
        if self.pad_value.is_some() && !self.rows.no_border() {
            // A row that touches the top or bottom edge has no pixel that can do without the padding content.
            let (top, bottom) = self.rows.inside();
            let inside = e.within(group.row, top as i64, bottom as i64);
            let (whole, first, last) = (e.val(self.p.out_w), e.val(first), e.val(last));
            left = e.b.ins().select(inside, first, whole).into();
            right = e.b.ins().select(inside, last, whole).into();
        }
        self.edge(e, group, 0i64.into(), left);
        let tiles = (last - first) / PIXELS * PIXELS;
        let stop = e.add(left, tiles);
        let stop = e.min(stop, right);
        e.each(left, stop, PIXELS as i64, [], |e, column, []| {
            self.tile(e, group, PIXELS, column.into());
            []
        });
        let rest = last - first - tiles;
        if rest > 0 {
            // At most one turn.
            e.each(stop, right, rest as i64, [], |e, column, []| {
                self.tile(e, group, rest, column.into());
                []
            });
        }
        self.edge(e, group, right, self.p.out_w.into());
    }

    /// Pixels `from..to`, one at a time.
    fn edge(&self, e: &mut Emit<'_>, group: Group, from: Int, to: Int) {
        e.each(from, to, 1, [], |e, column, []| {
            let tile = Tile { pixels: 1, stride: 0, channels: group.channels };
            let acc = tile.start(e, group.bias);
            let origin = self.columns.origin(e, column);
            let acc = match self.pad_value {
                None => self.present_taps(e, tile, group, origin, acc),
                Some(value) => self.padded_taps(e, tile, group, origin, value, acc),
            };
            self.finish(e, tile, group, &acc, column.into());
            []
        });
    }

    /// The taps inside the input.
    fn present_taps(&self, e: &mut Emit<'_>, tile: Tile, group: Group, origin: Int, acc: Vec<Value>) -> Vec<Value> {
        let (first, last) = self.columns.taps(e, origin);
        if self.p.dilation_w > 1 {
            return self
                .each_row_inside(e, group, acc, |e, ky, acc| self.taps_apart(e, tile, group, ky, (first, last), origin, acc));
        }
        let taps = e.sub(last, first);
        let len = e.mul(taps, self.p.in_c as i64);
        self.each_row_inside(e, group, acc, |e, ky, acc| {
            let column = e.add(origin, first);
            let run = self.run(e, group, ky, first, column);
            // A window may lie in the padding altogether.
            let some = e.min(taps, 1i64);
            e.each_vec(0i64, some, 1, acc.to_vec(), |e, _, acc| tile.dot(e, run, len, acc.to_vec()))
        })
    }

    /// The taps `taps` of row `ky` of windows whose taps have gaps between them, tap by tap.
    #[expect(clippy::too_many_arguments, reason = "a window's place")]
    fn taps_apart(
        &self,
        e: &mut Emit<'_>,
        tile: Tile,
        group: Group,
        ky: Int,
        taps: (Int, Int),
        origin: Int,
        acc: &[Value],
    ) -> Vec<Value> {
        e.each_vec(taps.0, taps.1, 1, acc.to_vec(), |e, kx, acc| {
            let column = self.columns.at(e, origin, kx);
            let run = self.run(e, group, ky, kx.into(), column);
            tile.dot(e, run, self.p.in_c.into(), acc.to_vec())
        })
    }

    /// All taps, the padding content where the input has none.
    fn padded_taps(&self, e: &mut Emit<'_>, tile: Tile, group: Group, origin: Int, value: Value, acc: Vec<Value>) -> Vec<Value> {
        e.each_vec(0i64, self.p.kernel_h, 1, acc, |e, ky, acc| {
            let row = self.rows.at(e, group.origin, ky);
            let row = self.rows.exists(e, row);
            e.each_vec(0i64, self.p.kernel_w, 1, acc.to_vec(), |e, kx, acc| {
                let column = self.columns.at(e, origin, kx);
                let exists = self.columns.exists(e, column);
                let exists = e.b.ins().band(exists, row);
                let mut run = self.run(e, group, ky.into(), kx.into(), column);
                run.x = e.b.ins().select(exists, run.x, value);
                tile.dot(e, run, self.p.in_c.into(), acc.to_vec())
            })
        })
    }

    /// A tile of pixels whose windows lie inside the input's columns.
    fn tile(&self, e: &mut Emit<'_>, group: Group, pixels: usize, column: Int) {
        let tile = Tile { pixels, stride: bytes(self.p.stride_w * self.p.in_c), channels: group.channels };
        let acc = tile.start(e, group.bias);
        let origin = self.columns.origin(e, column);
        let acc = self.each_row_inside(e, group, acc, |e, ky, acc| {
            if self.p.dilation_w > 1 {
                return self.taps_apart(e, tile, group, ky, (0i64.into(), self.p.kernel_w.into()), origin, acc);
            }
            let run = self.run(e, group, ky, 0i64.into(), origin);
            tile.dot(e, run, (self.p.kernel_w * self.p.in_c).into(), acc.to_vec())
        });
        self.finish(e, tile, group, &acc, column);
    }

    /// The rows of the window inside the input.
    fn each_row_inside(
        &self,
        e: &mut Emit<'_>,
        group: Group,
        acc: Vec<Value>,
        body: impl FnOnce(&mut Emit<'_>, Int, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let (first, last) = self.rows.taps(e, group.origin);
        e.each_vec(first, last, 1, acc, |e, ky, acc| body(e, ky.into(), acc))
    }

    /// Tap `(ky, kx)` and the input at its row and `column`.
    fn run(&self, e: &mut Emit<'_>, group: Group, ky: Int, kx: Int, column: Int) -> Run {
        let row = self.rows.at(e, group.origin, ky);
        let row = e.mul(row, self.p.in_w as i64);
        let pixel = e.add(row, column);
        let offset = e.mul(pixel, self.p.in_c as i64 * FLOAT);
        let x = e.at(self.x, offset);
        let tap = e.mul(ky, self.p.kernel_w as i64);
        let tap = e.add(tap, kx);
        let offset = e.mul(tap, self.p.in_c as i64 * PANEL_ROW);
        Run { x, w: e.at(group.w, offset) }
    }

    fn finish(&self, e: &mut Emit<'_>, tile: Tile, group: Group, acc: &[Value], column: Int) {
        let row = e.mul(group.row, self.p.out_w as i64);
        let pixel = e.add(row, column);
        let pixel = e.mul(pixel, self.p.out_c as i64);
        let element = e.add(pixel, group.first);
        let offset = e.mul(element, FLOAT);
        let step = bytes(self.p.out_c);
        let residual = self.residual.map(|r| e.at(r, offset));
        let results = tile.finish(e, acc, residual, step, self.p.act);
        let y = e.at(self.y, offset);
        tile.store(e, &results, y, step);
    }
}
