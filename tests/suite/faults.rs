//! What goes wrong around the program: full disks, files that cannot be read or end early, signals. A clear message, the right
//! exit code, nothing half written.

#![cfg(target_os = "linux")]

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cli::{expect, folder, mnc, path, program};

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let all = std::fs::read_dir(folder).expect("a folder");
    let mut all: Vec<String> = all.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    all.sort();
    all
}

/// The program as a shell starts it, `before` in front of it.
fn shell(before: &str, args: &[&str], after: &str) -> Output {
    let script = format!("{before}; exec \"$0\" \"$@\" {after}");
    Command::new("sh").args(["-c", &script]).arg(program()).args(args).env_remove("MNC_ISA").output().expect("a shell")
}

#[test]
fn a_full_disk() {
    let dir = folder();
    let spec = path(&dir, "tiny.toml");
    for args in [&["show", &spec][..], &["verify", &spec, "--json"], &["compile", &spec, "--emit", "ir", "-o", "-"]] {
        let out = Command::new(program()).args(args).stdout(File::create("/dev/full").expect("a device")).output();
        let (_, stderr) = expect(&out.expect("it starts"), 1);
        assert!(stderr.contains("cannot write to standard output: No space left on device"), "{args:?}: {stderr}");
    }
    // Nor may diagnostics that go nowhere change what happens.
    let lost =
        Command::new(program()).args(["show", "absent.toml"]).stderr(File::create("/dev/full").expect("a device")).output();
    expect(&lost.expect("it starts"), 2);
    // 4 KiB a file at most, as on a full disk: the weights do not fit, and so nothing is written.
    let out = dir.path().join("out");
    for kind in ["rust", "rust-extern", "obj"] {
        let to = out.to_str().expect("UTF-8");
        let (stdout, stderr) = expect(&shell("ulimit -f 8", &["compile", &spec, "--emit", kind, "-o", to], ""), 1);
        assert!(stdout.is_empty() && stderr.contains("cannot write `") && stderr.contains("too large"), "{kind}: {stderr}");
        assert!(names(&out).is_empty(), "{kind}: {:?}", names(&out));
    }
    let (_, stderr) = expect(&shell("ulimit -f 8", &["import", &spec, "-o", out.to_str().expect("UTF-8")], ""), 1);
    assert!(stderr.contains("cannot write `"), "{stderr}");
    assert!(names(&out).is_empty(), "{:?}", names(&out));
}

#[test]
fn folders_that_take_nothing() {
    let dir = folder();
    let spec = path(&dir, "tiny.toml");
    for to in [format!("{spec}/below"), "/proc/mnc".to_owned(), "/dev/null".to_owned()] {
        for args in [&["compile", &spec, "-o", &to][..], &["import", &spec, "-o", &to]] {
            let (stdout, stderr) = expect(&mnc(args), 1);
            assert!(stdout.is_empty() && stderr.contains(&to), "{args:?}: {stderr}");
        }
    }
    // In the place of a file that is to be written stands a folder.
    std::fs::create_dir_all(dir.path().join("out/tiny.weights")).expect("a folder");
    let (_, stderr) = expect(&mnc(&["compile", &spec, "-o", &path(&dir, "out")]), 1);
    assert!(stderr.contains("it is a directory"), "{stderr}");
    assert_eq!(names(&dir.path().join("out")), ["tiny.weights"]);
}

#[test]
fn files_that_cannot_be_read() {
    let dir = folder();
    let (spec, absent) = (path(&dir, "tiny.toml"), path(&dir, "absent"));
    let here = dir.path().to_str().expect("UTF-8");
    // Reading the last fails though it can be opened.
    for bad in [absent.as_str(), here, "/proc/self/mem"] {
        let (_, stderr) = expect(&mnc(&["show", bad]), 2);
        assert!(stderr.contains(bad), "{bad}: {stderr}");
        let (_, stderr) = expect(&mnc(&["show", &spec, "--weights", bad]), 2);
        assert!(stderr.contains(bad), "{bad}: {stderr}");
        let (_, stderr) = expect(&mnc(&["run", &spec, bad]), 1);
        assert!(stderr.contains(bad), "{bad}: {stderr}");
        let (_, stderr) = expect(&mnc(&["run", &spec, "--input", bad, "--output", &path(&dir, "y.npy")]), 2);
        assert!(stderr.contains(bad), "{bad}: {stderr}");
    }
    for ending in ["onnx", "tflite"] {
        let (_, stderr) = expect(&mnc(&["show", &path(&dir, &format!("absent.{ending}"))]), 2);
        assert!(stderr.contains("absent"), "{stderr}");
    }
}

/// A checkpoint of the small net, as `import` writes it.
fn imported(dir: &TempDir) -> (String, String) {
    let out = path(dir, "whole");
    expect(&mnc(&["import", &path(dir, "tiny.toml"), "-o", &out]), 0);
    (format!("{out}/tiny.toml"), format!("{out}/tiny.safetensors"))
}

#[test]
fn checkpoints_that_end_early() {
    let dir = folder();
    let (spec, weights) = imported(&dir);
    let whole = std::fs::read(&weights).expect("written");
    for keep in [0, 1, 7, 8, 9, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&weights, &whole[..keep]).expect("cut");
        let (stdout, stderr) = expect(&mnc(&["show", &spec]), 2);
        assert!(stdout.is_empty() && stderr.contains("tiny.safetensors"), "{keep}: {stderr}");
    }
    // A longer one is none either.
    std::fs::write(&weights, [&whole[..], b"more"].concat()).expect("grown");
    expect(&mnc(&["show", &spec]), 2);
    std::fs::write(&weights, &whole).expect("whole again");
    expect(&mnc(&["show", &spec]), 0);
}

fn start(args: &[&str]) -> Child {
    Command::new(program()).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

fn send(signal: &str, to: &Child) {
    let sent = Command::new("kill").args(["-s", signal, &to.id().to_string()]).status();
    assert!(sent.expect("kill").success());
}

/// A checkpoint that is cut to nothing while nets made of it are at work: whoever has read it goes on.
#[test]
fn a_checkpoint_that_changes() {
    let dir = folder();
    let (spec, weights) = imported(&dir);
    let mut child = start(&["bench", &spec, "--runs", "20000", "--json"]);
    // Until it has read it: what is mapped or open is listed there.
    let listed = format!("/proc/{}/maps", child.id());
    std::thread::sleep(Duration::from_millis(300));
    if let Ok(maps) = std::fs::read_to_string(listed) {
        assert!(!maps.contains("tiny.safetensors"), "a mapped checkpoint can be cut short by others");
    }
    File::create(&weights).expect("cut to nothing");
    let mut ended = child.try_wait().expect("a child");
    let start = Instant::now();
    while ended.is_none() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
        ended = child.try_wait().expect("a child");
    }
    let out = child.wait_with_output().expect("it ends");
    // Under load it may not have got to reading: then the file is empty, and it says so.
    assert!(matches!(out.status.code(), Some(0 | 2)), "{out:?}");
}

#[test]
fn interrupted_while_computing() {
    let dir = folder();
    let spec = path(&dir, "tiny.toml");
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let child = start(&["verify", &spec, "--seeds", "10000000"]);
        std::thread::sleep(Duration::from_millis(300));
        send(signal, &child);
        expect(&child.wait_with_output().expect("it ends"), code);
    }
}

/// Ctrl-C while files are written: all of them appear or none, and nothing under another name.
#[test]
fn interrupted_while_writing() {
    let dir = folder();
    let big = include_str!("../../examples/nets/mobilenet_v1.toml").replace("alpha = 1.0", "alpha = 0.5");
    let spec = path(&dir, "big.toml");
    std::fs::write(&spec, big.replace("[net]\n", "[net]\n# small\n")).expect("a spec");
    let mut interrupted = 0;
    for attempt in 0..6 {
        let out = dir.path().join(format!("out{attempt}"));
        std::fs::create_dir(&out).expect("a folder");
        let child = start(&["import", &spec, "-o", out.to_str().expect("UTF-8")]);
        let begun = Instant::now();
        while names(&out).is_empty() && begun.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_micros(200));
        }
        send("INT", &child);
        let status = child.wait_with_output().expect("it ends").status;
        let found = names(&out);
        assert!(found.iter().all(|n| !n.starts_with(".mnc-")), "{found:?}");
        assert!(found.is_empty() || found.len() == 2, "{found:?}");
        match status.code() {
            Some(130) => interrupted += usize::from(found.is_empty()),
            Some(0) => assert_eq!(found.len(), 2),
            other => panic!("{other:?}"),
        }
    }
    println!("{interrupted} of 6 interrupted before their files were there");
}
