//! The public API of every crate is what `api/CRATE.txt` lists, so that no change of it goes unseen.
//!
//! rustdoc's JSON is not stable, so the listing is of one rustdoc: with another version of Rust than the one in Cargo.toml the test says
//! that it is skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What to do about a difference.
const RECORD: &str = "MNC_RECORD_API=1 cargo test --test suite api";

/// The crates with an API; the macro's is its name.
const CRATES: [&str; 4] = ["mnc", "mnc_runtime", "mnc_compiler", "mnc_macros"];

/// Whether `rustc` is the version whose rustdoc was recorded.
fn is_recorded(rustc: &str) -> bool {
    rustc.starts_with(&format!("rustc {}.", env!("CARGO_PKG_RUST_VERSION")))
}

/// Lets rustdoc write its JSON for all crates and returns the folder that they are in. That is unstable, which `RUSTC_BOOTSTRAP`
/// allows; only rustdoc shall see it, for cargo would build dependencies anew.
#[cfg(unix)]
fn document(root: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;

    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let rustdoc = scratch.join("rustdoc-json");
    std::fs::write(&rustdoc, "#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc \"$@\"\n").expect("writable");
    std::fs::set_permissions(&rustdoc, std::fs::Permissions::from_mode(0o755)).expect("a file of ours");
    let target = scratch.parent().expect("it lies in the target folder");
    let out = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["doc", "--workspace", "--lib", "--no-deps", "--locked", "--quiet", "--features", "jit"])
        // With an example beside them, what the crates depend on has the features that it has for tests, and is there already.
        .args(["--example", "classify", "--target-dir"])
        .arg(target)
        .env("RUSTDOC", &rustdoc)
        .env("RUSTDOCFLAGS", "-Z unstable-options --output-format json --cap-lints allow")
        .current_dir(root)
        .output()
        .expect("cargo starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    target.join("doc")
}

#[cfg(unix)]
#[test]
fn public_api_is_as_recorded() {
    let version = Command::new("rustc").arg("--version").output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    let version = version.unwrap_or_default();
    if !is_recorded(&version) {
        println!("skipped: the API was recorded with Rust {}, this is {version}", env!("CARGO_PKG_RUST_VERSION"));
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let json = document(root);
    let mut wrong = String::new();
    for name in CRATES {
        let api = public_api::Builder::from_rustdoc_json(json.join(format!("{name}.json")))
            .omit_blanket_impls(true)
            .omit_auto_trait_impls(true)
            .omit_auto_derived_impls(true)
            .build()
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut now = api.to_string();
        now.push('\n');
        let path = root.join("api").join(format!("{name}.txt"));
        if std::env::var_os("MNC_RECORD_API").is_some() {
            std::fs::create_dir_all(root.join("api")).expect("writable");
            std::fs::write(&path, &now).expect("writable");
        }
        let recorded = std::fs::read_to_string(&path).unwrap_or_default();
        wrong += &differences(name, &recorded, &now);
    }
    assert!(wrong.is_empty(), "the public API is not the recorded one; if it is meant to change, run `{RECORD}`:\n{wrong}");
}

/// Lines that are in one listing alone.
fn differences(name: &str, recorded: &str, now: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (recorded.lines().collect(), now.lines().collect());
    let gone = old.iter().filter(|l| !new.contains(l)).map(|l| format!("{name}: - {l}\n"));
    let come = new.iter().filter(|l| !old.contains(l)).map(|l| format!("{name}: + {l}\n"));
    gone.chain(come).collect()
}

#[test]
fn differences_are_named() {
    assert_eq!(differences("a", "pub fn x()\npub fn y()\n", "pub fn y()\npub fn z()\n"), "a: - pub fn x()\na: + pub fn z()\n");
    assert_eq!(differences("a", "x\n", "x\n"), "");
    assert!(is_recorded(concat!("rustc ", env!("CARGO_PKG_RUST_VERSION"), ".3 (0 2026)")) && !is_recorded("rustc 1.9.5"));
}
