//! Every engine against the reference on the same nets: random ones, as drawn and after the passes.
//!
//! To add an engine: an entry of [`engines`] that makes a [`Net`] of a plan; all cases then run through it. Code that the macro
//! emits must be compiled by rustc, so it has tests of its own on fewer nets.

use std::collections::BTreeSet;

use mnc_compiler::back::clif::{JitOptions, compile_jit_with};
use mnc_compiler::back::native::{self, NativeNet};
use mnc_compiler::ir::op::{Activation, Op};
use mnc_compiler::ir::random::Random;
use mnc_compiler::ir::{Graph, NodeId, Shape, eval};
use mnc_compiler::pass;
use mnc_compiler::plan::{self, Kernel, Place, Plan, Residual, Step};
use mnc_runtime::isa::Isa;
use mnc_runtime::net::{Net, RunError};
use mnc_runtime::team::Team;

use crate::r#gen::{self, Around, BARE, Builder, Case, POINT, Window};
use crate::plan::{meta, shipped};
use crate::tolerance::{Sums, assert_close, bound};

const SAME: Window = Window { kernel: [3, 3], stride: [1, 1], dilation: [1, 1], around: Around::Same };

/// Something that makes plans run.
pub struct Engine {
    /// In messages.
    pub name: String,
    pub compile: Compile,
}

/// Makes a plan ready to run.
pub type Compile = Box<dyn Fn(&Plan) -> Box<dyn Net>>;

/// All engines of this machine.
pub fn engines() -> Vec<Engine> {
    let native = |isa: Isa| Engine {
        name: format!("native {}", isa.name()),
        compile: Box::new(move |plan| Box::new(NativeNet::new(plan.clone(), isa))),
    };
    let jit = |self_contained| Engine {
        name: if self_contained { "jit, self-contained" } else { "jit" }.into(),
        compile: Box::new(move |plan| {
            let jit = compile_jit_with(plan, JitOptions { self_contained });
            Box::new(jit.unwrap_or_else(|e| panic!("{e}\n{}", plan::print::text(plan))))
        }),
    };
    Isa::available().map(native).chain([false, true].map(jit)).collect()
}

/// One inference, into an output of garbage.
pub fn infer(net: &mut dyn Net, input: &[f32]) -> Vec<f32> {
    let mut output = vec![f32::NAN; net.output_len()];
    net.run(input, &mut output).expect("lengths are those of the shapes");
    output
}

pub fn optimised(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    pass::run(&mut graph, &Default::default(), None, None).unwrap();
    graph
}

/// The kernel of a step and which of its optional parts are there.
fn variant(step: &Step) -> String {
    let with = |name: &str, parts: &[(bool, &str)]| {
        parts.iter().filter(|p| p.0).fold(name.to_owned(), |all, part| format!("{all} {}", part.1))
    };
    let residual = |r: &Residual| [(matches!(r, Residual::From(_)), "+ residual"), (*r == Residual::InPlace, "+ in place")];
    let in_place = (step.input == step.output, "in place");
    let dilated = |dilation: [usize; 2]| dilation != [1, 1];
    match &step.kernel {
        Kernel::Conv { params, pad_value, residual: r, .. } => {
            let [from, over] = residual(r);
            with(
                "conv",
                &[
                    (params.groups > 1, "in groups"),
                    (dilated([params.dilation_h, params.dilation_w]), "dilated"),
                    (pad_value.is_some(), "padded with numbers"),
                    from,
                    over,
                ],
            )
        }
        Kernel::Depthwise { pad_value, params, .. } => with(
            "depthwise",
            &[
                (dilated([params.dilation_h, params.dilation_w]), "dilated"),
                (params.multiplier > 1, "multiplied"),
                (pad_value.is_some(), "padded with numbers"),
            ],
        ),
        Kernel::Pointwise { params, residual: r, .. } => {
            let [from, over] = residual(r);
            with("pointwise", &[from, over, (params.pool, "pooled")])
        }
        Kernel::Pool(p) => with(&format!("pool {:?}", p.kind), &[(p.count_padding, "counting padding")]),
        Kernel::GlobalPool { .. } => "global_pool".into(),
        Kernel::Add { .. } => with("add", &[in_place]),
        Kernel::Scale { .. } => with("scale", &[in_place]),
        Kernel::Act { .. } => with("act", &[in_place]),
        Kernel::Softmax { .. } => with("softmax", &[in_place]),
        Kernel::Normalize { .. } => "normalize".into(),
        Kernel::Pad { value, .. } => with("pad", &[(value.is_some(), "with numbers")]),
        Kernel::Copy { .. } => with("copy", &[in_place]),
        Kernel::PRelu { .. } => with("prelu", &[in_place]),
        Kernel::Binary { kind, other_shape, .. } => {
            let (x, y) = (step.input_shape, step.output_shape);
            let spread = [(x != y, "first spread"), (*other_shape != y, "second spread")];
            with(&format!("{kind:?}"), &[in_place, spread[0], spread[1]])
        }
        Kernel::Concat { axis, .. } => format!("concat {axis:?}"),
        Kernel::Gather { tables, .. } => {
            let there: Vec<bool> = tables.iter().map(Option::is_some).collect();
            with("gather", &[(there[0], "rows"), (there[1], "columns"), (there[2], "channels")])
        }
        Kernel::Transpose { .. } => "transpose".into(),
        Kernel::Mean { axes } => with("mean", &[(axes[0], "h"), (axes[1], "w"), (axes[2], "c")]),
        Kernel::Interpolate { .. } => "interpolate".into(),
        Kernel::ConvTranspose { params, .. } => with("conv_transpose", &[(params.groups > 1, "in groups")]),
        Kernel::Constant { .. } => "constant".into(),
    }
}

/// Nets for what random ones seldom or never have: operands that cannot be overwritten.
fn chosen() -> Vec<(&'static str, Case)> {
    let net = |name, channels: usize, side: usize, make: fn(&mut Builder, NodeId) -> Option<NodeId>| {
        let mut b = Builder::new(1);
        let x = b.graph.add_input("input", Shape::hwc(side, side, channels));
        let y = make(&mut b, x).expect("the nets fit");
        b.graph.outputs.push(y);
        let input = r#gen::uniform(&mut b.random, side * side * channels, -2.0, 2.0);
        (name, Case { graph: b.graph, input })
    };
    vec![
        net("the input itself", 3, 5, |_, x| Some(x)),
        net("softmax of the input", 11, 1, |b, x| b.add(Op::Softmax, &[x])),
        net("a residual from the input", 5, 7, |b, x| {
            let y = b.conv(x, SAME, 5, BARE)?;
            b.add(Op::Add(Activation::Relu), &[x, y])
        }),
        net("a residual from the input of a pointwise convolution", 19, 7, |b, x| {
            let y = b.conv(x, POINT, 19, BARE)?;
            b.add(Op::Add(Activation::HSwish), &[y, x])
        }),
        net("a residual that is read again", 6, 9, |b, x| {
            let x = b.conv(x, SAME, 10, BARE)?;
            let y = b.conv(x, SAME, 10, BARE)?;
            let sum = b.add(Op::Add(Activation::Relu6), &[x, y])?;
            let y = b.conv(sum, SAME, 10, BARE)?;
            let y = b.add(Op::Add(Activation::None), &[x, y])?;
            b.add(Op::Add(Activation::None), &[y, sum])
        }),
        net("a residual on a convolution in groups", 4, 7, |b, x| {
            let x = b.conv(x, SAME, 20, BARE)?;
            let y = b.conv(x, POINT, 6, BARE)?;
            let y = b.grouped(y, SAME, 20, 2, BARE)?;
            let z = b.add(Op::Add(Activation::Relu), &[x, y])?;
            b.conv(z, SAME, 5, BARE)
        }),
        net("padding with numbers and a residual from elsewhere", 4, 6, |b, x| {
            let x = b.normalize(x, true);
            let around = b.constant(b.shape(x));
            let y = b.conv(x, SAME, 4, BARE)?;
            b.add(Op::Add(Activation::None), &[around, y])
        }),
        net("a depthwise convolution whose padding is numbers", 4, 6, |b, x| {
            let x = b.normalize(x, true);
            b.depthwise(x, SAME, 2, BARE)
        }),
        net("one tensor in every role", 8, 1, |b, x| {
            let x = b.conv(x, POINT, 8, BARE)?;
            let y = b.add(Op::Scale(Activation::None), &[x, x])?;
            let y = b.conv(y, POINT, 8, BARE)?;
            b.add(Op::Add(Activation::None), &[y, x])
        }),
    ]
}

/// 250 random nets and the chosen ones, every kernel in every variant, odd sizes, both paddings, unoptimised and optimised, on
/// every engine: within the bound of f32 rounding from the reference.
#[test]
fn engines_agree_with_the_reference() {
    let engines = engines();
    let mut seen = BTreeSet::new();
    let random = (0..250).map(|seed| (format!("seed {seed}"), r#gen::seeded(seed)));
    let chosen = chosen().into_iter().map(|(name, case)| (name.to_owned(), case));
    for (name, case) in chosen.chain(random) {
        let expected = r#gen::answer(&case.graph, &case.input);
        let bound = bound(&case.graph, &case.input, Sums::F32);
        for (form, graph) in [("as drawn", case.graph.clone()), ("after the passes", optimised(&case.graph))] {
            let plan = plan::build(&graph, meta("net"), &plan::Options::LAYERED).unwrap();
            seen.extend(plan.steps().map(variant));
            for engine in &engines {
                let what = format!("{name} {form}, {}", engine.name);
                assert_close(&expected, &infer(&mut *(engine.compile)(&plan), &case.input), &bound, &what);
            }
            let grouped = plan::Options { grouped: true, winograd: true, ..plan::Options::LAYERED };
            let plan = plan::build(&graph, meta("net"), &grouped).unwrap();
            if !plan.steps().any(|s| variant(s).contains("groups")) {
                continue;
            }
            seen.extend(plan.steps().map(variant));
            for isa in Isa::available() {
                let what = format!("{name} {form} in groups, native {}", isa.name());
                assert_close(&expected, &infer(&mut NativeNet::new(plan.clone(), isa), &case.input), &bound, &what);
            }
        }
    }
    for variant in VARIANTS {
        assert!(seen.contains(variant), "no net has `{variant}`; they have {seen:#?}");
    }
}

/// A net of blocks in groups of several sizes, planned as by default and for threads.
#[test]
fn nets_in_groups_agree_with_the_reference() {
    let graph = shipped("mobilenet_edgetpu_v2_xs", "1.0", 64);
    let input = r#gen::uniform(&mut Random::new(7), graph.shape(graph.inputs[0]).elements(), -1.0, 1.0);
    let expected = eval::eval(&graph, &[&input]).remove(0);
    let bound = bound(&graph, &input, Sums::F32);
    for threads in [1, 3] {
        let plan = plan::build(&graph, meta("net"), &plan::Options { threads, ..Default::default() }).unwrap();
        let groups = |step: &Step| match &step.kernel {
            Kernel::Conv { params, .. } => Some(params.groups),
            _ => None,
        };
        let groups: BTreeSet<usize> = plan.steps().filter_map(groups).collect();
        assert!([2, 3].iter().all(|n| groups.contains(n)), "{groups:?}");
        for isa in Isa::available() {
            let what = format!("{threads} threads, {}", isa.name());
            let mut net = NativeNet::new(plan.clone(), isa);
            assert_close(&expected, &infer(&mut net, &input), &bound, &what);
            let mut output = vec![f32::NAN; expected.len()];
            net.run_on(&mut Team::new(threads), &input, &mut output).unwrap();
            assert_close(&expected, &output, &bound, &format!("{what} by a team"));
        }
    }
}

/// What must have been run for the test above to mean something.
const VARIANTS: [&str; 64] = [
    "act",
    "act in place",
    "Add",
    "add",
    "Add first spread",
    "add in place",
    "Add in place second spread",
    "Add second spread",
    "concat C",
    "concat H",
    "concat W",
    "constant",
    "conv",
    "conv + in place",
    "conv + residual",
    "conv dilated",
    "conv in groups",
    "conv in groups + in place",
    "conv padded with numbers",
    "conv padded with numbers + in place",
    "conv_transpose",
    "conv_transpose in groups",
    "copy",
    "copy in place",
    "depthwise",
    "depthwise dilated",
    "depthwise dilated multiplied",
    "depthwise multiplied",
    "depthwise padded with numbers",
    "Div first spread",
    "Div in place",
    "Div in place second spread",
    "gather channels",
    "gather columns",
    "gather rows",
    "gather rows columns channels",
    "global_pool",
    "interpolate",
    "mean c",
    "mean h",
    "mean h w c",
    "mean w",
    "Mul first spread",
    "Mul in place",
    "normalize",
    "pad",
    "pad with numbers",
    "pointwise",
    "pointwise + in place",
    "pointwise + residual",
    "pointwise pooled",
    "pool Average",
    "pool Average counting padding",
    "pool Max",
    "prelu",
    "prelu in place",
    "scale",
    "scale in place",
    "softmax",
    "softmax in place",
    "Sub",
    "Sub first spread",
    "Sub in place second spread",
    "transpose",
];

/// A net can be run again and again, with any rubbish in arena and output.
#[test]
fn a_run_leaves_nothing_behind() {
    for seed in 0..40 {
        let case = r#gen::seeded(seed);
        let plan = plan::build(&optimised(&case.graph), meta("again"), &plan::Options::LAYERED).unwrap();
        let isa = Isa::detect();
        let mut output = vec![0.0; plan.output_len()];
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
        let plan = plan::build(&r#gen::seeded(s).graph, meta("net"), &plan::Options::LAYERED).unwrap();
        plan.memory.arena_bytes > 0 && plan.steps().any(|s| !matches!(s.output, Place::Output(_)))
    });
    let case = r#gen::seeded(seed.expect("some net needs an arena"));
    let plan = plan::build(&case.graph, meta("net"), &plan::Options::LAYERED).unwrap();
    let (isa, need) = (Isa::scalar(), plan.memory.arena_bytes / 4);
    let mut output = vec![7.0; plan.output_len()];
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
