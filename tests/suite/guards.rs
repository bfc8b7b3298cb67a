//! Whole nets whose arena, weights, input and output stand against pages that cannot be touched, on every instruction set of this
//! machine: one element read or written too many ends the tests.

use mnc_compiler::back::clif::{JitOptions, compile_jit_with};
use mnc_compiler::back::native;
use mnc_compiler::ir::Graph;
use mnc_compiler::pass;
use mnc_compiler::plan::{self, Options, Plan, Prefer, Stream};
use mnc_runtime::isa::Isa;
use mnc_runtime::net::Net as _;

use crate::fence::{PAGE, Side, fenced, forbid};
use crate::r#gen;
use crate::plan::{meta, shipped};

fn optimised(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    pass::run(&mut graph, &Default::default(), None, None).expect("passes fit");
    graph
}

/// Bits of what `plan` answers on `isa`, everything fenced on `side`; `holes` are parts of the arena that nobody may touch.
fn run(plan: &Plan, isa: Isa, input: &[f32], side: Side, holes: &[(usize, usize)]) -> Vec<u32> {
    fenced(side, || {
        // As long as the arrays that the planner made may be: exactly as long here.
        let mut plan = plan.clone();
        plan.weights.data = plan.weights.data.as_slice().to_vec();
        let (input, mut output) = (input.to_vec(), vec![f32::NAN; plan.output_len()]);
        let mut arena = vec![f32::NAN; plan.memory.arena_bytes / 4];
        for &(from, to) in holes {
            forbid(&mut arena, from..to);
        }
        native::run(&plan, isa, &mut arena, &input, &mut output).expect("lengths are those of the plan");
        output.iter().map(|x| x.to_bits()).collect()
    })
}

/// Ways to plan: streamed and not, for one thread.
fn ways() -> [Options; 3] {
    let way = |stream, prefer| Options { stream, prefer, ..Options::default() };
    [Options::LAYERED, way(Stream::Auto, Prefer::Speed), way(Stream::Always, Prefer::Memory)]
}

#[test]
fn random_nets_stay_within_their_arrays() {
    for seed in 0..120 {
        let case = r#gen::seeded(seed);
        let graph = if seed % 3 == 0 { case.graph.clone() } else { optimised(&case.graph) };
        for options in ways() {
            let plan = plan::build(&graph, meta("net"), &options).expect("a plan");
            for isa in Isa::available() {
                let [behind, before] = [Side::Behind, Side::Before].map(|side| run(&plan, isa, &case.input, side, &[]));
                assert_eq!(behind, before, "seed {seed}, {}", isa.name());
            }
        }
    }
}

/// Code in memory brings its own arena and weights, aligned within a little more than they need; the caller's arrays are fenced.
#[test]
fn code_in_memory_stays_within_the_callers_arrays() {
    for seed in 0..60 {
        let case = r#gen::seeded(seed);
        let plan = plan::build(&optimised(&case.graph), meta("net"), &Options::LAYERED).expect("a plan");
        for self_contained in [false, true] {
            let mut jit = compile_jit_with(&plan, JitOptions { self_contained }).expect("it compiles");
            let [behind, before] = [Side::Behind, Side::Before].map(|side| {
                fenced(side, || {
                    let (input, mut output) = (case.input.clone(), vec![f32::NAN; plan.output_len()]);
                    jit.run(&input, &mut output).expect("lengths fit");
                    output.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
                })
            });
            assert_eq!(behind, before, "seed {seed}");
        }
    }
}

/// The same plan with every buffer, and every thread's ring, on pages of its own, ending at one that cannot be touched (or
/// beginning behind one), and those pages as parts of the arena.
fn spread(plan: &Plan, side: Side) -> (Plan, Vec<(usize, usize)>) {
    let mut plan = plan.clone();
    let (mut at, mut holes) = (0, Vec::new());
    for b in &mut plan.memory.buffers {
        let (units, bytes) = if b.apart > 0 { (plan.threads, b.apart) } else { (1, b.bytes) };
        let room = bytes.next_multiple_of(PAGE);
        holes.extend((0..units).map(|i| (at + i * (room + PAGE), at + i * (room + PAGE) + PAGE)));
        b.offset = at + PAGE + if side == Side::Behind { room - bytes } else { 0 };
        at += units * (room + PAGE);
        if b.apart > 0 {
            b.apart = room + PAGE;
            b.bytes = (units - 1) * b.apart + bytes;
        }
    }
    holes.push((at, at + PAGE));
    plan.memory.arena_bytes = at + PAGE;
    (plan, holes)
}

/// No step touches a byte between two buffers or rings. Channels are those of whole cache lines, so that buffers end where their
/// tensors do.
#[test]
fn rings_and_buffers_stay_apart() {
    let nets = ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v4_conv_small"];
    let mut rings = 0;
    for name in nets {
        let graph = shipped(name, if name.contains("v4") { "1.0" } else { "0.5" }, 64);
        let input: Vec<f32> = (0..64 * 64 * 3).map(|i| (i % 255) as f32 / 127.5 - 1.0).collect();
        for options in ways() {
            let plan = plan::build(&graph, meta("net"), &options).expect("a plan");
            rings += plan.memory.buffers.iter().filter(|b| b.ring_rows.is_some()).count();
            for isa in Isa::available() {
                let expected = run(&plan, isa, &input, Side::Behind, &[]);
                for side in [Side::Behind, Side::Before] {
                    let (spread, holes) = spread(&plan, side);
                    assert_eq!(run(&spread, isa, &input, side, &holes), expected, "{name}, {}, {side:?}", isa.name());
                }
            }
        }
    }
    assert!(rings > 20, "{rings} rings");
    for seed in 0..60 {
        let case = r#gen::seeded(seed);
        let graph = optimised(&case.graph);
        let plan = plan::build(&graph, meta("net"), &ways()[2]).expect("a plan");
        let expected = run(&plan, Isa::detect(), &case.input, Side::Behind, &[]);
        for side in [Side::Behind, Side::Before] {
            let (spread, holes) = spread(&plan, side);
            assert_eq!(run(&spread, Isa::detect(), &case.input, side, &holes), expected, "seed {seed}, {side:?}");
        }
    }
}
