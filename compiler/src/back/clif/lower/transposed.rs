//! Transposed convolution: every output pixel gathers the input pixels that reach it.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use mnc_runtime::pack::{bias_len, panels_len};
use mnc_runtime::params::Conv;

use super::dot::{PANEL_ROW, Run, Tile, panel};
use crate::back::clif::emit::{Emit, FLOAT, bytes};

/// Emits the body; `pointers` as [`super::super::class::Class::ConvTranspose`] says.
pub(super) fn lower(e: &mut Emit<'_>, p: &Conv, pointers: &[Value]) {
    let [x, w, bias, y] = [pointers[0], pointers[1], pointers[2], pointers[3]];
    let (in_c, out_c) = (p.in_c / p.groups, p.out_c / p.groups);
    let k = p.kernel_h * p.kernel_w * in_c;
    e.each(0i64, p.groups, 1, [], |e, group, []| {
        let mut of = |base: Value, floats: usize| {
            let offset = e.mul(group, floats as i64 * FLOAT);
            e.at(base, offset)
        };
        let (x, w, bias, y) = (of(x, in_c), of(w, panels_len(k, out_c)), of(bias, bias_len(out_c)), of(y, out_c));
        e.each(0i64, p.out_h, 1, [], |e, oy, []| {
            e.each(0i64, p.out_w, 1, [], |e, ox, []| {
                e.groups(out_c, 8, |e, first, channels| {
                    let tile = Tile { pixels: 1, stride: 0, channels };
                    let offset = e.mul(first, FLOAT);
                    let (w, bias) = (panel(e, w, first, k), e.at(bias, offset));
                    let acc = tile.start(e, bias);
                    let acc = e.each_vec(0i64, p.kernel_h, 1, acc, |e, ky, acc| {
                        let (iy, rows) = source(e, oy, p.pad_top, ky, p.dilation_h, p.stride_h, p.in_h);
                        e.each_vec(0i64, rows, 1, acc.to_vec(), |e, _, acc| {
                            e.each_vec(0i64, p.kernel_w, 1, acc.to_vec(), |e, kx, acc| {
                                let (ix, columns) = source(e, ox, p.pad_left, kx, p.dilation_w, p.stride_w, p.in_w);
                                e.each_vec(0i64, columns, 1, acc.to_vec(), |e, _, acc| {
                                    let line = e.mul(iy, p.in_w as i64);
                                    let pixel = e.add(line, ix);
                                    let offset = e.mul(pixel, p.in_c as i64 * FLOAT);
                                    let x = e.at(x, offset);
                                    let tap = e.mul(ky, p.kernel_w as i64);
                                    let tap = e.add(tap, kx);
                                    let offset = e.mul(tap, in_c as i64 * PANEL_ROW);
                                    let w = e.at(w, offset);
                                    tile.dot(e, Run { x, w }, in_c.into(), acc.to_vec())
                                })
                            })
                        })
                    });
                    let results = tile.finish(e, &acc, None, 0, p.act);
                    let line = e.mul(oy, p.out_w as i64);
                    let pixel = e.add(line, ox);
                    let at = e.mul(pixel, p.out_c as i64);
                    let at = e.add(at, first);
                    let offset = e.mul(at, FLOAT);
                    let y = e.at(y, offset);
                    tile.store(e, &results, y, bytes(p.out_c));
                });
                []
            });
            []
        });
        []
    });
}

/// The input position whose tap reaches output position `at`, and how many there are: one or none.
fn source(e: &mut Emit<'_>, at: Value, pad: usize, tap: Value, dilation: usize, stride: usize, len: usize) -> (Value, Value) {
    let at = e.add(at, pad);
    let before = e.mul(tap, dilation as i64);
    let from = e.sub(at, before);
    let from = e.val(from);
    let stride = e.val(stride);
    // A position before the input is a huge number, and none of it.
    let position = e.b.ins().udiv(from, stride);
    let back = e.b.ins().imul(position, stride);
    let exact = e.b.ins().icmp(IntCC::Equal, back, from);
    let inside = e.within(position, 0, len as i64);
    let there = e.b.ins().band(exact, inside);
    // Loads may be moved to before the loop over none or one, so where there is none they must find something too.
    let zero = e.val(0i64);
    (e.b.ins().select(there, position, zero), e.b.ins().uextend(types::I64, there))
}
