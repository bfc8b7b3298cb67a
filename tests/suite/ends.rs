//! Nets of several inputs and outputs: what stands where, what is copied, what is not written over. That all engines compute them is
//! shown by the random nets, half of which are such.

use mnc_compiler::back::clif::{ObjectOptions, object};
use mnc_compiler::back::rust::{self, WeightSource};
use mnc_compiler::ir::op::{Activation, Op};
use mnc_compiler::ir::{NodeId, Shape};
use mnc_compiler::plan::{self, Kernel, Place, Plan, Step};
use mnc_compiler::{back::native::NativeNet, pass};
use mnc_runtime::isa::Isa;
use mnc_runtime::net::Net as _;

use crate::r#gen::{self, BARE, Builder, POINT, Tail};
use crate::plan::{breaks, meta};

fn build(b: &Builder) -> Plan {
    plan::build(&b.graph, meta("net"), &plan::Options::LAYERED).unwrap()
}

fn step<'p>(plan: &'p Plan, name: &str) -> &'p Step {
    plan.steps().find(|s| s.name == name).unwrap_or_else(|| panic!("no step {name}: {}", plan::print::text(plan)))
}

fn named(b: &mut Builder, x: NodeId, name: &str) -> NodeId {
    b.graph.rename(x, name);
    x
}

/// Dense scores and their softmax, both wanted.
fn classifier() -> Builder {
    let mut b = Builder::new(5);
    let x = b.graph.add_input("x", Shape::hwc(1, 1, 6));
    let y = b.dense(x, 10, BARE).unwrap();
    let logits = named(&mut b, y, "logits");
    let y = b.add(Op::Softmax, &[logits]).unwrap();
    let probs = named(&mut b, y, "probs");
    b.graph.outputs = vec![logits, probs];
    b
}

#[test]
fn an_output_that_others_are_made_of_stays_where_it_is() {
    let plan = build(&classifier());
    assert_eq!((plan.output_len(), plan.memory.arena_bytes), (20, 0));
    assert_eq!(plan.outputs.iter().map(|p| (p.name.as_str(), p.offset)).collect::<Vec<_>>(), [("logits", 0), ("probs", 10)]);
    assert_eq!(step(&plan, "logits").output, Place::Output(0));
    let softmax = step(&plan, "probs");
    assert_eq!((softmax.input, softmax.output), (Place::Output(0), Place::Output(10)), "not in place");
    // In the other order.
    let mut b = classifier();
    b.graph.outputs.reverse();
    let plan = build(&b);
    assert_eq!((step(&plan, "logits").output, step(&plan, "probs").output), (Place::Output(10), Place::Output(0)));
}

#[test]
fn inputs_and_nodes_that_are_outputs_twice_are_copied() {
    let mut b = Builder::new(6);
    let x = b.graph.add_input("x", Shape::hwc(3, 3, 2));
    let z = b.graph.add_input("z", Shape::hwc(1, 1, 2));
    let y = b.add(Op::Scale(Activation::Relu), &[x, z]).unwrap();
    let y = named(&mut b, y, "y");
    b.graph.outputs = vec![y, z, y, x];
    let plan = build(&b);
    assert_eq!(plan.outputs.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["y", "z", "y.2", "x"]);
    let copies: Vec<_> = plan.steps().filter(|s| matches!(s.kernel, Kernel::Copy { .. })).map(|s| (s.input, s.output)).collect();
    assert_eq!(copies.len(), 3);
    for copy in
        [(Place::Input(18), Place::Output(18)), (Place::Output(0), Place::Output(20)), (Place::Input(0), Place::Output(38))]
    {
        assert!(copies.contains(&copy), "{copy:?} of {copies:?}");
    }
    let x: Vec<f32> = (0..20).map(|i| i as f32 - 7.0).collect();
    let mut got = vec![f32::NAN; plan.output_len()];
    NativeNet::new(plan, Isa::detect()).run(&x, &mut got).unwrap();
    assert_eq!(got, r#gen::answer(&b.graph, &x));
}

/// What the caller calls an output, whatever node becomes it.
#[test]
fn names_of_outputs_outlive_passes() {
    let mut b = Builder::new(7);
    let x = b.graph.add_input("x", Shape::hwc(4, 4, 3));
    let y = b.conv(x, POINT, 5, Tail { bn: true, act: Activation::Relu, ..BARE }).unwrap();
    let y = named(&mut b, y, "features");
    let same = b.add(Op::Act(Activation::None), &[y]).unwrap();
    let same = named(&mut b, same, "same");
    b.graph.outputs = vec![y, same];
    b.graph.name_outputs();
    pass::run(&mut b.graph, &Default::default(), None, None).unwrap();
    assert_eq!(b.graph.outputs[0], b.graph.outputs[1], "the identity is gone");
    let plan = build(&b);
    assert_eq!(plan.outputs.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["features", "same"]);
    let net = NativeNet::new(plan, Isa::detect());
    assert_eq!(net.outputs().iter().map(|p| (p.name(), p.range())).collect::<Vec<_>>(), [("features", 0..80), ("same", 80..160)]);
    assert_eq!((net.output_shape(), net.output_len(), net.input_len()), ([1, 4, 4, 5], 160, 48));
}

/// Each input counts as long as it is to be read.
#[test]
fn memory_counts_inputs_until_they_are_read() {
    let mut b = Builder::new(8);
    let early = b.graph.add_input("early", Shape::hwc(8, 8, 16));
    let late = b.graph.add_input("late", Shape::hwc(1, 1, 16));
    let unread = b.graph.add_input("unread", Shape::hwc(64, 64, 16));
    let y = b.add(Op::GlobalPool, &[early]).unwrap();
    let y = b.conv(y, POINT, 16, BARE).unwrap();
    let y = b.add(Op::Scale(Activation::None), &[y, late]).unwrap();
    b.graph.outputs = vec![y];
    let plan = build(&b);
    assert_eq!(plan.memory.peak_with_input_bytes, 64 + 4 * (8 * 8 * 16 + 16));
    assert_eq!(plan.inputs[2].offset, 8 * 8 * 16 + 16);
    assert_eq!(plan.input_len(), 8 * 8 * 16 + 16 + b.graph.shape(unread).elements());
}

#[test]
fn wrong_ends_are_noticed() {
    let mut b = classifier();
    let second = b.graph.add_input("second", Shape::hwc(1, 1, 10));
    let y = b.add(Op::Add(Activation::None), &[b.graph.outputs[0], second]).unwrap();
    let y = named(&mut b, y, "sum");
    b.graph.outputs.push(y);
    let plan = build(&b);
    let at = |name: &str| plan.stages.iter().position(|s| s.name == name).unwrap();
    let change = |p: &mut Plan, name: &str, change: &dyn Fn(&mut Step)| change(&mut p.stages[at(name)].steps[0]);
    breaks(&plan, "an output between two", "no output begins at element 5", |p| {
        change(p, "sum", &|s| s.output = Place::Output(5));
    });
    breaks(&plan, "an input between two", "no input begins at element 1", |p| {
        change(p, "logits", &|s| s.input = Place::Input(1));
    });
    breaks(&plan, "another input", "not 1x1x1x6", |p| change(p, "logits", &|s| s.input = Place::Input(6)));
    breaks(&plan, "an output twice and one not at all", "no step writes the output sum", |p| {
        change(p, "sum", &|s| s.output = Place::Output(10));
    });
    breaks(&plan, "an output read before it is there", "before it is written", |p| {
        change(p, "probs", &|s| s.input = Place::Output(20));
    });
    breaks(&plan, "ports in one another", "does not stand behind", |p| p.outputs[1].offset -= 1);
    breaks(&plan, "two of one name", "two outputs are called logits", |p| p.outputs[1].name = "logits".into());
    breaks(&plan, "no input", "no input", |p| p.inputs.clear());
}

/// C and Rust say the places of all tensors.
#[test]
fn emitted_code_lists_its_ends() {
    let plan = build(&classifier());
    let header = object(&plan, ObjectOptions::default()).unwrap().header;
    for line in [
        "#define NET_INPUT_HEIGHT 1",
        "#define NET_OUTPUT_COUNT 2",
        "#define NET_OUTPUT_1_NAME \"probs\"",
        "#define NET_OUTPUT_1_OFFSET 10",
        "#define NET_OUTPUT_1_CHANNELS 10",
        "#define NET_OUTPUT_LEN 20",
    ] {
        assert!(header.lines().any(|l| l == line), "{line} in\n{header}");
    }
    let options =
        rust::Options { type_name: "Net".into(), docs: Vec::new(), weights: WeightSource::Extern, weights_from: "a test".into() };
    let source = rust::source(&plan, &options);
    assert!(source.contains("net::Port::new(\"probs\", [1, 1, 1, 10], 10)"), "{source}");
    assert!(source.contains("1x1x1x6 -> logits 1x1x1x10, probs 1x1x1x10"), "{source}");
}
