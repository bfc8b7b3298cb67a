//! A small layer over cranelift's function builder in which kernels read well: counted loops that carry values, sizes that fold
//! while they are constants, and 4-lane vectors.
//!
//! Two facts of cranelift shape it. Arithmetic is placed where its result is first needed, not where it was emitted, so a loop
//! body is ordered by the order of the values it carries: accumulators that share an operand should stand side by side. And a
//! load marked [`Mem::Fixed`] is arithmetic too (it may be merged and moved), which is only right for memory that the function
//! never writes.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{BlockArg, InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_frontend::FunctionBuilder;

/// Floats in a vector.
pub(super) const LANES: usize = 4;
/// Bytes in a float.
pub(super) const FLOAT: i64 = 4;
/// Bytes in a vector.
pub(super) const VECTOR: i32 = 16;

/// A size, index or byte offset: known now, or a 64-bit value at run time. Arithmetic on constants happens here.
#[derive(Clone, Copy)]
pub(super) enum Int {
    /// Known while compiling.
    Const(i64),
    /// Known while running.
    Value(Value),
}

impl From<i64> for Int {
    fn from(n: i64) -> Self {
        Int::Const(n)
    }
}

impl From<usize> for Int {
    /// Sizes of tensors are below 2 GiB (see `Call::check`), so none wraps.
    fn from(n: usize) -> Self {
        Int::Const(n as i64)
    }
}

impl From<Value> for Int {
    fn from(v: Value) -> Self {
        Int::Value(v)
    }
}

/// What a load may assume.
#[derive(Clone, Copy)]
pub(super) enum Mem {
    /// This function never writes there: the load may be merged with others and moved.
    Fixed,
    /// This function may write there (a tensor changed in place): the load stays where it stands.
    Live,
}

impl Mem {
    fn flags(self) -> MemFlagsData {
        let flags = MemFlagsData::new().with_notrap();
        match self {
            Mem::Fixed => flags.with_readonly().with_can_move(),
            Mem::Live => flags,
        }
    }
}

/// What the target can do.
#[derive(Clone, Copy)]
pub(super) struct Target {
    /// Fused multiply-add is one instruction (without it cranelift would call `fmaf`).
    pub fma: bool,
    /// `min` and `max` are x86's, which give the second operand where one is not a number.
    pub x86: bool,
}

/// Emits one function.
pub(super) struct Emit<'f> {
    /// The builder, for what has no shorthand here.
    pub b: FunctionBuilder<'f>,
    /// What the target can do.
    pub target: Target,
}

impl Emit<'_> {
    /// A size as a value.
    pub fn val(&mut self, n: impl Into<Int>) -> Value {
        match n.into() {
            Int::Const(n) => self.b.ins().iconst(types::I64, n),
            Int::Value(v) => v,
        }
    }

    /// `a + b`
    pub fn add(&mut self, a: impl Into<Int>, b: impl Into<Int>) -> Int {
        match (a.into(), b.into()) {
            (Int::Const(a), Int::Const(b)) => Int::Const(a + b),
            (a, Int::Const(0)) => a,
            (Int::Const(0), b) => b,
            (a, b) => {
                let (a, b) = (self.val(a), self.val(b));
                Int::Value(self.b.ins().iadd(a, b))
            }
        }
    }

    /// `a - b`
    pub fn sub(&mut self, a: impl Into<Int>, b: impl Into<Int>) -> Int {
        match (a.into(), b.into()) {
            (Int::Const(a), Int::Const(b)) => Int::Const(a - b),
            (a, Int::Const(b)) => self.add(a, -b),
            (a, b) => {
                let (a, b) = (self.val(a), self.val(b));
                Int::Value(self.b.ins().isub(a, b))
            }
        }
    }

    /// `a * n`
    pub fn mul(&mut self, a: impl Into<Int>, n: i64) -> Int {
        match (a.into(), n) {
            (Int::Const(a), n) => Int::Const(a * n),
            (_, 0) => Int::Const(0),
            (a, 1) => a,
            (Int::Value(a), n) => Int::Value(self.b.ins().imul_imm_s(a, n)),
        }
    }

    /// `a / n`, both not negative.
    pub fn div(&mut self, a: impl Into<Int>, n: i64) -> Int {
        match (a.into(), n) {
            (Int::Const(a), n) => Int::Const(a / n),
            (a, 1) => a,
            (Int::Value(a), n) => {
                let n = self.b.ins().iconst(types::I64, n);
                Int::Value(self.b.ins().udiv(a, n))
            }
        }
    }

    /// The smaller of the two, signed.
    pub fn min(&mut self, a: impl Into<Int>, b: impl Into<Int>) -> Int {
        match (a.into(), b.into()) {
            (Int::Const(a), Int::Const(b)) => Int::Const(a.min(b)),
            (a, b) => {
                let (a, b) = (self.val(a), self.val(b));
                Int::Value(self.b.ins().smin(a, b))
            }
        }
    }

    /// The larger of the two, signed.
    pub fn max(&mut self, a: impl Into<Int>, b: impl Into<Int>) -> Int {
        match (a.into(), b.into()) {
            (Int::Const(a), Int::Const(b)) => Int::Const(a.max(b)),
            (a, b) => {
                let (a, b) = (self.val(a), self.val(b));
                Int::Value(self.b.ins().smax(a, b))
            }
        }
    }

    /// Whether `low <= a < high` (an 8-bit boolean).
    pub fn within(&mut self, a: impl Into<Int>, low: i64, high: i64) -> Value {
        let shifted = self.sub(a, low);
        let (a, n) = (self.val(shifted), self.val(high - low));
        self.b.ins().icmp(IntCC::UnsignedLessThan, a, n)
    }

    /// `base + bytes`
    pub fn at(&mut self, base: Value, bytes: impl Into<Int>) -> Value {
        let sum = self.add(base, bytes);
        self.val(sum)
    }

    /// `for i in (from..to).step_by(step)`: `body` is given `i` and the carried values and returns their successors. Gives the
    /// carried values after the last turn. Nothing is emitted for a range known to be empty, no test before a range known not
    /// to be.
    pub fn each<const N: usize>(
        &mut self,
        from: impl Into<Int>,
        to: impl Into<Int>,
        step: i64,
        carried: [Value; N],
        body: impl FnOnce(&mut Self, Value, [Value; N]) -> [Value; N],
    ) -> [Value; N] {
        let out = self.each_vec(from, to, step, carried.to_vec(), |e, i, c| {
            let mut args = carried;
            args.copy_from_slice(c);
            body(e, i, args).to_vec()
        });
        let mut after = carried;
        after.copy_from_slice(&out);
        after
    }

    /// [`Emit::each`] for a number of carried values that is not known to Rust.
    pub fn each_vec(
        &mut self,
        from: impl Into<Int>,
        to: impl Into<Int>,
        step: i64,
        carried: Vec<Value>,
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let (from, to) = (from.into(), to.into());
        let guard = match (from, to) {
            (Int::Const(a), Int::Const(b)) if a >= b => return carried,
            (Int::Const(_), Int::Const(_)) => false,
            (Int::Value(_), _) | (_, Int::Value(_)) => true,
        };
        self.looped(from, to, step, carried, guard, body)
    }

    /// [`Emit::each_vec`] over a range that the caller knows not to be empty.
    pub fn each_nonempty(
        &mut self,
        from: impl Into<Int>,
        to: impl Into<Int>,
        step: i64,
        carried: Vec<Value>,
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        self.looped(from.into(), to.into(), step, carried, false, body)
    }

    fn looped(
        &mut self,
        from: Int,
        to: Int,
        step: i64,
        carried: Vec<Value>,
        guard: bool,
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        if let (Int::Const(a), Int::Const(b)) = (from, to)
            && b - a <= step
        {
            let i = self.val(a);
            return body(self, i, &carried);
        }
        let (from, to) = (self.val(from), self.val(to));
        let (head, exit) = (self.b.create_block(), self.b.create_block());
        let i = self.b.append_block_param(head, types::I64);
        let typed: Vec<Type> = carried.iter().map(|&v| self.b.func.dfg.value_type(v)).collect();
        let inside: Vec<Value> = typed.iter().map(|&t| self.b.append_block_param(head, t)).collect();
        let after: Vec<Value> = typed.iter().map(|&t| self.b.append_block_param(exit, t)).collect();
        let enter = args(&[&[from], carried.as_slice()].concat());
        if guard {
            let some = self.b.ins().icmp(IntCC::SignedLessThan, from, to);
            self.b.ins().brif(some, head, &enter, exit, &args(&carried));
        } else {
            self.b.ins().jump(head, &enter);
        }
        self.b.switch_to_block(head);
        let next = body(self, i, &inside);
        let i = self.b.ins().iadd_imm_s(i, step);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, i, to);
        self.b.ins().brif(more, head, &args(&[&[i], next.as_slice()].concat()), exit, &args(&next));
        self.b.seal_block(head);
        self.b.seal_block(exit);
        self.b.switch_to_block(exit);
        after
    }

    /// `if condition { body }`
    pub fn when(&mut self, condition: Value, body: impl FnOnce(&mut Self)) {
        let (then, exit) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(condition, then, &[], exit, &[]);
        self.b.switch_to_block(then);
        self.b.seal_block(then);
        body(self);
        self.b.ins().jump(exit, &[]);
        self.b.seal_block(exit);
        self.b.switch_to_block(exit);
    }

    /// Groups of `width` channels out of `n`: a loop over the full ones, then once the rest. `body` is given the group's first
    /// channel and how many there are.
    pub fn groups(&mut self, n: usize, width: usize, mut body: impl FnMut(&mut Self, Int, usize)) {
        let full = n / width * width;
        self.each(0i64, full, width as i64, [], |e, c, []| {
            body(e, c.into(), width);
            []
        });
        if n > full {
            body(self, full.into(), n - full);
        }
    }

    /// A scalar.
    pub fn f32(&mut self, x: f32) -> Value {
        self.b.ins().f32const(x)
    }

    /// Four times the same constant.
    pub fn all(&mut self, x: f32) -> Value {
        let x = self.f32(x);
        self.splat(x)
    }

    /// Four times the same scalar.
    pub fn splat(&mut self, x: Value) -> Value {
        self.b.ins().splat(types::F32X4, x)
    }

    /// One float.
    pub fn load1(&mut self, mem: Mem, p: Value, offset: i32) -> Value {
        self.b.ins().load(types::F32, mem.flags(), p, offset)
    }

    /// One float in all lanes.
    pub fn load_splat(&mut self, mem: Mem, p: Value, offset: i32) -> Value {
        let x = self.load1(mem, p, offset);
        self.splat(x)
    }

    /// A vector, of which `lanes` lanes are read and the others are zero.
    pub fn load(&mut self, mem: Mem, p: Value, offset: i32, lanes: usize) -> Value {
        if lanes == LANES {
            return self.b.ins().load(types::F32X4, mem.flags(), p, offset);
        }
        let mut v = self.all(0.0);
        for lane in 0..lanes {
            let x = self.load1(mem, p, offset + lane as i32 * FLOAT as i32);
            v = self.b.ins().insertlane(v, x, lane as u8);
        }
        v
    }

    /// The first `lanes` lanes of `v`.
    pub fn store(&mut self, v: Value, p: Value, offset: i32, lanes: usize) {
        let flags = Mem::Live.flags();
        if lanes == LANES {
            self.b.ins().store(flags, v, p, offset);
            return;
        }
        for lane in 0..lanes {
            let x = self.b.ins().extractlane(v, lane as u8);
            self.b.ins().store(flags, x, p, offset + lane as i32 * FLOAT as i32);
        }
    }

    /// One float.
    pub fn store1(&mut self, x: Value, p: Value, offset: i32) {
        self.b.ins().store(Mem::Live.flags(), x, p, offset);
    }

    /// `x * y + z`, rounded once where the target can.
    pub fn fma(&mut self, x: Value, y: Value, z: Value) -> Value {
        if self.target.fma {
            return self.b.ins().fma(x, y, z);
        }
        let product = self.b.ins().fmul(x, y);
        self.b.ins().fadd(product, z)
    }

    /// Lane-wise maximum; where `y` is not a number, `y`.
    pub fn vmax(&mut self, x: Value, y: Value) -> Value {
        if self.target.x86 { self.pick(y, x, x, y) } else { self.b.ins().fmax(x, y) }
    }

    /// Lane-wise minimum; where `y` is not a number, `y`.
    pub fn vmin(&mut self, x: Value, y: Value) -> Value {
        if self.target.x86 { self.pick(x, y, x, y) } else { self.b.ins().fmin(x, y) }
    }

    /// Lane-wise maximum; not a number where either is none.
    pub fn vmax_nan(&mut self, x: Value, y: Value) -> Value {
        let max = self.vmax(x, y);
        if !self.target.x86 {
            return max;
        }
        let none = self.b.ins().fcmp(FloatCC::Unordered, x, x);
        let none = self.b.ins().bitcast(types::F32X4, little(), none);
        self.b.ins().bitselect(none, x, max)
    }

    /// `a < b ? x : y` a lane, in the form that x86's selector knows as `minps` and `maxps` (`fmin` itself takes ten
    /// instructions there, for the sake of signed zeros).
    fn pick(&mut self, a: Value, b: Value, x: Value, y: Value) -> Value {
        let less = self.b.ins().fcmp(FloatCC::LessThan, a, b);
        let less = self.b.ins().bitcast(types::F32X4, little(), less);
        self.b.ins().bitselect(less, x, y)
    }

    /// The bits of four floats.
    pub fn bits(&mut self, v: Value) -> Value {
        self.b.ins().bitcast(types::I32X4, little(), v)
    }

    /// Four floats from their bits.
    pub fn floats(&mut self, v: Value) -> Value {
        self.b.ins().bitcast(types::F32X4, little(), v)
    }
}

/// Lanes in memory order; a vector bitcast must say which.
fn little() -> MemFlagsData {
    MemFlagsData::new().with_endianness(cranelift_codegen::ir::Endianness::Little)
}

fn args(values: &[Value]) -> Vec<BlockArg> {
    values.iter().map(|&v| BlockArg::from(v)).collect()
}

/// Vectors that hold `n` floats, and for each how many lanes count.
pub(super) fn vectors(n: usize) -> impl Iterator<Item = (i32, usize)> {
    (0..n.div_ceil(LANES)).map(move |v| (v as i32 * VECTOR, (n - v * LANES).min(LANES)))
}

/// Bytes of `n` floats, for an instruction's offset (`Call::check` keeps tensors below its range).
pub(super) fn bytes(n: usize) -> i32 {
    (n as i64 * FLOAT) as i32
}
