//! The emitted source of small nets, and what holds of every net's.

use std::path::Path;

use super::stamp;
use super::{Options, WeightSource, source, type_name, weight_file};
use crate::front::check_and_lower;
use crate::front::value::parse_toml;
use crate::plan::Plan;

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

/// A stage is a line with a comment, a step a few with one; nothing grows with the weights.
#[test]
fn tables_are_the_plan_and_no_token_is_a_weight() {
    for name in ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v4_conv_large"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../examples/nets/{name}.toml"));
        let (net, _) = crate::front::load(&path, &[], None).unwrap();
        let plan = crate::compile(net).unwrap().plan;
        let text = source(&plan, &options(WeightSource::Embedded("x.weights".into())));
        let lines = |start: &str| text.lines().filter(|l| l.trim_start().starts_with(start)).count();
        assert_eq!(lines("Stage {"), plan.stages.len(), "{name}");
        assert_eq!(lines("Step {"), plan.steps().count(), "{name}");
        assert_eq!(lines("// ") - 1, plan.stages.len() + plan.steps().count(), "{name}: a comment each, and the head");
        for step in plan.steps() {
            assert!(text.contains(&format!("// {}: ", step.name)), "{name}: {}", step.name);
        }
        assert!(text.len() < 1500 * plan.steps().count() + 10_000, "{name}: {} bytes of source", text.len());
        // The stamp is one word, as it were.
        assert!(text.lines().all(|l| l.len() <= 130 || l.contains("STAMP")), "{name}: a line too wide");
        assert!(!text.contains("unsafe") && !text.contains("mnc_comment"), "{name}");
    }
}

/// The text without comments is the tokens without comments.
#[test]
fn formatting_changes_no_token() {
    for text in [SMALL.to_owned(), SMALL.replace("kind = \"conv\"", "kind = \"conv\"\nbias = true")] {
        let plan = plan(&text);
        let options = options(WeightSource::Extern);
        let formatted: proc_macro2::TokenStream = source(&plan, &options).parse().unwrap();
        let emitted = prettyplease::unparse(&syn::parse2(super::emit(&plan, &options)).unwrap());
        assert_eq!(prettyplease::unparse(&syn::parse2(formatted).unwrap()), emitted);
    }
}

#[test]
fn weight_files_are_aligned_and_named_by_their_layout() {
    let small = plan(SMALL);
    let embedded = weight_file(&small, &WeightSource::Embedded(String::new()));
    assert_eq!(embedded.bytes.len(), 64 + small.weights.bytes());
    let file = weight_file(&small, &WeightSource::Extern);
    let tensors = safetensors::SafeTensors::deserialize(&file.bytes).unwrap();
    assert!(tensors.tensor("packed").unwrap().data() == &embedded.bytes[64..]);
    assert_eq!((file.bytes.len() - small.weights.bytes()) % 64, 0, "the data start at a cache line of the file");

    let other_seed = plan(&SMALL.replace("seed = 1", "seed = 2"));
    assert_ne!(weight_file(&other_seed, &WeightSource::Extern).bytes, file.bytes);
    assert_eq!(stamp::layout(&other_seed), stamp::layout(&small), "new weights of the same net fit");
    let wider = plan(&SMALL.replace("expand = 3", "expand = 4"));
    assert_ne!(stamp::layout(&wider), stamp::layout(&small));
    assert_eq!(stamp::code(&other_seed), stamp::code(&small));
    assert_ne!(stamp::code(&wider), stamp::code(&small));
}

#[test]
fn names_become_types() {
    for (name, wanted) in
        [("mobilenet_v1", "MobilenetV1"), ("a-b c", "ABC"), ("9lives", "Net9lives"), ("", "Net"), ("self", "NetSelf")]
    {
        assert_eq!(type_name(name), wanted);
    }
}
