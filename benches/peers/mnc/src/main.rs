//! mnc as `compare.py` sees it: nets that the macro compiled into this program (`mnc`), the JIT (`mnc-jit`), and the JIT with Strassen's method
//! (`mnc-strassen`).
//!
//! `mnc-peer export FOLDER` writes the networks for the other engines, `mnc-peer pair NET THREADS ROUNDS` times the first two beside one
//! another; without arguments it answers the requests of [`serve`],
//! and `peak`: the most GFLOP/s that one core can do.
#![forbid(unsafe_code)]

mod export;
mod nets;
mod pair;

use std::process::ExitCode;

use mnc::compiler::plan::{Kernel, Step};
use mnc::runtime::isa::{Isa, peak_fma};
use mnc::runtime::params::Method;
use mnc::{Net, Team};
use serve::{Engine, Loaded, Request, serve};

use crate::nets::Spec;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => serve(load, other).map_err(|e| e.to_string()),
        ["export", folder] => export::export(folder.as_ref()),
        ["pair", net, threads, rounds] => pair::pair(net, threads, rounds),
        _ => Err("usage: mnc-peer [export FOLDER | pair NET THREADS ROUNDS]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mnc-peer: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Pictures that every thread of a batch has on average.
const PICTURES: usize = 8;

fn load(request: &Request) -> Loaded {
    let spec = Spec::find(&request.net)?;
    let threads = request.threads;
    let input = request.input()?;
    let net = match (request.engine.as_str(), threads) {
        ("mnc", 1 | 2) => (spec.boxed[threads - 1])(),
        ("mnc", _) => return Err("this program has nets for one thread and for two".into()),
        ("mnc-jit", _) => jit(spec, threads, false)?,
        ("mnc-strassen", _) => jit(spec, threads, true)?,
        ("mnc-batch", _) => {
            let nets: Vec<_> = (0..threads).map(|_| (spec.boxed[0])()).collect();
            let [one_in, one_out] = [nets[0].input_shape(), nets[0].output_shape()].map(|s| s.iter().product::<usize>());
            let pictures = threads * PICTURES;
            let inputs = input.iter().copied().cycle().take(pictures * one_in).collect();
            let outputs = vec![0.0; pictures * one_out];
            return Ok(Box::new(Batch { nets, team: Team::new(threads), inputs, outputs, pictures }));
        }
        (other, _) => return Err(format!("no engine {other}")),
    };
    let output = vec![0.0; net.output_shape().iter().product()];
    Ok(Box::new(Compiled { net, team: Team::new(threads), input, output }))
}

fn jit(spec: &Spec, threads: usize, strassen: bool) -> Result<Box<dyn Net + Send>, String> {
    let mut net = spec.load(threads)?;
    net.plan.strassen = strassen;
    let compiled = mnc::compiler::compile(net).map_err(|e| e.to_string())?;
    let by_it = |step: &Step| matches!(&step.kernel, Kernel::Pointwise { params, .. } if params.method == Method::Strassen);
    if strassen && !compiled.plan.steps().any(by_it) {
        return Err("it has no layer wide enough for Strassen's method".into());
    }
    let net = mnc::compiler::back::clif::compile_jit(&compiled.plan).map_err(|e| e.to_string())?;
    Ok(Box::new(net))
}

fn other(line: &str) -> Option<String> {
    (line == "peak").then(|| peak_fma(Isa::detect()).to_string())
}

struct Compiled {
    net: Box<dyn Net + Send>,
    team: Team,
    input: Vec<f32>,
    output: Vec<f32>,
}

impl Engine for Compiled {
    fn run(&mut self) -> Result<(), String> {
        self.net.run_on(&mut self.team, &self.input, &mut self.output).map_err(|e| e.to_string())
    }

    fn output(&self) -> Vec<f32> {
        self.output.clone()
    }
}

/// Many pictures, each on one core.
struct Batch {
    nets: Vec<Box<dyn Net + Send>>,
    team: Team,
    inputs: Vec<f32>,
    outputs: Vec<f32>,
    pictures: usize,
}

impl Engine for Batch {
    fn run(&mut self) -> Result<(), String> {
        mnc::run_batch(&mut self.team, &mut self.nets, &self.inputs, &mut self.outputs).map_err(|e| e.to_string())
    }

    fn pictures(&self) -> usize {
        self.pictures
    }

    fn output(&self) -> Vec<f32> {
        self.outputs[..self.outputs.len() / self.pictures].to_vec()
    }
}
