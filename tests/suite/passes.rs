//! Every exact pass keeps the function, leaves a valid graph and is done after one run; each refuses what it must, and says why.

use mnc_compiler::front::PassOptions;
use mnc_compiler::ir::op::{Activation, BatchNorm, Normalize, Op, Pad, Pool, PoolKind};
use mnc_compiler::ir::{Graph, NodeId, Padding, Shape, eval::eval, print, verify::verify};
use mnc_compiler::pass::{self, PIPELINE, Pass, PassError, Remarks};
use proptest::prelude::*;

use crate::r#gen::{Around, BARE, Builder, POINT, Recipe, Tail, Window, answer, recipe};
use crate::tolerance::{Sums, assert_close, bound};

const SAME_3X3: Window = Window { kernel: [3, 3], stride: [1, 1], dilation: [1, 1], around: Around::Torch };

fn options() -> PassOptions {
    PassOptions::default()
}

fn find(name: &str) -> &'static Pass {
    &PIPELINE[pass::position(name).unwrap()]
}

/// Runs one pass alone and checks what every pass promises.
fn run(pass: &Pass, graph: &mut Graph) -> Remarks {
    let mut remarks = Remarks::of(pass);
    let before = print::text(graph);
    let changed = (pass.run)(graph, &options(), &mut remarks).unwrap_or_else(|e| panic!("{}: {e}", pass.name));
    verify(graph).unwrap_or_else(|e| panic!("{}: {e:?}\n{}", pass.name, print::text(graph)));
    let did = remarks.all.iter().any(|r| r.done);
    assert_eq!(changed, did, "{}: a change and the remark of it go together\n{before}", pass.name);
    let again = (pass.run)(graph, &options(), &mut Remarks::of(pass)).unwrap();
    assert!(!again, "{} is not done after one run\n{before}\n{}", pass.name, print::text(graph));
    remarks
}

fn check_all(recipe: &Recipe) {
    let case = recipe.build();
    let want = &answer(&case.graph, &case.input);
    let bound = bound(&case.graph, &case.input, Sums::F64);
    let mut all = case.graph.clone();
    for pass in PIPELINE.iter().filter(|p| p.exact) {
        let mut alone = case.graph.clone();
        run(pass, &mut alone);
        assert_close(want, &answer(&alone, &case.input), &bound, &format!("{} alone", pass.name));
        run(pass, &mut all);
        assert_close(want, &answer(&all, &case.input), &bound, &format!("the passes up to {}", pass.name));
    }
    // One node more for a mean that is split.
    let means = all.nodes().into_iter().filter(|&n| matches!(all.op(n), Op::GlobalPool)).count();
    assert!(all.len() <= case.graph.len() + means);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exact_passes_keep_the_function(recipe in recipe()) {
        check_all(&recipe);
    }
}

/// The bound itself must be worth something: on most nets it is within 1e-4 of the largest output (the others end in a
/// saturated softmax, or cancel), and rounding really uses up a part of it.
#[test]
fn the_tolerance_is_tight() {
    let (mut tight, mut used) = (0, 0f64);
    for seed in 0..100 {
        let case = crate::r#gen::seeded(seed);
        let y = &answer(&case.graph, &case.input);
        let top = y.iter().fold(0f32, |a, b| a.max(b.abs()));
        let bound = bound(&case.graph, &case.input, Sums::F64);
        tight += usize::from(bound.iter().fold(0f64, |a, b| a.max(*b)) <= 1e-4 * f64::from(top));
        let mut graph = case.graph.clone();
        pass::run(&mut graph, &options(), None, None).unwrap();
        for ((a, b), bound) in y.iter().zip(&answer(&graph, &case.input)).zip(&bound) {
            used = used.max(f64::from((a - b).abs()) / bound);
        }
    }
    assert!(tight >= 80, "only {tight} of 100 nets");
    assert!((0.05..1.0).contains(&used), "rounding uses {used} of the bound");
}

/// `(input - mean) / std` before a padded stem: every border pixel is what it was, and would not be with zeros as padding.
#[test]
fn fold_preprocess_keeps_border_pixels() {
    for (reversed, around) in [(false, Around::Torch), (true, Around::Same), (true, Around::Sides([2, 1, 0, 2]))] {
        let mut b = Builder::new(3);
        let x = b.graph.add_input("x", Shape::hwc(6, 8, 3));
        let n = b.normalize(x, reversed);
        let window = Window { kernel: [3, 3], stride: [2, 2], dilation: [1, 1], around };
        let y = b.conv(n, window, 7, Tail { bn: true, act: Activation::Relu6, ..BARE }).unwrap();
        b.graph.outputs.push(y);
        let input: Vec<f32> = (0..144).map(|_| b.random.below(256) as f32).collect();
        let want = &eval(&b.graph, &[&input])[0];
        let bound = bound(&b.graph, &input, Sums::F64);
        let mut folded = b.graph.clone();
        let remarks = pass::run(&mut folded, &options(), None, None).unwrap();
        assert!(remarks.all.iter().any(|r| r.pass == "fold_preprocess" && r.done));
        assert_eq!(folded.len(), 2, "input and stem are left:\n{}", print::text(&folded));
        assert_close(want, &eval(&folded, &[&input])[0], &bound, "stem");

        let stem = folded.outputs[0];
        let Op::Conv(mut conv) = folded.op(stem).clone() else { panic!("the stem is a convolution") };
        conv.pad_value = None;
        folded.replace(stem, Op::Conv(conv), &[folded.inputs[0]]).unwrap();
        let wrong = &eval(&folded, &[&input])[0];
        let off = wrong.iter().zip(want).zip(&bound).filter(|((a, b), bound)| f64::from((*a - *b).abs()) > **bound).count();
        assert!(off > 0, "the border does not matter here: the test is empty");
    }
}

/// One op behind another, as a graph with one input of 6x6x4.
struct Small(Builder, NodeId);

fn small() -> Small {
    let mut b = Builder::new(11);
    let x = b.graph.add_input("x", Shape::hwc(6, 6, 4));
    Small(b, x)
}

impl Small {
    /// Adds an op under a name of its own.
    fn op(&mut self, name: &str, op: Op, inputs: &[NodeId]) -> NodeId {
        let id = self.0.add(op, inputs).unwrap();
        self.0.graph.rename(id, name);
        id
    }

    fn conv(&mut self, name: &str, x: NodeId, window: Window, out: usize) -> NodeId {
        let id = self.0.conv(x, window, out, BARE).unwrap();
        self.0.graph.rename(id, name);
        id
    }

    fn batch_norm(&mut self, name: &str, x: NodeId) -> NodeId {
        let id = self.0.batch_norm(x);
        self.0.graph.rename(id, name);
        id
    }

    /// Runs `pass` on the graph with these outputs, expects it to refuse at `node` and to change nothing.
    #[track_caller]
    fn refuses(mut self, outputs: &[NodeId], pass: &str, node: &str, why: &str) {
        self.0.graph.outputs = outputs.to_vec();
        let before = print::text(&self.0.graph);
        let remarks = run(find(pass), &mut self.0.graph);
        let found: Vec<_> = remarks.all.iter().map(|r| (r.done, r.node.as_str(), r.message.as_str())).collect();
        assert!(found.contains(&(false, node, why)), "{pass}: {found:?}");
        assert_eq!(before, print::text(&self.0.graph), "{pass} refused and still changed the graph");
    }

    /// Runs `pass` and returns the text of the graph after it.
    #[track_caller]
    fn does(mut self, outputs: &[NodeId], pass: &str, node: &str, what: &str) -> String {
        self.0.graph.outputs = outputs.to_vec();
        let remarks = run(find(pass), &mut self.0.graph);
        let found: Vec<_> = remarks.all.iter().map(|r| (r.done, r.node.as_str(), r.message.as_str())).collect();
        assert!(found.contains(&(true, node, what)), "{pass}: {found:?}");
        print::text(&self.0.graph)
    }
}

#[test]
fn fold_bn_refuses_what_the_sum_does_not_reach_alone() {
    let mut s = small();
    let a = s.conv("a", s.1, POINT, 4);
    let bn = s.batch_norm("bn", a);
    let sum = s.op("sum", Op::Add(Activation::None), &[bn, a]);
    s.refuses(&[sum], "fold_bn", "bn", "a is read by bn, sum");

    let mut s = small();
    let a = s.conv("a", s.1, POINT, 4);
    let bn = s.batch_norm("bn", a);
    s.refuses(&[bn, a], "fold_bn", "bn", "a is read by bn, the net's output");

    let mut s = small();
    let a = s.conv("a", s.1, POINT, 4);
    let act = s.op("act", Op::Act(Activation::Relu), &[a]);
    let bn = s.batch_norm("bn", act);
    s.refuses(&[bn], "fold_bn", "bn", "an activation, act, stands between it and the layer before");

    let mut s = small();
    let bn = s.batch_norm("bn", s.1);
    s.refuses(&[bn], "fold_bn", "bn", "x before it is no convolution or dense layer");

    let mut s = small();
    let a = s.conv("a", s.1, POINT, 1);
    let [zero, one, huge] = [0.0, 1.0, 3e38].map(|v| s.0.graph.consts.add(vec![v]));
    let bn = BatchNorm { gamma: huge, beta: zero, mean: one, variance: zero, eps: 1e-5 };
    let bn = s.op("bn", Op::BatchNorm(bn), &[a]);
    s.refuses(&[bn], "fold_bn", "bn", "the folded weights would not be finite");
}

#[test]
fn fold_bn_folds_two_in_a_row() {
    let mut s = small();
    let a = s.conv("a", s.1, POINT, 4);
    let bn = s.batch_norm("bn", a);
    let bn = s.batch_norm("bn2", bn);
    let text = s.does(&[bn], "fold_bn", "bn2", "folded into a");
    assert_eq!(text, "%0 = input              1x6x6x4 x\n%1 = pointwise +bias %0 1x6x6x4 a\nreturn %1\n");
}

#[test]
fn fuse_pad_refuses_other_values_and_other_ops() {
    let pad = Padding { top: 1, left: 0, bottom: 0, right: 2 };
    let mut s = small();
    let value = s.0.graph.consts.add(vec![1.0; 4]);
    let outer = s.op("outer", Op::Pad(Pad { pad, value: Some(value) }), &[s.1]);
    let inner = s.op("inner", Op::Pad(Pad { pad, value: None }), &[outer]);
    let y = s.conv("y", inner, Window { around: Around::Nothing, ..SAME_3X3 }, 2);
    let text = s.does(&[y], "fuse_pad", "inner", "fused into y");
    assert!(text.contains("conv 3x3 p1,0,0,2 %1"), "the outer padding holds other values and stays:\n{text}");

    let mut s = small();
    let zero = s.0.graph.consts.add(vec![0.0; 4]);
    let outer = s.op("outer", Op::Pad(Pad { pad, value: Some(zero) }), &[s.1]);
    let inner = s.op("inner", Op::Pad(Pad { pad, value: None }), &[outer]);
    let y = s.conv("y", inner, Window { around: Around::Nothing, ..SAME_3X3 }, 2);
    let text = s.does(&[y], "fuse_pad", "outer", "fused into y");
    assert!(text.contains("conv 3x3 p2,0,0,4"), "zeros given and zeros meant are the same:\n{text}");

    let mut s = small();
    let p = s.op("p", Op::Pad(Pad { pad, value: None }), &[s.1]);
    let pool = Pool { kind: PoolKind::Max, kernel: [2, 2], stride: [1, 1], pad: Padding::ZERO, count_padding: false };
    let y = s.op("y", Op::Pool(pool), &[p]);
    s.refuses(&[y], "fuse_pad", "p", "y is a pool: its padding would be no element");

    let mut s = small();
    let p = s.op("p", Op::Pad(Pad { pad, value: None }), &[s.1]);
    let y = s.op("y", Op::Act(Activation::Relu), &[p]);
    s.refuses(&[y], "fuse_pad", "p", "y is no convolution");
}

#[test]
fn fuse_pad_keeps_a_padding_that_others_read() {
    let mut s = small();
    let p = s.op("p", Op::Pad(Pad { pad: Padding::torch([3, 3]), value: None }), &[s.1]);
    let y = s.conv("y", p, Window { around: Around::Nothing, ..SAME_3X3 }, 2);
    let text = s.does(&[y, p], "fuse_pad", "p", "fused into y");
    assert!(text.contains("conv 3x3 p1,1,1,1 %0"), "{text}");
    assert!(text.contains("pad p1,1,1,1 %0"), "{text}");
}

#[test]
fn fold_preprocess_refuses_what_has_no_raw_form() {
    let normalize = |s: &mut Small, order: Vec<usize>, scale: f32| {
        let scale = s.0.graph.consts.add(vec![scale; 4]);
        let shift = s.0.graph.consts.add(vec![1.0; 4]);
        s.op("n", Op::Normalize(Normalize { order, scale, shift }), &[s.1])
    };
    let straight = || vec![0, 1, 2, 3];

    let mut s = small();
    let n = normalize(&mut s, straight(), 0.5);
    let y = s.conv("y", n, POINT, 2);
    s.refuses(&[y, n], "fold_preprocess", "n", "n is read by y, the net's output");

    let mut s = small();
    let n = normalize(&mut s, straight(), 0.5);
    let y = s.op("y", Op::Act(Activation::Relu), &[n]);
    s.refuses(&[y], "fold_preprocess", "n", "y is no convolution or dense layer");

    let mut s = small();
    let n = normalize(&mut s, vec![3, 2, 1, 0], 0.5);
    let y = s.0.depthwise(n, Window { around: Around::Nothing, ..SAME_3X3 }, 1, BARE).unwrap();
    s.0.graph.rename(y, "y");
    s.refuses(&[y], "fold_preprocess", "n", "the channels change places and y is depthwise or in groups");

    // No raw value normalises to the zeros of the padding.
    let mut s = small();
    let n = normalize(&mut s, straight(), 0.0);
    let y = s.conv("y", n, SAME_3X3, 2);
    s.0.graph.outputs = vec![y];
    run(find("fuse_pad"), &mut s.0.graph);
    s.refuses(&[y], "fold_preprocess", "n", "channel 0 is scaled by 0: no raw pixel value normalises to what the padding holds");
}

#[test]
fn fuse_act_refuses() {
    let relu = Op::Act(Activation::Relu);
    let mut s = small();
    let a = s.conv("a", s.1, POINT, 4);
    let act = s.op("act", relu.clone(), &[a]);
    s.refuses(&[act, a], "fuse_act", "act", "a is read by act, the net's output");

    let mut s = small();
    let pool = s.op("pool", Op::GlobalPool, &[s.1]);
    let act = s.op("act", relu.clone(), &[pool]);
    s.refuses(&[act], "fuse_act", "act", "pool (global_pool) carries no activation");

    let mut s = small();
    let a = s.op("a", Op::Add(Activation::Relu6), &[s.1, s.1]);
    let act = s.op("act", relu, &[a]);
    s.refuses(&[act], "fuse_act", "act", "a has something fused after its sum");
}

#[test]
fn fuse_residual_chooses_and_refuses() {
    let add = Op::Add(Activation::None);
    // Either operand; the activation of the sum goes along.
    for flip in [false, true] {
        let mut s = small();
        let wide = s.conv("wide", s.1, POINT, 4);
        let b = s.conv("b", wide, POINT, 4);
        let a = s.conv("a", b, POINT, 4);
        let y = s.op("y", Op::Add(Activation::Relu), &if flip { [wide, a] } else { [a, wide] });
        let text = s.does(&[y], "fuse_residual", "y", "fused into a, residual wide in place");
        assert!(text.contains("%3 = pointwise +residual relu %2 %1"), "{text}");
    }

    // Both could: the later one, since the other must be there first.
    let mut s = small();
    let first = s.conv("first", s.1, POINT, 4);
    let second = s.conv("second", s.1, POINT, 4);
    let y = s.op("y", add.clone(), &[first, second]);
    s.does(&[y], "fuse_residual", "y", "fused into second, residual first in place");

    // The caller's input cannot be overwritten.
    let mut s = small();
    let first = s.conv("first", s.1, POINT, 4);
    let y = s.op("y", add.clone(), &[first, s.1]);
    s.does(&[y], "fuse_residual", "y", "fused into first, residual x that must be kept");

    let mut s = small();
    let a = s.conv("a", s.1, POINT, 4);
    let y = s.op("y", add.clone(), &[a, s.1]);
    s.refuses(&[y, a], "fuse_residual", "y", "a is read by y, the net's output; x is no dense convolution");

    let mut s = small();
    let a = s.conv("a", s.1, POINT, 4);
    let y = s.op("y", add.clone(), &[a, a]);
    s.refuses(&[y], "fuse_residual", "y", "a is read by y, y");

    let mut s = small();
    let a = s.0.conv(s.1, POINT, 4, Tail { act: Activation::Relu, ..BARE }).unwrap();
    s.0.graph.outputs = vec![a];
    run(find("fuse_act"), &mut s.0.graph);
    let a = s.0.graph.outputs[0];
    s.0.graph.rename(a, "a");
    let y = s.op("y", add, &[a, s.1]);
    s.refuses(&[y], "fuse_residual", "y", "a has an activation before the sum; x is no dense convolution");
}

#[test]
fn fuse_pool_refuses() {
    let mut s = small();
    let a = s.conv("a", s.1, POINT, 4);
    let y = s.op("y", Op::GlobalPool, &[a]);
    s.refuses(&[y, a], "fuse_pool", "y", "a is read by y, the net's output");

    let mut s = small();
    let a = s.conv("a", s.1, SAME_3X3, 4);
    let y = s.op("y", Op::GlobalPool, &[a]);
    s.refuses(&[y], "fuse_pool", "y", "a (conv) is no pointwise convolution");

    let mut s = small();
    let a = s.conv("a", s.1, POINT, 4);
    let sum = s.op("sum", Op::Add(Activation::None), &[a, s.1]);
    let y = s.op("y", Op::GlobalPool, &[sum]);
    s.0.graph.outputs = vec![y];
    run(find("fuse_residual"), &mut s.0.graph);
    s.refuses(&[y], "fuse_pool", "y", "a has something fused after its sum");
}

/// A wide image, as a squeeze-and-excite block has it: its mean is that of its rows' means. A name that is taken is not taken again.
#[test]
fn split_pool_averages_rows_first() {
    let mut b = Builder::new(12);
    let x = b.graph.add_input("x", Shape::hwc(15, 16, 6));
    let mut s = Small(b, x);
    let mean = s.op("mean", Op::GlobalPool, &[x]);
    let y = s.op("mean.rows", Op::Scale(Activation::None), &[x, mean]);
    s.0.graph.outputs = vec![y];
    let input: Vec<f32> = (0..15 * 16 * 6).map(|i| (i * 7919 % 1013) as f32 / 500.0 - 1.0).collect();
    let want = &answer(&s.0.graph, &input);
    let bound = bound(&s.0.graph, &input, Sums::F64);
    let mut split = s.0.graph.clone();
    run(find("split_pool"), &mut split);
    assert_close(want, &answer(&split, &input), &bound, "the mean of means");
    assert_eq!(
        s.does(&[y], "split_pool", "mean", "15 rows of 16 pixels"),
        "%0 = input                  1x15x16x6 x\n%1 = avg_pool 1x16 s1x16 %0 1x15x1x6  mean.rows_\n\
         %2 = global_pool %1         1x1x1x6   mean\n%3 = scale %0 %2            1x15x16x6 mean.rows\nreturn %3\n"
    );

    let mut s = small();
    let y = s.op("y", Op::GlobalPool, &[s.1]);
    s.refuses(&[y], "split_pool", "y", "6 by 6 pixels are not shared by rows");
}

#[test]
fn fold_const_and_dce_leave_what_counts() {
    let mut s = small();
    let c = s.0.constant(Shape::hwc(1, 1, 4));
    s.0.graph.rename(c, "c");
    let act = s.op("act", Op::Act(Activation::Relu), &[c]);
    let y = s.op("y", Op::Scale(Activation::None), &[s.1, act]);
    let unread = s.op("unread", Op::GlobalPool, &[y]);
    let _ = s.op("unread2", Op::Softmax, &[unread]);
    let none = s.op("none", Op::Act(Activation::None), &[y]);
    s.0.graph.outputs = vec![none];
    let remarks = pass::run(&mut s.0.graph, &options(), Some("fold_const"), Some("fold_const")).unwrap();
    assert_eq!(remarks.ran.iter().map(|r| (r.pass, r.changed)).collect::<Vec<_>>(), [("fold_const", true)]);
    assert_eq!(s.0.graph.outputs, [y]);
    run(find("dce"), &mut s.0.graph);
    assert_eq!(
        print::text(&s.0.graph),
        "%0 = input       1x6x6x4 x\n%1 = constant    1x1x1x4 act\n%2 = scale %0 %1 1x6x6x4 y\nreturn %2\n"
    );
}

/// The driver: stop after a pass, skip passes, refuse unknown names with the list of all.
#[test]
fn the_driver_stops_skips_and_names() {
    let graph = || {
        let mut s = small();
        let y = s.0.conv(s.1, SAME_3X3, 5, Tail { bn: true, act: Activation::Relu, ..BARE }).unwrap();
        s.0.graph.outputs = vec![y];
        s.0.graph
    };
    let mut g = graph();
    let remarks = pass::run(&mut g, &options(), None, Some("fold_bn")).unwrap();
    assert_eq!(remarks.ran.iter().map(|r| r.pass).collect::<Vec<_>>(), ["separate", "fold_const", "fold_bn"]);
    assert!(print::text(&g).contains("act relu") && !print::text(&g).contains("batch_norm"));

    let mut g = graph();
    let skip = PassOptions { skip: vec!["fold_bn".into()], ..options() };
    let remarks = pass::run(&mut g, &skip, None, None).unwrap();
    assert_eq!(remarks.ran.len(), PIPELINE.len() - 1);
    assert!(print::text(&g).contains("batch_norm"));

    let mut g = graph();
    let wrong = PassOptions { skip: vec!["fuse_acts".into()], ..options() };
    let before = print::text(&g);
    let error = pass::run(&mut g, &wrong, None, None).unwrap_err();
    assert_eq!(error, PassError::Unknown { name: "fuse_acts".into() });
    assert_eq!(
        error.to_string(),
        "there is no pass `fuse_acts` (did you mean `fuse_act`?); the passes are separate, fold_const, fold_bn, fuse_pad, \
         fold_preprocess, fuse_act, fuse_residual, fuse_pool, split_pool, dce"
    );
    assert_eq!(before, print::text(&g), "nothing is run when a name is wrong");
    assert!(pass::run(&mut g, &options(), None, Some("")).unwrap_err().to_string().starts_with("there is no pass ``; the"));

    let mut g = graph();
    g.outputs.clear();
    let error = pass::run(&mut g, &options(), None, None).unwrap_err().to_string();
    assert_eq!(error, "after pass (none) the graph is broken: the graph has no output");
}
