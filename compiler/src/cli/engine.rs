//! The engines behind one face: a compiled net that answers one input at a time.

use std::time::{Duration, Instant};

use mnc_runtime::isa::Isa;
use mnc_runtime::net::Net as _;

use super::Failure;
use super::args::{self, EngineName};
use super::object::{Built, ObjectNet};
use crate::Compiled;
use crate::back::clif::{JitNet, JitOptions, compile_jit_with};
use crate::back::native::NativeNet;
use crate::diag::Diagnostic;
use crate::front::Net;
use crate::front::ast::MAX_THREADS;
use crate::plan::Options;
use crate::validate::answer;

/// A net ready to run.
pub(super) enum Engine<'a> {
    /// Code in memory.
    Jit(Box<JitNet>, JitOptions),
    /// The runtime's kernels, by its interpreter.
    Native(Box<NativeNet>),
    /// An object file, in a program of its own.
    Object(ObjectNet),
    /// Naive loops over the graph as specified.
    Reference(&'a Compiled),
}

impl<'a> Engine<'a> {
    /// The engine that `args` ask for.
    pub fn new(args: &args::Engine, net: &'a Compiled) -> Result<Self, Failure> {
        match args.engine {
            EngineName::Jit => Self::jit(net, args.jit()),
            EngineName::Native => Ok(Self::native(net, Isa::detect())),
            EngineName::Reference => Ok(Engine::Reference(net)),
        }
    }

    /// Code in memory.
    pub fn jit(net: &Compiled, options: JitOptions) -> Result<Self, Failure> {
        let layered;
        let plan = if options.wants_layers() {
            layered = net.layered().map_err(|e| Failure::job(Diagnostic::error(e.to_string())))?;
            &layered
        } else {
            &net.plan
        };
        let jit = compile_jit_with(plan, options).map_err(|e| Failure::job(e.diagnostic()))?;
        Ok(Engine::Jit(Box::new(jit), options))
    }

    /// The runtime's kernels for `isa`.
    pub fn native(net: &'a Compiled, isa: Isa) -> Self {
        Engine::Native(Box::new(NativeNet::new(net.plan.clone(), isa)))
    }

    /// Every engine that this machine has but the reference: each instruction set's kernels, and the JIT in both its forms.
    pub fn all(net: &'a Compiled) -> Result<Vec<Self>, Failure> {
        let mut all: Vec<Self> = Isa::available().map(|isa| Self::native(net, isa)).collect();
        for self_contained in [false, true] {
            all.push(Self::jit(net, JitOptions { self_contained })?);
        }
        Ok(all)
    }

    /// Object files in both their forms, and why there are none, if so.
    pub fn objects(net: &'a Compiled) -> Result<(Vec<Self>, Option<String>), Failure> {
        let mut all = Vec::new();
        for self_contained in [false, true] {
            match ObjectNet::build(net, self_contained)? {
                Built::Program(net) => all.push(Engine::Object(net)),
                Built::Skipped(why) => return Ok((all, Some(why))),
            }
        }
        Ok((all, None))
    }

    /// What `--engine` and JSON call it.
    pub fn name(&self) -> String {
        match self {
            Engine::Jit(_, JitOptions { self_contained: false }) => "jit".to_owned(),
            Engine::Jit(_, JitOptions { self_contained: true }) => "jit-self-contained".to_owned(),
            Engine::Native(net) => format!("native-{}", net.isa().name()),
            Engine::Object(net) => net.name().to_owned(),
            Engine::Reference(_) => "reference".to_owned(),
        }
    }

    /// One inference; the time it took, copying in and out not counted.
    pub fn run(&mut self, input: &[f32], output: &mut [f32]) -> Result<Duration, Failure> {
        let start = Instant::now();
        match self {
            Engine::Jit(net, _) => {
                net.run(input, output).map_err(|e| Failure::job(Diagnostic::error(e.to_string())))?;
                Ok(start.elapsed())
            }
            Engine::Native(net) => {
                net.run(input, output).map_err(|e| Failure::job(Diagnostic::error(e.to_string())))?;
                Ok(start.elapsed())
            }
            Engine::Object(net) => {
                net.run(input, output)?;
                Ok(start.elapsed())
            }
            Engine::Reference(net) => {
                let answer = answer(&net.specified, input);
                let took = start.elapsed();
                output.copy_from_slice(&answer);
                Ok(took)
            }
        }
    }
}

impl args::Threads {
    /// Makes `net` one for as many threads as the user says, if he does.
    pub fn apply(self, net: &mut Net) -> Result<(), Failure> {
        let Some(threads) = self.threads else { return Ok(()) };
        if !(1..=MAX_THREADS).contains(&threads) {
            let d = Diagnostic::error(format!(
                "`--threads {threads}` is not possible: from 1 to {MAX_THREADS} threads share an inference"
            ));
            return Err(Failure::input(d));
        }
        net.plan.threads = threads;
        Ok(())
    }
}

impl args::Engine {
    /// Makes `net` one for this engine.
    pub fn apply(&self, net: &mut Net) -> Result<(), Failure> {
        self.threads.apply(net)?;
        let options = self.jit();
        let single = match self.engine {
            EngineName::Native => return Ok(()),
            EngineName::Jit if !options.wants_layers() => return Ok(()),
            EngineName::Jit => {
                net.plan = Options::LAYERED;
                net.tuned = None;
                if options.self_contained { "jit --self-contained" } else { "jit (without wide kernels for this CPU)" }
            }
            EngineName::Reference => "reference",
        };
        net.plan.threads = 1;
        match self.threads.threads {
            None | Some(1) => Ok(()),
            Some(n) => Err(Failure::input(
                Diagnostic::error(format!("`--threads {n}` is not possible: the engine `{single}` runs on one thread"))
                    .help("with `--engine native` several threads share an inference"),
            )),
        }
    }

    /// How the JIT computes.
    fn jit(&self) -> JitOptions {
        JitOptions { self_contained: self.self_contained }
    }
}
