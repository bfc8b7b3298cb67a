//! Translation validation: the bound by hand, engines at the edges of f32, and faults that must be found.

use std::path::Path;

use mnc_compiler::back::native::NativeNet;
use mnc_compiler::ir::op::{Activation, Conv, Dense, Op};
use mnc_compiler::ir::random::Random;
use mnc_compiler::ir::{Graph, Padding, Shape, print};
use mnc_compiler::validate::rounding::{LAMBDA, expect};
use mnc_compiler::validate::{self, Outcome, Sums};
use mnc_compiler::{front, plan};
use mnc_runtime::isa::Isa;
use mnc_runtime::params::Method;

use crate::backends::{engines, infer, optimised};
use crate::r#gen::seeded;
use crate::plan::meta;

/// `sum(x)` of `n` inputs.
fn sum(n: usize) -> Graph {
    let mut graph = Graph::default();
    let x = graph.add_input("x", Shape::hwc(1, 1, n));
    let weight = graph.consts.add(vec![1.0; n]);
    let dense = Dense { in_c: n, out_c: 1, weight, bias: None, act: Activation::None };
    let y = graph.add("y", Op::Dense(dense), &[x]).expect("shapes that fit");
    graph.outputs.push(y);
    graph
}

#[test]
fn the_bound_by_hand() {
    let (unit, graph) = (LAMBDA / f64::from(1 << 24), sum(4));
    let of = |x: &[f32], sums| expect(&graph, x, sums);
    // Four weights of four roundings each, and the result's: then partial sums of 1, 2, 3 and 4.
    let near = |got: f64, want: f64| assert!((got / want - 1.0).abs() < 1e-9, "{got:e} and {want:e}");
    near(of(&[1.0; 4], Sums::F64).bound[0], unit * (16f64 + 16.0).sqrt());
    near(of(&[1.0; 4], Sums::F32).bound[0], unit * (16f64 + 16.0 + 30.0).sqrt());
    // What cancels leaves its roundings behind.
    let cancelled = of(&[1e6, -1e6, 0.0, 0.0], Sums::F32);
    assert_eq!(cancelled.y, [0.0]);
    near(cancelled.bound[0], unit * 3e6);
    // Beyond f32 in one order and not in another: open. An infinity or NaN is one in every order.
    assert!(of(&[f32::MAX, f32::MAX, f32::MIN, f32::MIN], Sums::F32).bound[0].is_infinite());
    for (x, want) in [
        ([1.0, f32::INFINITY, 2.0, 3.0], f32::INFINITY),
        ([f32::NEG_INFINITY, f32::INFINITY, 2.0, 3.0], f32::NAN),
        ([0.0, f32::NAN, f32::INFINITY, 0.0], f32::NAN),
    ] {
        let found = of(&x, Sums::F32);
        assert!(found.bound[0] == 0.0 && found.y[0].to_bits() & 0x7fff_ffff == want.to_bits() & 0x7fff_ffff, "{x:?}: {found:?}");
    }
}

#[test]
fn judgement_of_what_is_not_finite() {
    let judge = |want: f32, bound: f64, got: f32| validate::judge(&[want], &[bound], &[got]).ok();
    assert!(judge(1.0, 0.1, 1.05) && !judge(1.0, 0.1, 1.2));
    assert!(!judge(1.0, 0.1, f32::NAN) && !judge(1.0, 0.1, f32::INFINITY));
    assert!(judge(f32::NAN, 0.0, -f32::NAN) && !judge(f32::NAN, 0.0, 1.0) && !judge(f32::NAN, 0.0, f32::INFINITY));
    assert!(judge(f32::INFINITY, 0.0, f32::INFINITY) && !judge(f32::INFINITY, 0.0, f32::NEG_INFINITY));
    assert!(!judge(f32::INFINITY, 0.0, f32::MAX) && !judge(0.0, 0.0, f32::MIN_POSITIVE));
    assert!(judge(1.0, f64::INFINITY, f32::NAN), "open");
    // Open elements are counted, not passed over in silence.
    let all = validate::judge(&[1.0, 2.0, f32::NAN], &[f64::INFINITY, 1.0, 0.0], &[5.0, 2.5, f32::NAN]);
    assert_eq!((all.open, all.finite, all.not_finite, all.error), (1, 1, 1, 0.5));
    assert_eq!(all.worst.map(|w| w.at), Some(1));
}

/// Random nets of all ops, on inputs that are zero, tiny, denormal, huge, infinite or NaN: every engine gives the reference's
/// NaN and infinities, and its numbers within the bound.
#[test]
fn engines_agree_at_the_edges() {
    let engines = engines();
    let (mut finite, mut not_finite, mut open) = (0, 0, 0);
    for seed in 0..60 {
        let net = seeded(seed);
        let graph = optimised(&net.graph);
        let layered = plan::build(&graph, meta("edges"), &plan::Options::LAYERED).expect("a plan");
        for case in validate::cases(&layered, 1) {
            let expected = expect(&net.graph, &case.input, Sums::F32);
            for engine in &engines {
                let y = infer((engine.compile)(&layered).as_mut(), &case.input);
                let found = expected.judge(&y);
                assert!(
                    found.ok(),
                    "seed {seed}, {} at `{}`: {:?}\n{}",
                    engine.name,
                    case.name,
                    found.worst,
                    print::text(&net.graph)
                );
                (finite, not_finite, open) = (finite + found.finite, not_finite + found.not_finite, open + found.open);
            }
        }
    }
    println!("{finite} finite elements, {not_finite} NaN or infinite ones, {open} open ones");
    assert!(finite > open && not_finite > open / 4, "hardly anything was compared: {finite} {not_finite} {open}");
}

/// One weight of a net that is 2 % of its layer's usual size off, at most: the bound catches it.
#[test]
fn a_wrong_weight_is_found() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits/digits.toml");
    let (net, _) = front::load(&path, &[], None).unwrap_or_else(|e| panic!("{}", mnc_compiler::diag::render(&e, false)));
    let passes = validate::passes(&net, &[], |_| ()).expect("passes run");
    assert!(passes.iter().any(|p| matches!(p.outcome, Outcome::Compared(_))));
    let net = mnc_compiler::compile(net).expect("it compiles");
    let cases: Vec<_> = validate::cases(&net.plan, 3).into_iter().filter(|c| c.usual).collect();
    let expected = validate::each(&cases, |case| expect(&net.specified, &case.input, Sums::F32));
    let ok = |plan: &plan::Plan| {
        let mut engine = NativeNet::new(plan.clone(), Isa::detect());
        cases.iter().zip(&expected).all(|(case, expected)| expected.judge(&infer(&mut engine, &case.input)).ok())
    };
    assert!(ok(&net.plan), "the net as it is");
    let (mut random, mut found, mut tried) = (Random::new(1), 0, 0);
    for entry in &net.plan.weights.entries {
        for _ in 0..8 {
            let at = entry.offset + random.below(entry.len);
            let size =
                (net.plan.weights.data[entry.offset..][..entry.len].iter().map(|w| w * w).sum::<f32>() / entry.len as f32).sqrt();
            // Panels are filled up with zeros that nothing reads.
            if net.plan.weights.data[at] == 0.0 || size == 0.0 {
                continue;
            }
            let mut plan = net.plan.clone();
            plan.weights.data[at] += 0.02 * size;
            tried += 1;
            found += usize::from(!ok(&plan));
        }
    }
    println!("{found} of {tried} wrong weights found");
    assert!(tried > 50 && found * 10 >= tried * 9, "{found} of {tried} wrong weights found");
}

/// A layer that Strassen's method computes: every engine is within the bound that allows for it, at the edges of f32 too, and wrong
/// factors are not.
#[test]
fn strassens_method_is_within_its_bound() {
    let (mut graph, mut random) = (Graph::default(), Random::new(5));
    let x = graph.add_input("x", Shape::hwc(8, 8, 128));
    let (weight, bias) = (random.he(128 * 128, 128), random.he(128, 2));
    let (weight, bias) = (graph.consts.add(weight), Some(graph.consts.add(bias)));
    let conv = Conv {
        in_c: 128,
        out_c: 128,
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        groups: 1,
        pad: Padding::default(),
        pad_value: None,
        weight,
        bias,
        act: Activation::None,
        residual: false,
        pool: false,
    };
    let y = graph.add("y", Op::Conv(conv), &[x]).expect("shapes that fit");
    graph.outputs.push(y);
    let by_it = plan::Options { strassen: true, ..plan::Options::LAYERED };
    let plan = plan::build(&graph, meta("quarters"), &by_it).expect("a plan");
    let factors = plan.steps().find_map(|s| match &s.kernel {
        plan::Kernel::Pointwise { params, weight, .. } if params.method == Method::Strassen => Some(*weight),
        _ => None,
    });
    let entry = plan.weights.entries[factors.expect("a step by it").0].clone();
    let cases = validate::cases(&plan, 3);
    let expected = validate::each(&cases, |case| expect(&graph, &case.input, Sums::Strassen));
    let (mut worst, mut compared) = (0.0f64, 0);
    for engine in engines().iter().filter(|e| !e.name.contains("self-contained")) {
        let mut one = (engine.compile)(&plan);
        for (case, expected) in cases.iter().zip(&expected) {
            let agreement = expected.judge(&infer(&mut *one, &case.input));
            assert!(agreement.ok(), "{} on {}: {agreement:?}", engine.name, case.name);
            worst = worst.max(if case.usual { agreement.share } else { 0.0 });
            compared += agreement.finite;
        }
    }
    println!("at most {worst:.2} of the bound, {compared} elements");
    assert!(worst > 0.01 && compared > 100_000, "at most {worst:.2} of the bound, {compared} elements");
    let usual: Vec<_> = cases.iter().zip(&expected).filter(|(c, _)| c.usual).collect();
    let size = (plan.weights.data[entry.offset..][..entry.len].iter().map(|w| w * w).sum::<f32>() / entry.len as f32).sqrt();
    for _ in 0..50 {
        let at = random.below(entry.len);
        let mut plan = plan.clone();
        plan.weights.data[entry.offset + at] += 0.02 * size;
        let mut wrong = NativeNet::new(plan, Isa::detect());
        assert!(usual.iter().any(|(case, expected)| !expected.judge(&infer(&mut wrong, &case.input)).ok()), "factor {at}");
    }
}
