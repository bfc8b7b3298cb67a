//! `separate`: the paper's structure exactly, and trained weights with the error that was predicted.

use mnc_compiler::back::native::NativeNet;
use mnc_compiler::front::{PassOptions, Separate};
use mnc_compiler::ir::op::{Activation, BatchNorm, Op};
use mnc_compiler::ir::{Graph, NodeId, Shape, eval::eval, print, verify::verify};
use mnc_compiler::pass::separate::{Cost, decompose, rewrite};
use mnc_compiler::pass::{self, Remarks};
use mnc_runtime::isa::Isa;
use mnc_runtime::net::Net;

use crate::r#gen::{Around, BARE, Builder, POINT, Tail, Window, uniform};
use crate::tolerance::{Sums, assert_close, bound};

const WINDOW: Window = Window { kernel: [3, 3], stride: [1, 1], dilation: [1, 1], around: Around::Torch };
const TAIL: Tail = Tail { bn: true, act: Activation::Relu6, ..BARE };

fn separate(graph: &mut Graph, separate: Separate, separate_stem: bool) -> Remarks {
    let options = PassOptions { separate, separate_stem, ..PassOptions::default() };
    let remarks = pass::run(graph, &options, None, Some("separate")).unwrap();
    let before = print::text(graph);
    let again = pass::run(graph, &options, None, Some("separate")).unwrap();
    assert!(!again.ran[0].changed && again.all.iter().all(|r| !r.done), "a second run changes nothing");
    assert_eq!(before, print::text(graph));
    remarks
}

fn message<'a>(remarks: &'a Remarks, node: &str) -> (bool, &'a str) {
    let found: Vec<_> = remarks.all.iter().filter(|r| r.node == node).collect();
    assert_eq!(found.len(), 1, "one remark of {node}: {:?}", remarks.all);
    (found[0].done, &found[0].message)
}

/// A 3x3 convolution with batch norm and activation behind a stem, called `conv`; the stem is called `stem`.
fn net(kernel: [usize; 2], in_c: usize, out_c: usize, tail: Tail) -> (Graph, NodeId) {
    let mut b = Builder::new(5);
    let x = b.graph.add_input("x", Shape::hwc(9, 7, 3));
    let stem = b.conv(x, WINDOW, in_c, Tail { bias: true, ..BARE }).unwrap();
    b.graph.rename(stem, "stem");
    let padded = b.graph.len();
    let y = b.conv(stem, Window { kernel, ..WINDOW }, out_c, tail).unwrap();
    b.graph.outputs.push(y);
    let conv = b.graph.nodes()[padded..].iter().copied().find(|&id| matches!(b.graph.op(id), Op::Conv(_))).unwrap();
    b.graph.rename(conv, "conv");
    (b.graph, conv)
}

fn set_weight(graph: &mut Graph, conv: NodeId, weight: Vec<f32>) {
    let Op::Conv(mut op) = graph.op(conv).clone() else { panic!("a convolution") };
    op.weight = graph.consts.add(weight);
    let inputs = graph.inputs_of(conv);
    graph.replace(conv, Op::Conv(op), &inputs).unwrap();
}

fn weight(graph: &Graph, id: NodeId) -> Vec<f64> {
    let weight = match graph.op(id) {
        Op::Conv(c) => c.weight,
        Op::Depthwise(d) => d.weight,
        other => panic!("{} has no weights", other.name()),
    };
    graph.consts.get(weight).iter().map(|&w| f64::from(w)).collect()
}

/// The weights `[tap][c][o]` of a convolution, or of a depthwise and a pointwise one in its place.
fn dense(graph: &Graph, id: NodeId, terms: usize) -> Vec<f64> {
    let Op::Conv(conv) = graph.op(id) else { panic!("a convolution") };
    let point = weight(graph, id);
    let before = graph.inputs_of(id)[0];
    let Op::Depthwise(d) = graph.op(before) else { return point };
    let (wide, out_c, taps) = (conv.in_c, conv.out_c, d.kernel[0] * d.kernel[1]);
    let depth = weight(graph, before);
    let mut sum = vec![0.0; taps * d.channels * out_c];
    for (tap, i, o) in (0..taps).flat_map(|t| (0..wide).flat_map(move |i| (0..out_c).map(move |o| (t, i, o)))) {
        sum[(tap * d.channels + i / terms) * out_c + o] += depth[tap * wide + i] * point[i * out_c + o];
    }
    sum
}

/// Relative Frobenius error of `got`, each output channel weighted by `scale`.
fn error(want: &[f64], got: &[f64], scale: &[f64]) -> f64 {
    let norm = |f: &dyn Fn(usize) -> f64| (0..want.len()).map(|i| (f(i) * scale[i % scale.len()]).powi(2)).sum::<f64>().sqrt();
    norm(&|i| want[i] - got[i]) / norm(&|i| want[i]).max(f64::MIN_POSITIVE)
}

/// What the batch norm behind `conv` multiplies by.
fn scales(graph: &Graph, conv: NodeId, out_c: usize) -> Vec<f64> {
    match graph.op(graph.users(conv)[0]) {
        Op::BatchNorm(bn) => bn.affine(&graph.consts).into_iter().map(|(d, _)| d).collect(),
        _ => vec![1.0; out_c],
    }
}

/// Eigenvalues of the symmetric `n x n` matrix `a`, largest first, by Jacobi's rotations: another way to singular values.
fn eigenvalues(mut a: Vec<f64>, n: usize) -> Vec<f64> {
    for _ in 0..60 {
        for (p, q) in (0..n).flat_map(|p| (p + 1..n).map(move |q| (p, q))) {
            if a[p * n + q].abs() < 1e-300 {
                continue;
            }
            let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * a[p * n + q]);
            let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
            let t = if theta == 0.0 { 1.0 } else { t };
            let (c, s) = (1.0 / (t * t + 1.0).sqrt(), t / (t * t + 1.0).sqrt());
            for k in 0..n {
                let (x, y) = (a[k * n + p], a[k * n + q]);
                (a[k * n + p], a[k * n + q]) = (c * x - s * y, s * x + c * y);
            }
            for k in 0..n {
                let (x, y) = (a[p * n + k], a[q * n + k]);
                (a[p * n + k], a[q * n + k]) = (c * x - s * y, s * x + c * y);
            }
        }
    }
    let mut values: Vec<f64> = (0..n).map(|i| a[i * n + i]).collect();
    values.sort_by(|a, b| b.total_cmp(a));
    values
}

/// Smallest error that any `terms` terms can have, from the eigenvalues of each channel's Gram matrix (Eckart, Young).
fn least_error(w: &[f64], scale: &[f64], taps: usize, in_c: usize, terms: usize) -> f64 {
    let out_c = scale.len();
    let (mut left, mut total) = (0.0, 0.0);
    for c in 0..in_c {
        let at = |tap: usize, o: usize| w[(tap * in_c + c) * out_c + o] * scale[o];
        let gram = (0..taps * taps).map(|i| (0..out_c).map(|o| at(i / taps, o) * at(i % taps, o)).sum()).collect();
        let values = eigenvalues(gram, taps);
        total += values.iter().sum::<f64>();
        left += values.iter().skip(terms).sum::<f64>();
    }
    (left.max(0.0) / total).sqrt()
}

/// `T = 1..9`: the measured error is the predicted one, is the least possible, and at all terms the outputs are equal.
#[test]
fn the_measured_error_is_the_predicted_one() {
    let some_off = |graph: &mut Graph, conv: NodeId, out_c: usize| {
        // Batch norm switches one channel off and turns another round.
        let bn = graph.users(conv)[0];
        let Op::BatchNorm(old) = graph.op(bn).clone() else { panic!("batch norm") };
        let mut gamma = graph.consts.get(old.gamma).to_vec();
        (gamma[0], gamma[out_c - 1]) = (0.0, -2.0);
        let gamma = graph.consts.add(gamma);
        graph.replace(bn, Op::BatchNorm(BatchNorm { gamma, ..old }), &[conv]).unwrap();
    };
    for (kernel, in_c, out_c, bn) in [
        ([3, 3], 5, 24, true),
        ([3, 3], 4, 16, false),
        ([3, 3], 3, 5, true), // fewer outputs than taps
        ([5, 5], 2, 40, true),
        ([1, 5], 4, 11, true),
        ([3, 1], 1, 7, false),
        ([2, 3], 6, 1, false),
    ] {
        let (mut graph, conv) = net(kernel, in_c, out_c, Tail { bn, bias: true, ..TAIL });
        if bn {
            some_off(&mut graph, conv, out_c);
        }
        let taps = kernel[0] * kernel[1];
        let all = decompose(&graph, conv).unwrap();
        assert_eq!(all.max(), taps.min(out_c));
        let (want, scale) = (dense(&graph, conv, 1), scales(&graph, conv, out_c));
        let mut random = mnc_compiler::ir::random::Random::new(1);
        let input = uniform(&mut random, 189, -2.0, 2.0);
        let outputs = &eval(&graph, &[&input])[0];
        let rounding = bound(&graph, &input, Sums::F64);
        let pixels = graph.shape(conv).h * graph.shape(conv).w;
        let cost_before = graph.op(conv).macs(&graph.input_shapes(conv), graph.shape(conv));
        for terms in 1..=all.max() {
            let what = format!("{kernel:?} {in_c} -> {out_c}, {terms} terms");
            let mut cut = graph.clone();
            rewrite(&mut cut, conv, &all, terms).unwrap();
            verify(&cut).unwrap();
            let (measured, predicted) = (error(&want, &dense(&cut, conv, terms), &scale), all.error(terms));
            // Both factors of a term are rounded to f32, 2^-24 each.
            assert!((measured - predicted).abs() <= 2f64.powi(-22), "{what}: measured {measured}, predicted {predicted}");
            let least = least_error(&want, &scale, taps, in_c, terms);
            assert!((least - predicted).abs() <= 1e-7, "{what}: least possible {least}, predicted {predicted}");
            let (cost, out) = (Cost::of(conv_of(&graph, conv), pixels, terms), cut.macs() + cost_before);
            assert_eq!((cost.before, cost.after), (cost_before, out - graph.macs()), "{what}: multiply-adds");
            let got = &eval(&cut, &[&input])[0];
            if terms == all.max() {
                assert!(predicted < 1e-12, "{what}: all terms are the convolution itself, not {predicted} off");
                let more = bound(&cut, &input, Sums::F64);
                let both: Vec<f64> = rounding.iter().zip(&more).map(|(a, b)| a + b).collect();
                assert_close(outputs, got, &both, &what);
            } else if terms == 1 {
                let off = outputs.iter().zip(got).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off > 1e-4, "{what}: cutting terms must be seen in the outputs");
            }
        }
    }
}

fn conv_of(graph: &Graph, id: NodeId) -> &mnc_compiler::ir::op::Conv {
    match graph.op(id) {
        Op::Conv(conv) => conv,
        other => panic!("{} is no convolution", other.name()),
    }
}

/// Weights of zeros, and weights of fewer terms than taps: no error, no division by zero, as few terms as there are.
#[test]
fn zero_and_rank_deficient_weights() {
    let (mut graph, conv) = net([3, 3], 4, 20, TAIL);
    set_weight(&mut graph, conv, vec![0.0; 720]);
    let all = decompose(&graph, conv).unwrap();
    assert_eq!((1..=9).map(|t| all.error(t)).collect::<Vec<_>>(), [0.0; 9]);
    let remarks = separate(&mut graph, Separate::MaxError(0.0), false);
    assert!(message(&remarks, "conv").1.starts_with("1 term, relative weight error 0.0000e0: "));
    verify(&graph).unwrap();

    // Two terms a channel; channel 3 of zeros.
    let (mut graph, conv) = net([3, 3], 4, 20, TAIL);
    let mut random = mnc_compiler::ir::random::Random::new(9);
    let factors = uniform(&mut random, 4 * 2 * (9 + 20), -1.0, 1.0);
    let mut low = vec![0.0; 720];
    for (i, w) in low.iter_mut().enumerate() {
        let (tap, c, o) = (i / 80, i / 20 % 4, i % 20);
        *w = (0..2).map(|t| factors[(c * 2 + t) * 29 + tap] * factors[(c * 2 + t) * 29 + 9 + o]).sum::<f32>()
            * f32::from(u8::from(c != 3));
    }
    set_weight(&mut graph, conv, low);
    let all = decompose(&graph, conv).unwrap();
    assert!(all.error(1) > 0.1 && all.error(2) < 1e-6, "{} {}", all.error(1), all.error(2));
    let before = graph.macs();
    let remarks = separate(&mut graph, Separate::MaxError(1e-6), false);
    let (done, text) = message(&remarks, "conv");
    assert!(done && text.starts_with("2 terms, relative weight error "), "{text}");
    assert_eq!(before - graph.macs(), 63 * 4 * (9 * 20 - 2 * (9 + 20)));

    let (mut graph, conv) = net([3, 3], 4, 20, TAIL);
    set_weight(&mut graph, conv, vec![f32::NAN; 720]);
    let remarks = separate(&mut graph, Separate::Rank(1), false);
    assert_eq!(message(&remarks, "conv"), (false, "its weights are not finite"));
}

#[test]
fn every_refusal_gives_its_reason() {
    let (mut graph, _) = net([3, 3], 8, 16, TAIL);
    let stem = "the first convolution stays as it is, as in the paper; passes.separate_stem = true separates it too";
    let remarks = separate(&mut graph.clone(), Separate::Rank(1), false);
    assert_eq!(message(&remarks, "stem"), (false, stem));
    let (done, text) = message(&remarks, "conv");
    assert!(done && text.ends_with(": multiply-adds 72576 -> 12600, ratio 0.1736 = 1/16 + 1/9"), "{text}");
    let remarks = separate(&mut graph.clone(), Separate::Rank(1), true);
    assert!(message(&remarks, "stem").0, "the stem is separated when asked for");
    let remarks = separate(&mut graph.clone(), Separate::Structure, false);
    assert_eq!(message(&remarks, "stem"), (false, stem));

    let remarks = separate(&mut graph.clone(), Separate::Rank(9), false);
    let (done, text) = message(&remarks, "conv");
    assert!(!done && text.starts_with("it would cost no less: 9 terms, relative weight error "), "{text}");
    assert!(text.ends_with("multiply-adds 72576 -> 113400, ratio 1.5625 = 9/16 + 9/9"), "{text}");
    let remarks = separate(&mut graph.clone(), Separate::Rank(0), false);
    assert_eq!(message(&remarks, "conv"), (false, "a rank of 0 leaves nothing"));
    for bound in [-0.5, f64::NAN] {
        let remarks = separate(&mut graph.clone(), Separate::MaxError(bound), false);
        let (done, text) = message(&remarks, "conv");
        assert!(!done && text.starts_with("the bound") && text.contains("is not reached: all 9 terms leave"), "{text}");
    }
    // Reached only where nothing is saved.
    let remarks = separate(&mut graph, Separate::MaxError(1e-3), false);
    let (done, text) = message(&remarks, "conv");
    assert!(!done && text.starts_with("it would cost no less: 9 terms"), "{text}");

    let mut b = Builder::new(2);
    let x = b.graph.add_input("x", Shape::hwc(6, 6, 4));
    let mut last = x;
    for (name, groups, window) in [("first", 1, WINDOW), ("groups", 2, WINDOW), ("point", 1, POINT)] {
        last = b.grouped(last, window, 4, groups, BARE).unwrap();
        b.graph.rename(last, name);
    }
    last = b.depthwise(last, WINDOW, 1, BARE).unwrap();
    b.graph.rename(last, "depth");
    last = b.conv(last, WINDOW, 1, BARE).unwrap();
    b.graph.rename(last, "narrow");
    b.graph.outputs.push(last);
    let remarks = separate(&mut b.graph, Separate::Structure, false);
    assert_eq!(message(&remarks, "groups"), (false, "a convolution in groups is not separated"));
    assert_eq!(message(&remarks, "point"), (false, "a 1x1 convolution is pointwise already"));
    assert_eq!(message(&remarks, "depth"), (false, "a depthwise convolution is separate already"));
    let narrow = "it would cost no less: multiply-adds 1296 -> 1440, ratio 1.1111 = 1/1 + 1/9";
    assert_eq!(message(&remarks, "narrow"), (false, narrow));
}

/// Off is off, and a net whose first weighted layer is depthwise has no stem to spare.
#[test]
fn off_changes_nothing() {
    let (mut graph, _) = net([3, 3], 8, 16, TAIL);
    let before = print::text(&graph);
    let remarks = separate(&mut graph, Separate::Off, true);
    assert!(remarks.all.is_empty());
    assert_eq!(before, print::text(&graph));
}

/// Filters as trained ones are, smooth with noise: every layer keeps the bound with the fewest terms, and the net gets cheaper.
#[test]
fn a_standard_convolution_net_keeps_the_bound_with_fewer_multiply_adds() {
    let mut b = Builder::new(8);
    let x = b.graph.add_input("x", Shape::hwc(16, 16, 3));
    let mut y = b.conv(x, WINDOW, 8, TAIL).unwrap();
    for (out, stride) in [(16, 2), (24, 1), (32, 2), (32, 1)] {
        y = b.conv(y, Window { stride: [stride, stride], ..WINDOW }, out, TAIL).unwrap();
    }
    y = b.add(Op::GlobalPool, &[y]).unwrap();
    y = b.dense(y, 10, Tail { bias: true, ..BARE }).unwrap();
    b.graph.outputs.push(y);
    let convs: Vec<NodeId> = b.graph.topo().into_iter().filter(|&id| matches!(b.graph.op(id), Op::Conv(_))).collect();
    for &conv in &convs {
        let (in_c, out_c) = (conv_of(&b.graph, conv).in_c, conv_of(&b.graph, conv).out_c);
        let noise = uniform(&mut b.random, 9 * in_c * out_c, -0.003, 0.003);
        let smooth = uniform(&mut b.random, in_c * out_c * 2, -0.3, 0.3);
        let filters = [[1.0, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0], [1.0, 0.0, -1.0, 2.0, 0.0, -2.0, 1.0, 0.0, -1.0]];
        let w = (0..noise.len())
            .map(|i| {
                let (tap, at) = (i / (in_c * out_c), i % (in_c * out_c));
                noise[i] + smooth[at * 2] * filters[0][tap] / 4.0 + smooth[at * 2 + 1] * filters[1][tap] / 4.0
            })
            .collect();
        set_weight(&mut b.graph, conv, w);
    }
    let original = b.graph.clone();
    for (bound, share) in [(0.7, 0.4), (0.1, 0.6), (0.015, 1.0)] {
        let mut graph = original.clone();
        let remarks = separate(&mut graph, Separate::MaxError(bound), false);
        assert!((graph.macs() as f64) < share * original.macs() as f64, "bound {bound}: {} of {}", graph.macs(), original.macs());
        let mut rewritten = 0;
        for &conv in &convs[1..] {
            let Op::Depthwise(d) = graph.op(graph.inputs_of(conv)[0]) else { continue };
            rewritten += 1;
            let scale = scales(&original, conv, conv_of(&original, conv).out_c);
            let measured = error(&dense(&original, conv, 1), &dense(&graph, conv, d.multiplier), &scale);
            assert!(measured <= bound + 2f64.powi(-22), "measured {measured}");
            let all = decompose(&original, conv).unwrap();
            assert!(d.multiplier == 1 || all.error(d.multiplier - 1) > bound, "one term fewer keeps the bound too");
        }
        assert_eq!(rewritten, remarks.all.iter().filter(|r| r.done).count());
        assert!(rewritten > 0);
    }
}

/// The standard-convolution MobileNet becomes the MobileNet of the paper, node by node.
#[test]
fn structure_makes_the_full_convolution_mobilenet_v1() {
    let nets = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/nets");
    let load =
        |name: &str| mnc_compiler::front::load(&nets.join(name), &[], None).unwrap_or_else(|e| panic!("{name}: {e:?}")).0.graph;
    let mut graph = load("mobilenet_v1_full_conv.toml");
    assert_eq!((graph.macs(), graph.params()), (4_867_293_184, 29_294_088));
    let remarks = separate(&mut graph, Separate::Structure, false);
    assert_eq!((graph.macs(), graph.params()), (568_740_352, 4_231_976));
    assert_eq!(print::text(&graph), print::text(&load("mobilenet_v1.toml")));
    let done: Vec<_> = remarks.all.iter().filter(|r| r.done).collect();
    assert_eq!(done.len(), 13);
    assert!(done[0].message.ends_with("multiply-adds 231211008 -> 29302784, ratio 0.1267 = 1/64 + 1/9"), "{}", done[0].message);
    assert!(!remarks.all[0].done && remarks.all[0].node == "stem.conv");
}

/// Trained weights and real pictures: bound against multiply-adds, agreement in top-1 with the net as trained, and pictures read
/// right (`cargo test separate::trained -- --nocapture` prints the table).
#[test]
fn trained_weights_trade_error_for_multiply_adds() {
    use crate::digits::{COLUMNS, argmax, held_out};
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nets/digits_conv.toml");
    let run = |separate: Separate| {
        let (mut net, warnings) = mnc_compiler::front::load(&path, &[], None).unwrap_or_else(|e| panic!("{e:?}"));
        assert!(warnings.is_empty(), "{warnings:?}");
        net.passes.separate = separate;
        let inputs = held_out(&net);
        let compiled = mnc_compiler::compile(net).unwrap();
        let mut native = NativeNet::new(compiled.plan, Isa::detect());
        let mut y = [0.0; 10];
        let classes: Vec<usize> = inputs.iter().map(|x| native.run(x, &mut y).map(|()| argmax(&y)).unwrap()).collect();
        (native.plan().macs, classes, compiled.remarks)
    };
    let (macs, trained, _) = run(Separate::Off);
    let right = |classes: &[usize]| classes.iter().enumerate().filter(|&(i, c)| i / COLUMNS == *c).count();
    assert!(right(&trained) >= 353, "the net as trained reads {} of 360", right(&trained));
    println!("bound | multiply-adds | share  | agreement | right | layers");
    println!("  off | {macs:13} | 1.0000 |   360/360 |   {} |", right(&trained));
    let mut last = macs;
    let bounds = [
        (0.0, 1.0, 360),
        (0.05, 1.0, 360),
        (0.1, 0.95, 358),
        (0.2, 0.75, 356),
        (0.3, 0.55, 354),
        (0.4, 0.45, 350),
        (0.5, 0.35, 0),
    ];
    for (bound, at_most, agree) in bounds {
        let (now, classes, remarks) = run(Separate::MaxError(bound));
        let same = trained.iter().zip(&classes).filter(|(a, b)| a == b).count();
        let layers: Vec<&str> = remarks.all.iter().filter(|r| r.pass == "separate" && r.done).map(|r| &r.message[..7]).collect();
        let share = now as f64 / macs as f64;
        println!("{bound:5} | {now:13} | {share:.4} |   {same}/360 |   {} | {}", right(&classes), layers.join(", "));
        assert!(now <= last, "a wider bound costs no more");
        assert!(share <= at_most && same >= agree, "bound {bound}");
        last = now;
    }
}
