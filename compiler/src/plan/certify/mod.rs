//! Checks a finished plan by running it on tags instead of numbers; shares no code with the planner.
//!
//! The arena is cut into cells at every address where a buffer begins or ends, so that a step writes whole cells; each cell
//! holds the number of the step that wrote it last. A stage may read a buffer only if every cell of it still carries the last
//! step that wrote this buffer: had two buffers that live at the same time a byte in common, it would be another's. From the
//! same run come the real lives of the buffers and the real lower bound, which must be what the plan claims. Beside that:
//! shapes agree with kernel parameters and with what was written, constants have the length that the kernel will read,
//! results overwrite operands only where the kernel can, pixels have room, every thread has rings of its own.
//!
//! Within a stage of several steps the rings change from row to row: `stream` runs it by rows.
//!
//! What it cannot see: that the steps compute the graph. A plan that lacks an activation is a sound plan of another net; the
//! tests of the back ends compare numbers for that.

mod demand;
mod stream;

use self::demand::{Demand, demand};
use self::stream::{Added, Overwritten};
use super::{ALIGN, Buffer, BufferId, Kernel, Place, Plan, Port, Proof, Residual, Stage, Step, WeightId};
use crate::ir::Shape;

/// Checks every invariant of a plan; see the module.
///
/// # Errors
/// Everything that is wrong, one sentence each.
pub fn certify(plan: &Plan) -> Result<(), Vec<String>> {
    let mut wrong = Vec::new();
    if plan.threads == 0 {
        wrong.push("it is for no thread".to_owned());
    }
    check_ports("input", &plan.inputs, &mut wrong);
    check_ports("output", &plan.outputs, &mut wrong);
    check_weights(plan, &mut wrong);
    check_buffers(plan, &mut wrong);
    if wrong.is_empty() {
        // Only now can indices into the arena be trusted.
        simulate(plan, &mut wrong);
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// The caller's tensors stand one behind the other, under names of their own.
fn check_ports(what: &str, ports: &[Port], wrong: &mut Vec<String>) {
    let mut end = Some(0usize);
    for (i, port) in ports.iter().enumerate() {
        let elements = port.tensor.shape.checked_elements().filter(|&n| n > 0);
        if Some(port.offset) != end || elements.is_none() {
            wrong.push(format!("{what} {} does not stand behind those before it", port.name));
        }
        if ports[..i].iter().any(|p| p.name == port.name) {
            wrong.push(format!("two {what}s are called {}", port.name));
        }
        end = elements.and_then(|n| port.offset.checked_add(n));
    }
    if ports.is_empty() {
        wrong.push(format!("it has no {what}"));
    }
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
        if b.ring_rows.is_some() != (b.apart > 0) || !b.apart.is_multiple_of(ALIGN) {
            wrong.push(format!("buffer {} is neither a tensor nor rings", b.name));
        }
        if b.apart.checked_mul(plan.threads).is_none_or(|all| all > b.bytes) {
            wrong.push(format!("buffer {} has no room for the rings of {} threads", b.name, plan.threads));
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
    /// By output.
    outputs: Vec<Option<Held>>,
    /// The stage that last read each of the caller's inputs.
    input_read: Vec<Option<usize>>,
    /// First and last use, by buffer, in stages.
    lives: Vec<Option<(usize, usize)>>,
}

fn simulate(plan: &Plan, wrong: &mut Vec<String>) {
    let buffers = plan.memory.buffers.len();
    let mut cuts: Vec<usize> = plan.memory.buffers.iter().flat_map(|b| [b.offset, b.offset + b.bytes]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let (cells, held, lives) = (vec![None; cuts.len()], vec![None; buffers], vec![None; buffers]);
    let (outputs, input_read) = (vec![None; plan.outputs.len()], vec![None; plan.inputs.len()]);
    let mut run = Run { plan, cuts, cells, held, outputs, input_read, lives };
    let mut count = 0;
    for (now, stage) in plan.stages.iter().enumerate() {
        run.stage(now, stage, count, wrong);
        count += stage.steps.len();
    }
    for (port, held) in plan.outputs.iter().zip(&run.outputs) {
        if held.is_none_or(|h| h.shape != port.tensor.shape) {
            wrong.push(format!("no step writes the output {}", port.name));
        }
    }
    // Whatever comes last leads to nothing else.
    if !run.outputs.iter().flatten().any(|h| h.by + 1 == count) {
        wrong.push("the last step does not write an output".to_owned());
    }
    check_lives(plan, &run, wrong);
    let macs: u64 = plan.steps().map(|s| s.macs).sum();
    if macs != plan.macs {
        wrong.push(format!("the steps have {macs} multiply-adds, not {}", plan.macs));
    }
}

/// Compares what was seen of the buffers with what the plan claims.
fn check_lives(plan: &Plan, run: &Run<'_>, wrong: &mut Vec<String>) {
    let memory = &plan.memory;
    let mut live = vec![0u128; plan.stages.len()];
    for (b, life) in memory.buffers.iter().zip(&run.lives) {
        match *life {
            Some((first, last)) => {
                if (first, last) != (b.first, b.last) {
                    wrong.push(format!("buffer {} lives {first}..={last}, not {}..={}", b.name, b.first, b.last));
                }
                live[first..=last].iter_mut().for_each(|l| *l += b.bytes as u128);
            }
            None => wrong.push(format!("buffer {} is never used", b.name)),
        }
    }
    let peak = live.iter().copied().max().unwrap_or(0);
    if peak != memory.lower_bound_bytes as u128 {
        wrong.push(format!("{peak} bytes are alive at once, not {}", memory.lower_bound_bytes));
    }
    let unread = |t: usize| {
        let ports = plan.inputs.iter().zip(&run.input_read).filter(|&(_, &read)| read >= Some(t));
        ports.map(|(p, _)| p.tensor.bytes() as u128).sum::<u128>()
    };
    let with_input = live.iter().enumerate().map(|(t, l)| l + unread(t));
    let with_input = with_input.max().unwrap_or(0);
    if with_input != memory.peak_with_input_bytes as u128 {
        wrong.push(format!("{with_input} bytes are alive with the input, not {}", memory.peak_with_input_bytes));
    }
    // Without rings and gaps the plan is a layer-by-layer one, and its bound cannot be another.
    let plain = plan.steps().all(|s| match s.output {
        Place::Arena(id) => {
            let packed = s.output_shape.checked_elements().and_then(|n| n.checked_mul(4)?.checked_next_multiple_of(ALIGN));
            memory.buffers.get(id.0).is_some_and(|b| b.pitch <= s.output_shape.c && Some(b.bytes) == packed)
        }
        Place::Input(_) | Place::Output(_) => true,
        Place::Ring { .. } => false,
    });
    if plain && memory.layerwise_bound_bytes != memory.lower_bound_bytes {
        wrong.push(format!("layer by layer it takes {}, not {}", memory.lower_bound_bytes, memory.layerwise_bound_bytes));
    }
}

/// The port that begins at element `at`.
fn port_at(ports: &[Port], at: usize) -> Option<usize> {
    ports.iter().position(|p| p.offset == at)
}

impl Run<'_> {
    /// Runs the steps of a stage, the first of which is number `count` of all.
    fn stage(&mut self, now: usize, stage: &Stage, count: usize, wrong: &mut Vec<String>) {
        let demands: Vec<Demand> = stage.steps.iter().map(demand).collect();
        let (mut overwritten, mut added) = (Vec::new(), Vec::new());
        let mut sound = true;
        let mut say = |i: usize, step: &Step, result: Result<(), String>| {
            if let Err(why) = result {
                wrong.push(format!("step {} ({}): {why}", count + i, step.name));
                sound = false;
            }
        };
        // All that is read from without stands there before the first strip, and is written by nobody while the stage runs.
        for (i, (step, demand)) in stage.steps.iter().zip(&demands).enumerate() {
            say(i, step, self.reads(now, stage, i, demand, (&mut overwritten, &mut added)));
        }
        for (i, step) in stage.steps.iter().enumerate() {
            say(i, step, self.write(now, count + i, step, i + 1 == stage.steps.len()));
        }
        // Each ring must be whole still, now that the others are written.
        for (i, step) in stage.steps.iter().enumerate() {
            let whole = |b: &Buffer| self.cells[self.cells_of(b)].iter().all(|&c| c == Some(count + i));
            if let Place::Ring { buffer, .. } = step.output
                && self.plan.memory.buffers.get(buffer.0).is_some_and(|b| !whole(b))
            {
                say(i, step, Err("another step of its stage writes to its ring".to_owned()));
            }
        }
        if sound && let Err(why) = stream::check(stage, self.plan.threads, &overwritten, &added) {
            wrong.push(format!("stage {}: {why}", stage.name));
        }
    }

    fn reads(
        &mut self,
        now: usize,
        stage: &Stage,
        i: usize,
        demand: &Demand,
        (overwritten, added): (&mut Vec<Overwritten>, &mut Vec<Added>),
    ) -> Result<(), String> {
        let step = &stage.steps[i];
        for (id, len) in &demand.weights {
            self.weight(*id, *len)?;
        }
        if let Some(why) = demand.odd {
            return Err(why.to_owned());
        }
        let before = i.checked_sub(1).map(|b| &stage.steps[b]);
        if let Some(before) = before
            && (step.input != before.output || step.input_shape != before.output_shape)
        {
            return Err("it does not read what the step before it writes".to_owned());
        }
        for (at, &(place, shape)) in demand.reads.iter().enumerate() {
            // The first operand of a step stands first in its demand; the only other one that may stand in a ring is what it adds.
            if matches!(place, Place::Ring { .. }) {
                let adds = matches!(&step.kernel, Kernel::Conv { residual, .. } | Kernel::Pointwise { residual, .. }
                    if *residual == Residual::From(place));
                let writer = stage.steps[..i].iter().position(|w| w.output == place && w.output_shape == shape);
                match writer {
                    Some(_) if at == 0 && before.is_some() => continue,
                    Some(from) if at > 0 && adds => {
                        added.push(Added { step: i, from });
                        continue;
                    }
                    Some(_) | None => {}
                }
            }
            self.read(now, place, shape)?;
            for (j, writer) in stage.steps.iter().enumerate().filter(|(_, w)| self.shares_bytes(place, w.output)) {
                match (i == j, place == writer.output) {
                    (true, true) if demand.in_place => {}
                    (false, true) if j + 1 == stage.steps.len() => overwritten.push(Overwritten { step: i, exact: at > 0 }),
                    _ => return Err("it reads what it overwrites".to_owned()),
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, now: usize, count: usize, step: &Step, last: bool) -> Result<(), String> {
        let shape = step.output_shape;
        let held = Some(Held { by: count, shape });
        let (id, rows) = match step.output {
            Place::Input(_) => return Err("it writes to the caller's input".to_owned()),
            Place::Output(at) if last => {
                let port = port_at(&self.plan.outputs, at).ok_or_else(|| format!("no output begins at element {at}"))?;
                if shape.elements() != self.plan.outputs[port].tensor.shape.elements() {
                    return Err(format!("{shape} does not fill the output"));
                }
                self.outputs[port] = held;
                return Ok(());
            }
            Place::Arena(id) if last => (id, None),
            Place::Ring { buffer, rows } if !last => (buffer, Some(rows)),
            Place::Output(_) | Place::Arena(_) | Place::Ring { .. } => {
                return Err("all steps of a stage but the last write rings, and no other".to_owned());
            }
        };
        let Some(b) = self.plan.memory.buffers.get(id.0) else { return Err(format!("there is no buffer {}", id.0)) };
        if b.ring_rows != rows || rows.is_some_and(|r| r == 0 || r > shape.h) {
            return Err(format!("buffer {} is no ring of {rows:?} rows", b.name));
        }
        let room = if rows.is_some() { b.apart } else { b.bytes };
        let floats = rows.unwrap_or(shape.h).checked_mul(shape.w).and_then(|pixels| pixels.checked_mul(b.pitch.max(shape.c)));
        if floats.and_then(|f| f.checked_mul(4)).is_none_or(|bytes| bytes > room) {
            return Err(format!("{shape} does not fit into buffer {}", b.name));
        }
        let cells = self.cells_of(b);
        self.cells[cells].fill(Some(count));
        self.held[id.0] = held;
        self.touch(now, id.0);
        self.pitch(id, shape)
    }

    /// Pixels must not run into one another.
    fn pitch(&self, id: BufferId, shape: Shape) -> Result<(), String> {
        match self.plan.memory.buffers.get(id.0) {
            Some(b) if b.pitch > 0 && b.pitch < shape.c => {
                Err(format!("buffer {} has {} floats a pixel, not {}", b.name, b.pitch, shape.c))
            }
            _ => Ok(()),
        }
    }

    /// Whether writing to one of two places changes what the other holds.
    fn shares_bytes(&self, a: Place, b: Place) -> bool {
        let buffer = |place| match place {
            Place::Arena(id) | Place::Ring { buffer: id, .. } => self.plan.memory.buffers.get(id.0),
            Place::Input(_) | Place::Output(_) => None,
        };
        // What is written of the caller's is a whole output.
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
            Place::Input(at) => {
                let port = port_at(&self.plan.inputs, at).ok_or_else(|| format!("no input begins at element {at}"))?;
                self.input_read[port] = Some(now);
                Some(self.plan.inputs[port].tensor.shape)
            }
            Place::Output(at) => {
                let port = port_at(&self.plan.outputs, at).ok_or_else(|| format!("no output begins at element {at}"))?;
                self.outputs[port].map(|h| h.shape)
            }
            Place::Ring { .. } => return Err("it reads a ring that no step before it in its stage writes".to_owned()),
            Place::Arena(id) => match self.plan.memory.buffers.get(id.0) {
                None => return Err(format!("there is no buffer {}", id.0)),
                Some(b) => {
                    let held = self.held[id.0];
                    let cells = &self.cells[self.cells_of(b)];
                    if let Some(&Some(other)) = held.and_then(|h| cells.iter().find(|&&c| c != Some(h.by))) {
                        return Err(format!("buffer {} was overwritten by step {other}", b.name));
                    }
                    self.touch(now, id.0);
                    self.pitch(id, shape)?;
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
