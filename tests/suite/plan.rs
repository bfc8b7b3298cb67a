//! Plans: golden peaks of the family, odd graphs, and a certificate that notices every kind of broken plan.

use std::path::Path;

use mnc_compiler::front::{self, ColorOrder, Filter, Preprocess, Resize};
use mnc_compiler::ir::op::{Activation, Conv, Dense, Depthwise};
use mnc_compiler::ir::random::Random;
use mnc_compiler::ir::{Graph, NodeId, Op, Padding, Shape};
use mnc_compiler::pass;
use mnc_compiler::plan::certify::certify;
use mnc_compiler::plan::{self, Kernel, Meta, Place, Plan, PlanError, Proof, Residual, print, svg};

use crate::r#gen;

/// What a plan takes besides its graph, where it does not matter.
pub fn meta(name: &str) -> Meta {
    let preprocess = Preprocess {
        resize: Resize::ShorterSide(256),
        filter: Filter::Bilinear,
        order: ColorOrder::Rgb,
        mean: vec![0.5; 3],
        std: vec![0.5; 3],
        in_graph: false,
    };
    Meta { name: name.into(), preprocess, labels: Vec::new(), params: 0 }
}

/// Fused layers by hand.
pub struct Net {
    graph: Graph,
    pub x: NodeId,
    count: usize,
}

impl Net {
    pub fn new(h: usize, w: usize, c: usize) -> Self {
        let mut graph = Graph::default();
        let x = graph.add_input("input", Shape::hwc(h, w, c));
        Self { graph, x, count: 0 }
    }

    pub fn add(&mut self, name: &str, op: Op, inputs: &[NodeId]) -> NodeId {
        self.count += 1;
        self.x = self.graph.add(format!("{name}{}", self.count), op, inputs).unwrap();
        self.x
    }

    pub fn conv(&mut self, k: usize, stride: usize, out_c: usize, residual: Option<NodeId>) -> NodeId {
        let in_c = self.graph.shape(self.x).c;
        let weight = self.graph.consts.add(vec![0.0; k * k * in_c * out_c]);
        let conv = Conv {
            in_c,
            out_c,
            kernel: [k, k],
            stride: [stride, stride],
            dilation: [1, 1],
            groups: 1,
            pad: Padding::torch([k, k]),
            pad_value: None,
            weight,
            bias: None,
            act: Activation::Relu6,
            residual: residual.is_some(),
            pool: false,
        };
        let inputs: Vec<NodeId> = [Some(self.x), residual].into_iter().flatten().collect();
        self.add(if k == 1 { "pointwise" } else { "conv" }, Op::Conv(conv), &inputs)
    }

    fn depthwise(&mut self, k: usize, stride: usize) -> NodeId {
        let channels = self.graph.shape(self.x).c;
        let weight = self.graph.consts.add(vec![0.0; k * k * channels]);
        let depthwise = Depthwise {
            channels,
            multiplier: 1,
            kernel: [k, k],
            stride: [stride, stride],
            dilation: [1, 1],
            pad: Padding::torch([k, k]),
            pad_value: None,
            weight,
            bias: None,
            act: Activation::Relu6,
        };
        self.add("depthwise", Op::Depthwise(depthwise), &[self.x])
    }

    fn dense(&mut self, out_c: usize) -> NodeId {
        let in_c = self.graph.shape(self.x).c;
        let weight = self.graph.consts.add(vec![0.0; in_c * out_c]);
        self.add("dense", Op::Dense(Dense { in_c, out_c, weight, bias: None, act: Activation::None }), &[self.x])
    }

    /// Expand, depthwise, squeeze-and-excite, project, residual.
    pub fn inverted(&mut self, k: usize, wide: usize, out: usize, excite: bool, stride: usize) {
        let start = self.x;
        if wide != self.graph.shape(start).c {
            self.conv(1, 1, wide, None);
        }
        let deep = self.depthwise(k, stride);
        if excite {
            self.add("mean", Op::GlobalPool, &[deep]);
            self.conv(1, 1, wide.div_ceil(4).next_multiple_of(8), None);
            let gate = self.conv(1, 1, wide, None);
            self.add("scale", Op::Scale(Activation::None), &[deep, gate]);
        }
        let residual = (stride == 1 && self.graph.shape(start).c == out).then_some(start);
        self.conv(1, 1, out, residual);
    }

    fn finish(mut self) -> Graph {
        self.graph.outputs.push(self.x);
        self.graph
    }

    pub fn classifier(mut self, hidden: Option<usize>) -> Graph {
        self.add("mean", Op::GlobalPool, &[self.x]);
        hidden.map(|h| self.dense(h));
        self.dense(1000);
        self.add("softmax", Op::Softmax, &[self.x]);
        self.finish()
    }
}

fn build(graph: &Graph) -> Plan {
    plan::build(graph, meta("net"), &plan::Options::LAYERED).unwrap()
}

/// Every kind of buffer: a stem, blocks with and without squeeze-and-excite and residual, a classifier.
pub fn small() -> Graph {
    let mut net = Net::new(32, 32, 3);
    net.conv(3, 2, 8, None);
    net.inverted(3, 24, 12, false, 2);
    net.inverted(5, 48, 12, true, 1);
    net.inverted(3, 48, 12, false, 1);
    net.inverted(5, 72, 20, true, 2);
    net.classifier(Some(40))
}

/// The net of a shipped spec as it is compiled.
pub fn shipped(name: &str, alpha: &str, side: usize) -> Graph {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/nets").join(format!("{name}.toml"));
    let side = side.to_string();
    let sets = [("alpha", alpha), ("input.height", &side), ("input.width", &side)].map(|(k, v)| (k.to_string(), v.to_string()));
    let (mut net, _) = front::load(&path, &sets, None)
        .unwrap_or_else(|d| panic!("{name} {alpha} {side}: {}", mnc_compiler::diag::render(&d, false)));
    pass::run(&mut net.graph, &net.passes, None, None).expect("the passes run");
    net.graph
}

/// The peaks of the intermediate tensors, computed from the papers' tables independently of this code, in MiB.
pub const PEAKS: [(&str, &str, usize, &str); 18] = [
    ("mobilenet_v1", "1.0", 224, "4.594"),
    ("mobilenet_v1", "0.75", 224, "3.445"),
    ("mobilenet_v1", "0.5", 224, "2.297"),
    ("mobilenet_v1", "0.25", 224, "1.148"),
    ("mobilenet_v1_full_conv", "1.0", 224, "4.594"),
    ("mobilenet_v2", "1.0", 224, "5.742"),
    ("mobilenet_v2", "1.4", 224, "8.613"),
    ("mobilenet_v2", "0.5", 224, "2.871"),
    ("mobilenet_v3_large", "1.0", 224, "3.828"),
    ("mobilenet_v3_small", "1.0", 224, "1.077"),
    ("mobilenet_v4_conv_small", "1.0", 224, "1.914"),
    ("mobilenet_v4_conv_medium", "1.0", 224, "3.062"),
    ("mobilenet_v4_conv_medium", "1.0", 256, "4.000"),
    ("mobilenet_v4_conv_large", "1.0", 256, "3.750"),
    ("mobilenet_v4_conv_large", "1.0", 384, "8.438"),
    ("mobilenet_v3_large_minimal", "1.0", 224, "3.828"),
    ("mobilenet_v3_small_minimal", "1.0", 224, "1.077"),
    ("mobilenet_edgetpu_v2_xs", "1.0", 224, "2.297"),
];

#[test]
fn peaks_of_the_family_equal_the_lower_bound() {
    let mut wrong = Vec::new();
    for (name, alpha, side, mib) in PEAKS {
        let graph = shipped(name, alpha, side);
        let start = std::time::Instant::now();
        let plan = plan::build(&graph, meta(name), &plan::Options::LAYERED).unwrap();
        let (memory, found) = (&plan.memory, format!("{:.3}", plan.memory.arena_bytes as f64 / f64::from(1 << 20)));
        println!(
            "{name} x {alpha} at {side}: {found} MiB, {:?}, {} steps in {:?}",
            memory.proof,
            plan.stages.len(),
            start.elapsed()
        );
        if memory.arena_bytes != memory.lower_bound_bytes
            || !memory.order_is_best
            || memory.proof != Proof::MeetsBound
            || found != mib
        {
            wrong.push(format!("{name} x {alpha} at {side}: {found} MiB, {memory:?}"));
        }
        if let Some(folder) = std::env::var_os("MNC_PLAN_PICTURES") {
            std::fs::write(std::path::Path::new(&folder).join(format!("{name}_{alpha}_{side}.svg")), svg::svg(&plan)).unwrap();
            std::fs::write(std::path::Path::new(&folder).join(format!("{name}_{alpha}_{side}.txt")), print::text(&plan)).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_residual_is_accumulated_where_it_stands() {
    let plan = build(&small());
    let in_place: Vec<&str> = plan
        .steps()
        .filter(|s| matches!(s.kernel, Kernel::Pointwise { residual: Residual::InPlace, .. }))
        .map(|s| s.name.as_str())
        .collect();
    assert_eq!(in_place.len(), 2, "{in_place:?}");
    let last = plan.steps().last().unwrap();
    assert_eq!((last.input, last.output), (Place::Output(0), Place::Output(0)), "softmax works in the caller's output");
}

#[test]
fn what_is_read_later_is_not_overwritten() {
    // y = relu(x), z = y + sigmoid(y): the sigmoid must not be written over y, the sum may be written over either.
    let mut net = Net::new(4, 4, 3);
    net.conv(3, 1, 5, None);
    let y = net.add("relu", Op::Act(Activation::Relu), &[net.x]);
    let s = net.add("sigmoid", Op::Act(Activation::Sigmoid), &[y]);
    net.add("sum", Op::Add(Activation::None), &[y, s]);
    net.conv(1, 1, 4, None);
    let plan = build(&net.finish());
    let steps: Vec<_> = plan.steps().collect();
    assert_eq!(steps[1].input, steps[1].output, "relu in place");
    assert_ne!(steps[2].input, steps[2].output, "sigmoid not in place");
    assert_eq!(steps[3].input, steps[3].output, "sum in place");
    assert_eq!(plan.memory.buffers.len(), 2);
}

#[test]
fn a_tensor_added_to_itself_is_not_overwritten() {
    let mut net = Net::new(4, 4, 3);
    let x = net.conv(3, 1, 5, None);
    let y = net.add("double", Op::Add(Activation::None), &[x, x]);
    net.add("double", Op::Add(Activation::None), &[y, y]);
    net.conv(1, 1, 4, None);
    let plan = build(&net.finish());
    assert!(plan.steps().all(|s| s.input != s.output));
}

#[test]
fn odd_graphs_have_plans() {
    // The output is the input.
    let plan = build(&Net::new(3, 5, 2).finish());
    assert_eq!(plan.memory.arena_bytes, 0);
    assert!(matches!(plan.steps().next().unwrap().kernel, Kernel::Copy { len: 30 }));

    // The output is a constant, and the input is not read.
    let mut net = Net::new(3, 5, 2);
    net.x = net.graph.add_constant("constant", Shape::hwc(1, 1, 3), vec![1.0, 2.0, 3.0]);
    let plan = build(&net.finish());
    assert!(matches!(plan.steps().next().unwrap().kernel, Kernel::Constant { len: 3, .. }));
    assert_eq!(plan.steps().count(), 1);

    // The output is also read by a node that leads nowhere.
    let mut net = Net::new(8, 8, 3);
    let out = net.conv(3, 1, 4, None);
    net.conv(3, 1, 7, None);
    net.x = out;
    let plan = build(&net.finish());
    assert_eq!((plan.steps().count(), plan.memory.arena_bytes), (1, 0));

    // In place from the first node to the output, with a reader on the way.
    let mut net = Net::new(8, 8, 3);
    let x = net.conv(3, 1, 4, None);
    let mean = net.add("mean", Op::GlobalPool, &[x]);
    net.add("scale", Op::Scale(Activation::HSwish), &[x, mean]);
    let plan = build(&net.finish());
    assert_eq!(plan.memory.arena_bytes, 64, "only the mean is in the arena");
}

#[test]
fn graphs_that_cannot_be_planned_are_named() {
    let error = plan::build(&Net::new(8, 8, 3).graph, meta("none"), &plan::Options::LAYERED).unwrap_err();
    assert_eq!(error, PlanError::Ends { inputs: 1, outputs: 0 });

    let mut graph = Graph::default();
    let x = graph.add_input("x", Shape { n: 2, h: 1, w: 1, c: 3 });
    graph.outputs.push(x);
    let error = plan::build(&graph, meta("batch"), &plan::Options::LAYERED).unwrap_err();
    assert_eq!(error.to_string(), "x has shape 2x1x1x3; only batch 1 can be planned");

    let mut graph = Graph::default();
    let x = graph.add_input("x", Shape::hwc(1 << 31, 1 << 30, 1));
    let y = graph.add("y", Op::Act(Activation::Relu), &[x]).unwrap();
    graph.outputs.push(y);
    let error = plan::build(&graph, meta("huge"), &plan::Options::LAYERED).unwrap_err();
    assert_eq!(error, PlanError::TooLarge { node: "x".into() });
}

/// Plans as they come, before and after the passes; `build` certifies each.
#[test]
fn random_nets_have_plans() {
    let mut overwritten = 0;
    for seed in 0..200 {
        let case = r#gen::seeded(seed);
        let plain = build(&case.graph);
        let mut graph = case.graph;
        pass::run(&mut graph, &Default::default(), None, None).unwrap();
        let optimised = build(&graph);
        for plan in [&plain, &optimised] {
            assert_eq!(plan.memory.proof, Proof::MeetsBound, "seed {seed}");
            assert!(plan.memory.order_is_best, "seed {seed}");
            overwritten += plan.steps().filter(|s| s.input == s.output).count();
            assert!(print::text(plan).contains("memory map"));
        }
    }
    assert!(overwritten > 100, "{overwritten}");
}

/// Graphs far wider than any network, of tensors of many sizes: the planner stops in time and says how far it came.
#[test]
fn a_wild_graph_is_planned_in_time() {
    for nodes in [300, 1000] {
        let mut net = Net::new(1, 1, 8);
        let mut random = Random::new(nodes);
        let mut all = vec![net.x];
        for _ in 0..nodes {
            net.x = all[random.below(all.len())];
            all.push(net.dense(1 + random.below(300)));
        }
        // Everything leads to the output.
        let mut sum = None;
        for x in all {
            net.x = x;
            let end = net.dense(16);
            sum = Some(sum.map_or(end, |sum| net.add("join", Op::Add(Activation::None), &[sum, end])));
        }
        net.x = sum.unwrap();
        let graph = net.finish();
        let start = std::time::Instant::now();
        let plan = build(&graph);
        let time = start.elapsed();
        println!("{} steps in {time:?}\n{}", plan.stages.len(), &print::text(&plan)[..300]);
        assert!(plan.memory.arena_bytes >= plan.memory.lower_bound_bytes);
        assert!(time.as_secs_f64() < 5.0, "{nodes} nodes took {time:?}");
    }
}

/// What `change` breaks must be noticed, and the message names it.
#[track_caller]
pub fn breaks(plan: &Plan, what: &str, message: &str, change: impl FnOnce(&mut Plan)) {
    let mut broken = plan.clone();
    change(&mut broken);
    let found = certify(&broken).expect_err(what);
    assert!(found.iter().any(|m| m.contains(message)), "{what}: {found:?} do not say {message:?}");
}

fn step(plan: &mut Plan, at: usize) -> &mut mnc_compiler::plan::Step {
    &mut plan.stages[at].steps[0]
}

#[test]
fn every_moved_buffer_is_noticed_where_it_does_harm() {
    let plan = build(&small());
    certify(&plan).unwrap();
    let buffers = &plan.memory.buffers;
    let (mut harmful, mut harmless) = (0, 0);
    for i in 0..buffers.len() {
        let others = buffers.iter().map(|b| b.offset as i64 - buffers[i].offset as i64);
        for shift in others.chain([64, -64, 128, -128]) {
            let offset = buffers[i].offset as i64 + shift;
            if offset < 0 {
                continue;
            }
            let mut moved = plan.clone();
            moved.memory.buffers[i].offset = offset as usize;
            let all = &moved.memory.buffers;
            let apart = |a: &plan::Buffer, b: &plan::Buffer| {
                a.last < b.first || b.last < a.first || a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset
            };
            let sound = (0..all.len()).all(|j| j == i || apart(&all[i], &all[j]))
                && all.iter().map(|b| b.offset + b.bytes).max() == Some(plan.memory.arena_bytes);
            assert_eq!(certify(&moved).is_ok(), sound, "buffer {i} moved by {shift}");
            *(if sound { &mut harmless } else { &mut harmful }) += 1;
        }
        breaks(&plan, "an unaligned buffer", "not aligned", |p| p.memory.buffers[i].offset += 4);
    }
    assert!(harmful > 100 && harmless > 10, "{harmful} {harmless}");
}

#[test]
fn every_missing_or_early_step_is_noticed() {
    let plan = build(&small());
    for at in 0..plan.stages.len() {
        // Without its softmax, or with two of them, the plan is a sound one of another net.
        if at + 1 < plan.stages.len() {
            breaks(&plan, "a missing step", "", |p| {
                p.stages.remove(at);
            });
            breaks(&plan, "a step done twice", "", |p| {
                let twice = p.stages[at].clone();
                p.stages.insert(at, twice);
            });
        }
        if at > 0 {
            breaks(&plan, "a step before its turn", "", |p| p.stages.swap(at - 1, at));
        }
    }
}

#[test]
fn every_false_claim_about_memory_is_noticed() {
    let plan = build(&small());
    breaks(&plan, "a smaller arena", "beyond the arena", |p| p.memory.arena_bytes -= 64);
    breaks(&plan, "a larger arena", "are used", |p| p.memory.arena_bytes += 64);
    breaks(&plan, "a lower bound", "MeetsBound", |p| p.memory.lower_bound_bytes -= 64);
    breaks(&plan, "a false bound", "alive at once", |p| {
        p.memory.lower_bound_bytes -= 64;
        p.memory.proof = Proof::Exhausted;
    });
    breaks(&plan, "an uncalled-for doubt", "Stopped", |p| p.memory.proof = Proof::Stopped);
    for i in 0..plan.memory.buffers.len() {
        breaks(&plan, "a later birth", "lives", |p| p.memory.buffers[i].first += 1);
        breaks(&plan, "a later death", "lives", |p| p.memory.buffers[i].last += 1);
        breaks(&plan, "a smaller buffer", "", |p| p.memory.buffers[i].bytes -= 64);
    }
    breaks(&plan, "other work", "multiply-adds", |p| p.macs += 1);
    breaks(&plan, "another output", "output", |p| p.outputs[0].tensor.shape.c += 1);
}

#[test]
fn every_wrong_operand_is_noticed() {
    let plan = build(&small());
    let (mut pointwise, mut accumulated) = (0, 0);
    for (at, original) in plan.steps().enumerate() {
        let (input, output) = (original.input, original.output);
        breaks(&plan, "a write to the input", "", |p| step(p, at).output = Place::Input(0));
        breaks(&plan, "a missing buffer", "no buffer", |p| step(p, at).input = Place::Arena(plan::BufferId(99)));
        breaks(&plan, "another shape", "", |p| step(p, at).output_shape.c += 1);
        breaks(&plan, "another input shape", "", |p| step(p, at).input_shape.c += 1);
        match &original.kernel {
            Kernel::Conv { .. } | Kernel::Depthwise { .. } if input != Place::Input(0) => {
                breaks(&plan, "a window in place", "", |p| step(p, at).output = input);
                breaks(&plan, "a window over what it reads", "", |p| step(p, at).input = output);
            }
            Kernel::Pointwise { residual, .. } => {
                pointwise += 1;
                breaks(&plan, "a weight too short", "the kernel reads", |p| {
                    let Kernel::Pointwise { weight, .. } = step(p, at).kernel else { unreachable!() };
                    p.weights.entries[weight.0].len -= 16;
                });
                if *residual == Residual::InPlace {
                    accumulated += 1;
                    breaks(&plan, "a residual read while it is overwritten", "second operand", |p| {
                        let Kernel::Pointwise { residual, .. } = &mut step(p, at).kernel else { unreachable!() };
                        *residual = Residual::From(output);
                    });
                }
            }
            Kernel::Scale { .. } => breaks(&plan, "a scale that is overwritten", "second operand", |p| {
                let Kernel::Scale { scale, .. } = &mut step(p, at).kernel else { unreachable!() };
                *scale = output;
            }),
            _ => {}
        }
    }
    assert!(pointwise > 5 && accumulated > 0);
}

/// A convolution of two groups of twelve output channels, for kernels that know groups and for others.
#[test]
fn wrong_groups_are_noticed() {
    let mut b = r#gen::Builder::new(1);
    let x = b.graph.add_input("x", Shape::hwc(6, 6, 8));
    let window = r#gen::Window { kernel: [3, 3], stride: [1, 1], dilation: [1, 1], around: r#gen::Around::Same };
    let y = b.grouped(x, window, 24, 2, r#gen::BARE).unwrap();
    b.graph.outputs.push(y);
    let groups = |plan: &Plan| match plan.steps().last().unwrap().kernel {
        Kernel::Conv { params, .. } => params.groups,
        _ => unreachable!(),
    };
    let dense = build(&b.graph);
    let plan = plan::build(&b.graph, meta("net"), &plan::Options::default()).unwrap();
    assert_eq!((groups(&plan), groups(&dense), plan.macs), (2, 1, dense.macs));
    assert_eq!(plan.weights.entries[0].len, 2 * 9 * 4 * 16);
    assert_eq!(dense.weights.entries[0].len, 9 * 8 * 32);
    assert!(plan::print::text(&plan).contains("conv 3x3 in 2 groups"));
    for (what, groups, part) in [("one group", 1, "the kernel reads"), ("no group", 0, ""), ("five groups", 5, "")] {
        breaks(&plan, what, part, |p| {
            let Kernel::Conv { params, .. } = &mut step(p, plan.steps().count() - 1).kernel else { unreachable!() };
            params.groups = groups;
        });
    }
    breaks(&plan, "half a panel of another group", "split", |p| p.stages.last_mut().unwrap().split = plan::Split::Channels);
    let mut dense = dense;
    dense.stages.last_mut().unwrap().split = plan::Split::Channels;
    certify(&dense).unwrap();
}

#[test]
fn every_wrong_weight_is_noticed() {
    let plan = build(&small());
    for i in 0..plan.weights.entries.len() {
        breaks(&plan, "a weight beyond the blob", "beyond the blob", |p| p.weights.entries[i].offset = p.weights.data.len());
        breaks(&plan, "a weight that is not aligned", "", |p| p.weights.entries[i].offset += 1);
    }
    breaks(&plan, "two weights in one place", "overlap", |p| p.weights.entries[1].offset = p.weights.entries[0].offset);
}

#[test]
fn the_picture_is_well_formed_and_complete() {
    let mut net = Net::new(16, 16, 3);
    net.conv(3, 1, 8, None);
    net.graph.rename(net.x, "a<b>&\"c\"");
    net.inverted(3, 16, 8, false, 1);
    let plan = build(&net.finish());
    let picture = svg::svg(&plan);
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    assert!(picture.contains("a&lt;b&gt;&amp;&quot;c&quot;") && !picture.contains("a<b>"));
    assert_eq!(picture.matches("class=\"b ").count(), plan.memory.buffers.len());
    assert_eq!(picture.matches("<g>").count() + picture.matches("<g ").count(), picture.matches("</g>").count());
    assert!(!picture.contains("NaN") && !picture.contains("inf"));
    // A net without any buffer has a picture too.
    let empty = svg::svg(&build(&Net::new(3, 5, 2).finish()));
    assert!(!empty.contains("NaN") && !empty.contains("inf"));
}
