//! The engine's side of the line protocol that `compare.py` speaks. `engines.py` is the same in Python.
//!
//! | request | answer |
//! |---|---|
//! | `load ENGINE NET THREADS FOLDER` | `ok`, once the net has run |
//! | `run K` | the milliseconds of K inferences, after one that is not counted |
//! | `for SECONDS` | how many pictures were classified, and the seconds they took |
//! | `output` | the last output |
//!
//! Where an engine cannot do what is asked, the answer is `refuses: ` and the reason.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A net ready to run on the input it was loaded with.
pub trait Engine {
    /// One inference.
    ///
    /// # Errors
    /// What the engine says.
    fn run(&mut self) -> Result<(), String>;
    /// Pictures of one inference.
    fn pictures(&self) -> usize {
        1
    }
    /// What the last inference gave.
    fn output(&self) -> Vec<f32>;
}

/// What `load` asks for.
pub struct Request {
    /// Name of the engine.
    pub engine: String,
    /// Name of the net.
    pub net: String,
    /// Threads it may use.
    pub threads: usize,
    /// Where the models are.
    pub folder: PathBuf,
}

impl Request {
    /// The path of `NET.EXTENSION`.
    #[must_use]
    pub fn file(&self, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", self.net))
    }

    /// The input, in NHWC order: the floats in `NET.input`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn input(&self) -> Result<Vec<f32>, String> {
        let path = self.file("input");
        let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect())
    }
}

/// What `load` gives.
pub type Loaded = Result<Box<dyn Engine>, String>;

/// Answers requests until the end of the input. `other` answers what the protocol does not know.
///
/// # Errors
/// Standard input or output is broken.
pub fn serve(load: impl Fn(&Request) -> Loaded, other: impl Fn(&str) -> Option<String>) -> std::io::Result<()> {
    let mut engine: Option<Box<dyn Engine>> = None;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let answer = match (&line.split_whitespace().collect::<Vec<_>>()[..], &mut engine) {
            (["load", name, net, threads, folder], engine) => {
                *engine = None; // two nets at once would share the caches
                let (threads, folder) = (threads.parse().unwrap_or(1), folder.into());
                let request = Request { engine: name.to_string(), net: net.to_string(), threads, folder };
                let loaded = load(&request).and_then(|mut e| e.run().map(|()| e));
                loaded.map(|loaded| {
                    *engine = Some(loaded);
                    "ok".into()
                })
            }
            (["run", count], Some(engine)) => run(engine.as_mut(), count.parse().unwrap_or(1)),
            (["for", seconds], Some(engine)) => run_for(engine.as_mut(), seconds.parse().unwrap_or(1.0)),
            (["output"], Some(engine)) => Ok(join(engine.output())),
            _ => other(&line).ok_or_else(|| format!("no such request, or nothing loaded: {line}")),
        };
        let answer = answer.unwrap_or_else(|reason| format!("refuses: {}", reason.replace('\n', " ")));
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// The line of /proc that says how much memory the process had at most; empty where there is no /proc.
#[must_use]
pub fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|l| l.starts_with("VmHWM")).unwrap_or_default().into()
}

fn run(engine: &mut dyn Engine, count: usize) -> Result<String, String> {
    engine.run()?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        engine.run()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(join(times))
}

fn run_for(engine: &mut dyn Engine, seconds: f64) -> Result<String, String> {
    let (mut count, start, limit) = (0, Instant::now(), Duration::from_secs_f64(seconds));
    while start.elapsed() < limit {
        engine.run()?;
        count += engine.pictures();
    }
    Ok(format!("{count} {}", start.elapsed().as_secs_f64()))
}

fn join(numbers: Vec<impl ToString>) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
