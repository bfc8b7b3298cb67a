//! Pooling by windows and over all pixels.

use cranelift_codegen::ir::{InstBuilder, Value, types};
use mnc_runtime::params::{Pool, PoolKind};

use super::window::Axis;
use crate::back::clif::emit::{Emit, FLOAT, Int, Mem, vectors};

/// Emits the body of [`super::super::class::Class::Pool`]: for a row, a pixel, 8 channels: over the taps inside the input.
pub(super) fn window(e: &mut Emit<'_>, p: &Pool, x: Value, y: Value, rows: [Value; 2]) {
    let down = Axis { input: p.in_h, output: p.out_h, kernel: p.kernel_h, stride: p.stride_h, dilation: 1, pad: p.pad_top };
    let across = Axis { input: p.in_w, output: p.out_w, kernel: p.kernel_w, stride: p.stride_w, dilation: 1, pad: p.pad_left };
    e.each(rows[0], rows[1], 1, [], |e, row, []| {
        let top = down.origin(e, row);
        let (ky, ky_end) = down.taps(e, top);
        e.each(0i64, p.out_w, 1, [], |e, column, []| {
            let left = across.origin(e, column);
            let (kx, kx_end) = across.taps(e, left);
            let line = e.mul(row, p.out_w as i64);
            let pixel = e.add(line, column);
            let offset = e.mul(pixel, p.c as i64 * FLOAT);
            let y = e.at(y, offset);
            let share = match p.kind {
                PoolKind::Max => None,
                PoolKind::Average if p.count_padding => Some(e.all(1.0 / (p.kernel_h * p.kernel_w) as f32)),
                PoolKind::Average => Some(share(e, (ky, ky_end), (kx, kx_end))),
            };
            e.groups(p.c, 8, |e, first, channels| {
                let channel = e.mul(first, FLOAT);
                let start = match p.kind {
                    PoolKind::Max => e.all(f32::NEG_INFINITY),
                    PoolKind::Average => e.all(0.0),
                };
                let acc = vec![start; channels.div_ceil(4)];
                let acc = e.each_vec(ky, ky_end, 1, acc, |e, ky, acc| {
                    e.each_vec(kx, kx_end, 1, acc.to_vec(), |e, kx, acc| {
                        let row = e.add(top, ky);
                        let row = e.mul(row, p.in_w as i64);
                        let column = e.add(left, kx);
                        let pixel = e.add(row, column);
                        let offset = e.mul(pixel, p.c as i64 * FLOAT);
                        let offset = e.add(offset, channel);
                        let x = e.at(x, offset);
                        let mut next = Vec::with_capacity(acc.len());
                        for (&acc, (offset, lanes)) in acc.iter().zip(vectors(channels)) {
                            let x = e.load(Mem::Fixed, x, offset, lanes);
                            next.push(match p.kind {
                                PoolKind::Max => e.vmax_nan(x, acc),
                                PoolKind::Average => e.b.ins().fadd(acc, x),
                            });
                        }
                        next
                    })
                });
                let y = e.at(y, channel);
                for (&acc, (offset, lanes)) in acc.iter().zip(vectors(channels)) {
                    let result = match share {
                        None => acc,
                        Some(share) => e.b.ins().fmul(acc, share),
                    };
                    e.store(result, y, offset, lanes);
                }
            });
            []
        });
        []
    });
}

/// One over the number of taps, in all lanes.
fn share(e: &mut Emit<'_>, rows: (Int, Int), columns: (Int, Int)) -> Value {
    let (rows, columns) = (e.sub(rows.1, rows.0), e.sub(columns.1, columns.0));
    match (rows, columns) {
        (Int::Const(rows), Int::Const(columns)) => e.all(1.0 / (rows * columns) as f32),
        (rows, columns) => {
            let (rows, columns) = (e.val(rows), e.val(columns));
            let taps = e.b.ins().imul(rows, columns);
            let taps = e.b.ins().fcvt_from_sint(types::F32, taps);
            let one = e.f32(1.0);
            let share = e.b.ins().fdiv(one, taps);
            e.splat(share)
        }
    }
}

/// Emits the body of [`super::super::class::Class::GlobalPool`].
pub(super) fn global(e: &mut Emit<'_>, pixels: usize, c: usize, x: Value, y: Value) {
    e.groups(c, 16, |e, first, channels| {
        let offset = e.mul(first, FLOAT);
        let (x, y) = (e.at(x, offset), e.at(y, offset));
        let sums = vec![e.all(0.0); channels.div_ceil(4)];
        let sums = e.each_vec(0i64, pixels, 1, sums, |e, pixel, sums| {
            let offset = e.mul(pixel, c as i64 * FLOAT);
            let x = e.at(x, offset);
            let mut next = Vec::with_capacity(sums.len());
            for (&sum, (offset, lanes)) in sums.iter().zip(vectors(channels)) {
                let x = e.load(Mem::Fixed, x, offset, lanes);
                next.push(e.b.ins().fadd(sum, x));
            }
            next
        });
        let share = e.all(1.0 / pixels as f32);
        for (&sum, (offset, lanes)) in sums.iter().zip(vectors(channels)) {
            let mean = e.b.ins().fmul(sum, share);
            e.store(mean, y, offset, lanes);
        }
    });
}
