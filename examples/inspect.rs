//! Shows what becomes of a spec: the graph as specified, every pass and its remarks, the graph after them, the plan.
//!
//! ```sh
//! cargo run --features jit --example inspect
//! cargo run --features jit --example inspect -- examples/nets/mobilenet_v3_small.toml alpha=0.5 passes.separate=structure
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};

use mnc::compiler::front::{self, Net};
use mnc::compiler::plan::{self, Meta};
use mnc::compiler::{diag, ir, pass};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits/digits.toml");
    let spec = args.next().map_or(shipped, PathBuf::from);
    let sets: Vec<(String, String)> =
        args.filter_map(|a| a.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))).collect();

    let (net, _warnings) = front::load(&spec, &sets, None).map_err(|d| diag::render(&d, false))?;
    let Net { name, mut graph, preprocess, labels, weights_from, passes, plan: options, .. } = net;
    let (macs, params) = (graph.macs(), graph.params());
    println!("{name}: {macs} multiply-adds, {params} parameters, {weights_from}");
    println!("\n== as specified: {} nodes\n{}", graph.len(), ir::print::text(&graph));

    let remarks = pass::run(&mut graph, &passes, None, None)?;
    for ran in &remarks.ran {
        println!("== {} ({:.1?}){}", ran.pass, ran.time, if ran.changed { "" } else { ": nothing to do" });
        for remark in remarks.all.iter().filter(|r| r.pass == ran.pass) {
            let verb = if remark.done { "" } else { "refused: " };
            println!("   {}: {verb}{}", remark.node, remark.message);
        }
    }
    println!("\n== after the passes: {} nodes\n{}", graph.len(), ir::print::text(&graph));

    // The plan with its memory map. `plan::svg::svg` draws the map, `ir::dot::dot` the graph.
    let plan = plan::build(&graph, Meta { name, preprocess, labels, params }, &options)?;
    println!("== the plan\n{}", plan::print::text(&plan));
    Ok(())
}
