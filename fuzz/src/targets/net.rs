//! Random nets: through the planner, and through every engine against the reference.

use mnc_compiler::back::clif::{JitOptions, compile_jit_with};
use mnc_compiler::back::native::NativeNet;
use mnc_compiler::front::{ColorOrder, Filter, Preprocess, Resize};
use mnc_compiler::ir::Graph;
use mnc_compiler::pass;
use mnc_compiler::plan::certify::certify;
use mnc_compiler::plan::{self, Meta, Options, Plan, Prefer, Stream, print, svg};
use mnc_runtime::isa::Isa;
use mnc_runtime::net::Net;

use super::draw::Bytes;
use crate::r#gen::{self, Case};
use crate::tolerance::{Sums, assert_close, bound};

/// The net that `rest` draws, as drawn or after the passes, and its plan as the first two bytes choose it.
fn drawn(data: &[u8]) -> Option<(Case, Plan, u8)> {
    let [a, b, rest @ ..] = data else { return None };
    let case = Bytes(rest).recipe().build();
    let stream = [Stream::Auto, Stream::Never, Stream::Always, Stream::Always][usize::from(a & 3)];
    let prefer = if a & 4 == 0 { Prefer::Speed } else { Prefer::Memory };
    let (threads, grouped) = (usize::from(a >> 3 & 3) + 1, a & 32 == 0);
    let options = Options { threads, prefer, stream, grouped, ..Options::default() };
    let options = if a & 128 == 0 { options } else { Options::LAYERED };
    let graph = if a & 64 == 0 { optimised(&case.graph) } else { case.graph.clone() };
    let plan = plan::build(&graph, meta(), &options).unwrap_or_else(|e| panic!("a valid net has a plan: {e}"));
    certify(&plan).unwrap_or_else(|e| panic!("{}\n{}", e.join("\n"), print::text(&plan)));
    Some((case, plan, *b))
}

fn optimised(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    pass::run(&mut graph, &Default::default(), None, None).unwrap_or_else(|e| panic!("{e}"));
    graph
}

fn meta() -> Meta {
    let (mean, std) = (vec![0.5; 3], vec![0.5; 3]);
    let (resize, filter, order) = (Resize::Squash, Filter::Bilinear, ColorOrder::Rgb);
    let preprocess = Preprocess { resize, filter, order, mean, std, in_graph: false };
    Meta { name: "fuzzed".into(), preprocess, labels: Vec::new(), params: 0 }
}

/// Any net under any options has a plan that is sound, and that can be shown.
pub fn planner(data: &[u8]) {
    let Some((_, plan, how)) = drawn(data) else { return };
    match how & 7 {
        0 => assert!(!print::text(&plan).is_empty(), "an empty listing"),
        1 => assert!(!svg::svg(&plan).is_empty(), "an empty picture"),
        _ => {}
    }
}

/// Any net, planned in any way, on one of this machine's engines: within the bound of rounding from the reference.
pub fn engines(data: &[u8]) {
    let Some((case, plan, how)) = drawn(data) else { return };
    let isas: Vec<Isa> = Isa::available().collect();
    let isa = isas[usize::from(how >> 2) % isas.len()];
    let (name, mut net): (_, Box<dyn Net>) = match how & 3 {
        // Code in memory takes milliseconds to make, kernels nothing.
        0 => {
            let layered = Options::LAYERED;
            let plan = if how & 4 == 0 { plan } else { plan::build(&case.graph, meta(), &layered).expect("it has a plan") };
            let self_contained = how & 4 != 0;
            let jit = compile_jit_with(&plan, JitOptions { self_contained });
            ("jit", Box::new(jit.unwrap_or_else(|e| panic!("{e}\n{}", print::text(&plan)))))
        }
        _ => (isa.name(), Box::new(NativeNet::new(plan, isa))),
    };
    let expected = r#gen::answer(&case.graph, &case.input);
    let bound = bound(&case.graph, &case.input, Sums::F32);
    let mut output = vec![f32::NAN; net.output_len()];
    net.run(&case.input, &mut output).expect("lengths are those of the shapes");
    assert_close(&expected, &output, &bound, name);
}
