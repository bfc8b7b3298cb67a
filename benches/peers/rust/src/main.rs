//! tract and rten as `compare.py` sees them: answers the requests of [`serve`] with the ONNX files of the folder.
//!
//! `rust-peers once ENGINE NET FOLDER` loads a net, answers once, prints the memory it took and ends, for the measurement of a cold start.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::Arc;

use rten::{Model, NodeId, RunOptions, ThreadPool};
use rten_tensor::prelude::*;
use rten_tensor::{NdTensor, Tensor as RtenTensor};
use serve::{Engine, Loaded, Request, serve};
use tract_onnx::prelude::*;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match &args[..] {
        [] => serve(load, |_| None).map_err(|e| e.to_string()),
        [once, engine, net, folder] if once == "once" => {
            let request = Request { engine: engine.clone(), net: net.clone(), threads: 1, folder: folder.into() };
            load(&request).and_then(|mut e| e.run()).map(|()| println!("{}", serve::memory()))
        }
        _ => Err("usage: rust-peers [once ENGINE NET FOLDER]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rust-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn load(request: &Request) -> Loaded {
    match request.engine.as_str() {
        "tract" => Ok(Box::new(Tract::load(request)?)),
        "rten" => Ok(Box::new(Rten::load(request)?)),
        other => Err(format!("no engine {other}")),
    }
}

/// The input of a model `[1, channels, height, width]`, out of NHWC.
fn nchw(input: &[f32], channels: usize) -> Vec<f32> {
    (0..channels).flat_map(|c| input.iter().skip(c).step_by(channels).copied()).collect()
}

struct Tract {
    model: Arc<TypedRunnableModel>,
    input: Tensor,
    output: Vec<f32>,
}

impl Tract {
    fn load(request: &Request) -> Result<Self, String> {
        Self::try_load(request).map_err(|e| format!("{e:#}"))
    }

    fn try_load(request: &Request) -> TractResult<Self> {
        if request.threads > 1 {
            multithread::set_default_executor(multithread::Executor::multithread(request.threads));
        }
        let model = tract_onnx::onnx().model_for_path(request.file("onnx"))?.into_optimized()?;
        let shape = model.input_fact(0)?.shape.as_concrete().map(<[usize]>::to_vec).unwrap_or_default();
        let floats = nchw(&request.input().map_err(TractError::msg)?, shape.get(1).copied().unwrap_or(1));
        Ok(Self { model: model.into_runnable()?, input: Tensor::from_shape(&shape, &floats)?, output: Vec::new() })
    }
}

impl Engine for Tract {
    fn run(&mut self) -> Result<(), String> {
        let answer = self.model.run(tvec!(self.input.clone().into())).map_err(|e| e.to_string())?;
        self.output.clear();
        self.output.extend(answer[0].view().as_slice::<f32>().map_err(|e| e.to_string())?);
        Ok(())
    }

    fn output(&self) -> Vec<f32> {
        self.output.clone()
    }
}

struct Rten {
    model: Model,
    ends: (NodeId, NodeId),
    options: RunOptions,
    input: NdTensor<f32, 4>,
    output: Vec<f32>,
}

impl Rten {
    fn load(request: &Request) -> Result<Self, String> {
        let model = Model::load_file(request.file("onnx")).map_err(|e| e.to_string())?;
        let ends = (model.input_ids()[0], model.output_ids()[0]);
        let shape = model.input_shape(0).ok_or("an input without a shape")?;
        let fixed = |at: usize| match shape.get(at) {
            Some(rten::Dimension::Fixed(n)) => Ok(*n),
            _ => Err("an input without a fixed shape"),
        };
        let shape = [fixed(0)?, fixed(1)?, fixed(2)?, fixed(3)?];
        let input = NdTensor::from_data(shape, nchw(&request.input()?, shape[1]));
        let pool = Arc::new(ThreadPool::with_num_threads(request.threads));
        let options = RunOptions::default().with_thread_pool(Some(pool));
        Ok(Self { model, ends, options, input, output: Vec::new() })
    }
}

impl Engine for Rten {
    fn run(&mut self) -> Result<(), String> {
        let input = vec![(self.ends.0, self.input.view().into())];
        let mut answer = self.model.run(input, &[self.ends.1], Some(self.options.clone())).map_err(|e| e.to_string())?;
        let answer: RtenTensor<f32> = answer.remove(0).try_into().map_err(|_| "the output is not f32")?;
        self.output = answer.into_data();
        Ok(())
    }

    fn output(&self) -> Vec<f32> {
        self.output.clone()
    }
}
