//! Threads, streaming and batches: whatever the plan, an inference gives the same bits.

use std::path::Path;

use mnc_compiler::back::native::NativeNet;
use mnc_compiler::front;
use mnc_compiler::ir::op::{Activation, Op};
use mnc_compiler::ir::random::Random;
use mnc_compiler::ir::{Graph, Shape};
use mnc_compiler::plan::{self, Kernel, Options, Place, Prefer, Residual, Stream};
use mnc_compiler::{compile, pass};
use mnc_runtime::isa::Isa;
use mnc_runtime::net::{Net, RunError};
use mnc_runtime::params::Method;
use mnc_runtime::team::{Team, run_batch};

use crate::r#gen::{self, Around, BARE, Builder, Window};
use crate::plan::meta;

/// What a plan may be made for, besides threads.
const STYLES: [Options; 7] = [
    Options::LAYERED,
    Options { grouped: true, winograd: true, ..Options::LAYERED },
    Options { stream: Stream::Auto, grouped: true, winograd: true, ..Options::LAYERED },
    Options { stream: Stream::Always, grouped: true, winograd: true, ..Options::LAYERED },
    Options { stream: Stream::Auto, grouped: true, strassen: true, ..Options::LAYERED },
    Options { stream: Stream::Always, grouped: true, strassen: true, ..Options::LAYERED },
    Options { prefer: Prefer::Memory, stream: Stream::Auto, grouped: true, winograd: true, ..Options::LAYERED },
];

/// The most threads that are tried.
const THREADS: usize = 4;

fn bits(output: &[f32]) -> Vec<u32> {
    output.iter().map(|v| v.to_bits()).collect()
}

/// The answer into an output of garbage.
fn infer(net: &mut impl Net, input: &[f32]) -> Vec<u32> {
    let mut output = vec![f32::NAN; net.output_len()];
    net.run(input, &mut output).expect("lengths are those of the shapes");
    bits(&output)
}

/// Plans `graph` in every style for every number of threads and compares; returns how many stages were streamed and shared.
fn same_bits(what: &str, graph: &Graph, input: &[f32], team: &mut Team) -> [usize; 2] {
    let isa = Isa::detect();
    let plan = |options: Options| plan::build(graph, meta("net"), &options).unwrap_or_else(|e| panic!("{what}: {e}"));
    let mut seen = [0; 2];
    // Winograd's filtering and Strassen's method round otherwise, and are for speed alone.
    let [direct, filtered, quartered] = [(false, false), (true, false), (false, true)].map(|(winograd, strassen)| {
        infer(&mut NativeNet::new(plan(Options { grouped: true, winograd, strassen, ..Options::LAYERED }), isa), input)
    });
    for style in STYLES {
        let want = match (style.prefer, style.winograd, style.strassen) {
            (Prefer::Speed, true, _) => &filtered,
            (Prefer::Speed, _, true) => &quartered,
            (Prefer::Speed | Prefer::Memory, _, _) => &direct,
        };
        for threads in 1..=THREADS {
            let options = Options { threads, ..style };
            let plan = plan(options);
            seen[0] += plan.stages.iter().filter(|s| s.steps.len() > 1).count();
            seen[1] += plan.stages.iter().filter(|s| threads > 1 && s.split != plan::Split::Alone).count();
            let mut net = NativeNet::new(plan, isa);
            assert_eq!(&infer(&mut net, input), want, "{what}, {options:?}");
            let mut output = vec![f32::NAN; want.len()];
            net.run_on(team, input, &mut output).unwrap();
            assert_eq!(&bits(&output), want, "{what}, {options:?}, by a team of {}", team.threads());
        }
    }
    seen
}

#[test]
fn random_nets_give_the_same_bits_by_any_plan() {
    let mut team = Team::new(3);
    let mut seen = [0; 2];
    for seed in 0..120 {
        let case = r#gen::seeded(seed);
        let mut graph = case.graph.clone();
        pass::run(&mut graph, &Default::default(), None, None).unwrap();
        for (form, graph) in [("as drawn", &case.graph), ("after the passes", &graph)] {
            let [streamed, shared] = same_bits(&format!("seed {seed} {form}"), graph, &case.input, &mut team);
            seen = [seen[0] + streamed, seen[1] + shared];
        }
    }
    assert!(seen.iter().all(|&n| n > 100), "{seen:?} stages were streamed and shared");
}

#[test]
fn mobilenets_give_the_same_bits_by_any_plan() {
    let mut team = Team::new(4);
    // The last one has 3x3 convolutions, some of them in groups; bands of odd numbers of rows at that size.
    for (name, side) in
        [("mobilenet_v1", "224"), ("mobilenet_v2", "224"), ("mobilenet_v3_large", "224"), ("mobilenet_edgetpu_v2_xs", "88")]
    {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/nets/{name}.toml"));
        let sets = ["input.height", "input.width"].map(|key| (key.to_owned(), side.to_owned()));
        let (net, _) = front::load(&path, &sets, None).unwrap();
        let input = r#gen::uniform(&mut Random::new(9), net.graph.shape(net.graph.inputs[0]).elements(), -2.0, 2.0);
        let graph = compile(net).unwrap().graph;
        let [streamed, shared] = same_bits(name, &graph, &input, &mut team);
        assert!(streamed > 10 && shared > 10, "{name}: {streamed} stages streamed, {shared} shared");
    }
}

/// Convolutions by Winograd's filtering, whose bands hold whole tiles, that add rows from a ring of their own stage: blocks of three 3x3
/// ones, with odd numbers of rows.
#[test]
fn filtered_convolutions_add_rows_of_rings() {
    const SAME: Window = Window { kernel: [3, 3], stride: [1, 1], dilation: [1, 1], around: Around::Same };
    let mut b = Builder::new(5);
    let input = b.graph.add_input("input", Shape::hwc(29, 21, 12));
    let mut block = |x| {
        let x = b.conv(x, SAME, 24, BARE)?;
        let y = b.conv(x, SAME, 24, BARE)?;
        let y = b.conv(y, SAME, 24, BARE)?;
        b.add(Op::Add(Activation::Relu6), &[x, y])
    };
    let output = block(input).and_then(&mut block).and_then(&mut block).expect("the net fits");
    b.graph.outputs.push(output);
    let x = r#gen::uniform(&mut b.random, 29 * 21 * 12, -2.0, 2.0);
    pass::run(&mut b.graph, &Default::default(), None, None).unwrap();
    let found = |options: Options| {
        let plan = plan::build(&b.graph, meta("net"), &options).unwrap();
        let adds = |s: &&plan::Step| match &s.kernel {
            Kernel::Conv { params, residual: Residual::From(Place::Ring { .. }), .. } => params.method != Method::Direct,
            _ => false,
        };
        plan.steps().filter(adds).count()
    };
    let most = STYLES.iter().flat_map(|style| (1..=THREADS).map(|threads| found(Options { threads, ..*style }))).max();
    assert_eq!(most, Some(3));
    same_bits("blocks of convolutions", &b.graph, &x, &mut Team::new(4));
}

/// Pictures of a batch by as many nets as there are, each answer that of its picture alone.
#[test]
fn a_batch_is_its_pictures_one_by_one() {
    let case = r#gen::seeded(3);
    let plan = plan::build(&case.graph, meta("net"), &Options::LAYERED).unwrap();
    let net = NativeNet::new(plan, Isa::detect());
    let (n_in, n_out) = (case.input.len(), net.output_len());
    let inputs = r#gen::uniform(&mut Random::new(1), n_in * 13, -2.0, 2.0);
    let want: Vec<u32> = inputs.chunks(n_in).flat_map(|x| infer(&mut net.clone(), x)).collect();
    for threads in 1..=THREADS {
        for count in [1, 2, 5] {
            let mut nets = vec![net.clone(); count];
            let mut outputs = vec![f32::NAN; n_out * 13];
            run_batch(&mut Team::new(threads), &mut nets, &inputs, &mut outputs).unwrap();
            assert_eq!(bits(&outputs), want, "{count} nets on {threads} threads");
        }
    }
    let mut nets: Vec<Box<dyn Net + Send>> = vec![Box::new(net.clone()), Box::new(net.clone())];
    let mut outputs = vec![f32::NAN; n_out * 13];
    run_batch(&mut Team::new(2), &mut nets, &inputs, &mut outputs).unwrap();
    assert_eq!(bits(&outputs), want, "nets of types known at run time alone");
    let mut team = Team::new(2);
    let mut outputs = vec![7.0; n_out * 13];
    let none: &mut [NativeNet] = &mut [];
    assert_eq!(run_batch(&mut team, none, &inputs, &mut outputs), Err(RunError::Nets));
    let mut nets = [net];
    let error = run_batch(&mut team, &mut nets, &inputs[1..], &mut outputs).unwrap_err();
    assert!(matches!(error, RunError::Input { .. }), "{error}");
    let error = run_batch(&mut team, &mut nets, &inputs, &mut outputs[1..]).unwrap_err();
    assert!(matches!(error, RunError::Output { .. }), "{error}");
    assert!(outputs.iter().all(|&v| v == 7.0), "nothing was computed");
}
