//! Checks a finished plan by running it on tags instead of numbers; shares no code with the planner.
//!
//! The arena is cut into cells at every address where a buffer begins or ends, so that a step writes whole cells; each cell
//! holds the number of the step that wrote it last. A step may read a buffer only if every cell of it still carries the last
//! step that wrote this buffer: had two buffers that live at the same time a byte in common, it would be another's. From the
//! same run come the real lives of the buffers and the real lower bound, which must be what the plan claims. Beside that:
//! shapes agree with kernel parameters and with what was written, constants have the length that the kernel will read,
//! results overwrite operands only where the kernel can.
//!
//! What it cannot see: that the steps compute the graph. A plan that lacks an activation is a sound plan of another net; the
//! tests of the back ends compare numbers for that.

use super::{ALIGN, Buffer, Kernel, Place, Plan, Proof, Residual, Step, WeightId};
use crate::ir::Shape;
use mnc_runtime::params;

/// Checks every invariant of a plan; see the module.
///
/// # Errors
/// Everything that is wrong, one sentence each.
pub fn certify(plan: &Plan) -> Result<(), Vec<String>> {
    let mut wrong = Vec::new();
    check_weights(plan, &mut wrong);
    check_buffers(plan, &mut wrong);
    if wrong.is_empty() {
        // Only now can indices into the arena be trusted.
        simulate(plan, &mut wrong);
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

fn check_weights(plan: &Plan, wrong: &mut Vec<String>) {
    let mut spans: Vec<(usize, usize, &str)> = Vec::new();
    for e in &plan.weights.entries {
        match e.offset.checked_add(e.len) {
            Some(end) if end <= plan.weights.data.len() => spans.push((e.offset, end, &e.name)),
            _ => wrong.push(format!("weight {} reaches beyond the blob", e.name)),
        }
        if !(e.offset * 4).is_multiple_of(ALIGN) {
            wrong.push(format!("weight {} is not aligned", e.name));
        }
    }
    spans.sort_unstable();
    for pair in spans.windows(2) {
        if pair[1].0 < pair[0].1 {
            wrong.push(format!("weights {} and {} overlap", pair[0].2, pair[1].2));
        }
    }
}

fn check_buffers(plan: &Plan, wrong: &mut Vec<String>) {
    let memory = &plan.memory;
    for b in &memory.buffers {
        if !b.offset.is_multiple_of(ALIGN) || !b.bytes.is_multiple_of(ALIGN) || b.bytes == 0 {
            wrong.push(format!("buffer {} is not aligned", b.name));
        }
        if b.offset.checked_add(b.bytes).is_none_or(|end| end > memory.arena_bytes) {
            wrong.push(format!("buffer {} reaches beyond the arena", b.name));
        }
    }
    let top = memory.buffers.iter().map(|b| b.offset.saturating_add(b.bytes)).max().unwrap_or(0);
    if top < memory.arena_bytes {
        wrong.push(format!("the arena has {} bytes, only {top} are used", memory.arena_bytes));
    }
    let bound = memory.lower_bound_bytes;
    let meets = memory.arena_bytes == bound;
    if memory.arena_bytes < bound || meets != (memory.proof == Proof::MeetsBound) {
        wrong.push(format!("an arena of {} bytes against a bound of {bound} is not {:?}", memory.arena_bytes, memory.proof));
    }
}

/// What a place holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    /// The step that wrote it.
    by: usize,
    shape: Shape,
}

struct Run<'p> {
    plan: &'p Plan,
    /// Where cells begin, ascending.
    cuts: Vec<usize>,
    /// The step that last wrote each cell.
    cells: Vec<Option<usize>>,
    /// By buffer.
    held: Vec<Option<Held>>,
    output: Option<Held>,
    /// First and last use, by buffer.
    lives: Vec<Option<(usize, usize)>>,
}

fn simulate(plan: &Plan, wrong: &mut Vec<String>) {
    let buffers = plan.memory.buffers.len();
    let mut cuts: Vec<usize> = plan.memory.buffers.iter().flat_map(|b| [b.offset, b.offset + b.bytes]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let mut run =
        Run { plan, cells: vec![None; cuts.len()], cuts, held: vec![None; buffers], output: None, lives: vec![None; buffers] };
    let mut count = 0;
    for stage in &plan.stages {
        if stage.steps.len() != 1 || stage.steps.iter().any(|s| s.output_shape.h != stage.strip_rows) {
            wrong.push(format!("stage {} is not one step over all its rows", stage.name));
        }
        for step in &stage.steps {
            if let Err(why) = run.step(count, step) {
                wrong.push(format!("step {count} ({}): {why}", step.name));
            }
            count += 1;
        }
    }
    match run.output {
        Some(held) if held.by + 1 == count && held.shape == plan.output.shape => {}
        _ => wrong.push("the last step does not write the output".to_owned()),
    }
    let mut change = vec![0i128; count + 1];
    for (b, life) in plan.memory.buffers.iter().zip(&run.lives) {
        match *life {
            Some((first, last)) => {
                if (first, last) != (b.first, b.last) {
                    wrong.push(format!("buffer {} lives {first}..={last}, not {}..={}", b.name, b.first, b.last));
                }
                change[first] += b.bytes as i128;
                change[last + 1] -= b.bytes as i128;
            }
            None => wrong.push(format!("buffer {} is never used", b.name)),
        }
    }
    let (mut live, mut peak) = (0, 0);
    for c in change {
        live += c;
        peak = peak.max(live);
    }
    if peak != plan.memory.lower_bound_bytes as i128 {
        wrong.push(format!("{peak} bytes are alive at once, not {}", plan.memory.lower_bound_bytes));
    }
    let macs: u64 = plan.steps().map(|s| s.macs).sum();
    if macs != plan.macs {
        wrong.push(format!("the steps have {macs} multiply-adds, not {}", plan.macs));
    }
}

impl Run<'_> {
    fn step(&mut self, now: usize, step: &Step) -> Result<(), String> {
        let demand = demand(step);
        for (id, len) in &demand.weights {
            self.weight(*id, *len)?;
        }
        if let Some(why) = demand.odd {
            return Err(why.to_owned());
        }
        for &(place, shape) in &demand.reads {
            self.read(now, place, shape)?;
            if self.shares_bytes(place, step.output) && !(demand.in_place && place == step.output) {
                return Err("it reads what it overwrites".to_owned());
            }
        }
        let held = Some(Held { by: now, shape: step.output_shape });
        match step.output {
            Place::Input => return Err("it writes to the caller's input".to_owned()),
            Place::Output if step.output_shape.elements() != self.plan.output.shape.elements() => {
                return Err(format!("{} does not fill the output", step.output_shape));
            }
            Place::Output => self.output = held,
            Place::Ring { .. } => return Err("rings are not planned yet".to_owned()),
            Place::Arena(id) => {
                let Some(b) = self.plan.memory.buffers.get(id.0) else { return Err(format!("there is no buffer {}", id.0)) };
                if step.output_shape.elements() * 4 > b.bytes {
                    return Err(format!("{} does not fit into buffer {}", step.output_shape, b.name));
                }
                let cells = self.cells_of(b);
                self.cells[cells].fill(Some(now));
                self.held[id.0] = held;
                self.touch(now, id.0);
            }
        }
        Ok(())
    }

    /// Whether writing to one of two places changes what the other holds.
    fn shares_bytes(&self, a: Place, b: Place) -> bool {
        let buffer = |place| match place {
            Place::Arena(id) => self.plan.memory.buffers.get(id.0),
            Place::Input | Place::Output | Place::Ring { .. } => None,
        };
        match (buffer(a), buffer(b)) {
            (Some(a), Some(b)) => a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes,
            _ => a == b,
        }
    }

    fn cells_of(&self, b: &Buffer) -> std::ops::Range<usize> {
        let at = |address| self.cuts.partition_point(|&c| c < address);
        at(b.offset)..at(b.offset + b.bytes)
    }

    fn touch(&mut self, now: usize, buffer: usize) {
        let life = self.lives[buffer].get_or_insert((now, now));
        life.1 = now;
    }

    fn weight(&self, id: WeightId, len: Option<usize>) -> Result<(), String> {
        match self.plan.weights.entries.get(id.0) {
            Some(e) if Some(e.len) == len => Ok(()),
            Some(e) => Err(format!("weight {} has {} elements, the kernel reads {len:?}", e.name, e.len)),
            None => Err(format!("there is no weight {}", id.0)),
        }
    }

    fn read(&mut self, now: usize, place: Place, shape: Shape) -> Result<(), String> {
        let held = match place {
            Place::Input => Some(self.plan.input.shape),
            Place::Output => self.output.map(|h| h.shape),
            Place::Ring { .. } => return Err("rings are not planned yet".to_owned()),
            Place::Arena(id) => match self.plan.memory.buffers.get(id.0) {
                None => return Err(format!("there is no buffer {}", id.0)),
                Some(b) => {
                    let held = self.held[id.0];
                    let cells = &self.cells[self.cells_of(b)];
                    if let Some(&Some(other)) = held.and_then(|h| cells.iter().find(|&&c| c != Some(h.by))) {
                        return Err(format!("buffer {} was overwritten by step {other}", b.name));
                    }
                    self.touch(now, id.0);
                    held.map(|h| h.shape)
                }
            },
        };
        match held {
            Some(found) if found == shape => Ok(()),
            Some(found) => Err(format!("{place:?} holds {found}, not {shape}")),
            None => Err(format!("{place:?} is read before it is written")),
        }
    }
}

/// What a step asks of the world.
#[derive(Default)]
struct Demand {
    reads: Vec<(Place, Shape)>,
    weights: Vec<(WeightId, Option<usize>)>,
    /// The kernel may write over what it reads at `output`.
    in_place: bool,
    /// Parameters that contradict the step's shapes.
    odd: Option<&'static str>,
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

fn demand(step: &Step) -> Demand {
    let (x, y) = (step.input_shape, step.output_shape);
    let mut d = Demand::default();
    if !matches!(step.kernel, Kernel::Constant { .. }) {
        d.reads.push((step.input, x));
    }
    const SHAPES: &str = "its parameters are not those of its shapes";
    match &step.kernel {
        Kernel::Conv { params: p, weight, bias, pad_value, residual } => {
            let taps = p.kernel_h.checked_mul(p.kernel_w).and_then(|t| t.checked_mul(p.in_c));
            d.packed(*weight, taps, p.out_c, 16);
            d.packed(*bias, Some(1), p.out_c, 16);
            pad_value.iter().for_each(|&v| d.weight(v, Some(p.in_c)));
            d.residual(*residual, step);
            d.expect((p.in_h, p.in_w, p.in_c) == hwc(x) && (p.out_h, p.out_w, p.out_c) == hwc(y), SHAPES);
            d.expect(![p.kernel_h, p.kernel_w, p.stride_h, p.stride_w].contains(&0), SHAPES);
        }
        Kernel::Depthwise { params: p, weight, bias, pad_value } => {
            let out_c = p.in_c * p.multiplier;
            d.packed(*weight, p.kernel_h.checked_mul(p.kernel_w), out_c, 16);
            d.packed(*bias, Some(1), out_c, 16);
            pad_value.iter().for_each(|&v| d.weight(v, Some(p.in_c)));
            d.expect((p.in_h, p.in_w, p.in_c) == hwc(x) && (p.out_h, p.out_w, out_c) == hwc(y), SHAPES);
            d.expect(![p.kernel_h, p.kernel_w, p.stride_h, p.stride_w].contains(&0), SHAPES);
        }
        Kernel::Pointwise { params: p, weight, bias, residual } => {
            d.packed(*weight, Some(p.in_c), p.out_c, 16);
            d.packed(*bias, Some(1), p.out_c, 16);
            d.residual(*residual, step);
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
        Kernel::Softmax { c } => {
            d.in_place = true;
            d.expect(x == y && hwc(x) == (1, 1, *c), SHAPES);
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
        Kernel::Copy { len } => d.expect(x == y && *len == x.elements(), SHAPES),
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
