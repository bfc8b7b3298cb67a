//! ONNX's own tests of operators, the small ones (`tests/onnx/nodes.py --cases`), by every engine and as specs.

use std::collections::BTreeSet;
use std::path::Path;

use mnc_compiler::front;

use crate::checkpoints::relative_error;
use crate::import::written;
use crate::tflite::{cases, load, outputs};

#[test]
fn operators_compute_what_onnx_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases = cases("onnx/nodes.safetensors");
    assert!(cases.len() > 200, "{}", cases.len());
    let mut wrong = Vec::new();
    for (name, case) in cases {
        let path = folder.path().join(format!("{name}.onnx"));
        std::fs::write(&path, &case.model).expect("written");
        let net = load(&path).unwrap_or_else(|why| panic!("{name}: {why}"));
        // What computes nothing is no spec.
        if net.graph.len() > net.graph.inputs.len() {
            written(&net, folder.path());
        } else {
            assert!(front::write_layers(&net, folder.path(), "a test").is_err(), "{name}");
        }
        let lengths: Vec<usize> = net.graph.outputs.iter().map(|&id| net.graph.shape(id).elements()).collect();
        for (engine, got) in outputs(net, &case.input) {
            let mut rest = got.as_slice();
            for (i, (n, want)) in lengths.iter().zip(&case.wants).enumerate() {
                let got = rest.split_off(..*n).expect("all outputs");
                let error = if want.len() == got.len() { difference(got, want) } else { f64::NAN };
                if error.is_nan() || error > 1e-5 {
                    wrong.push(format!("{name}, {engine}, output {i}: {error:.2e}: {got:?}, not {want:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The relative error of what is finite; all else must be the same, and so must zeros.
fn difference(got: &[f32], want: &[f64]) -> f64 {
    let finite = |pairs: &mut dyn Iterator<Item = (f32, f64)>| pairs.filter(|(_, w)| w.is_finite()).unzip();
    let (got_finite, want_finite): (Vec<f32>, Vec<f64>) = finite(&mut got.iter().copied().zip(want.iter().copied()));
    let alike = |(g, w): (&f32, &f64)| w.is_finite() || f64::from(*g) == *w || g.is_nan() && w.is_nan();
    if !got.iter().zip(want).all(alike) {
        return f64::NAN;
    }
    if want_finite.iter().all(|&w| w == 0.0) {
        return if got_finite.iter().all(|&g| g == 0.0) { 0.0 } else { f64::NAN };
    }
    relative_error(&got_finite, &want_finite)
}

/// The page of ONNX's tests has a row for each operator that is computed, and no other.
#[test]
fn every_operator_has_its_row() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect("a file");
    let source = read("compiler/src/front/onnx/ops/mod.rs");
    let single = source.lines().filter_map(|l| l.trim().strip_prefix("(\"")?.split_once("\", ")).map(|(op, _)| op);
    let computed: BTreeSet<&str> = single.chain(["Split"]).collect();
    let page = read("docs/onnx-ops.md");
    let rows = page.lines().filter_map(|l| l.strip_prefix("| ")?.split_once(" | ")).map(|(op, _)| op);
    let rows: BTreeSet<&str> = rows.filter(|op| *op != "operator").collect();
    assert!(computed.len() > 40, "{computed:?}");
    assert_eq!(rows, computed);
}
