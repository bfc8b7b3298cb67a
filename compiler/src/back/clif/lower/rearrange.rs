//! What moves elements from one shape to another, or takes means over axes: loops over rows, pixels and channels.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use mnc_runtime::kernel::FILL;
use mnc_runtime::params::Tap;

use super::elementwise::copy;
use crate::back::clif::emit::{Emit, FLOAT, LANES, Mem, vectors};

/// Bytes of a number of a table.
const WORD: i64 = 2 * FLOAT;
/// Numbers of a tap in a table: two offsets, the weight's bits, all bits of a float where the weight is 0.
const TAP: i64 = 4;

/// The byte offsets that `table` names, steps of `step` floats; -1 for the fill value.
pub(in crate::back::clif) fn offsets(table: &[usize], step: usize) -> impl Iterator<Item = i64> {
    table.iter().map(move |&at| if at == FILL { -1 } else { (at * step) as i64 * FLOAT })
}

/// The taps of an axis whose elements are `step` floats apart.
pub(in crate::back::clif) fn taps(taps: &[Tap], step: usize) -> impl Iterator<Item = i64> {
    taps.iter().flat_map(move |t| {
        let weight = t.weight.get();
        let offset = |at: usize| (at * step) as i64 * FLOAT;
        [offset(t.low), offset(t.high), i64::from(weight.to_bits()), if weight == 0.0 { i64::from(u32::MAX) } else { 0 }]
    })
}

/// Number `i` of the table at `table`.
fn number(e: &mut Emit<'_>, table: Value, i: Value) -> Value {
    let offset = e.mul(i, WORD);
    let at = e.at(table, offset);
    e.b.ins().load(types::I64, MemFlagsData::trusted(), at, 0)
}

/// The parts `lens` long of every block, one behind the other.
pub(super) fn concat(e: &mut Emit<'_>, blocks: usize, block: usize, lens: &[usize], parts: &[Value], y: Value) {
    let mut first = 0;
    for (&len, &x) in lens.iter().zip(parts) {
        e.each(0i64, blocks, 1, [], |e, i, []| {
            let (from, to) = (e.mul(i, len as i64 * FLOAT), e.mul(i, block as i64 * FLOAT));
            let to = e.add(to, first as i64 * FLOAT);
            let (x, y) = (e.at(x, from), e.at(y, to));
            copy(e, len, x, y);
            []
        });
        first += len;
    }
}

/// An axis of a gathering.
#[derive(Clone, Copy)]
pub(super) struct Picked {
    /// Elements of the output.
    pub len: usize,
    /// Floats from one to the next, in the input.
    pub step: usize,
    /// Numbers before its table, where it has one.
    pub table: Option<usize>,
}

/// Elements by tables of offsets, axis by axis.
pub(super) fn gather(e: &mut Emit<'_>, axes: [Picked; 3], fill: f32, table: Option<Value>, x: Value, y: Value) {
    level(e, &axes, fill, table, x, y);
}

fn level(e: &mut Emit<'_>, axes: &[Picked], fill: f32, table: Option<Value>, x: Value, y: Value) {
    let Some((axis, inner)) = axes.split_first() else {
        let v = e.load1(Mem::Live, x, 0);
        e.store1(v, y, 0);
        return;
    };
    let size: usize = inner.iter().map(|a| a.len).product();
    let own = axis.table.zip(table);
    if own.is_none() && inner.iter().all(|a| a.table.is_none()) {
        return copy(e, axis.len * size, x, y);
    }
    let own = own.map(|(at, table)| e.at(table, at as i64 * WORD));
    e.each(0i64, axis.len, 1, [], |e, i, []| {
        let to = e.mul(i, size as i64 * FLOAT);
        let y = e.at(y, to);
        let Some(own) = own else {
            let from = e.mul(i, axis.step as i64 * FLOAT);
            let x = e.at(x, from);
            level(e, inner, fill, table, x, y);
            return [];
        };
        let offset = number(e, own, i);
        let zero = e.val(0i64);
        let there = e.b.ins().icmp(IntCC::SignedGreaterThanOrEqual, offset, zero);
        let absent = e.b.ins().icmp(IntCC::SignedLessThan, offset, zero);
        e.when(there, |e| {
            let x = e.at(x, offset);
            level(e, inner, fill, table, x, y);
        });
        e.when(absent, |e| {
            e.groups(size, 4 * LANES, |e, first, count| {
                let offset = e.mul(first, FLOAT);
                let y = e.at(y, offset);
                let v = e.all(fill);
                vectors(count).for_each(|(offset, lanes)| e.store(v, y, offset, lanes));
            });
        });
        []
    });
}

/// Output axis `i` is input axis `order[i]`.
pub(super) fn transpose(e: &mut Emit<'_>, shape: [usize; 3], order: [usize; 3], x: Value, y: Value) {
    let steps = [shape[1] * shape[2], shape[2], 1];
    let [h, w, c] = order.map(|i| shape[i]);
    let [row, column, channel] = order.map(|i| steps[i] as i64 * FLOAT);
    e.each(0i64, h, 1, [], |e, oy, []| {
        e.each(0i64, w, 1, [], |e, ox, []| {
            let (down, across) = (e.mul(oy, row), e.mul(ox, column));
            let from = e.add(down, across);
            let line = e.mul(oy, w as i64);
            let pixel = e.add(line, ox);
            let to = e.mul(pixel, c as i64 * FLOAT);
            let (x, y) = (e.at(x, from), e.at(y, to));
            if channel == FLOAT {
                copy(e, c, x, y);
                return [];
            }
            e.each(0i64, c, 1, [], |e, i, []| {
                let (from, to) = (e.mul(i, channel), e.mul(i, FLOAT));
                let (x, y) = (e.at(x, from), e.at(y, to));
                let v = e.load1(Mem::Fixed, x, 0);
                e.store1(v, y, 0);
                []
            });
            []
        });
        []
    });
}

/// The mean over the axes that are set.
pub(super) fn mean(e: &mut Emit<'_>, shape: [usize; 3], axes: [bool; 3], x: Value, y: Value) {
    let [_, w, c] = shape;
    let out: [usize; 3] = std::array::from_fn(|i| if axes[i] { 1 } else { shape[i] });
    let over: [usize; 3] = std::array::from_fn(|i| if axes[i] { shape[i] } else { 1 });
    let share = 1.0 / over.iter().product::<usize>() as f32;
    let (row, pixel) = ((w * c) as i64 * FLOAT, c as i64 * FLOAT);
    e.each(0i64, out[0], 1, [], |e, oy, []| {
        e.each(0i64, out[1], 1, [], |e, ox, []| {
            let (down, across) = (e.mul(oy, row), e.mul(ox, pixel));
            let from = e.add(down, across);
            let x = e.at(x, from);
            let line = e.mul(oy, out[1] as i64);
            let place = e.add(line, ox);
            let to = e.mul(place, out[2] as i64 * FLOAT);
            let y = e.at(y, to);
            let read = |e: &mut Emit<'_>, iy: Value, ix: Value| {
                let (down, across) = (e.mul(iy, row), e.mul(ix, pixel));
                let offset = e.add(down, across);
                e.at(x, offset)
            };
            if axes[2] {
                let zero = e.f32(0.0);
                let [sum] = e.each(0i64, over[0], 1, [zero], |e, iy, sum| {
                    e.each(0i64, over[1], 1, sum, |e, ix, sum| {
                        let x = read(e, iy, ix);
                        e.each(0i64, c, 1, sum, |e, i, [sum]| {
                            let offset = e.mul(i, FLOAT);
                            let x = e.at(x, offset);
                            let v = e.load1(Mem::Fixed, x, 0);
                            [e.b.ins().fadd(sum, v)]
                        })
                    })
                });
                let share = e.f32(share);
                let result = e.b.ins().fmul(sum, share);
                e.store1(result, y, 0);
                return [];
            }
            e.groups(c, 4 * LANES, |e, first, channels| {
                let offset = e.mul(first, FLOAT);
                let sums = vec![e.all(0.0); channels.div_ceil(LANES)];
                let sums = e.each_vec(0i64, over[0], 1, sums, |e, iy, sums| {
                    e.each_vec(0i64, over[1], 1, sums.to_vec(), |e, ix, sums| {
                        let x = read(e, iy, ix);
                        let x = e.at(x, offset);
                        let mut next = Vec::with_capacity(sums.len());
                        for (&sum, (offset, lanes)) in sums.iter().zip(vectors(channels)) {
                            let x = e.load(Mem::Fixed, x, offset, lanes);
                            next.push(e.b.ins().fadd(sum, x));
                        }
                        next
                    })
                });
                let y = e.at(y, offset);
                let share = e.all(share);
                for (&sum, (offset, lanes)) in sums.iter().zip(vectors(channels)) {
                    let result = e.b.ins().fmul(sum, share);
                    e.store(result, y, offset, lanes);
                }
            });
            []
        });
        []
    });
}

/// One tap while running.
#[derive(Clone, Copy)]
struct Mix {
    low: Value,
    high: Value,
    /// In all lanes, as the others.
    weight: Value,
    rest: Value,
    /// All bits set where only the first counts.
    alone: Value,
}

impl Mix {
    /// Tap `i` of the table at `table`.
    fn load(e: &mut Emit<'_>, table: Value, i: Value) -> Self {
        let offset = e.mul(i, TAP * WORD);
        let at = e.at(table, offset);
        let flags = MemFlagsData::trusted();
        let [low, high] = [0, 1].map(|i| e.b.ins().load(types::I64, flags, at, i * WORD as i32));
        let weight = e.b.ins().load(types::F32, flags, at, 2 * WORD as i32);
        let weight = e.splat(weight);
        let one = e.all(1.0);
        let rest = e.b.ins().fsub(one, weight);
        let alone = e.b.ins().load(types::F32, flags, at, 3 * WORD as i32);
        let alone = e.splat(alone);
        Self { low, high, weight, rest, alone }
    }

    fn apply(self, e: &mut Emit<'_>, low: Value, high: Value) -> Value {
        let (a, b) = (e.b.ins().fmul(low, self.rest), e.b.ins().fmul(high, self.weight));
        let sum = e.b.ins().fadd(a, b);
        e.b.ins().bitselect(self.alone, low, sum)
    }
}

/// Linear interpolation to `h x w` pixels of `c` channels, by the tables of rows and columns one behind the other.
pub(super) fn interpolate(e: &mut Emit<'_>, [h, w, c]: [usize; 3], table: Value, x: Value, y: Value) {
    let columns = e.at(table, (h as i64) * TAP * WORD);
    e.each(0i64, h, 1, [], |e, oy, []| {
        let down = Mix::load(e, table, oy);
        let lines = [down.low, down.high].map(|offset| e.at(x, offset));
        e.each(0i64, w, 1, [], |e, ox, []| {
            let across = Mix::load(e, columns, ox);
            let line = e.mul(oy, w as i64);
            let pixel = e.add(line, ox);
            let to = e.mul(pixel, c as i64 * FLOAT);
            let y = e.at(y, to);
            let corners = lines.map(|line| [across.low, across.high].map(|offset| e.at(line, offset)));
            e.groups(c, 2 * LANES, |e, first, channels| {
                let offset = e.mul(first, FLOAT);
                let corners = corners.map(|line| line.map(|p| e.at(p, offset)));
                let y = e.at(y, offset);
                for (offset, lanes) in vectors(channels) {
                    let [above, below] = corners.map(|line| {
                        let [low, high] = line.map(|p| e.load(Mem::Fixed, p, offset, lanes));
                        across.apply(e, low, high)
                    });
                    let result = down.apply(e, above, below);
                    e.store(result, y, offset, lanes);
                }
            });
            []
        });
        []
    });
}
