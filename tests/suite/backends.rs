//! Every engine against the reference on the same nets: random ones, as drawn and after the passes.
//!
//! To add an engine: a line in [`engines`]. It gets a plan and an input and gives the output; all cases then run through it.

use mnc_compiler::back::native::{self, NativeNet};
use mnc_compiler::ir::{Graph, eval};
use mnc_compiler::pass;
use mnc_compiler::plan::{self, Kernel, Place, Plan, Residual, Step};
use mnc_runtime::isa::Isa;
use mnc_runtime::net::{Net, RunError};

use crate::r#gen;
use crate::plan::meta;

/// Something that runs plans.
struct Engine {
    /// In messages.
    name: String,
    /// Plan and input to output.
    run: Box<dyn Fn(&Plan, &[f32]) -> Vec<f32>>,
}

/// All engines of this machine.
fn engines() -> Vec<Engine> {
    let native = |isa: Isa| Engine {
        name: format!("native {}", isa.name()),
        run: Box::new(move |plan, input| infer(&mut NativeNet::new(plan.clone(), isa), input)),
    };
    Isa::available().map(native).collect()
}

/// One inference, into an output of garbage.
fn infer(net: &mut dyn Net, input: &[f32]) -> Vec<f32> {
    let mut output = vec![f32::NAN; net.output_shape().iter().product()];
    net.run(input, &mut output).expect("lengths are those of the shapes");
    output
}

/// The largest difference in units of the largest magnitude expected (of 1, where all are smaller).
fn distance(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1.0, |m: f32, v| m.max(v.abs()));
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs() / scale);
    // A NaN counts as infinitely far.
    differences.fold(0.0, |m, d| {
        if d <= m {
            m
        } else if d.is_nan() {
            f32::INFINITY
        } else {
            d
        }
    })
}

fn optimised(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    pass::run(&mut graph, &Default::default(), None, None).unwrap();
    graph
}

/// As far as f32 sums in another order may go in nets of this depth.
const BOUND: f32 = 1e-4;

/// The kernel of a step and which of its optional parts are there.
fn variant(step: &Step) -> String {
    let with = |name: &str, parts: &[(bool, &str)]| {
        parts.iter().filter(|p| p.0).fold(name.to_owned(), |all, part| format!("{all} {}", part.1))
    };
    let residual = |r: &Residual| [(matches!(r, Residual::From(_)), "+ residual"), (*r == Residual::InPlace, "+ in place")];
    let in_place = (step.input == step.output, "in place");
    match &step.kernel {
        Kernel::Conv { pad_value, residual: r, .. } => {
            let [from, over] = residual(r);
            with("conv", &[(pad_value.is_some(), "padded with numbers"), from, over])
        }
        Kernel::Depthwise { pad_value, params, .. } => {
            with("depthwise", &[(params.multiplier > 1, "multiplied"), (pad_value.is_some(), "padded with numbers")])
        }
        Kernel::Pointwise { params, scale, residual: r, .. } => {
            let [from, over] = residual(r);
            with("pointwise", &[(scale.is_some(), "scaled"), from, over, (params.pool, "pooled")])
        }
        Kernel::Pool(p) => format!("pool {:?}", p.kind),
        Kernel::GlobalPool { .. } => "global_pool".into(),
        Kernel::Add { .. } => with("add", &[in_place]),
        Kernel::Scale { .. } => with("scale", &[in_place]),
        Kernel::Act { .. } => with("act", &[in_place]),
        Kernel::Softmax { .. } => with("softmax", &[in_place]),
        Kernel::Normalize { .. } => "normalize".into(),
        Kernel::Pad { value, .. } => with("pad", &[(value.is_some(), "with numbers")]),
        Kernel::Copy { .. } => "copy".into(),
        Kernel::Constant { .. } => "constant".into(),
    }
}

/// 250 random nets, every op, odd sizes, both paddings, unoptimised and optimised, on every engine.
#[test]
fn engines_agree_with_the_reference_on_random_nets() {
    let engines = engines();
    assert!(!engines.is_empty());
    let mut worst = (0.0, String::new());
    let mut seen = std::collections::BTreeMap::new();
    for seed in 0..250 {
        let case = r#gen::seeded(seed);
        let expected = eval::eval(&case.graph, &[&case.input]).remove(0);
        for (form, graph) in [("as drawn", case.graph.clone()), ("after the passes", optimised(&case.graph))] {
            let plan = plan::build(&graph, meta("random")).unwrap();
            for step in plan.steps() {
                *seen.entry(variant(step)).or_insert(0) += 1;
            }
            for engine in &engines {
                let far = distance(&(engine.run)(&plan, &case.input), &expected);
                let what = format!("seed {seed} {form}, {}", engine.name);
                assert!(far <= BOUND, "{what}: {far} from the reference\n{}", plan::print::text(&plan));
                if far > worst.0 {
                    worst = (far, what);
                }
            }
        }
    }
    println!("the farthest: {} at {}\n{seen:#?}", worst.0, worst.1);
}

/// A net can be run again and again, with any rubbish in arena and output.
#[test]
fn a_run_leaves_nothing_behind() {
    for seed in 0..40 {
        let case = r#gen::seeded(seed);
        let plan = plan::build(&optimised(&case.graph), meta("again")).unwrap();
        let isa = Isa::detect();
        let mut output = vec![0.0; plan.output.shape.elements()];
        native::run(&plan, isa, &mut vec![0.0; plan.memory.arena_bytes / 4], &case.input, &mut output).unwrap();
        let mut again = vec![f32::INFINITY; output.len()];
        let mut arena = vec![f32::NAN; plan.memory.arena_bytes / 4 + 3];
        native::run(&plan, isa, &mut arena, &case.input, &mut again).unwrap();
        assert_eq!(output, again, "seed {seed}");
        let mut net = NativeNet::new(plan, isa);
        assert_eq!(infer(&mut net, &case.input), output, "seed {seed}");
        assert_eq!(infer(&mut net, &case.input), output, "seed {seed}");
    }
}

#[test]
fn wrong_lengths_are_refused() {
    let seed = (0..100).find(|&s| {
        let plan = plan::build(&r#gen::seeded(s).graph, meta("net")).unwrap();
        plan.memory.arena_bytes > 0 && plan.steps().any(|s| s.output != Place::Output)
    });
    let case = r#gen::seeded(seed.expect("some net needs an arena"));
    let plan = plan::build(&case.graph, meta("net")).unwrap();
    let (isa, need) = (Isa::scalar(), plan.memory.arena_bytes / 4);
    let mut output = vec![7.0; plan.output.shape.elements()];
    let mut arena = vec![0.0; need];
    let error = native::run(&plan, isa, &mut arena[1..], &case.input, &mut output).unwrap_err();
    assert_eq!(error, RunError::Arena { expected: need, actual: need - 1 });
    let error = native::run(&plan, isa, &mut arena, &case.input[1..], &mut output).unwrap_err();
    assert_eq!(error, RunError::Input { expected: case.input.len(), actual: case.input.len() - 1 });
    let n = output.len();
    let error = native::run(&plan, isa, &mut arena, &case.input, &mut output[1..]).unwrap_err();
    assert_eq!(error, RunError::Output { expected: n, actual: n - 1 });
    assert!(output.iter().all(|&v| v == 7.0), "nothing was computed");
}
