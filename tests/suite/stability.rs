//! Whatever mnc writes says which version wrote it and of what; what does not belong together is an error that says so.

use std::path::Path;
use std::process::Command;

use mnc_runtime::stamp::FORMAT;
use tempfile::TempDir;

use crate::cli::{expect, folder, mnc, path};
use crate::package::Package;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Compiles the small spec of `dir`, with its number of classes, into `out` of it.
fn compile(dir: &TempDir, out: &str, classes: usize, emit: &str) {
    let set = format!("classes={classes}");
    let (spec, out) = (path(dir, "tiny.toml"), path(dir, out));
    let labels = ["net.labels=tiny.txt"];
    let names: String = (0..classes).map(|i| format!("class {i}\n")).collect();
    std::fs::write(dir.path().join("tiny.txt"), names).expect("labels");
    expect(&mnc(&["compile", &spec, "--set", &set, "--set", labels[0], "--emit", emit, "-o", &out]), 0);
}

/// The bytes of a file, with `change` made to them.
fn changed(dir: &TempDir, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = std::fs::read(dir.path().join(name)).expect("a file");
    change(&mut bytes);
    bytes
}

#[test]
fn inspect_says_what_files_are() {
    let dir = folder();
    compile(&dir, "out", 4, "rust,obj");
    compile(&dir, "extern", 4, "rust-extern");
    compile(&dir, "five", 5, "rust,obj");
    let all = ["tiny.rs", "tiny.o", "tiny.h", "tiny.weights"].map(|f| path(&dir, &format!("out/{f}")));
    let mut args: Vec<&str> = ["inspect", "--json"].into_iter().chain(all.iter().map(String::as_str)).collect();
    let given = ["extern/tiny.weights.safetensors", "extern/tiny.rs"].map(|f| path(&dir, f));
    args.extend(given.iter().map(String::as_str));
    let (stdout, _) = expect(&mnc(&args), 0);
    let found: Vec<serde_json::Value> = stdout.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(
        found.iter().map(|f| f["kind"].as_str().unwrap_or("")).collect::<Vec<_>>(),
        ["rust", "object", "header", "weights", "weights", "rust"]
    );
    for file in &found {
        assert_eq!((file["version"].as_str(), file["format"].as_str()), (Some(VERSION), Some(&*FORMAT.to_string())), "{file}");
        assert_eq!(file["layout"], found[0]["layout"], "one net, one layout");
        assert!(file["content"].as_str().is_some_and(|c| c.len() == 32) && file["wrong"].is_null());
    }
    assert_eq!(found[3]["weights"], found[4]["weights"], "the same weights in both forms");
    assert!(found[3]["weights"].as_str().is_some_and(|w| w.len() == 16));
    assert_eq!([&found[0]["code"], &found[0]["code"]], [&found[1]["code"], &found[2]["code"]]);

    // Other weights of the same spec: another content, the same code and layout.
    let spec = path(&dir, "tiny.toml");
    let (set, out) = ("weights.seed=7", path(&dir, "seven"));
    expect(&mnc(&["compile", &spec, "--set", set, "--set", "net.labels=tiny.txt", "--set", "classes=5", "-o", &out]), 0);
    let (five, seven) = (path(&dir, "five/tiny.weights"), path(&dir, "seven/tiny.weights"));
    let (text, _) = expect(&mnc(&["inspect", &five, &seven]), 0);
    let hashes = |word: &str| text.lines().filter(|l| l.trim().starts_with(word)).map(str::to_owned).collect::<Vec<_>>();
    assert!(hashes("layout")[0] == hashes("layout")[1] && hashes("weights")[0] != hashes("weights")[1], "{text}");

    let (_, stderr) = expect(&mnc(&["inspect", &all[1], &path(&dir, "five/tiny.h")]), 1);
    assert!(stderr.contains("were made for other arrangements of weights"), "{stderr}");
    for (name, at, message) in [
        ("out/tiny.weights", 100, "the weights are damaged"),
        ("out/tiny.weights", 8, &*format!("its format is {}, that of this mnc", FORMAT ^ 1)),
        ("extern/tiny.weights.safetensors", 1000, "the weights are damaged"),
    ] {
        let bytes = changed(&dir, name, |b| b[at] ^= 1);
        std::fs::write(dir.path().join("bad"), bytes).expect("writable");
        let (_, stderr) = expect(&mnc(&["inspect", &path(&dir, "bad")]), 1);
        assert!(stderr.contains(message), "{name}: {stderr}");
    }
    for name in ["tiny.toml", "a.png"] {
        let (_, stderr) = expect(&mnc(&["inspect", &path(&dir, name)]), 2);
        assert!(stderr.contains("is nothing that `mnc compile` wrote"), "{stderr}");
    }
}

/// Whether there is a C compiler; says so where there is none.
fn has_cc() -> bool {
    let has = Command::new("cc").arg("--version").output().is_ok_and(|o| o.status.success());
    if !has {
        println!("skipped: no C compiler (`cc`) here");
    }
    has
}

/// Links `main.c` in `dir` with the files; what the linker says where it fails.
fn link(dir: &TempDir, files: &[&str]) -> Result<(), String> {
    let mut cc = Command::new("cc");
    cc.args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1", "-o", "main", "main.c"]).args(files).current_dir(dir.path());
    let out = cc.output().expect("cc starts");
    if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
}

/// Header, object, library and weight file of different compilations.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn objects_of_another_compilation_do_not_link() {
    if !has_cc() {
        return;
    }
    let dir = folder();
    compile(&dir, "four", 4, "obj");
    compile(&dir, "five", 5, "obj");
    let main = r#"#include <stdio.h>
#include "four/tiny.h"
static float file[TINY_WEIGHTS_FILE_BYTES / 4 + 100], x[TINY_INPUT_LEN], y[TINY_OUTPUT_LEN], arena[TINY_ARENA_BYTES / 4 + 1];
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");
        size_t size = f ? fread(file, 1, sizeof file, f) : 0;
        const float *weights = NULL;
        const char *bad = tiny_weights(file, size, &weights);
        if (!bad) {
            tiny_run(weights, x, y, arena);
            bad = tiny_weights_intact(file);
        }
        puts(bad ? bad : "good");
        if (f) fclose(f);
    }
    return 0;
}
"#;
    std::fs::write(dir.path().join("main.c"), main).expect("writable");
    let wrong = link(&dir, &["five/tiny.o", "five/libmnc_rt.a"]).expect_err("header and object differ");
    assert!(wrong.contains("tiny_code_") && !wrong.contains("mnc_rt"), "{wrong}");
    let header = String::from_utf8(changed(&dir, "four/tiny.h", |_| {})).expect("text");
    assert!(header.contains("An undefined symbol `tiny_code_"), "the header says what that means:\n{header}");

    // The name of the last format in an object: the library has none such.
    let (old, new) = (format!("mnc_rt_{}_", FORMAT - 1), format!("mnc_rt_{FORMAT}_"));
    let bytes = changed(&dir, "four/tiny.o", |b| {
        for at in 0..b.len() - new.len() {
            if b[at..].starts_with(new.as_bytes()) {
                b[at..at + old.len()].copy_from_slice(old.as_bytes());
            }
        }
    });
    std::fs::write(dir.path().join("old.o"), bytes).expect("writable");
    let wrong = link(&dir, &["old.o", "four/libmnc_rt.a"]).expect_err("object and library differ");
    assert!(wrong.contains(&format!("{old}begin")) && !wrong.contains("tiny_code_"), "{wrong}");

    link(&dir, &["four/tiny.o", "four/libmnc_rt.a"]).expect("one compilation");
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("right", changed(&dir, "four/tiny.weights", |_| {}), "good"),
        ("text", b"# no weights, but long enough to be some, and then some more of it\n".to_vec(), "not a file of weights"),
        ("empty", Vec::new(), "cut short"),
        ("stub", changed(&dir, "four/tiny.weights", |b| b.truncate(40)), "cut short"),
        ("cut", changed(&dir, "four/tiny.weights", |b| b.truncate(b.len() - 4)), "cut short"),
        ("long", changed(&dir, "four/tiny.weights", |b| b.push(0)), "another size"),
        ("older", changed(&dir, "four/tiny.weights", |b| b[8] -= 1), "another version of mnc"),
        ("other", changed(&dir, "five/tiny.weights", |_| {}), "another net"),
        ("damaged", changed(&dir, "four/tiny.weights", |b| b[1000] ^= 4), "damaged"),
    ];
    let mut run = Command::new(dir.path().join("main"));
    run.current_dir(dir.path());
    for (name, bytes, _) in &cases {
        std::fs::write(dir.path().join(name), bytes).expect("writable");
        run.arg(name);
    }
    let out = run.output().expect("the program starts");
    let text = String::from_utf8_lossy(&out.stdout);
    assert_eq!(text.lines().count(), cases.len(), "{text}");
    for (line, (name, _, message)) in text.lines().zip(&cases) {
        assert!(line.contains(message), "{name}: {line}");
    }
    // The stamps of object and library are found in the program that they were linked into.
    let (text, _) = expect(&mnc(&["inspect", &path(&dir, "four/libmnc_rt.a"), &path(&dir, "main")]), 0);
    assert!(text.contains("libmnc_rt.a: runtime, by mnc") && text.contains("main: "), "{text}");
}

/// Emitted Rust of another format, and beside a file of weights that is not its own.
#[test]
fn emitted_code_of_another_version_does_not_compile() {
    let dir = folder();
    compile(&dir, "four", 4, "rust");
    compile(&dir, "five", 5, "rust");
    let package = Package::new("stale");
    let source = String::from_utf8(changed(&dir, "four/tiny.rs", |_| {})).expect("text");
    package.write(
        "src/main.rs",
        "mod tiny;\nfn main() {\n    println!(\"{} {:x}\", tiny::Tiny::STAMP, tiny::Tiny::WEIGHT_HASH);\n}\n",
    );
    package.write("src/tiny.rs", &source);
    let now = format!("made_for_format!({FORMAT}, \"{VERSION}\")");
    assert!(source.contains(&now), "{source}");
    let weights = |name: &str| changed(&dir, name, |_| {});
    for (bytes, message) in [
        (weights("five/tiny.weights"), "the file of weights beside this code was made for another net"),
        (changed(&dir, "four/tiny.weights", |b| b[8] -= 1), "was written by another version of mnc"),
        (changed(&dir, "four/tiny.weights", |b| b.truncate(b.len() - 4)), "is cut short"),
        (changed(&dir, "four/tiny.weights", |b| drop(b.drain(..64))), "is not one that mnc wrote"),
    ] {
        package.write("src/tiny.weights", bytes);
        let said = package.fails();
        assert!(said.contains(message), "{message}:\n{said}");
    }
    package.write("src/tiny.weights", weights("four/tiny.weights"));
    let older = format!("made_for_format!({}, \"0.0.9\")", FORMAT - 1);
    package.write("src/tiny.rs", source.replace(&now, &older));
    let said = package.fails();
    let message = format!("this net was compiled by mnc 0.0.9 for format {} of mnc-runtime", FORMAT - 1);
    assert!(said.contains(&message) && said.contains("compile its spec again"), "{said}");
    package.write("src/tiny.rs", source);
    package.run(&[]);
}

/// A spec that names its checkpoint by content, as `mnc import` writes it.
#[test]
fn another_checkpoint_than_the_specs_is_an_error() {
    let dir = TempDir::new().expect("a folder");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/gates.onnx");
    expect(&mnc(&["import", model.to_str().expect("UTF-8"), "-o", &path(&dir, "out")]), 0);
    let spec = std::fs::read_dir(dir.path().join("out")).expect("a folder").map(|e| e.expect("an entry").path());
    let (specs, others): (Vec<_>, Vec<_>) = spec.partition(|p| p.extension().is_some_and(|e| e == "toml"));
    let (spec, weights) = (specs[0].to_str().expect("UTF-8"), &others[0]);
    let text = std::fs::read_to_string(spec).expect("a spec");
    assert!(text.contains(&format!("by `mnc import` {VERSION}")) && text.contains(&format!("mnc = \"{VERSION}\"")), "{text}");
    expect(&mnc(&["show", spec]), 0);

    let good = std::fs::read(weights).expect("a checkpoint");
    let mut bad = good.clone();
    *bad.last_mut().expect("bytes") ^= 1;
    std::fs::write(weights, bad).expect("writable");
    let (_, stderr) = expect(&mnc(&["show", spec]), 2);
    let line = 1 + text.lines().position(|l| l.starts_with("sha256")).expect("the key is written");
    assert!(stderr.contains("is not the one that the spec names") && stderr.contains(&format!(":{line}:")), "{stderr}");
    assert!(stderr.contains("remove the line"), "{stderr}");
    // Whoever names a file at the command line means that one.
    expect(&mnc(&["show", spec, "--weights", weights.to_str().expect("UTF-8")]), 0);
    std::fs::write(weights, good).expect("writable");

    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits/digits.toml");
    let digits = digits.to_str().expect("UTF-8");
    // By `sha256sum` of coreutils.
    let known = "3db5e13087dfb616caeb424e7ccaed652306a1dfacde51c444e0f5765313b32d";
    expect(&mnc(&["show", digits, "--set", &format!("weights.sha256={known}")]), 0);
    let wrong = known.replace(|c| c != '0', "0");
    let (_, stderr) = expect(&mnc(&["show", digits, "--set", &format!("weights.sha256={wrong}")]), 2);
    assert!(stderr.contains(known), "the right one is said: {stderr}");

    let later = text.replace(&format!("mnc = \"{VERSION}\""), "mnc = \"99.0.0\"");
    std::fs::write(spec, later).expect("writable");
    let (_, stderr) = expect(&mnc(&["show", spec]), 2);
    assert!(stderr.contains("this spec is for mnc 99.0.0, and this is mnc"), "{stderr}");
}
