//! Under the feature `jit`: makes `libmnc_rt.a`, the runtime as a static library for object files on x86-64 Linux.
//!
//! One call of `rustc` on the runtime's sources, for it needs no dependencies; cargo knows no stable way to embed one package's library
//! in another. The sources stand beside this package in mnc's own workspace; elsewhere the runtime's `links` key says where cargo has
//! put them. The flags of this build (`RUSTFLAGS`, a debug profile) are none of the library's: it runs on other machines, and its kernels are
//! worth nothing unoptimised. Link-time optimisation makes one object of the runtime and what it uses of `core`, in which all
//! symbols are local but the entries of `runtime/src/abi.rs`; that object alone goes into the library. It needs `memcpy`, `memmove`,
//! `memset` and `memcmp`, which every C library has.
//!
//! On another system than x86-64 Linux the file is empty, and objects are self-contained: the standard library for that
//! target would be needed to make it. It is empty under clippy too, which links nothing, and for which cargo runs this script apart,
//! in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the library defines.
const SYMBOLS: [&str; 3] = ["mnc_rt_6_begin", "mnc_rt_6_stage", "mnc_rt_6_stamp"];

fn variable(name: &str) -> std::ffi::OsString {
    std::env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"))
}

/// The folder of the runtime's sources. What its build script says is an absolute path, which cargo goes on believing when a workspace
/// has been moved or copied with its target folder: it then is of no folder, or of the other workspace's.
fn sources() -> PathBuf {
    let beside = Path::new("../runtime");
    let manifest = std::fs::read_to_string(beside.join("Cargo.toml")).unwrap_or_default();
    if manifest.lines().any(|l| l == r#"name = "mnc-runtime""#) {
        beside.join("src")
    } else {
        PathBuf::from(variable("DEP_MNC_RUNTIME_SOURCE"))
    }
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_JIT").is_none() {
        return;
    }
    let source = sources();
    println!("cargo::rerun-if-changed={}", source.display());
    let library = PathBuf::from(variable("OUT_DIR")).join("libmnc_rt.a");
    let wrapper = std::env::var_os("RUSTC_WORKSPACE_WRAPPER").map(PathBuf::from);
    let clippy = wrapper.is_some_and(|w| w.file_stem() == Some("clippy-driver".as_ref()));
    if clippy || variable("CARGO_CFG_TARGET_ARCH") != "x86_64" || variable("CARGO_CFG_TARGET_OS") != "linux" {
        std::fs::write(&library, []).expect("the output folder is writable");
        return;
    }
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--crate-name", "mnc_rt", "--crate-type", "staticlib", "--edition", "2024", "--cap-lints", "allow"]);
    rustc.args(["-C", "opt-level=3", "-C", "panic=abort", "-C", "codegen-units=1", "-C", "lto=fat", "-C", "strip=debuginfo"]);
    rustc.args(["--cfg", "mnc_static_library", "--target"]).arg(variable("TARGET"));
    rustc.arg("-o").arg(&library).arg(source.join("lib.rs"));
    let done = rustc.output().unwrap_or_else(|e| panic!("{rustc:?}: {e}"));
    assert!(done.status.success(), "{rustc:?}\n{}", String::from_utf8_lossy(&done.stderr));
    let made = std::fs::read(&library).expect("rustc wrote it");
    let object = first_object(&made).expect("an archive begins with the crate's own object");
    std::fs::write(&library, archive(object)).expect("the output folder is writable");
}

/// Bytes of an archive's magic, and of the header of a member: name 16, time 12, user 6, group 6, mode 8, size 10, end 2.
const MAGIC: &[u8] = b"!<arch>\n";
const HEADER: usize = 60;

/// The first member of an archive that is no index (`/`) and no list of long names (`//`): the crate's object, for rustc
/// puts the libraries it uses behind it.
fn first_object(archive: &[u8]) -> Option<&[u8]> {
    let mut rest = archive.strip_prefix(MAGIC)?;
    loop {
        let (header, behind) = rest.split_at_checked(HEADER)?;
        let size: usize = std::str::from_utf8(&header[48..58]).ok()?.trim_end().parse().ok()?;
        let member = behind.get(..size)?;
        if !header.starts_with(b"/ ") && !header.starts_with(b"// ") {
            return Some(member);
        }
        rest = behind.get(size.next_multiple_of(2)..)?;
    }
}

/// An archive of one object, with the index of [`SYMBOLS`] that linkers look into.
fn archive(object: &[u8]) -> Vec<u8> {
    let header = |name: &str, size: usize| format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 644);
    let mut names: Vec<u8> = SYMBOLS.iter().flat_map(|s| s.bytes().chain([0])).collect();
    if names.len() % 2 == 1 {
        names.push(0);
    }
    let index = 4 + 4 * SYMBOLS.len() + names.len();
    let start = MAGIC.len() + HEADER + index;
    let word = |n: usize| u32::try_from(n).expect("small").to_be_bytes();
    let mut all = MAGIC.to_vec();
    all.extend(header("/", index).bytes());
    all.extend(word(SYMBOLS.len()));
    all.extend(SYMBOLS.iter().flat_map(|_| word(start)));
    all.extend(names);
    all.extend(header("mnc_rt.o/", object.len()).bytes());
    all.extend(object);
    all.resize(all.len().next_multiple_of(2), b'\n');
    all
}
