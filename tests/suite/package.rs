//! Packages that a test writes, builds with cargo and runs: emitted code in a program of its own, as a user has it.
//!
//! The packages share a target directory under `CARGO_TARGET_TMPDIR`, so what mnc depends on is built once for all of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
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
    /// An empty package with one dependency: mnc, with its default features. What an earlier run left is removed. With `folded`
    /// its kernels are compiled for the nets' constant shapes, as in a release build; otherwise it calls the runtime's.
    pub fn new(name: &str, folded: bool) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages").join(name);
        let _ = fs::remove_dir_all(&dir);
        let assertions = !folded;
        let package = Self { name: name.to_owned(), dir };
        package.write(
            "Cargo.toml",
            format!(
                "[package]\nname = {name:?}\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
                 [dependencies]\nmnc = {{ path = {root:?} }}\n\n\
                 [profile.dev]\nopt-level = 1\ndebug = false\ndebug-assertions = {assertions}\nincremental = false\n\n\
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
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("target");
        let building = BUILDING.lock().unwrap_or_else(|e| e.into_inner());
        let built = cargo().current_dir(&self.dir).args(["build", "--offline", "--quiet", "--target-dir"]).arg(&target).output();
        drop(building);
        let built = built.expect("cargo starts");
        assert!(built.status.success(), "{} does not build:\n{}", self.name, String::from_utf8_lossy(&built.stderr));
        let ran =
            Command::new(target.join("debug").join(&self.name)).current_dir(&self.dir).args(args).output().expect("it starts");
        assert!(ran.status.success(), "{} failed:\n{}", self.name, String::from_utf8_lossy(&ran.stderr));
    }

    /// Gives the package a program that runs every net of `cases` on its inputs, builds it, and returns the outputs, one
    /// vector an input. `items` goes to the top of `main.rs` (modules, macro calls). Each net is run through the trait with
    /// an arena of its own, and by `run_in` in a foreign one; both must give the same bits, and nothing may be allocated.
    pub fn run_nets(&self, items: &str, cases: &[NetCase]) -> Vec<Vec<Vec<f32>>> {
        let calls: String = cases.iter().map(|c| format!("    net!({}, {}, input, output);\n", c.path, c.inputs.len())).collect();
        self.write("src/main.rs", format!("{items}\n{DRIVER}\nfn nets(input: &mut Input, output: &mut Output) {{\n{calls}}}\n"));
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

/// What the program does with its nets.
const DRIVER: &str = r#"
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

type Input = std::vec::IntoIter<f32>;
type Output = Vec<f32>;

struct Counting;
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
#[global_allocator]
static ALLOCATOR: Counting = Counting;

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

macro_rules! net {
    ($net:ty, $runs:expr, $input:ident, $output:ident) => {
        let mut net = <$net>::boxed();
        for _ in 0..$runs {
            let x: Vec<f32> = $input.by_ref().take(<$net>::INPUT_LEN).collect();
            let mut y = vec![f32::NAN; <$net>::OUTPUT_LEN];
            mnc::Net::run(&mut *net, &x, &mut y).unwrap();
            let mut again = vec![f32::NAN; <$net>::OUTPUT_LEN];
            let mut arena = mnc::Arena::boxed();
            arena.as_mut_slice().fill(f32::NAN);
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            <$net>::run_in(&mut arena, x.as_slice().try_into().unwrap(), again.as_mut_slice().try_into().unwrap());
            assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), before, "{}: run allocated", stringify!($net));
            assert!(y.iter().zip(&again).all(|(a, b)| a.to_bits() == b.to_bits()), "{}: run and run_in differ", stringify!($net));
            assert_eq!(<$net>::ARENA_BYTES, std::mem::size_of_val(arena.as_mut_slice()));
            $output.push(y.len() as f32);
            $output.extend(y);
        }
    };
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let bytes = std::fs::read(&args[1]).unwrap();
    let input: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let (mut input, mut output) = (input.into_iter(), Vec::new());
    nets(&mut input, &mut output);
    assert!(input.next().is_none());
    let bytes: Vec<u8> = output.iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(&args[2], bytes).unwrap();
}
"#;

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
