//! mnc as `compare.py` sees it: nets that the macro compiled into this program (`mnc`), and the JIT (`mnc-jit`).
//!
//! `mnc-peer export FOLDER` writes the networks for the other engines; without arguments it answers the requests of [`serve`],
//! and `peak`: the most GFLOP/s that one core can do.
#![forbid(unsafe_code)]

mod export;
mod nets;

use std::process::ExitCode;

use mnc::Net;
use mnc::runtime::isa::{Isa, peak_fma};
use serve::{Engine, Loaded, Request, serve};

use crate::nets::Spec;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => serve(load, other).map_err(|e| e.to_string()),
        ["export", folder] => export::export(folder.as_ref()),
        _ => Err("usage: mnc-peer [export FOLDER]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mnc-peer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn load(request: &Request) -> Loaded {
    // Here a number of threads goes in, once nets can have one.
    if request.threads != 1 && request.engine != "mnc-batch" {
        return Err("nets run on one thread so far".into());
    }
    let spec = Spec::find(&request.net)?;
    let net = match request.engine.as_str() {
        "mnc" => (spec.boxed)(),
        "mnc-jit" => jit(spec)?,
        // Here goes a run over several pictures at a time, once there is one.
        "mnc-batch" => return Err("there is no run over several pictures so far".into()),
        other => return Err(format!("no engine {other}")),
    };
    let output = vec![0.0; net.output_shape().iter().product()];
    Ok(Box::new(Compiled { net, input: request.input()?, output }))
}

fn jit(spec: &Spec) -> Result<Box<dyn Net>, String> {
    let compiled = mnc::compiler::compile(spec.load()?).map_err(|e| e.to_string())?;
    let net = mnc::compiler::back::clif::compile_jit(&compiled.plan).map_err(|e| e.to_string())?;
    Ok(Box::new(net))
}

fn other(line: &str) -> Option<String> {
    (line == "peak").then(|| peak_fma(Isa::detect()).to_string())
}

struct Compiled {
    net: Box<dyn Net>,
    input: Vec<f32>,
    output: Vec<f32>,
}

impl Engine for Compiled {
    fn run(&mut self) -> Result<(), String> {
        self.net.run(&self.input, &mut self.output).map_err(|e| e.to_string())
    }

    fn output(&self) -> Vec<f32> {
        self.output.clone()
    }
}
