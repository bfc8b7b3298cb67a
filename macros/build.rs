//! Gives the compiler's own source a fingerprint, so that cached nets are compiled anew after mnc itself has changed.
//! In a checkout the version alone does not tell; in a published package the folders are absent and the version does.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::{env, fs};

fn main() {
    let mut hash = DefaultHasher::new();
    println!("cargo::rerun-if-changed=build.rs");
    for folder in ["src", "../compiler/src", "../runtime/src"] {
        if Path::new(folder).is_dir() {
            println!("cargo::rerun-if-changed={folder}");
            add(Path::new(folder), &mut hash);
        }
    }
    env::var("CARGO_PKG_VERSION").unwrap_or_default().hash(&mut hash);
    println!("cargo::rustc-env=MNC_FINGERPRINT={:016x}", hash.finish());
}

/// Adds every file under `folder`, in the order of the names.
fn add(folder: &Path, hash: &mut DefaultHasher) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            add(&path, hash);
        } else if let Ok(bytes) = fs::read(&path) {
            (path, bytes).hash(hash);
        }
    }
}
