//! Tells the build scripts of packages that depend on this one where its sources are (`DEP_MNC_RUNTIME_SOURCE`): the compiler makes
//! a static library of them for the object files that it writes.

use std::path::PathBuf;

fn main() {
    let manifest = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(mnc_static_library)");
    println!("cargo::metadata=source={}", manifest.join("src").display());
}
