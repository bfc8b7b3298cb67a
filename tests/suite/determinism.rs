//! The same input gives the same bytes: of every form that `mnc` writes, by processes of their own in folders of their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::{folder, program};

/// Every file under `dir` with its content.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(&at).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(dir).expect("it lies in the folder").to_path_buf();
                all.insert(name, std::fs::read(&path).expect("a file"));
            }
        }
    }
    all
}

/// What `mnc ARGS -o out`, run in a new folder where `spec` lies as `name`, writes to `out` and to standard output.
fn written(spec: &Path, name: &str, args: &[&str]) -> (BTreeMap<PathBuf, Vec<u8>>, Vec<u8>) {
    let dir = tempfile::TempDir::new().expect("a temporary folder");
    std::fs::copy(spec, dir.path().join(name)).expect("a copy");
    let out = Command::new(program()).args(args).args(["-o", "out"]).current_dir(dir.path()).env_remove("MNC_ISA").output();
    let out = out.expect("the program starts");
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    (files(&dir.path().join("out")), out.stdout)
}

/// Runs twice and compares; returns how many files there were.
fn twice(spec: &Path, name: &str, args: &[&str]) -> usize {
    let [a, b] = [(); 2].map(|()| written(spec, name, args));
    assert_eq!(a.0.keys().collect::<Vec<_>>(), b.0.keys().collect::<Vec<_>>(), "{args:?}");
    for (path, bytes) in &a.0 {
        assert!(b.0[path] == *bytes, "{args:?}: {} differs between two runs", path.display());
    }
    assert!(a.1 == b.1, "{args:?}: standard output differs between two runs");
    a.0.len()
}

#[test]
fn every_form_has_the_same_bytes_twice() {
    let dir = folder();
    let spec = dir.path().join("tiny.toml");
    for threads in ["1", "3"] {
        let set = format!("plan.threads={threads}");
        let all = ["compile", "tiny.toml", "--set", &set, "--emit", "rust,obj,ir,plan,dot"];
        assert!(twice(&spec, "tiny.toml", &all) >= 6);
    }
    assert!(twice(&spec, "tiny.toml", &["compile", "tiny.toml", "--emit", "rust-extern"]) >= 2);
    assert!(twice(&spec, "tiny.toml", &["compile", "tiny.toml", "--emit", "obj,clif", "--self-contained"]) >= 2);
}

#[test]
fn an_import_has_the_same_bytes_twice() {
    for name in ["gates.onnx", "shuffle.onnx", "windows.onnx"] {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx").join(name);
        assert!(twice(&model, name, &["import", name]) >= 2);
    }
}
