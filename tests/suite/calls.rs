//! The JIT as a list of calls of the runtime's kernels: the bits of the interpreter, streamed and on threads.

use std::time::Instant;

use mnc_compiler::back::clif::{ClifError, JitOptions, compile_jit, compile_jit_with};
use mnc_compiler::back::native::NativeNet;
use mnc_compiler::pass;
use mnc_compiler::plan::{self, Options, Plan, Prefer, Stream};
use mnc_runtime::isa::Isa;
use mnc_runtime::net::Net;
use mnc_runtime::team::Team;

use crate::r#gen;
use crate::plan::{meta, shipped};

/// A random net after the passes, planned as `options` say, and its input.
fn random(seed: u64, options: &Options) -> (Plan, Vec<f32>) {
    let case = r#gen::seeded(seed);
    let mut graph = case.graph;
    pass::run(&mut graph, &Default::default(), None, None).expect("the passes run");
    (plan::build(&graph, meta("net"), options).expect("a plan"), case.input)
}

/// One inference, into an output of garbage.
fn infer(net: &mut dyn Net, x: &[f32]) -> Vec<u32> {
    let mut y = vec![f32::NAN; net.output_len()];
    net.run(x, &mut y).expect("lengths are those of the shapes");
    y.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn calls_give_the_bits_of_native() {
    let mut teams: Vec<Team> = (1..=4).map(Team::new).collect();
    let mut streamed = 0;
    for seed in 0..60 {
        for (threads, prefer) in [(1, Prefer::Speed), (1, Prefer::Memory), (2, Prefer::Speed), (3, Prefer::Memory)] {
            let (plan, x) =
                random(seed, &Options { threads, prefer, stream: Stream::Auto, grouped: true, winograd: true, strassen: true });
            streamed += plan.stages.iter().filter(|s| s.steps.len() > 1).count();
            let want = infer(&mut NativeNet::new(plan.clone(), Isa::detect()), &x);
            let mut jit = compile_jit(&plan).expect("code");
            assert_eq!((jit.input_shape(), jit.arena_bytes()), (plan.input_shape().dims(), plan.memory.arena_bytes));
            for _ in 0..2 {
                assert_eq!(infer(&mut jit, &x), want, "seed {seed}, {threads} threads");
            }
            for team in &mut teams {
                let mut y = vec![f32::NAN; plan.output_len()];
                jit.run_on(team, &x, &mut y).expect("lengths are those of the shapes");
                let y: Vec<u32> = y.iter().map(|v| v.to_bits()).collect();
                assert_eq!(y, want, "seed {seed}, plan for {threads} threads, team of {}", team.threads());
            }
            assert!(jit.run(&x[1..], &mut vec![0.0; plan.output_len()]).is_err());
        }
    }
    assert!(streamed > 20, "{streamed} chains");
}

/// A whole network, and how long it takes to make it: for a machine to be read, not judged.
#[test]
fn a_whole_net_compiles_at_once() {
    let graph = shipped("mobilenet_v2", "1.0", 224);
    for threads in [1, 2] {
        let plan = plan::build(&graph, meta("v2"), &Options { threads, ..Options::default() }).expect("a plan");
        let mut native = NativeNet::new(plan.clone(), Isa::detect());
        let start = Instant::now();
        let mut jit = compile_jit(&plan).expect("code");
        let took = start.elapsed();
        let x: Vec<f32> = (0..plan.input_len()).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect();
        assert_eq!(infer(&mut jit, &x), infer(&mut native, &x));
        let time = |net: &mut dyn Net| {
            let one = |_| {
                let start = Instant::now();
                infer(net, &x);
                start.elapsed()
            };
            (0..15).map(one).min().expect("some")
        };
        let (a, b) = (time(&mut jit), time(&mut native));
        println!("V2 for {threads} threads: compiled in {took:.1?}, {a:.2?} an inference, native {b:.2?}");
    }
}

#[test]
fn self_contained_code_says_what_it_does_not_know() {
    let alone = |plan: &Plan| compile_jit_with(plan, JitOptions { self_contained: true });
    let graph = shipped("mobilenet_v2", "0.5", 96);
    let plan =
        |threads, stream| plan::build(&graph, meta("v2"), &Options { threads, stream, ..Options::default() }).expect("a plan");
    assert!(alone(&plan(1, Stream::Never)).is_ok());
    let error = alone(&plan(2, Stream::Never)).err().expect("threads");
    assert!(error.to_string().contains("several threads"), "{error}");
    let error =
        alone(&plan::build(&graph, meta("v2"), &Options { prefer: Prefer::Memory, ..Options::default() }).expect("a plan"))
            .err()
            .expect("rings");
    assert!(matches!(&error, ClifError::Streamed { what: "a ring of rows", step } if !step.is_empty()), "{error}");
    assert!(error.diagnostic().help.is_some());
    let small = shipped("mobilenet_edgetpu_v2_xs", "1.0", 32);
    let by = |grouped| plan::build(&small, meta("edgetpu"), &Options { grouped, ..Options::LAYERED }).expect("a plan");
    let error = alone(&by(true)).err().expect("groups");
    assert!(matches!(&error, ClifError::Streamed { what: "groups of channels", step } if !step.is_empty()), "{error}");
    let graph = shipped("mobilenet_edgetpu_v2_xs", "1.0", 96);
    let options = Options { grouped: true, winograd: true, ..Options::LAYERED };
    let error = alone(&plan::build(&graph, meta("edgetpu"), &options).expect("a plan")).err().expect("filtering");
    assert!(matches!(&error, ClifError::Streamed { what: "transformed weights", step } if !step.is_empty()), "{error}");
    let options = Options { strassen: true, ..Options::LAYERED };
    let plan = plan::build(&shipped("mobilenet_v1", "0.5", 112), meta("v1"), &options).expect("a plan");
    let error = alone(&plan).err().expect("Strassen's method");
    assert!(matches!(&error, ClifError::Streamed { what: "transformed weights", step } if !step.is_empty()), "{error}");
    let (plan, x) = (by(false), vec![0.5; 32 * 32 * 3]);
    alone(&plan).expect("a dense plan is run");
    let want = infer(&mut NativeNet::new(plan, Isa::detect()), &x);
    assert_eq!(infer(&mut compile_jit(&by(true)).expect("calls"), &x), want);
}
