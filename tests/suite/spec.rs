//! Bad specs get diagnostics that name the place and the mend, all at once; no text makes the front end panic.

use std::path::Path;

use mnc_compiler::diag::{Diagnostics, render};
use mnc_compiler::front::{self, Loaded, value};
use proptest::prelude::*;

/// Loads spec text as if it stood in `name` beside the bad specs.
fn load(text: &str, name: &str, sets: &[(&str, &str)]) -> Result<Loaded, Diagnostics> {
    let sets: Vec<_> = sets.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    front::check_and_lower(&value::parse_toml(text, name)?, Path::new("tests/specs/bad"), &sets, None)
}

fn shown(result: Result<Loaded, Diagnostics>) -> String {
    let Err(diagnostics) = result else { panic!("a bad spec was accepted") };
    render(&diagnostics, false)
}

fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../specs/bad");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

#[test]
fn bad_specs_are_explained() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/specs/bad");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .expect("the bad specs")
        .filter_map(|e| e.ok()?.file_name().into_string().ok()?.strip_suffix(".toml").map(String::from))
        .collect();
    names.sort();
    assert!(names.len() > 20);
    for name in names {
        let text = std::fs::read_to_string(folder.join(format!("{name}.toml"))).expect("a spec");
        let rendered = shown(load(&text, &format!("{name}.toml"), &[]));
        settings().bind(|| insta::assert_snapshot!(name.as_str(), rendered));
    }
}

const GOOD: &str = include_str!("../../examples/nets/mobilenet_v3_small.toml");

#[test]
fn bad_settings_are_explained() {
    let sets = [
        ("alpha", "zero"),
        ("input.height", "-1"),
        ("passes.separate", "structur"),
        ("aplha", "1"),
        ("block.1.se", "{ ratio = 0.25, gate = hswish }"),
        ("block.0.out", "{ a = 1"),
    ];
    let rendered = shown(load(GOOD, "mobilenet_v3_small.toml", &sets));
    settings().bind(|| insta::assert_snapshot!("set_checked", rendered));
    let sets = [("block.99.out", "8"), ("alpha.x", "1"), ("", "1"), ("a..b", "1"), ("block", "1")];
    let rendered = shown(load(GOOD, "mobilenet_v3_small.toml", &sets));
    settings().bind(|| insta::assert_snapshot!("set_nowhere", rendered));
}

#[test]
fn settings_reach_every_scalar() {
    let sets = [
        ("alpha", "0.5"),
        ("input.height", "65"),
        ("input", "{ height = 97, width = 33, channels = 1 }"),
        ("classes", "7"),
        ("passes.separate", "{ max_error = 0.1 }"),
        ("weights.seed", "9"),
        ("block.0.out", "24"),
        ("activation", "relu"),
    ];
    let (net, _) = load(GOOD, "x", &sets).expect("a good spec");
    let graph = &net.graph;
    assert_eq!(graph.shape(graph.inputs[0]).dims(), [1, 97, 33, 1]);
    assert_eq!(graph.shape(graph.outputs[0]).c, 7);
    assert_eq!(net.passes.separate, front::Separate::MaxError(0.1));
    assert_eq!(net.weights_from, "seeded random weights (seed 9)");
}

/// A short spec with every kind of block, for mutation.
const SMALL: &str = r#"
[net]
name = "small"
input = { height = 33, width = 20, channels = 3, mean = [0.1, 0.2, 0.3], std = 0.5, order = "bgr", pixels = true }
alpha = 0.5
round_to = 4
padding = "same"
activation = "hswish"
classes = 5
labels = ["a", "b", "c", "d", "e"]
[weights]
seed = 3
[passes]
separate = { rank = 2 }
skip = ["dce"]
[[block]]
name = "stem"
kind = "conv"
kernel = [3, 5]
stride = 2
out = 16
[[block]]
kind = "separable"
out = 24
[[block]]
kind = "residual"
activation = "relu"
[[block.block]]
kind = "depthwise"
multiplier = 1
[[block]]
kind = "inverted_residual"
expand = 3.5
out = 24
repeat = 2
se = { ratio = 0.5, gate = "sigmoid", position = "before" }
[[block]]
kind = "universal_inverted_bottleneck"
expand = 2
out = 32
dw_start = 3
dw_mid = 5
stride = [2, 1]
[[block]]
kind = "fused_inverted_bottleneck"
expand = 2
out = 32
group_size = 8
[[block]]
kind = "squeeze_excite"
channels = 4
[[block]]
kind = "max_pool"
kernel = 2
padding = "same"
[[block]]
kind = "avg_pool"
kernel = 2
[[block]]
kind = "global_avg_pool"
[[block]]
kind = "dropout"
[[block]]
kind = "dense"
[[block]]
kind = "softmax"
"#;

#[test]
fn every_kind_of_block_is_lowered() {
    let (net, _) = load(SMALL, "small.toml", &[]).unwrap_or_else(|d| panic!("{}", render(&d, false)));
    mnc_compiler::ir::verify::verify(&net.graph).expect("a sound graph");
    let mut settings = settings();
    settings.set_snapshot_path("../specs");
    settings.bind(|| insta::assert_snapshot!("every_block", mnc_compiler::ir::print::text(&net.graph)));
}

/// What replaces a piece of text.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "",
        "0",
        "-1",
        "1e308",
        "nan",
        "inf",
        "18446744073709551616",
        "65536",
        "true",
        "\"\"",
        "[]",
        "{}",
        "[[",
        "]]",
        "[block]",
        "kind = \"dense\"\n",
        "repeat = 1000\n",
        "kernel = 255\n",
        "out = 65536\n",
        "\"same\"",
        "expand",
        "=",
        "\n",
        "\u{fffd}",
        "block = [{ kind = \"softmax\" }]\n",
        "stride = 255\n",
        "alpha = 16\n",
    ];
    prop_oneof![prop::sample::select(words.to_vec()).prop_map(String::from), "\\PC{0,6}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// Pieces of a good spec replaced by something else: a net that is sound, or diagnostics that can be drawn.
    #[test]
    fn mutated_specs_never_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, piece()), 1..4)) {
        let mut text = SMALL.to_string();
        for (at, cut, put) in edits {
            let mut start = at.index(text.len() + 1);
            while !text.is_char_boundary(start) {
                start -= 1;
            }
            let mut end = (start + cut).min(text.len());
            while !text.is_char_boundary(end) {
                end += 1;
            }
            text.replace_range(start..end, &put);
        }
        match load(&text, "mutated.toml", &[]) {
            Ok((net, _)) => prop_assert!(mnc_compiler::ir::verify::verify(&net.graph).is_ok()),
            Err(d) => {
                prop_assert!(!d.is_empty());
                prop_assert!(!render(&d, true).is_empty());
            }
        }
    }

    /// Any key and value of a `--set`.
    #[test]
    fn settings_never_panic(key in "[a-z.0-9_]{0,20}|block\\.[0-9]{1,2}\\.[a-z]{2,6}|input\\.[a-z]{2,6}", value in piece()) {
        if let Err(d) = load(SMALL, "small.toml", &[(key.as_str(), value.as_str())]) {
            prop_assert!(!render(&d, false).is_empty());
        }
    }
}
