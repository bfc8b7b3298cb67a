//! Packages that a test writes, builds with cargo and runs: emitted code in a program of its own, as a user has it.
//!
//! The packages share a target directory under `CARGO_TARGET_TMPDIR`, so what mnc depends on is built once for all of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

/// A package in the making.
pub struct Package {
    name: String,
    dir: PathBuf,
}

/// One net of [`Package::run_nets`].
pub struct NetCase {
    /// Path of its type in the package: `net3::Net3`.
    pub path: String,
    /// The inputs to run, each a whole tensor.
    pub inputs: Vec<Vec<f32>>,
}

/// One cargo at a time: tests run in parallel, and two would only wait for each other's locks.
static BUILDING: Mutex<()> = Mutex::new(());

impl Package {
    /// An empty package with one dependency: mnc, with its default features. What an earlier run left is removed.
    pub fn new(name: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages").join(name);
        let _ = fs::remove_dir_all(&dir);
        let package = Self { name: name.to_owned(), dir };
        package.write(
            "Cargo.toml",
            format!(
                "[package]\nname = {name:?}\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
                 [dependencies]\nmnc = {{ path = {root:?} }}\n\n\
                 [profile.dev]\nopt-level = 1\ndebug = false\nincremental = false\n\n\
                 [profile.dev.package.mnc-runtime]\nopt-level = 3\n"
            ),
        );
        let _ = fs::copy(root.join("Cargo.lock"), package.dir.join("Cargo.lock"));
        package
    }

    /// Writes one file.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().expect("a file in a folder")).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        fs::write(&path, content).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Reads a text file.
    pub fn read(&self, path: &str) -> String {
        let path = self.dir.join(path);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// Builds it and runs its program in its folder.
    pub fn run(&self, args: &[&str]) {
        let (built, target) = self.build();
        assert!(built.status.success(), "{} does not build:\n{}", self.name, String::from_utf8_lossy(&built.stderr));
        let ran =
            Command::new(target.join("debug").join(&self.name)).current_dir(&self.dir).args(args).output().expect("it starts");
        assert!(ran.status.success(), "{} failed:\n{}", self.name, String::from_utf8_lossy(&ran.stderr));
    }

    /// What rustc says of it, which must be that it does not compile.
    pub fn fails(&self) -> String {
        let (built, _) = self.build();
        let said = String::from_utf8_lossy(&built.stderr).into_owned();
        assert!(!built.status.success(), "{} builds, which it must not: {said}", self.name);
        said
    }

    fn build(&self) -> (Output, PathBuf) {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("target");
        let _building = BUILDING.lock().unwrap_or_else(|e| e.into_inner());
        let built = cargo().current_dir(&self.dir).args(["build", "--offline", "--quiet", "--target-dir"]).arg(&target).output();
        (built.expect("cargo starts"), target)
    }

    /// Whether cargo builds the package again when the file at `path` changes, by the last build.
    pub fn watches(&self, path: &str) -> bool {
        let list = Path::new(env!("CARGO_TARGET_TMPDIR")).join("target/debug").join(&self.name).with_extension("d");
        fs::read_to_string(list).expect("what the program was made of").contains(path)
    }

    /// Gives the package a program that runs every net of `cases` on its inputs, builds it, and returns the outputs, one
    /// vector an input. `items` are modules and macro calls. Each net is run through the trait with
    /// an arena of its own, by `run_in` in a foreign one and by `run_on` with a team; all must give the same bits, and on one
    /// thread nothing may be allocated.
    pub fn run_nets(&self, items: &str, cases: &[NetCase]) -> Vec<Vec<Vec<f32>>> {
        let calls: String = cases.iter().map(|c| format!("    net!({}, {}, input, output);\n", c.path, c.inputs.len())).collect();
        self.write("src/main.rs", format!("{DRIVER}\n{items}\nfn nets(input: &mut Input, output: &mut Output) {{\n{calls}}}\n"));
        let floats = cases.iter().flat_map(|c| &c.inputs).flatten();
        self.write("input", floats.flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
        self.run(&["input", "output"]);
        let output = fs::read(self.dir.join("output")).expect("the program wrote its outputs");
        let mut output = output.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let mut vector = || {
            let len = output.next().expect("a length") as usize;
            output.by_ref().take(len).collect::<Vec<f32>>()
        };
        cases.iter().map(|c| c.inputs.iter().map(|_| vector()).collect()).collect()
    }
}

/// The program without its nets.
const DRIVER: &str = include_str!("../ui/program/nets.rs");

/// The cargo that runs this test, without what it told the test about this package.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_BIN_")
            || text == "CARGO_MANIFEST_DIR"
            || text == "CARGO_MANIFEST_PATH"
        {
            cargo.env_remove(&name);
        }
    }
    cargo
}
