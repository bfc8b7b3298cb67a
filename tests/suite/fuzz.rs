//! The seeds of the fuzz targets, replayed without a fuzzer: what was found and mended stays mended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[path = "../../fuzz/src/targets/mod.rs"]
mod targets;

/// All seeds of a target; says of which one it was that failed.
fn replay(name: &str) {
    let (_, target) = targets::ALL.iter().find(|t| t.0 == name).expect("a target");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let mut seeds: Vec<_> = std::fs::read_dir(&folder).expect("seeds").map(|e| e.expect("an entry").path()).collect();
    seeds.sort();
    assert!(seeds.len() >= 5, "{} has {} seeds", folder.display(), seeds.len());
    for seed in seeds {
        let bytes = std::fs::read(&seed).expect("a seed");
        let ran = catch_unwind(AssertUnwindSafe(|| target(&bytes)));
        assert!(ran.is_ok(), "it was the seed {}", seed.display());
    }
}

#[test]
fn spec() {
    replay("spec");
}

#[test]
fn tokens() {
    replay("tokens");
}

#[test]
fn checkpoint() {
    replay("checkpoint");
}

#[test]
fn onnx() {
    replay("onnx");
}

#[test]
fn tflite() {
    replay("tflite");
}

#[test]
fn picture() {
    replay("picture");
}

#[test]
fn planner() {
    replay("planner");
}

#[test]
fn engines() {
    replay("engines");
}

/// Every target has a file for the fuzzer, seeds, a test above, and a line in the table of what was run.
#[test]
fn targets_are_complete() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let here = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/fuzz.rs")).expect("this file");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("a README");
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("a manifest");
    for (name, _) in targets::ALL {
        assert!(root.join(format!("fuzz_targets/{name}.rs")).is_file(), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in Cargo.toml");
        assert!(here.contains(&format!("replay(\"{name}\")")), "{name} is not replayed");
        assert!(readme.contains(&format!("| `{name}` |")), "{name} is not in README.md");
    }
    let seeds = walk(&root.join("seeds"));
    assert!(seeds < 300_000, "{seeds} bytes of seeds");
}

/// Bytes of all files below a folder.
fn walk(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry"));
    entries.map(|e| if e.path().is_dir() { walk(&e.path()) } else { e.metadata().expect("a file").len() }).sum()
}
