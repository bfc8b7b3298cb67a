//! The emitted source of small nets, and what holds of every net's.

use std::collections::HashSet;
use std::path::Path;

use super::{Options, WeightSource, source, type_name, weight_file};
use crate::front::check_and_lower;
use crate::front::value::parse_toml;
use crate::plan::{Kernel, Plan};

fn plan(spec: &str) -> Plan {
    let root = parse_toml(spec, "spec.toml").unwrap();
    let (net, _) = check_and_lower(&root, Path::new("."), &[], None).unwrap();
    crate::compile(net).unwrap().plan
}

fn options(weights: WeightSource) -> Options {
    Options {
        type_name: "Small".into(),
        docs: vec![" The user's words.".into()],
        weights,
        weights_from: "seeded random weights (seed 1)".into(),
    }
}

const SMALL: &str = r#"
[net]
name = "small"
input = { height = 12, width = 12, mean = 0.5, std = 0.5 }
labels = ["no", "yes"]
classes = 2
[weights]
seed = 1
[[block]]
name = "stem"
kind = "conv"
kernel = 3
stride = 2
out = 8
[[block]]
kind = "inverted_residual"
expand = 3
out = 8
se = true
repeat = 2
[[block]]
kind = "global_avg_pool"
[[block]]
name = "classifier"
kind = "dense"
[[block]]
kind = "softmax"
"#;

#[test]
fn source_of_a_small_net() {
    insta::assert_snapshot!(source(&plan(SMALL), &options(WeightSource::Embedded("small.weights".into()))));
}

#[test]
fn source_with_weights_at_run_time() {
    let spec = "[net]\nname = \"dense\"\ninput = { height = 1, width = 1, channels = 4 }\n[[block]]\nkind = \"dense\"\nout = 3\n";
    insta::assert_snapshot!(source(&plan(spec), &options(WeightSource::Extern)));
}

#[test]
fn one_type_per_distinct_shape_and_no_token_per_weight() {
    for name in ["mobilenet_v1", "mobilenet_v2"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../examples/nets/{name}.toml"));
        let (net, _) = crate::front::load(&path, &[], None).unwrap();
        let plan = crate::compile(net).unwrap().plan;
        let mut classes = HashSet::new();
        for step in plan.steps() {
            match &step.kernel {
                Kernel::Conv { params, .. } => drop(classes.insert(format!("{params:?}"))),
                Kernel::Depthwise { params, .. } => drop(classes.insert(format!("{params:?}"))),
                Kernel::Pointwise { params, .. } => drop(classes.insert(format!("{params:?}"))),
                Kernel::Pool(params) => drop(classes.insert(format!("{params:?}"))),
                Kernel::GlobalPool { .. }
                | Kernel::Add { .. }
                | Kernel::Scale { .. }
                | Kernel::Act { .. }
                | Kernel::Softmax { .. }
                | Kernel::Normalize { .. }
                | Kernel::Pad { .. }
                | Kernel::Copy { .. }
                | Kernel::Constant { .. } => {}
            }
        }
        let text = source(&plan, &options(WeightSource::Embedded("x.weights".into())));
        assert_eq!(text.matches("runtime::shape!").count(), classes.len(), "{name}");
        assert!(plan.steps().count() > classes.len(), "{name} repeats shapes");
        assert!(text.len() < 100_000, "{name}: {} bytes of source", text.len());
        assert!(!text.contains("unsafe"), "{name}");
    }
}

#[test]
fn weight_files_are_aligned_and_named_by_their_layout() {
    let small = plan(SMALL);
    let embedded = weight_file(&small, &WeightSource::Embedded(String::new()));
    assert_eq!(embedded.bytes.len(), small.weights.bytes());
    let file = weight_file(&small, &WeightSource::Extern);
    let tensors = safetensors::SafeTensors::deserialize(&file.bytes).unwrap();
    assert_eq!(tensors.tensor("packed").unwrap().data(), embedded.bytes);
    assert_eq!((file.bytes.len() - embedded.bytes.len()) % 64, 0, "the data start at a cache line of the file");

    let other_seed = plan(&SMALL.replace("seed = 1", "seed = 2"));
    assert_ne!(weight_file(&other_seed, &WeightSource::Extern).bytes, file.bytes);
    assert_eq!(super::layout_key(&other_seed), super::layout_key(&small), "new weights of the same net fit");
    let wider = plan(&SMALL.replace("expand = 3", "expand = 4"));
    assert_ne!(super::layout_key(&wider), super::layout_key(&small));
}

#[test]
fn names_become_types() {
    for (name, wanted) in
        [("mobilenet_v1", "MobilenetV1"), ("a-b c", "ABC"), ("9lives", "Net9lives"), ("", "Net"), ("self", "NetSelf")]
    {
        assert_eq!(type_name(name), wanted);
    }
}
