//! Lowering: one file a kernel family, each emitting the body of a function from its parameters and pointers.
//!
//! Loads of tensors that the function never writes are marked as such (see [`super::emit`]). A partly filled vector is read and
//! written lane by lane: a tensor ends where it ends.

mod act;
mod conv;
mod depthwise;
mod dot;
mod elementwise;
mod input;
mod pointwise;
mod pool;
pub(super) mod rearrange;
mod softmax;
mod transposed;
mod window;

use cranelift_codegen::ir::Value;

use super::class::Class;
use super::emit::Emit;

/// Emits the body of the function of `class`. `pointers` stand in the class's order; `rows` are the output rows to compute;
/// classes without rows compute everything. `table` is where [`Class::table`] stands, if it has one.
pub(super) fn body(e: &mut Emit<'_>, class: &Class, pointers: &[Value], rows: [Value; 2], table: Option<Value>) {
    let first = pointers[0];
    let last = pointers[pointers.len() - 1];
    match class {
        Class::Conv { params, pad_value, residual } => conv::lower(e, params, *pad_value, *residual, pointers, rows),
        Class::Depthwise { params, pad_value } => depthwise::lower(e, params, *pad_value, pointers, rows),
        Class::Pointwise { params, residual } => pointwise::lower(e, params, *residual, pointers, rows),
        Class::Pool(params) => pool::window(e, params, first, last, rows),
        Class::GlobalPool { pixels, c } => pool::global(e, *pixels, *c, first, last),
        Class::Add { len, act } => elementwise::add(e, *len, *act, first, pointers[1], last),
        Class::Scale { pixels, c, act } => elementwise::scale(e, *pixels, *c, *act, first, pointers[1], last),
        Class::Act { len, act } => elementwise::act(e, *len, *act, first, last),
        Class::Softmax { pixels, c } => softmax::softmax(e, *pixels, *c, first, last),
        Class::Normalize { pixels, order } => input::normalize(e, *pixels, order, first, pointers[1], pointers[2], last),
        Class::Pad { input, output, c, top, left, value } => {
            let frame = input::Frame { input: *input, output: *output, c: *c, top: *top, left: *left };
            input::pad(e, &frame, value.then(|| pointers[1]), first, last);
        }
        Class::PRelu { pixels, c } => elementwise::prelu(e, *pixels, *c, first, pointers[1], last),
        Class::Binary { kind, act, shape, a, b } => {
            let spread = |shape: [usize; 3], first| elementwise::Spread { shape, first };
            elementwise::binary(e, *kind, *act, *shape, [spread(*a, first), spread(*b, pointers[1])], last);
        }
        Class::Concat { blocks, block, lens } => rearrange::concat(e, *blocks, *block, lens, pointers, last),
        Class::Gather { shape, tables, fill } => {
            let mut before = 0;
            let steps = [shape[1] * shape[2], shape[2], 1];
            let axes = std::array::from_fn(|i| {
                let len = tables[i].as_ref().map_or(shape[i], Vec::len);
                let picked = rearrange::Picked { len, step: steps[i], table: tables[i].as_ref().map(|_| before) };
                before += tables[i].as_ref().map_or(0, Vec::len);
                picked
            });
            rearrange::gather(e, axes, fill.get(), table, first, last);
        }
        Class::Transpose { shape, order } => rearrange::transpose(e, *shape, *order, first, last),
        Class::Mean { shape, axes } => rearrange::mean(e, *shape, *axes, first, last),
        Class::Interpolate { shape, rows, columns } => {
            if let Some(table) = table {
                rearrange::interpolate(e, [rows.len(), columns.len(), shape[2]], table, first, last);
            }
        }
        Class::ConvTranspose(params) => transposed::lower(e, params, pointers),
        Class::Copy { len } => elementwise::copy(e, *len, first, last),
    }
}
