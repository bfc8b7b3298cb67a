//! The shipped specs have exactly the published sizes: multiply-adds of convolutions and dense layers, and parameters.

use std::path::{Path, PathBuf};

use mnc_compiler::front;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/nets").join(format!("{name}.toml"))
}

/// `(macs, params)` of a shipped spec at a width and a square input.
fn size(name: &str, alpha: &str, side: usize) -> (u64, u64) {
    let side = side.to_string();
    let sets = [("alpha", alpha), ("input.height", &side), ("input.width", &side)].map(|(k, v)| (k.to_string(), v.to_string()));
    let (net, warnings) =
        front::load(&shipped(name), &sets, None).unwrap_or_else(|d| panic!("{name}: {}", mnc_compiler::diag::render(&d, false)));
    assert!(warnings.is_empty(), "{name}");
    mnc_compiler::ir::verify::verify(&net.graph).unwrap_or_else(|e| panic!("{name}: {e:?}"));
    assert_eq!(net.weights_from, "seeded random weights (seed 1)", "{name}");
    (net.graph.macs(), net.graph.params())
}

/// From timm 1.0.31 and torchvision 0.29.2; the full convolution by formula. 1000 classes.
const GOLDEN: [(&str, &str, usize, u64, u64); 21] = [
    ("mobilenet_v1_full_conv", "1.0", 224, 4_867_293_184, 29_294_088),
    ("mobilenet_v1", "1.0", 224, 568_740_352, 4_231_976),
    ("mobilenet_v1", "1.0", 192, 418_121_728, 4_231_976),
    ("mobilenet_v1", "1.0", 160, 290_675_200, 4_231_976),
    ("mobilenet_v1", "1.0", 128, 186_400_768, 4_231_976),
    ("mobilenet_v1", "0.75", 224, 325_400_448, 2_585_560),
    ("mobilenet_v1", "0.5", 224, 149_497_088, 1_331_592),
    ("mobilenet_v1", "0.25", 224, 41_030_272, 470_072),
    ("mobilenet_v2", "1.0", 224, 300_774_272, 3_504_872),
    ("mobilenet_v2", "1.4", 224, 582_195_824, 6_108_776),
    ("mobilenet_v2", "0.5", 224, 97_131_840, 1_968_680),
    ("mobilenet_v3_large", "1.0", 224, 216_589_760, 5_483_032),
    ("mobilenet_v3_small", "1.0", 224, 56_510_400, 2_542_856),
    ("mobilenet_v3_large_minimal", "1.0", 224, 209_136_704, 3_924_288),
    ("mobilenet_v3_small_minimal", "1.0", 224, 52_288_448, 2_044_736),
    ("mobilenet_v4_conv_small", "1.0", 224, 186_005_568, 3_774_024),
    ("mobilenet_v4_conv_medium", "1.0", 224, 827_649_984, 9_715_512),
    ("mobilenet_v4_conv_medium", "1.0", 256, 1_080_244_224, 9_715_512),
    ("mobilenet_v4_conv_large", "1.0", 256, 2_835_269_632, 32_590_864),
    ("mobilenet_v4_conv_large", "1.0", 384, 6_376_220_672, 32_590_864),
    ("mobilenet_edgetpu_v2_xs", "1.0", 224, 688_214_528, 4_459_880),
];

#[test]
fn multiply_adds_and_parameters_are_the_published_ones() {
    let mut wrong = Vec::new();
    for (name, alpha, side, macs, params) in GOLDEN {
        let found = size(name, alpha, side);
        if found != (macs, params) {
            wrong.push(format!("{name} x {alpha} at {side}: {found:?}, not {:?}", (macs, params)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every shipped spec is in the table above.
#[test]
fn no_shipped_spec_is_left_out() {
    for entry in std::fs::read_dir(shipped("x").parent().expect("a folder")).expect("the shipped specs") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "toml") {
            let name = path.file_stem().and_then(|s| s.to_str()).expect("a name");
            assert!(GOLDEN.iter().any(|row| row.0 == name), "{name} has no golden counts");
        }
    }
}

/// Activations of a seeded net neither vanish nor explode, so that every command shows something sensible at once.
#[test]
fn seeded_weights_keep_activations_in_range() {
    for (name, side) in [("mobilenet_v1", 96), ("mobilenet_v2", 96), ("mobilenet_v3_small", 96), ("mobilenet_v4_conv_small", 96)]
    {
        let sets = [("input.height", side), ("input.width", side)].map(|(k, v)| (k.to_string(), v.to_string()));
        let (net, _) = front::load(&shipped(name), &sets, None).expect("a shipped spec");
        let shape = net.graph.shape(net.graph.inputs[0]);
        let x: Vec<f32> = (0..shape.elements()).map(|i| ((i * 7919 % 2003) as f32 / 1001.0) - 1.0).collect();
        let y = &mnc_compiler::ir::eval::eval(&net.graph, &[&x])[0];
        let mean = y.iter().map(|&v| f64::from(v)).sum::<f64>() / y.len() as f64;
        let deviation = (y.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / y.len() as f64).sqrt();
        println!("{name}: logits have mean {mean:.3} and deviation {deviation:.3}");
        assert!((0.05..20.0).contains(&deviation), "{name}: {deviation}");
    }
}
