//! What the stages of a plan move at least, and from how far: the traffic that `mnc bench --profile` weighs with the machine.
//!
//! A stage reads its input, its other operands and its weights once, and writes its result once; rings carry the tensors between
//! its steps, written once and read once, or twice where a step adds them, and every strip but the first reads the weights again: that is its *inside* traffic.
//!
//! The distance between two uses of a byte:
//!
//! * of a tensor: its own size and all that the stages between the one that last touched it and this one move;
//! * of a result: its own size;
//! * of the caller's input at its first use, and of the weights: all that an inference touches;
//! * of a ring: all rings of the stage; of the weights from strip to strip: those and the stage's weights.

use std::collections::HashMap;

use super::{Kernel, Place, Plan, Residual, Stage, Step, WeightId};
use crate::machine::Move;

/// What one stage moves, by one thread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Operands and the result.
    pub outside: Vec<Move>,
    /// Rings, and weights that are read again.
    pub inside: Vec<Move>,
}

impl Traffic {
    /// Bytes of operands and result.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.outside.iter().map(|m| m.bytes).sum()
    }

    /// Bytes of rings and of weights that are read again.
    #[must_use]
    pub fn inside_bytes(&self) -> usize {
        self.inside.iter().map(|m| m.bytes).sum()
    }
}

/// The traffic of every stage of a certified plan, in order.
#[must_use]
pub fn traffic(plan: &Plan) -> Vec<Traffic> {
    let all = 4 * (plan.input_len() + plan.output_len()) + plan.memory.arena_bytes + plan.weights.bytes();
    let mut touched: HashMap<Place, usize> = HashMap::new();
    // Bytes that the stages before each move.
    let mut before = vec![0usize];
    let mut stages = Vec::with_capacity(plan.stages.len());
    for (t, stage) in plan.stages.iter().enumerate() {
        let mut traffic = Traffic::default();
        let mut read = |place: Place, bytes: usize, to: &mut Vec<Move>| {
            let distance = match touched.get(&place) {
                // Again within this stage.
                Some(&last) if last >= t => bytes,
                Some(&last) => bytes + before[t] - before[last + 1],
                None => all,
            };
            to.push(Move { bytes, distance, write: false });
            touched.insert(place, t);
        };
        let rings: usize = stage.steps.iter().map(|s| ring_bytes(plan, s)).sum();
        let strips = strips(stage);
        let mut weights = 0;
        for step in &stage.steps {
            let (places, constants) = operands(step);
            for (place, elements) in places {
                match place {
                    Place::Ring { .. } => traffic.inside.push(Move { bytes: 4 * elements, distance: rings, write: false }),
                    Place::Input(_) | Place::Output(_) | Place::Arena(_) => read(place, 4 * elements, &mut traffic.outside),
                }
            }
            for id in constants {
                let bytes = 4 * plan.weights.entries[id.0].len;
                weights += bytes;
                traffic.outside.push(Move { bytes, distance: all, write: false });
            }
            let bytes = 4 * step.output_shape.elements();
            match step.output {
                Place::Ring { .. } => traffic.inside.push(Move { bytes, distance: rings, write: true }),
                Place::Input(_) | Place::Output(_) | Place::Arena(_) => {
                    traffic.outside.push(Move { bytes, distance: bytes, write: true });
                }
            }
        }
        if let Some(last) = stage.steps.last() {
            touched.insert(last.output, t);
        }
        if strips > 1 && weights > 0 {
            let (bytes, distance) = ((strips - 1) * weights, rings + weights);
            traffic.inside.push(Move { bytes, distance, write: false });
        }
        before.push(before[t] + traffic.bytes());
        stages.push(traffic);
    }
    stages
}

/// How many strips a stage is streamed in.
fn strips(stage: &Stage) -> usize {
    let height = stage.steps.last().map_or(1, |s| s.output_shape.h);
    height.div_ceil(stage.strip_rows.max(1)).max(1)
}

/// Bytes of one thread's ring that `step` writes; 0 where it writes none.
fn ring_bytes(plan: &Plan, step: &Step) -> usize {
    match step.output {
        Place::Ring { buffer, .. } => plan.memory.buffers[buffer.0].apart,
        Place::Input(_) | Place::Output(_) | Place::Arena(_) => 0,
    }
}

/// What a step reads: tensors with their elements, and constants.
fn operands(step: &Step) -> (Vec<(Place, usize)>, Vec<WeightId>) {
    let (x, y) = (step.input_shape.elements(), step.output_shape.elements());
    let added = |residual: &Residual| match residual {
        Residual::None => None,
        Residual::InPlace => Some((step.output, y)),
        Residual::From(place) => Some((*place, y)),
    };
    let mut places = vec![(step.input, x)];
    let mut weights = Vec::new();
    match &step.kernel {
        Kernel::Conv { params: _, weight, bias, pad_value, residual } => {
            weights.extend([*weight, *bias]);
            weights.extend(pad_value);
            places.extend(added(residual));
        }
        Kernel::Depthwise { params: _, weight, bias, pad_value } => {
            weights.extend([*weight, *bias]);
            weights.extend(pad_value);
        }
        Kernel::Pointwise { params: _, weight, bias, residual } => {
            weights.extend([*weight, *bias]);
            places.extend(added(residual));
        }
        Kernel::Add { other, .. } => places.push((*other, y)),
        Kernel::Scale { scale, c, .. } => places.push((*scale, *c)),
        Kernel::Normalize { scale, shift, .. } => weights.extend([*scale, *shift]),
        Kernel::Pad { top: _, left: _, value } => weights.extend(value),
        Kernel::Constant { value, len: _ } => {
            places.clear();
            weights.push(*value);
        }
        Kernel::Concat { axis: _, parts } => {
            places.extend(parts.iter().skip(1).map(|&(place, shape)| (place, shape.elements())));
        }
        Kernel::Binary { other, other_shape, .. } => places.push((*other, other_shape.elements())),
        Kernel::PRelu { slope, .. } => weights.push(*slope),
        Kernel::ConvTranspose { params: _, weight, bias } => weights.extend([*weight, *bias]),
        Kernel::Pool(_)
        | Kernel::GlobalPool { .. }
        | Kernel::Act { .. }
        | Kernel::Softmax { .. }
        | Kernel::Gather { .. }
        | Kernel::Transpose { .. }
        | Kernel::Mean { .. }
        | Kernel::Interpolate { .. }
        | Kernel::Copy { .. } => {}
    }
    (places, weights)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::plan::{Options, Stream};

    fn plan(stream: Stream) -> Plan {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/nets/mobilenet_v2.toml");
        let sets = [("alpha", "0.25"), ("input.height", "64"), ("input.width", "64")].map(|(k, v)| (k.into(), v.into()));
        let mut net = crate::front::load(&path, &sets, None).unwrap().0;
        net.plan = Options { stream, ..Options::default() };
        crate::compile(net).unwrap().plan
    }

    #[test]
    fn layers_move_whole_tensors_from_where_they_were_left() {
        let plan = plan(Stream::Never);
        let all = 4 * (plan.input_len() + plan.output_len()) + plan.memory.arena_bytes + plan.weights.bytes();
        let stages = traffic(&plan);
        assert_eq!(stages.len(), plan.stages.len());
        for (stage, t) in plan.stages.iter().zip(&stages) {
            let step = &stage.steps[0];
            assert!(t.inside.is_empty());
            assert!(t.bytes() >= 4 * (step.input_shape.elements() + step.output_shape.elements()), "{}", stage.name);
            assert!(t.outside.iter().all(|m| m.bytes <= m.distance && m.distance <= all.max(m.bytes)), "{}: {t:?}", stage.name);
            assert_eq!(t.outside.iter().filter(|m| m.write).count(), 1);
        }
        // The first stage has the caller's input from afar, the second what the first has just written.
        assert_eq!(stages[0].outside[0], Move { bytes: 4 * plan.input_len(), distance: all, write: false });
        let made = 4 * plan.stages[0].steps[0].output_shape.elements();
        assert_eq!(stages[1].outside[0], Move { bytes: made, distance: made, write: false });
        // Every weight is read once.
        let weights: usize =
            stages.iter().flat_map(|t| &t.outside).filter(|m| m.distance == all && !m.write).map(|m| m.bytes).sum();
        let packed: usize = plan.weights.entries.iter().map(|e| 4 * e.len).sum();
        assert_eq!(weights, packed + 4 * plan.input_len());
        // A residual was last read when its block began: the depthwise layer came between.
        let (at, residual) =
            plan.stages.iter().enumerate().find(|(_, s)| s.name == "block4.1.project").expect("a block with a residual");
        let bytes = 4 * residual.steps[0].output_shape.elements();
        let between: usize = stages[at - 1].bytes();
        assert!(stages[at].outside.contains(&Move { bytes, distance: bytes + between, write: false }), "{:?}", stages[at]);
    }

    #[test]
    fn streams_keep_tensors_inside() {
        let (layered, streamed) = (plan(Stream::Never), plan(Stream::Always));
        let sum = |plan: &Plan, f: fn(&Traffic) -> usize| traffic(plan).iter().map(f).sum::<usize>();
        assert!(sum(&streamed, Traffic::bytes) < sum(&layered, Traffic::bytes));
        assert_eq!(sum(&layered, Traffic::inside_bytes), 0);
        for (stage, t) in streamed.stages.iter().zip(traffic(&streamed)) {
            let adds = |s: &&Step| matches!(&s.kernel, Kernel::Pointwise { residual: Residual::From(Place::Ring { .. }), .. });
            let moves = 2 * (stage.steps.len() - 1) + stage.steps.iter().filter(adds).count();
            assert!(t.inside.len() >= moves && t.inside.len() <= moves + 1, "{}: {t:?}", stage.name);
        }
    }
}
