//! A file of another's making takes no more memory than its size allows: every kind that is read, by an allocator that counts.
//!
//! The bounds are those that `front/mod.rs` and `image.rs` state. What is measured is the most that was alive at one time while a file
//! was loaded, with the blocks that a growing list leaves and enters both counted, though an allocator may do better.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mnc_compiler::front::{self, check_and_lower, value::parse_toml};
use mnc_compiler::image;

#[path = "../suite/data.rs"]
#[allow(dead_code, reason = "shared with the suite")]
mod data;
mod onnx;
mod tflite;

/// The system's allocator, counting what each thread has.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static ALIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// Nothing that is tested here may have as much: then the test ends, and not the machine.
const TOO_MUCH: usize = 2 << 30;

/// Counts a block; whether there may be one.
fn add(bytes: usize) -> bool {
    let alive = ALIVE.get().saturating_add(bytes);
    PEAK.set(PEAK.get().max(alive));
    LARGEST.set(LARGEST.get().max(bytes));
    if alive > TOO_MUCH {
        return false;
    }
    ALIVE.set(alive);
    true
}

// SAFETY: blocks are the system allocator's; where there are none, null says so.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !add(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise is the one that is asked for here.
        unsafe { System.alloc(layout) }
    }

    // Zeroed memory that is not touched costs nothing, but would if it were.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !add(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // What another thread made may go here.
        ALIVE.set(ALIVE.get().saturating_sub(layout.size()));
        // SAFETY: the pointer is the system allocator's, see `alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What loading took.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    peak: usize,
    largest: usize,
    time: Duration,
}

fn measure<T>(f: impl FnOnce() -> T) -> (T, Taken) {
    let before = ALIVE.get();
    PEAK.set(before);
    LARGEST.set(0);
    let start = Instant::now();
    let result = f();
    let taken = Taken { peak: PEAK.get() - before, largest: LARGEST.get(), time: start.elapsed() };
    (result, taken)
}

/// A bound: so many bytes, and so many for each byte of the file.
#[derive(Debug, Clone, Copy)]
struct Bound {
    free: usize,
    each: usize,
}

const MIB: usize = 1 << 20;
/// `front/mod.rs`.
const MODEL: Bound = Bound { free: 160 * MIB, each: 64 };
/// `front/mod.rs`.
const CHECKPOINT: Bound = Bound { free: MIB, each: 48 };
/// `front/mod.rs`.
const SPEC: Bound = Bound { free: 128 * MIB, each: 768 };

/// Asserts that what a file of `size` bytes took is within `bound`, and says it.
fn assert_within(bound: Bound, name: &str, size: usize, taken: Taken) {
    let most = bound.free + bound.each * size;
    let times = |n: usize| n as f64 / size as f64;
    println!(
        "{name:40} {size:>10} bytes: at most {:>11} alive ({:8.1} times the file), {:>11} at once, {:.2} s",
        taken.peak,
        times(taken.peak),
        taken.largest,
        taken.time.as_secs_f64()
    );
    expect(taken.peak <= most, || format!("{name}: {} bytes for a file of {size}, more than {most}", taken.peak));
}

/// Loads the spec or model in the file at `path`; what is wrong with it as text.
fn load(path: &Path) -> (Result<front::Net, String>, Taken) {
    let (loaded, taken) = measure(|| front::load(path, &[], None));
    let text = |d: mnc_compiler::diag::Diagnostics| d.iter().map(|d| format!("{}\n", d.message)).collect();
    (loaded.map(|(net, _)| net).map_err(text), taken)
}

/// A folder for files.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder for temporary files"))
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).expect("room for a temporary file");
        path
    }
}

/// Every file below `folder`, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path());
    let mut all: Vec<PathBuf> = entries.flat_map(|p| if p.is_dir() { files(&p) } else { vec![p] }).collect();
    all.sort();
    all
}

fn size(path: &Path) -> usize {
    std::fs::metadata(path).expect("a file").len() as usize
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|e| e.to_str()).unwrap_or_default()
}

/// Loads a file as what its name says it is and asserts the bound; false where nothing here reads it.
fn check(path: &Path, kind: &str) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).expect("a name");
    match kind {
        "onnx" | "tflite" => {
            // Its constants may stand beside it.
            let beside = path.with_extension("safetensors");
            let all = size(path) + if beside.is_file() { size(&beside) } else { 0 };
            assert_within(MODEL, name, all, load(path).1);
        }
        "jpg" | "png" => {
            let (picture, taken) = measure(|| image::open(path));
            let pixels = picture.map_or(usize::MAX, |p| p.width * p.height);
            assert_picture(name, &std::fs::read(path).expect("a file"), pixels, taken);
        }
        "safetensors" => {
            let (_, taken) = measure(|| checkpoint(path));
            assert_within(CHECKPOINT, name, size(path), taken);
        }
        "toml" => assert_within(SPEC, name, size(path), load(path).1),
        _ => return false,
    }
    true
}

/// Loads a checkpoint for a net of which it has no tensor.
fn checkpoint(path: &Path) -> Result<front::Loaded, mnc_compiler::diag::Diagnostics> {
    let root = parse_toml(SMALL, "spec.toml").expect("it is written below");
    check_and_lower(&root, Path::new(""), &[], Some(path))
}

const SMALL: &str = r#"
[net]
name = "small"
input = { height = 8, width = 8 }
[weights]
names = "spec"
[[block]]
kind = "conv"
name = "a"
kernel = 3
out = 4
"#;

#[test]
fn files_of_the_test_data() {
    let Some(dir) = data::dir("allocation: files_of_the_test_data") else { return };
    let all = files(&dir);
    // Those that stand for a picture's pixels are not read as checkpoints.
    let read = all.iter().filter(|p| check(p, extension(p))).count();
    assert!(read > 50, "{read} of {} files", all.len());
    nothing_wrong();
}

#[test]
fn seeds_of_the_fuzz_targets() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let scratch = Scratch::new();
    for (folder, kind) in
        [("onnx", "onnx"), ("tflite", "tflite"), ("picture", "jpg"), ("spec", "toml"), ("checkpoint", "safetensors")]
    {
        for seed in files(&seeds.join(folder)) {
            let bytes = std::fs::read(&seed).expect("a seed");
            let bytes = if kind == "safetensors" { &bytes[1.min(bytes.len())..] } else { &bytes };
            // A seeded spec asks for weights of any number.
            if kind == "toml" {
                let text = String::from_utf8_lossy(bytes);
                let load = || {
                    let root = parse_toml(&text, "spec.toml").ok()?;
                    check_and_lower(&root, Path::new("absent"), &[], Some(Path::new("absent.safetensors"))).ok()
                };
                let (_, taken) = measure(load);
                assert_within(SPEC, &seed.display().to_string(), bytes.len().max(1), taken);
                continue;
            }
            let path = scratch.file(&format!("seed.{kind}"), bytes);
            check(&path, kind);
        }
    }
    nothing_wrong();
}

/// Loads a hostile model: within the bound and some seconds; `says` stands in the message, unless it is empty and the model loads.
fn hostile(name: &str, kind: &str, bytes: &[u8], says: &str) {
    let scratch = Scratch::new();
    let path = scratch.file(&format!("model.{kind}"), bytes);
    refused(name, &path, bytes.len(), says);
}

fn refused(name: &str, path: &Path, size: usize, says: &str) {
    let (loaded, taken) = load(path);
    assert_within(MODEL, name, size, taken);
    let text = loaded.err().unwrap_or_default();
    let beginning: String = text.chars().take(300).collect();
    expect(taken.time < Duration::from_secs(60), || format!("{name} took {:?}", taken.time));
    expect(text.is_empty() == says.is_empty() && text.contains(says), || format!("{name} does not say `{says}`: {beginning}"));
    expect(text.len() < 400_000, || format!("{name}: a message of {} bytes", text.len()));
}

thread_local! {
    static WRONG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Notes what is wrong for [`nothing_wrong`], so that one run tells of all files.
fn expect(right: bool, wrong: impl FnOnce() -> String) {
    if !right {
        WRONG.with_borrow_mut(|all| all.push(wrong()));
    }
}

fn nothing_wrong() {
    let all = WRONG.take();
    assert!(all.is_empty(), "{}", all.join("\n"));
}

/// The bound of `image.rs`: a megabyte, the file twice, and 16 bytes for each of its pixels, or of those that it may hold.
fn assert_picture(name: &str, bytes: &[u8], pixels: usize, taken: Taken) {
    let may_hold = bytes.len() * if bytes.starts_with(b"\x89PNG") { 8 * 1032 } else { 1024 };
    let bound = Bound { free: MIB + 16 * pixels.min(may_hold).min(100_000_000), each: 2 };
    assert_within(bound, name, bytes.len(), taken);
}

/// A PNG header of `width` x `height`, 8 bits of each of `kind`, with `data` behind it.
fn png(width: u32, height: u32, kind: u8, data: &[u8]) -> Vec<u8> {
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = Vec::new();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, kind, 0, 0, 0]);
    for (name, body) in [(b"IHDR", &header[..]), (b"IDAT", data), (b"IEND", &[])] {
        out.extend((body.len() as u32).to_be_bytes());
        let start = out.len();
        out.extend(name);
        out.extend(body);
        let sum = crc(&out[start..]);
        out.extend(sum.to_be_bytes());
    }
    out
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |c, &b| (0..8).fold(c ^ u32::from(b), |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 }))
}

#[test]
fn pictures_that_claim_many_pixels() {
    // JPEG's size stands in its frame header.
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures");
    for path in files(&pictures).iter().filter(|p| matches!(extension(p), "jpg" | "png")) {
        check(path, extension(path));
        let mut bytes = std::fs::read(path).expect("a picture");
        if let Some(at) = bytes.windows(2).position(|w| matches!(w, [0xff, 0xc0 | 0xc2])) {
            for (high, wide) in [(65_535u16, 65_535u16), (9_999, 9_999), (2_000, 2_000)] {
                bytes[at + 5..at + 7].copy_from_slice(&high.to_be_bytes());
                bytes[at + 7..at + 9].copy_from_slice(&wide.to_be_bytes());
                let (_, taken) = measure(|| image::decode(&bytes));
                assert_picture("a jpeg that claims", &bytes, usize::from(high) * usize::from(wide), taken);
            }
        }
    }
    // As many as so long a file may hold, and too many.
    for (side, kind, len) in
        [(65_535u32, 6, 100), (10_000, 2, 1_000_000), (10_000, 6, 1_000_000), (4_000, 2, 50_000), (9_000, 0, 100_000)]
    {
        let bytes = png(side, side, kind, &vec![0x78; len]);
        let (picture, taken) = measure(|| image::decode(&bytes));
        assert!(picture.is_err());
        assert_picture("a png that claims", &bytes, side as usize * side as usize, taken);
    }
    nothing_wrong();
}

#[test]
fn onnx_models_that_ask_for_much() {
    onnx::all();
    nothing_wrong();
}

#[test]
fn tflite_models_that_ask_for_much() {
    tflite::all();
    nothing_wrong();
}

/// A safetensors file of a header and `data` bytes.
fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + data, 0);
    file
}

#[test]
fn checkpoints_that_claim_much() {
    let scratch = Scratch::new();
    let mut all: Vec<(&str, Vec<u8>)> = Vec::new();
    let huge = r#"{"a.weight":{"dtype":"F32","shape":[4000000000,4000000000],"data_offsets":[0,4]}}"#;
    all.push(("a checkpoint's huge shape", safetensors(huge, 4)));
    let behind = r#"{"a.weight":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}"#;
    all.push(("a checkpoint's data behind its end", safetensors(behind, 4)));
    let entries: Vec<String> =
        (0..100_000).map(|i| format!(r#""{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#)).collect();
    all.push(("a checkpoint of 100 000 entries", safetensors(&format!("{{{}}}", entries.join(",")), 0)));
    let axes = vec!["1"; 500_000].join(",");
    let flat = format!(r#"{{"a.weight":{{"dtype":"F32","shape":[{axes}],"data_offsets":[0,4]}}}}"#);
    all.push(("a checkpoint's tensor of many axes", safetensors(&flat, 4)));
    let nested = format!(r#"{{"__metadata__":{{"a":"{}"}}}}"#, "x".repeat(1_000_000));
    all.push(("a checkpoint's long metadata", safetensors(&nested, 0)));
    let metadata: Vec<String> = (0..100_000).map(|i| format!(r#""{i}":"""#)).collect();
    all.push(("a checkpoint of much metadata", safetensors(&format!(r#"{{"__metadata__":{{{}}}}}"#, metadata.join(",")), 0)));
    all.push(("a checkpoint that is all header", safetensors(&"[".repeat(1_000_000), 0)));
    all.push(("a header longer than the file", [&u64::MAX.to_le_bytes()[..], b"{}"].concat()));
    // What the net asks for is there, in halves, among much that it does not ask for.
    let right = r#"{"a.weight":{"dtype":"F16","shape":[4,3,3,3],"data_offsets":[0,216]},"b":{"dtype":"F64","shape":[1000000],"data_offsets":[216,8000216]}}"#;
    all.push(("a checkpoint with a stranger", safetensors(right, 8_000_216)));
    for (name, bytes) in all {
        let path = scratch.file("weights.safetensors", &bytes);
        let (loaded, taken) = measure(|| checkpoint(&path));
        expect(loaded.is_err(), || format!("{name} was accepted"));
        assert_within(CHECKPOINT, name, bytes.len(), taken);
        expect(taken.time < Duration::from_secs(30), || format!("{name} took {:?}", taken.time));
    }
    nothing_wrong();
}

#[test]
fn specs_that_ask_for_much() {
    let scratch = Scratch::new();
    let head = "[net]\nname = \"much\"\ninput = { height = 8, width = 8 }\n";
    // As long as a spec may be.
    let most = 1_000_000;
    let fill = |item: &str| item.repeat(most / item.len());
    let layers = |layer: &dyn Fn(usize) -> String, n: usize| format!("{head}{}", (0..n).map(layer).collect::<String>());
    let all: Vec<(&str, String)> = vec![
        ("a spec of one list", format!("{head}labels = [{}]", fill("0,"))),
        ("a spec of nested lists", format!("{head}labels = {}", "[".repeat(100_000))),
        ("a spec of keys", format!("{head}{}", (0..100_000).map(|i| format!("k{i}=1\n")).collect::<String>())),
        (
            "a spec of dotted keys",
            format!("{head}{}", (0..7_500).map(|i| format!("k{i}.{}=1\n", vec!["a"; 60].join("."))).collect::<String>()),
        ),
        ("a spec of tables", format!("{head}{}", fill("[[block]]\n"))),
        ("a spec of small tables", format!("{head}{}", fill("[[block]]\nkind=\"conv\"\n"))),
        ("a spec of one key", format!("{head}a{}=1\n", ".a".repeat(most / 2 - 100))),
        ("a spec of inline tables", format!("{head}labels = [{}]", fill("{a=0},"))),
        ("a spec of nested keys", format!("{head}{}", fill(&format!("[a{}]\n", ".b".repeat(70))))),
        ("a spec of text", format!("{head}labels = \"{}\"", fill("x"))),
        ("a spec that is no spec", fill("=")),
        ("a spec of long repeats", format!("{head}{}", fill("[[block]]\nkind=\"conv\"\nout=1\nrepeat=1000\n"))),
        (
            "a spec of long tables",
            layers(
                &|_| {
                    "[[layer]]\nop=\"reshape\"\nchannels=1\nheight=192\n[[layer]]\nop=\"gather\"\nrows={repeat=341}\n[[layer]]\nop=\"gather\"\nrows=[\"0..192\"]\n".into()
                },
                2_000,
            ),
        ),
        (
            "a spec of interpolations",
            layers(
                &|_| {
                    "[[layer]]\nop=\"interpolate\"\nrows={size=16384,align=\"start\"}\n[[layer]]\nop=\"interpolate\"\nrows={size=8,align=\"start\"}\n".into()
                },
                2_000,
            ),
        ),
        (
            "a spec of padding by values",
            layers(
                &|i| {
                    if i == 0 {
                        "[[layer]]\nop=\"conv\"\nout=65536\n".into()
                    } else {
                        "[[layer]]\nop=\"pad\"\npadding=[1,0,0,0]\nvalue=1\n".into()
                    }
                },
                3_000,
            ),
        ),
    ];
    for (name, text) in all {
        let path = scratch.file("much.toml", text.as_bytes());
        let (loaded, taken) = load(&path);
        expect(loaded.is_err(), || format!("{name} was accepted"));
        // What padding is filled with counts as weights.
        let weights = if name.contains("values") { 2 * 4 * front::ast::MAX_WEIGHTS } else { 0 };
        assert_within(Bound { free: SPEC.free + weights, ..SPEC }, name, text.len(), taken);
        expect(taken.time < Duration::from_secs(60), || format!("{name} took {:?}", taken.time));
    }
    nothing_wrong();
}

/// Weights of nothing are what a seeded spec asks for, and that it gets: twice while they are made.
#[test]
fn weights_that_a_spec_asks_for() {
    let scratch = Scratch::new();
    let text = format!(
        "{}[[block]]\nkind=\"dense\"\nout=65536\n",
        SMALL.replace("out = 4", "out = 256").replace("names = \"spec\"", "seed = 1")
    )
    .replace("[[block]]\nkind=\"dense\"", "[[block]]\nkind=\"global_avg_pool\"\n[[block]]\nkind=\"dense\"");
    let path = scratch.file("seeded.toml", text.as_bytes());
    let (net, taken) = load(&path);
    let bytes = 4 * net.unwrap_or_else(|e| panic!("{e}")).graph.params() as usize;
    assert!(bytes > 60 * MIB, "{bytes}");
    assert_within(Bound { free: SPEC.free + 2 * bytes, ..SPEC }, "a seeded spec", text.len(), taken);
    assert!(taken.peak >= bytes);
    nothing_wrong();
}
