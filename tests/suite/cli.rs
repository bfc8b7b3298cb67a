//! The program as a user runs it: exit codes, diagnostics, JSON keys, files whole or absent.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

/// The program of this checkout, built if it is not there or not current.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        // <target>/<profile>/deps/suite-…
        let test = std::env::current_exe().expect("this test has a path");
        let folder = test.parent().and_then(Path::parent).expect("it lies in <target>/<profile>/deps");
        let target = folder.parent().expect("a profile's folder lies in the target folder");
        let profile = match folder.file_name().and_then(|n| n.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let built = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
            // With an example beside it, dependencies have the features that `cargo test --workspace` gave them: none is built anew.
            .args(["build", "--quiet", "--workspace", "--bin", "mnc", "--example", "classify"])
            .args(["--profile", profile, "--target-dir"])
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo runs");
        assert!(built.success(), "the program does not build");
        folder.join("mnc")
    })
}

pub fn mnc(args: &[&str]) -> Output {
    Command::new(program()).args(args).env_remove("MNC_ISA").output().expect("the program starts")
}

/// A folder with a small spec `tiny.toml`, a picture `a.png`, and room.
pub fn folder() -> TempDir {
    let dir = TempDir::new().expect("a temporary folder");
    std::fs::write(dir.path().join("tiny.toml"), TINY).expect("a spec");
    picture(&dir.path().join("a.png"));
    dir
}

const TINY: &str = r#"
[net]
name = "tiny"
input = { height = 32, width = 40, channels = 3, mean = 0.5, std = 0.5, resize = 44 }
classes = 4
labels = ["cat", "dog", "newt", "yak"]

[[block]]
kind = "conv"
kernel = 3
stride = 2
out = 8

[[block]]
kind = "separable"
out = 16
stride = 2

[[block]]
kind = "inverted_residual"
expand = 2
out = 16
se = true

[[block]]
kind = "global_avg_pool"

[[block]]
kind = "dense"
"#;

fn picture(path: &Path) {
    let pixel = |x: u32, y: u32| image::Rgb([(x * 5) as u8, (y * 3) as u8, (x ^ y) as u8]);
    image::RgbImage::from_fn(61, 47, pixel).save(path).expect("a picture");
}

pub fn path(dir: &TempDir, name: &str) -> String {
    dir.path().join(name).to_str().expect("UTF-8").to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Exit code `code`, and no panic.
#[track_caller]
pub fn expect(out: &Output, code: i32) -> (String, String) {
    let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
    assert_eq!(out.status.code(), Some(code), "stdout:\n{stdout}\nstderr:\n{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    (stdout, stderr)
}

/// The JSON objects of `stdout`, one a line.
#[track_caller]
fn objects(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

#[track_caller]
fn has_keys(object: &Value, keys: &[&str]) {
    let found: BTreeSet<&str> = object.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(found, keys.iter().copied().collect(), "{object}");
}

#[test]
fn usage_errors_are_code_2() {
    let dir = folder();
    let (spec, picture) = (path(&dir, "tiny.toml"), path(&dir, "a.png"));
    for args in [
        &[][..],
        &["frobnicate"],
        &["run", &spec],
        &["run", &spec, &picture, "--top", "0"],
        &["run", &spec, &picture, "--engine", "gpu"],
        &["run", &spec, "--input", "x.npy"],
        &["run", &spec, &picture, "--input", "x.npy", "--output", "y.npy"],
        &["run", &spec, &picture, "--threads", "2", "--self-contained"],
        &["run", &spec, &picture, "--threads", "0", "--engine", "native"],
        &["run", &spec, &picture, "--threads", "65", "--engine", "native"],
        &["verify", &spec, "--threads", "0"],
        &["bench", &spec, "--runs", "0"],
        &["bench", &spec, "--threads", "4", "--engine", "reference"],
        &["show", &spec, "--set", "alpha"],
        &["show", &spec, "--after", "fold_bm"],
        &["compile", &spec, "--emit", "exe"],
        &["compile", &spec, "--emit", "ir", "--target", "aarch64-unknown-linux-gnu"],
        &["compile", &spec, "--emit", "rust", "--self-contained"],
        &["compile", &spec, "--emit", "rust", "-o", "-"],
        &["compile", &spec, "--emit", "obj", "--target", "pdp11", "-o", dir.path().to_str().expect("UTF-8")],
    ] {
        let (stdout, stderr) = expect(&mnc(args), 2);
        assert!(stdout.is_empty(), "{args:?}: {stdout}");
        assert!(!stderr.is_empty(), "{args:?}");
    }
    let (stdout, stderr) = expect(&mnc(&["--help"]), 0);
    assert!(stdout.contains("verify") && stderr.is_empty());
    expect(&mnc(&["--version"]), 0);
    let out = Command::new(program()).args(["show", &spec]).env("MNC_ISA", "mmx").output().expect("the program starts");
    let (_, stderr) = expect(&out, 2);
    assert!(stderr.contains("MNC_ISA") && stderr.contains("scalar"), "{stderr}");
    let (_, stderr) = expect(&mnc(&["show", &spec, "--after", "fold_bm"]), 2);
    assert!(stderr.contains("fold_bn"), "{stderr}");
}

#[test]
fn bad_input_is_a_diagnostic_with_code_2() {
    let dir = folder();
    let (spec, picture) = (path(&dir, "tiny.toml"), path(&dir, "a.png"));
    std::fs::write(dir.path().join("bad.toml"), TINY.replace("kernel = 3", "kernal = 3")).expect("a spec");
    std::fs::write(dir.path().join("three.txt"), "a\nb\nc\n").expect("labels");
    std::fs::write(dir.path().join("text.npy"), "not an array").expect("a file");
    for (args, says) in [
        (&["show", "no_such_spec.toml"][..], "no_such_spec.toml"),
        (&["show", dir.path().to_str().expect("UTF-8")], "directory"),
        (&["show", &path(&dir, "bad.toml")], "kernel"),
        (&["show", &path(&dir, "a.png")], "a.png"),
        (&["show", &spec, "--set", "alpah=0.5"], "alpha"),
        (&["show", &spec, "--weights", "no_such.safetensors"], "no_such.safetensors"),
        (&["run", &spec, &picture, "--labels", &path(&dir, "three.txt")], "4 classes"),
        (&["run", &spec, &picture, "--labels", &path(&dir, "none.txt")], "none.txt"),
        (&["run", &spec, "--input", &path(&dir, "none.npy"), "--output", &path(&dir, "y.npy")], "none.npy"),
        (&["run", &spec, "--input", &path(&dir, "text.npy"), "--output", &path(&dir, "y.npy")], "not a .npy"),
    ] {
        let (stdout, stderr) = expect(&mnc(args), 2);
        assert!(stdout.is_empty(), "{args:?}: {stdout}");
        assert!(stderr.contains(says) && stderr.contains("error"), "{args:?}: {stderr}");
        assert!(!stderr.contains('\u{1b}'), "colour without a terminal: {stderr}");
    }
    assert!(!dir.path().join("y.npy").exists());
}

#[test]
fn pictures_are_classified_and_a_broken_one_fails_alone() {
    let dir = folder();
    let (spec, good) = (path(&dir, "tiny.toml"), path(&dir, "a.png"));
    let bytes = std::fs::read(&good).expect("the picture");
    std::fs::write(dir.path().join("cut.png"), &bytes[..bytes.len() / 2]).expect("a file");
    let (cut, missing, folder) = (path(&dir, "cut.png"), path(&dir, "none.jpg"), dir.path().to_str().expect("UTF-8").to_owned());
    let out = mnc(&["run", &spec, &good, &cut, &missing, &folder, &good, "--json", "--top", "2"]);
    let (stdout, stderr) = expect(&out, 1);
    let answers = objects(&stdout);
    assert_eq!(answers.len(), 2, "{stdout}");
    for answer in &answers {
        has_keys(answer, &["image", "top", "ms"]);
        assert_eq!(answer["image"], good.as_str());
        let top = answer["top"].as_array().expect("a list");
        assert_eq!(top.len(), 2);
        has_keys(&top[0], &["index", "label", "score"]);
        let index = top[0]["index"].as_u64().expect("a number") as usize;
        assert_eq!(top[0]["label"], ["cat", "dog", "newt", "yak"][index]);
        let [first, second] = [0, 1].map(|i| top[i]["score"].as_f64().expect("a number"));
        assert!(first >= second && first < 1.0 && second > 0.0 && first + second <= 1.0 + 1e-6);
    }
    assert_eq!(answers[0]["top"], answers[1]["top"]);
    for name in ["cut.png", "none.jpg", &folder] {
        assert!(stderr.contains(name), "{name}: {stderr}");
    }
    assert!(stderr.contains("seed"), "random weights are not mentioned: {stderr}");

    let (stdout, _) = expect(&mnc(&["run", &spec, &good]), 0);
    assert!(stdout.contains("rank") && stdout.contains("yak") && stdout.contains("a.png"), "{stdout}");
}

#[test]
fn engines_and_seeds_agree() {
    let dir = folder();
    let (spec, picture) = (path(&dir, "tiny.toml"), path(&dir, "a.png"));
    let scores = |extra: &[&str]| -> Vec<f64> {
        let args = [&["run", &spec, &picture, "--json", "--top", "4"], extra].concat();
        let (stdout, _) = expect(&mnc(&args), 0);
        let mut top = objects(&stdout)[0]["top"].as_array().expect("a list").clone();
        top.sort_by_key(|g| g["index"].as_u64());
        top.iter().map(|g| g["score"].as_f64().expect("a number")).collect()
    };
    let jit = scores(&[]);
    assert!((jit.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    assert_eq!(jit, scores(&["--engine", "jit", "--threads", "1", "--set", "weights.seed=1"]));
    assert_eq!(jit, scores(&["--threads", "2"]));
    assert_eq!(scores(&["--engine", "native"]), scores(&["--engine", "native", "--threads", "3"]));
    for engine in ["native", "reference"] {
        for (a, b) in jit.iter().zip(scores(&["--engine", engine])) {
            assert!((a - b).abs() < 1e-5, "{engine}: {a} {b}");
        }
    }
    assert_ne!(jit, scores(&["--set", "weights.seed=2"]));
}

#[test]
fn tensors_go_in_and_out() {
    let dir = folder();
    let (spec, x, y) = (path(&dir, "tiny.toml"), path(&dir, "x.npy"), path(&dir, "y.npy"));
    let data: Vec<f32> = (0..32 * 40 * 3).map(|i| (i % 29) as f32 / 14.0 - 1.0).collect();
    let mut answers = Vec::new();
    for shape in [&[32u64, 40, 3][..], &[1, 32, 40, 3]] {
        write_npy(&x, &data, shape);
        let (stdout, _) = expect(&mnc(&["run", &spec, "--input", &x, "--output", &y, "--json"]), 0);
        assert_eq!(objects(&stdout).len(), 1);
        let bytes = std::fs::read(&y).expect("an answer");
        let file = npyz::NpyFile::new(&bytes[..]).expect("an array");
        assert_eq!(file.shape(), [1, 4]);
        answers.push(file.into_vec::<f32>().expect("floats"));
    }
    assert_eq!(answers[0], answers[1]);

    std::fs::remove_file(&y).expect("it was there");
    for shape in [&[3u64, 32, 40][..], &[32, 40], &[1, 3, 32, 40], &[2, 32, 40, 3]] {
        let n = shape.iter().product::<u64>() as usize;
        write_npy(&x, &vec![0.0; n], shape);
        let (_, stderr) = expect(&mnc(&["run", &spec, "--input", &x, "--output", &y]), 2);
        assert!(stderr.contains("NHWC"), "{stderr}");
    }
    assert!(!Path::new(&y).exists());
    write_npy(&x, &data, &[32, 40, 3]);
    let (_, stderr) = expect(&mnc(&["run", &spec, "--input", &x, "--output", &path(&dir, "no/such/y.npy")]), 1);
    assert!(stderr.contains("y.npy"), "{stderr}");
}

fn write_npy(path: &str, data: &[f32], shape: &[u64]) {
    use npyz::WriterBuilder;
    let file = std::fs::File::create(path).expect("a file");
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(shape).writer(file).begin_nd().expect("a header");
    writer.extend(data.iter().copied()).expect("data");
    writer.finish().expect("an end");
}

#[test]
fn json_keys_are_the_contract() {
    let dir = folder();
    let spec = path(&dir, "tiny.toml");
    let (stdout, _) = expect(&mnc(&["show", &spec, "--json"]), 0);
    let show = &objects(&stdout)[0];
    let memory = ["arena_bytes", "arena_lower_bound_bytes", "layerwise_bound_bytes", "peak_with_input_bytes"];
    let keys = ["net", "inputs", "outputs", "params", "macs", "layers", "threads", "tuned_on", "stages", "remarks"];
    has_keys(show, &[&keys[..], &memory].concat());
    has_keys(&show["inputs"][0], &["name", "shape", "first"]);
    assert_eq!(
        (show["inputs"][0]["shape"].to_string(), show["outputs"][0]["shape"].to_string()),
        ("[1,32,40,3]".into(), "[1,1,1,4]".into())
    );
    has_keys(&show["stages"][0], &["steps", "strip_rows", "split", "ring_rows", "cycles", "cycles_by_layers"]);
    let sum = |key: &str| show["layers"].as_array().expect("a list").iter().filter_map(|l| l[key].as_u64()).sum::<u64>();
    assert_eq!([sum("params"), sum("macs")].map(Value::from), [show["params"].clone(), show["macs"].clone()]);
    has_keys(&show["layers"][0], &["op", "name", "shape", "params", "macs"]);

    let (stdout, _) = expect(&mnc(&["bench", &spec, "--json", "--runs", "5"]), 0);
    let bench = &objects(&stdout)[0];
    has_keys(
        bench,
        &[
            "net",
            "engine",
            "threads",
            "runs",
            "min_ms",
            "median_ms",
            "p99_ms",
            "macs",
            "gflops",
            "peak_gflops",
            "peak_fraction",
            "compile_ms",
            "arena_bytes",
            "arena_lower_bound_bytes",
            "weight_bytes",
        ],
    );
    assert_eq!((&bench["engine"], &bench["runs"], &bench["threads"]), (&"jit".into(), &5.into(), &1.into()));
    let (stdout, _) = expect(&mnc(&["bench", &spec, "--json", "--runs", "2", "--engine", "native", "--threads", "2"]), 0);
    let shared = &objects(&stdout)[0];
    assert_eq!(shared["threads"], 2);
    let (stdout, _) =
        expect(&mnc(&["bench", &spec, "--json", "--runs", "2", "--engine", "native", "--set", "plan.threads=3"]), 0);
    assert_eq!(objects(&stdout)[0]["threads"], 3, "the spec's");
    let number = |key: &str| bench[key].as_f64().expect("a number");
    assert!(number("min_ms") <= number("median_ms") && number("median_ms") <= number("p99_ms"));
    assert!(number("peak_gflops") > 0.5 && number("peak_fraction") < 1.0, "{bench}");

    let (stdout, _) = expect(&mnc(&["bench", &spec, "--json", "--runs", "5", "--profile"]), 0);
    profile_makes_sense(&objects(&stdout)[0]);
    let (stdout, _) = expect(&mnc(&["bench", &spec, "--json", "--runs", "3", "--profile", "--threads", "2"]), 0);
    profile_makes_sense(&objects(&stdout)[0]);

    let (stdout, _) = expect(&mnc(&["verify", &spec, "--json", "--seeds", "1"]), 0);
    let lines = objects(&stdout);
    let of = |key: &str| lines.iter().filter(|l| l.get(key).is_some()).cloned().collect::<Vec<_>>();
    let engines = of("engine");
    for engine in &engines {
        let keys = ["net", "engine", "max_abs_err", "max_rel_err", "bound", "of_bound", "of_bound_at_edges", "ok"];
        has_keys(engine, &keys);
        assert_eq!(engine["ok"], true);
    }
    for pass in of("pass") {
        has_keys(&pass, &["net", "pass", "outcome", "max_abs_err", "of_bound", "of_bound_at_edges", "ok"]);
    }
    for input in of("input") {
        has_keys(&input, &["net", "input", "finite", "not_finite", "open", "max_abs", "bound"]);
    }
    assert_eq!((of("pass").len(), of("input").len()), (mnc_compiler::pass::PIPELINE.len(), 10), "{stdout}");
    for name in ["jit", "jit-self-contained", "native-scalar"] {
        assert!(engines.iter().any(|e| e["engine"] == name), "{name}: {stdout}");
    }
    // Object files, where they can be linked; else a line says why not.
    let linked = Command::new("cc").arg("--version").output().is_ok_and(|o| o.status.success());
    let objects = engines.iter().filter(|e| e["engine"].as_str().is_some_and(|n| n.starts_with("object"))).count();
    assert_eq!((objects, of("skipped").len()), if linked { (2, 0) } else { (0, 1) }, "{stdout}");
    let out = Command::new(program()).args(["verify", &spec, "--seeds", "1"]).env("PATH", dir.path()).output();
    let (stdout, _) = expect(&out.expect("the program starts"), 0);
    assert!(stdout.contains("Object files were not run: there is no C compiler (`cc`)"), "{stdout}");
}

/// What `--profile` adds, by its keys and by what must hold among the numbers.
fn profile_makes_sense(bench: &Value) {
    let array = |v: &Value| v.as_array().expect("an array").clone();
    let number = |v: &Value, key: &str| v[key].as_f64().unwrap_or_else(|| panic!("{key}: {v}"));
    let machine = &bench["machine"];
    has_keys(machine, &["isa", "peak_gflops", "levels"]);
    let levels = array(&machine["levels"]);
    assert!(levels.len() >= 2 && levels.last().expect("memory")["name"] == "dram", "{machine}");
    for level in &levels {
        has_keys(level, &["name", "bytes", "read_gb_s", "write_gb_s"]);
        assert!(number(level, "read_gb_s") > 0.1 && number(level, "write_gb_s") > 0.1, "{machine}");
    }
    let mut stages = array(&bench["stages"]);
    for stage in &mut stages {
        let speed_up = stage.as_object_mut().and_then(|s| s.remove("speed_up"));
        assert_eq!(speed_up.is_some(), bench["threads"] != 1, "{stage}");
        assert!(speed_up.is_none_or(|s| s.as_f64().is_some_and(|s| s > 0.0)), "{stage}");
    }
    let sum = |key: &str| stages.iter().map(|s| number(s, key)).sum::<f64>();
    for stage in &stages {
        has_keys(
            stage,
            &[
                "name",
                "steps",
                "macs",
                "min_ms",
                "median_ms",
                "share",
                "gflops",
                "peak_fraction",
                "read_bytes",
                "written_bytes",
                "inside_bytes",
                "least_ms",
                "limit",
                "bound_ms",
                "bound_fraction",
            ],
        );
        has_keys(&stage["least_ms"], &["compute", "l1", "l2", "l3", "dram"]);
        assert_eq!(array(&stage["steps"]).last(), Some(&stage["name"]));
        assert!(number(stage, "min_ms") <= number(stage, "median_ms"), "{stage}");
        assert!(number(stage, "read_bytes") > 0.0 && number(stage, "written_bytes") > 0.0, "{stage}");
        let limit = stage["limit"].as_str().expect("a resource");
        assert_eq!(number(&stage["least_ms"], limit), number(stage, "bound_ms"));
        for least in stage["least_ms"].as_object().expect("an object").values() {
            assert!(least.as_f64().expect("a number") <= number(stage, "bound_ms"), "{stage}");
        }
    }
    assert!((sum("share") - 1.0).abs() < 1e-6 && (sum("bound_ms") - number(bench, "bound_ms")).abs() < 1e-9, "{bench}");
    assert_eq!(sum("macs"), number(bench, "macs"));
}

#[test]
fn tables_for_people() {
    let dir = folder();
    let spec = path(&dir, "tiny.toml");
    let (stdout, _) = expect(&mnc(&["show", &spec]), 0);
    for word in ["depthwise 3x3/2", "bn", "relu6", "parameters", "multiply-adds", "lower bound", "fold_bn: did"] {
        assert!(stdout.contains(word), "{word}:\n{stdout}");
    }
    let (stdout, _) = expect(&mnc(&["show", &spec, "--after", "fold_bn"]), 0);
    assert!(!stdout.contains("+ bn"), "{stdout}");
    let (stdout, _) = expect(&mnc(&["bench", &spec, "--runs", "3", "--profile", "--engine", "native"]), 0);
    for word in ["median", "stage", "limit", "M MACs", "on one thread", "this core:", "time at the bounds:"] {
        assert!(stdout.contains(word), "{word}:\n{stdout}");
    }
    let (shared, _) = expect(&mnc(&["bench", &spec, "--runs", "3", "--profile", "--threads", "2"]), 0);
    for word in ["speed-up", "on 2 threads", "time at the bounds of 2 such cores:"] {
        assert!(shared.contains(word), "{word}:\n{shared}");
    }
    assert!(stdout.lines().filter(|l| l.starts_with(['│', '┌'])).all(|l| l.chars().count() <= 120), "{stdout}");
    let (stdout, _) = expect(&mnc(&["verify", &spec]), 0);
    for word in ["jit", "fold_bn", "denormal", "one NaN", "seeded 2"] {
        assert!(stdout.contains(word), "{word}:\n{stdout}");
    }
}

/// An output of another program: here one of mnc's own, then the same with one element changed.
#[test]
fn outputs_of_others_are_compared() {
    let dir = folder();
    let (spec, x, y) = (path(&dir, "tiny.toml"), path(&dir, "x.npy"), path(&dir, "y.npy"));
    let data: Vec<f32> = (0..32 * 40 * 3).map(|i| (i % 29) as f32 * 0.06 - 0.9).collect();
    write_npy(&x, &data, &[1, 32, 40, 3]);
    expect(&mnc(&["run", &spec, "--input", &x, "--output", &y, "--engine", "native"]), 0);
    let against = ["verify", &spec, "--input", &x, "--against", &y];
    let (stdout, _) = expect(&mnc(&against), 0);
    for word in ["reference", "jit-self-contained", "theirs", "newt"] {
        assert!(stdout.contains(word), "{word}:\n{stdout}");
    }
    let bytes = std::fs::read(&y).expect("written");
    let mut theirs: Vec<f32> = npyz::NpyFile::new(&bytes[..]).expect("an array").into_vec().expect("floats");
    let most = theirs.iter().fold(0f32, |a, v| a.max(v.abs()));
    theirs[2] += 1e-3 * most;
    write_npy(&y, &theirs, &[4]);
    let (stdout, _) = expect(&mnc(&[&against[..], &["--json"]].concat()), 1);
    for line in objects(&stdout) {
        let keys = [
            "output",
            "engine",
            "max_abs_err",
            "max_rel_err",
            "bound",
            "of_bound",
            "ok",
            "at",
            "value",
            "against",
            "top",
            "top_against",
        ];
        has_keys(&line, &keys);
        assert_eq!((&line["ok"], &line["at"]), (&Value::from(false), &Value::from(vec![0, 0, 2])), "{line}");
        assert!((line["max_rel_err"].as_f64().expect("a number") - 1e-3).abs() < 1e-5, "{line}");
    }
    let (stdout, _) = expect(&mnc(&against), 1);
    assert!(stdout.contains("BEYOND THE BOUND") && stdout.contains("[2]"), "{stdout}");
    expect(&mnc(&[&against[..], &["--tolerance", "0.01"]].concat()), 0);
    theirs[1] = f32::NAN;
    write_npy(&y, &theirs, &[1, 4]);
    let (stdout, _) = expect(&mnc(&[&against[..], &["--tolerance", "0.01", "--json"]].concat()), 1);
    assert_eq!(objects(&stdout)[0]["against"], "NaN", "{stdout}");

    expect(&mnc(&[&against[..], &["--tolerance", "-1"]].concat()), 2);
    expect(&mnc(&["verify", &spec, "--against", &y]), 2);
    let (_, stderr) = expect(&mnc(&["verify", &spec, "--input", &y, "--against", &y]), 2);
    assert!(stderr.contains("[32, 40, 3]"), "{stderr}");
    let (_, stderr) = expect(&mnc(&[&against[..], &["--against", &y]].concat()), 2);
    assert!(stderr.contains("gives 1 tensors, `--against` is there 2 times"), "{stderr}");
}

#[test]
fn compiled_files_are_whole_or_absent() {
    let dir = folder();
    let spec = path(&dir, "tiny.toml");
    let out = dir.path().join("made/here");
    let (stdout, _) =
        expect(&mnc(&["compile", &spec, "--emit", "rust,obj,clif,ir,plan,dot", "-o", out.to_str().expect("UTF-8")]), 0);
    let mut files = vec![
        "tiny.rs",
        "tiny.weights",
        "tiny.o",
        "tiny.h",
        "tiny.clif",
        "tiny.ir.txt",
        "tiny.plan.txt",
        "tiny.plan.svg",
        "tiny.dot",
    ];
    if cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        files.push("libmnc_rt.a");
    }
    let found: BTreeSet<String> = list(&out);
    assert_eq!(found, files.iter().map(|f| (*f).to_owned()).collect());
    for file in files {
        assert!(stdout.contains(file), "{file}: {stdout}");
        assert!(std::fs::metadata(out.join(file)).expect("a file").len() > 100, "{file}");
    }
    assert!(std::fs::read(out.join("tiny.o")).expect("an object").starts_with(b"\x7fELF"));

    let alone = dir.path().join("alone");
    expect(&mnc(&["compile", &spec, "--emit", "obj", "--self-contained", "-o", alone.to_str().expect("UTF-8")]), 0);
    assert_eq!(list(&alone), BTreeSet::from(["tiny.h", "tiny.o", "tiny.weights"].map(str::to_owned)));

    // A folder stands where a file must go: nothing else is written either.
    let blocked = dir.path().join("blocked");
    std::fs::create_dir_all(blocked.join("tiny.dot")).expect("a folder");
    let (_, stderr) = expect(&mnc(&["compile", &spec, "--emit", "ir,dot", "-o", blocked.to_str().expect("UTF-8")]), 1);
    assert!(stderr.contains("tiny.dot"), "{stderr}");
    assert_eq!(list(&blocked), BTreeSet::from(["tiny.dot".to_owned()]));

    // The output folder cannot be made.
    let (_, stderr) = expect(&mnc(&["compile", &spec, "-o", &path(&dir, "a.png/out")]), 1);
    assert!(stderr.contains("a.png"), "{stderr}");

    let (stdout, _) = expect(&mnc(&["compile", &spec, "--emit", "dot", "-o", "-"]), 0);
    assert!(stdout.starts_with("digraph"), "{stdout}");
}

#[test]
fn tuning_leaves_a_file_that_is_used() {
    let dir = folder();
    let (spec, out) = (path(&dir, "tiny.toml"), path(&dir, "made"));
    let (stdout, stderr) = expect(&mnc(&["compile", &spec, "--emit", "plan", "-o", &out, "--tune=1"]), 0);
    assert!(
        stdout.contains("tiny.plan.txt") && stderr.contains("changes tried") && stderr.contains("tiny.tune.toml"),
        "{stderr}"
    );
    let plan = std::fs::read_to_string(dir.path().join("made/tiny.plan.txt")).expect("a plan");
    assert!(plan.contains("stages chosen by measurement on "), "{plan}");
    let (stdout, _) = expect(&mnc(&["show", &spec]), 0);
    assert!(stdout.contains("stages chosen by measurement on "), "{stdout}");
    let (_, stderr) = expect(&mnc(&["show", &spec, "--set", "alpha=0.5"]), 0);
    assert!(stderr.contains("another network") && stderr.contains("mnc compile SPEC --tune"), "{stderr}");
    for wrong in [&["--tune=0"][..], &["--tune=-1"], &["--tune=x"], &["--tune=1", "--set", "plan.prefer=memory"]] {
        expect(&mnc(&[&["compile", &spec, "-o", &out], wrong].concat()), 2);
    }
}

fn list(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).expect("a folder").flatten();
    entries.map(|e| e.file_name().into_string().expect("UTF-8")).collect()
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let dir = folder();
    let spec = path(&dir, "tiny.toml");
    for args in [&["show", &spec][..], &["show", &spec, "--json"], &["compile", &spec, "--emit", "ir", "-o", "-"], &["--help"]] {
        let mut child =
            Command::new(program()).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        // The reader is gone before the first line.
        drop(child.stdout.take());
        let out = child.wait_with_output().expect("it ends");
        let (_, stderr) = expect(&out, 0);
        assert!(stderr.lines().all(|l| l.starts_with("note:")), "{stderr}");
    }
}

/// Two inputs, three outputs.
const ENDS: &str = r#"
[net]
name = "ends"
inputs = [{ name = "left", height = 8, width = 8, channels = 3 }, { name = "right", height = 1, width = 1, channels = 3 }]
outputs = { map = "scaled", logits = "dense", probs = "softmax" }
labels = ["cat", "dog", "newt", "yak"]

[[layer]]
op = "scale"
name = "scaled"
inputs = ["left", "right"]

[[layer]]
op = "global_avg_pool"

[[layer]]
op = "dense"
name = "dense"
out = 4

[[layer]]
op = "softmax"
name = "softmax"
"#;

#[test]
fn several_inputs_and_outputs() {
    let dir = folder();
    let spec = path(&dir, "ends.toml");
    std::fs::write(&spec, ENDS).expect("a spec");
    let (stdout, _) = expect(&mnc(&["show", &spec]), 0);
    for line in ["left", "1x8x8x3", "right", "logits", "probs"] {
        assert!(stdout.contains(line), "{line}: {stdout}");
    }
    let (stdout, _) = expect(&mnc(&["show", &spec, "--json"]), 0);
    let first =
        |ends: &str| objects(&stdout)[0][ends].as_array().expect("a list").iter().map(|e| e["first"].clone()).collect::<Vec<_>>();
    assert_eq!(
        (first("inputs"), first("outputs")),
        (vec![Value::from(0), 192.into()], vec![Value::from(0), 192.into(), 196.into()])
    );
    expect(&mnc(&["verify", &spec]), 0);
    expect(&mnc(&["bench", &spec, "--runs", "1"]), 0);

    let (left, right) = (path(&dir, "left.npy"), path(&dir, "right.npy"));
    let data: Vec<f32> = (0..192).map(|i| i as f32 * 0.1 - 9.0).collect();
    write_npy(&left, &data, &[8, 8, 3]);
    write_npy(&right, &[1.0, 2.0, -0.5], &[1, 1, 1, 3]);
    let y = path(&dir, "y.npy");
    let (stdout, _) = expect(&mnc(&["run", &spec, "--input", &left, "--input", &right, "--output", &y, "--json"]), 0);
    let run = &objects(&stdout)[0];
    has_keys(run, &["inputs", "outputs", "ms"]);
    let named: Vec<String> =
        run["outputs"].as_array().expect("a list").iter().map(|o| format!("{} {}", o["name"], o["shape"])).collect();
    assert_eq!(named, ["\"map\" [1,8,8,3]", "\"logits\" [1,4]", "\"probs\" [1,4]"]);
    let read = |name: &str| -> Vec<f32> {
        let bytes = std::fs::read(path(&dir, name)).expect("written");
        npyz::NpyFile::new(&bytes[..]).expect("an array").into_vec().expect("floats")
    };
    assert_eq!(read("y.map.npy")[1], data[1] * 2.0);
    assert!((read("y.probs.npy").iter().sum::<f32>() - 1.0).abs() < 1e-6);
    // By another engine, each where it is wanted.
    let [map, logits, probs] = ["m.npy", "l.npy", "p.npy"].map(|n| path(&dir, n));
    let all = ["--output", &map, "--output", &logits, "--output", &probs, "--engine", "reference"];
    let inputs = ["run", &spec, "--input", &left, "--input", &right];
    expect(&mnc(&[&inputs[..], &all].concat()), 0);
    for (a, b) in [("m.npy", "y.map.npy"), ("l.npy", "y.logits.npy"), ("p.npy", "y.probs.npy")] {
        assert!(read(a).iter().zip(read(b)).all(|(a, b)| (a - b).abs() < 1e-4), "{a} {b}");
    }
    // What does not fit.
    let (_, stderr) = expect(&mnc(&["run", &spec, "--input", &left, "--output", &y]), 2);
    assert!(stderr.contains("takes 2 tensors") && stderr.contains("left 1x8x8x3, right 1x1x1x3"), "{stderr}");
    let (_, stderr) = expect(&mnc(&[&inputs[..], &["--output", &map, "--output", &y]].concat()), 2);
    assert!(stderr.contains("gives 3 tensors"), "{stderr}");
    let (_, stderr) = expect(&mnc(&["run", &spec, &path(&dir, "a.png")]), 2);
    assert!(stderr.contains("not one picture"), "{stderr}");

    // Pictures: the classes of the output that is probabilities, a line for every other one.
    let one = ENDS.replace(", { name = \"right\", height = 1, width = 1, channels = 3 }", "");
    let one =
        one.replace("op = \"scale\"", "op = \"activation\"\nactivation = \"tanh\"").replace("inputs = [\"left\", \"right\"]", "");
    std::fs::write(&spec, one).expect("a spec");
    let (stdout, _) = expect(&mnc(&["run", &spec, &path(&dir, "a.png")]), 0);
    for part in ["probs", "newt", "map", "logits", "1x8x8x3"] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    let (stdout, _) = expect(&mnc(&["run", &spec, &path(&dir, "a.png"), "--json"]), 0);
    let run = &objects(&stdout)[0];
    has_keys(run, &["image", "ms", "top", "top_of", "others"]);
    assert_eq!((run["top_of"].as_str(), run["others"][0]["name"].as_str()), (Some("probs"), Some("map")));
    has_keys(&run["others"][1], &["name", "shape", "min", "max", "mean"]);
}
