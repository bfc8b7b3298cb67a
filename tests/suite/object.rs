//! Object files linked with C: with the runtime's static library, and self-contained for x86-64 as it always was and as it is now, and
//! for aarch64 in an emulator.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use mnc_compiler::back::clif::{JitOptions, Object, ObjectOptions, RUNTIME_FILE, compile_jit_with, object};
use mnc_compiler::back::native::NativeNet;
use mnc_compiler::plan::{self, Plan};
use mnc_compiler::{diag, front, image, pass};
use mnc_runtime::isa::Isa;
use mnc_runtime::net::Net;

use crate::r#gen;
use crate::plan::meta;

/// As far as f32 sums may differ between targets with and without fused multiply-add, in nets of this depth and in units of
/// the largest output.
const BOUND: f32 = 1e-5;

/// Whether `program` can be started.
fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success())
}

/// What `command` writes to standard output.
#[track_caller]
fn output(command: &mut Command) -> Vec<u8> {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(out.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// Random nets after the passes, one of every family of the generator, each with its name and input.
fn nets(options: &plan::Options) -> Vec<(Plan, Vec<f32>)> {
    (0..40)
        .map(|seed| {
            let case = r#gen::seeded(seed);
            let mut graph = case.graph;
            pass::run(&mut graph, &Default::default(), None, None).expect("the passes run");
            (plan::build(&graph, meta(&format!("net{seed}")), options).expect("a plan"), case.input)
        })
        .collect()
}

/// A program that runs all nets, reads their weights and inputs from files and writes the bits of their outputs. The arena is
/// full of what is no number, and nothing is aligned more than a float.
fn program(nets: &[(Plan, Vec<f32>)]) -> String {
    let mut c = String::from(
        r#"#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static float *read(const char *path, size_t n) {
    float *data = (float *)malloc((n + 2) * 4) + 1;
    FILE *f = fopen(path, "rb");
    if (!f || fread(data, 4, n, f) != n) exit(3);
    fclose(f);
    return data;
}
#define RUN(name, NAME) do { \
        float *f = read(#name ".weights", NAME##_WEIGHTS_FILE_BYTES / 4), *x = read(#name ".input", NAME##_INPUT_LEN); \
        const float *w; \
        if (name##_weights(f, NAME##_WEIGHTS_FILE_BYTES, &w) || name##_weights_intact(f)) exit(5); \
        if (strncmp(name##_stamp, "mnc-stamp: kind=object ", 23)) exit(6); \
        float *y = (float *)malloc(NAME##_OUTPUT_LEN * 4), *arena = (float *)malloc(NAME##_ARENA_BYTES + 8) + 1; \
        memset(arena, 0xff, NAME##_ARENA_BYTES + 4); \
        name##_run(w, x, y, arena); \
        if (fwrite(y, 4, NAME##_OUTPUT_LEN, stdout) != NAME##_OUTPUT_LEN) exit(4); \
    } while (0)
"#,
    );
    let mut body = String::new();
    for (plan, _) in nets {
        let _ = writeln!(c, "#include \"{}.h\"", plan.name);
        let _ = writeln!(body, "    RUN({}, {});", plan.name, plan.name.to_uppercase());
    }
    let _ = write!(c, "int main(void) {{\n{body}    return 0;\n}}\n");
    c
}

/// Compiles all nets, self-contained for `target` or (without one) with the runtime for this machine, links them into one program
/// with `cc`, starts it with `runner`, and compares: self-contained objects with the JIT's code of that form, the others with the
/// interpreter to the bit.
fn link_run_compare(target: Option<&str>, cc: &[&str], runner: &[&str]) {
    let self_contained = target.is_some();
    let options = ObjectOptions { target, self_contained };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let write = |name: String, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).expect("writable");
    let little = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let nets = nets(&if self_contained { plan::Options::LAYERED } else { plan::Options::default() });
    let mut link = Command::new(cc[0]);
    link.args(&cc[1..]).args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-o", "main", "main.c"]).current_dir(dir.path());
    for (plan, input) in &nets {
        let Object { bytes, header, weights, externals, runtime } = object(plan, options).expect("an object");
        let needed = if self_contained { &[][..] } else { &["mnc_rt_6_begin", "mnc_rt_6_stage"] };
        assert_eq!(externals, needed, "{}", plan.name);
        assert_eq!(header.contains("no symbol is left to link"), self_contained);
        assert_eq!(header.contains(RUNTIME_FILE), !self_contained);
        assert_eq!(runtime.is_none(), self_contained);
        if let Some(library) = runtime {
            write(RUNTIME_FILE.to_owned(), library);
        }
        write(format!("{}.o", plan.name), &bytes);
        write(format!("{}.h", plan.name), header.as_bytes());
        write(format!("{}.weights", plan.name), &weights);
        write(format!("{}.input", plan.name), &little(input));
        let file = format!("{}.o", plan.name);
        if let Some(undefined) = undefined(&dir.path().join(&file)) {
            assert_eq!(undefined, needed, "{}", plan.name);
        }
        link.arg(file);
    }
    write("main.c".to_owned(), program(&nets).as_bytes());
    if !self_contained {
        // After the objects, as linkers want libraries; twice does no harm.
        link.args([RUNTIME_FILE, RUNTIME_FILE, "-s"]);
        let library = undefined(&dir.path().join(RUNTIME_FILE)).unwrap_or_default();
        let libc = ["memcmp", "memcpy", "memmove", "memset"];
        assert!(library.iter().all(|s| libc.contains(&s.as_str())), "{library:?}");
    }
    output(&mut link);
    let size = std::fs::metadata(dir.path().join("main")).expect("the program").len();
    println!("{} nets in one program: {size} bytes", nets.len());
    let mut line = runner.to_vec();
    line.push("./main");
    let found = output(Command::new(line[0]).args(&line[1..]).current_dir(dir.path()));
    let mut found = found.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes")));

    for (plan, input) in &nets {
        let mut expected = vec![0.0; plan.output_len()];
        if self_contained {
            let jit = compile_jit_with(plan, JitOptions { self_contained });
            jit.expect("the JIT").run(input, &mut expected).expect("lengths fit");
        } else {
            // The library reads no environment.
            let best = Isa::available().last().expect("scalar");
            NativeNet::new(plan.clone(), best).run(input, &mut expected).expect("lengths fit");
        }
        let bound = if self_contained { BOUND * expected.iter().fold(1f32, |m, v| m.max(v.abs())) } else { 0.0 };
        for (i, e) in expected.iter().enumerate() {
            let f = found.next().expect("as many outputs as the nets have");
            let same = f.to_bits() == e.to_bits() || (f - e).abs() <= bound;
            assert!(same, "{target:?}, {}, output {i}: {f} instead of {e}", plan.name);
        }
    }
    assert_eq!(found.next(), None);
}

/// Symbols that an object or a library of one leaves undefined, in order, by `nm` where there is one.
fn undefined(object: &Path) -> Option<Vec<String>> {
    has("nm").then(|| {
        let text = String::from_utf8(output(Command::new("nm").arg("-u").arg(object))).expect("text");
        let mut names: Vec<String> = text.lines().filter_map(|l| l.trim().strip_prefix("U ")).map(str::to_owned).collect();
        names.sort();
        names
    })
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn x86_objects_link_with_c() {
    if !has("cc") {
        println!("skipped: no C compiler (`cc`) here");
        return;
    }
    link_run_compare(Some("x86_64-unknown-linux-gnu"), &["cc", "-pie"], &[]);
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        link_run_compare(Some("x86_64-unknown-linux-gnu+x86-64-v3"), &["cc"], &[]);
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn objects_link_with_the_runtime() {
    if !has("cc") {
        println!("skipped: no C compiler (`cc`) here");
        return;
    }
    link_run_compare(None, &["cc", "-pie"], &[]);
}

#[test]
fn aarch64_objects_give_the_same_answers() {
    let (cc, qemu) = ("aarch64-linux-gnu-gcc", "qemu-aarch64");
    if !has(cc) || !has(qemu) {
        println!("skipped: needs `{cc}` and `{qemu}` (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)");
        return;
    }
    link_run_compare(Some("aarch64-unknown-linux-gnu"), &[cc, "-static"], &[qemu]);
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// `examples/c` as its README builds it, on all samples of the digits, in both forms.
#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_os = "linux"))]
#[test]
fn the_c_example_reads_handwriting() {
    if !has("cc") {
        println!("skipped: no C compiler (`cc`) here");
        return;
    }
    let (net, _) =
        front::load(&example("digits/digits.toml"), &[], None).unwrap_or_else(|d| panic!("digits:\n{}", diag::render(&d, false)));
    let mut graph = net.graph;
    pass::run(&mut graph, &net.passes, None, None).expect("the passes run");
    let meta = plan::Meta { name: net.name, preprocess: net.preprocess, labels: net.labels, params: 0 };
    for self_contained in [false, true] {
        let options = ObjectOptions { target: None, self_contained };
        let layers = options.wants_layers().expect("this machine is a target");
        let plan = if layers { plan::Options::LAYERED } else { plan::Options::default() };
        let plan = plan::build(&graph, meta.clone(), &plan).expect("a plan");
        the_c_example(&object(&plan, options).expect("an object"));
    }
}

/// Builds and runs `examples/c` with the digits as `object`.
#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_os = "linux"))]
fn the_c_example(object: &Object) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).expect("writable");
    write("digits.o", &object.bytes);
    write("digits.h", object.header.as_bytes());
    write("digits.weights", &object.weights);
    let mut expected = String::new();
    let mut run = Command::new("./digits");
    run.arg("digits.weights").current_dir(dir.path());
    for entry in std::fs::read_dir(example("digits/samples")).expect("the samples") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|n| n.to_str()).expect("a name").to_owned();
        let picture = image::open(&path).expect("a picture");
        let mut pgm = format!("P5\n{} {}\n255\n", picture.width, picture.height).into_bytes();
        pgm.extend(image::luma(&picture.rgb));
        write(&format!("{name}.pgm"), &pgm);
        run.arg(format!("{name}.pgm"));
        let _ = writeln!(expected, "{name}.pgm: {}", &name[..1]);
    }
    assert_eq!(expected.lines().count(), 20);
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-I.", "-o", "digits"]).arg(example("c/main.c")).arg("digits.o");
    if let Some(library) = object.runtime {
        write(RUNTIME_FILE, library);
        cc.arg(RUNTIME_FILE);
    }
    output(cc.current_dir(dir.path()));
    assert_eq!(String::from_utf8_lossy(&output(&mut run)), expected);

    // What is wrong with files is said, and the others are still read.
    write("small.pgm", b"P5 2 2 255\n1234");
    write("cut.pgm", b"P5 32 32 255\n1234");
    let out = Command::new("./digits")
        .args(["digits.weights", "small.pgm", "cut.pgm", "none.pgm", "7-1.pgm"])
        .current_dir(dir.path())
        .output()
        .expect("the program starts");
    assert_eq!(String::from_utf8_lossy(&out.stdout), "7-1.pgm: 7\n");
    assert_eq!(String::from_utf8_lossy(&out.stderr).lines().count(), 3);
    assert_eq!(out.status.code(), Some(1));
    write("digits.weights", &object.weights[4..]);
    let out = Command::new("./digits").args(["digits.weights", "7-1.pgm"]).current_dir(dir.path()).output().expect("it starts");
    assert!(String::from_utf8_lossy(&out.stderr).contains("not a file of weights that mnc wrote"), "{out:?}");
    assert_eq!(out.status.code(), Some(1));
}

#[test]
fn the_header_says_sizes() {
    let (plan, _) = nets(&plan::Options::LAYERED).swap_remove(3);
    let object = object(&plan, ObjectOptions::default()).expect("an object");
    for (name, value) in [
        ("INPUT_LEN", plan.input_len()),
        ("OUTPUT_LEN", plan.output_len()),
        ("ARENA_BYTES", plan.memory.arena_bytes),
        ("WEIGHTS_FILE_BYTES", object.weights.len()),
    ] {
        let line = format!("#define NET3_{name} {value}\n");
        assert!(object.header.contains(&line), "{line} in\n{}", object.header);
    }
    assert!(object.header.contains("void net3_run(const float *weights, const float *input, float *output, float *arena);"));
}
