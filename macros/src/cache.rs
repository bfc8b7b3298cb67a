//! Compiled nets on disk, found again by content: an editor expands at every keystroke, a build at every change of the crate.
//!
//! An entry is a pair of files in [`directory`]: `NAME-CRATE-KEY.rs`, the emitted source under a head of `//# key value` lines,
//! and the weights. The key covers everything the macro call says and the compiler itself; the files that the call leads to
//! (checkpoint, labels) are listed in the head with hashes of their content, and the entry counts only while those hold.
//! Files are written aside and renamed, so that several compilers and an editor can work in one directory.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, process};

use syn::LitStr;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

/// Content hash, in hexadecimal.
pub type Hash = String;

/// A compiled net.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Size of the arena.
    pub arena_floats: usize,
    /// Facts for the doc comment.
    pub docs: Vec<String>,
    /// Warnings about the spec, rendered.
    pub warnings: Vec<String>,
    /// Every file the net was made of, absolute.
    pub files: Vec<PathBuf>,
    /// The file with the weights.
    pub weights: PathBuf,
    /// The emitted items.
    pub body: String,
}

/// Name of the files of one macro call, without key and extension.
#[derive(Debug)]
pub struct Slot {
    directory: PathBuf,
    prefix: String,
    key: Hash,
}

/// Files of one struct that are kept: settings tried in turn, features, test and normal build.
const KEPT: usize = 8;

/// Files above this size are not read again while length and time of change stay the same.
const REMEMBER_ABOVE: u64 = 1 << 20;

/// A file changed more recently than this before its hash was taken may change again within the clock's resolution.
const SETTLED: Duration = Duration::from_secs(2);

impl Slot {
    /// The place for the net `name` of the crate in `crate_dir` whose macro call, spec text included, is `parts`.
    pub fn new(name: &str, crate_dir: &Path, parts: &[&str]) -> Self {
        let mut hash = Xxh3Default::new();
        for part in [env!("MNC_FINGERPRINT"), name].iter().chain(parts) {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let crate_hash = xxh3_128(crate_dir.as_os_str().as_encoded_bytes());
        Self { directory: directory(crate_dir), prefix: format!("{name}-{:08x}", crate_hash as u32), key: hex(hash.digest128()) }
    }

    fn source_path(&self) -> PathBuf {
        self.directory.join(format!("{}-{}.rs", self.prefix, self.key))
    }

    /// The entry, if there is one and every file it was made of is unchanged.
    pub fn find(&self) -> Option<Entry> {
        let text = fs::read_to_string(self.source_path()).ok()?;
        let (entry, hashes, weight_bytes) = parse(&text)?;
        let unchanged = entry.files.iter().zip(&hashes).all(|(file, hash)| self.content_hash(file).is_ok_and(|h| h == *hash));
        let weights_there = fs::metadata(&entry.weights).is_ok_and(|m| m.len() == weight_bytes);
        (unchanged && weights_there).then_some(entry)
    }

    /// Where the weights of the net made of `files` go.
    ///
    /// # Errors
    /// If one of the files cannot be read.
    pub fn weights_path(&self, files: &[PathBuf], extension: &str) -> io::Result<PathBuf> {
        let mut hash = Xxh3Default::new();
        hash.update(self.key.as_bytes());
        for file in files {
            hash.update(self.content_hash(file)?.as_bytes());
        }
        Ok(self.directory.join(format!("{}-{}.{extension}", self.prefix, hex(hash.digest128()))))
    }

    /// Keeps `entry` and its weights, and drops what this struct left behind long ago.
    ///
    /// # Errors
    /// If a file cannot be written or read.
    pub fn store(&self, entry: &Entry, weights: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        write_aside(&entry.weights, weights)?;
        let hashes = entry.files.iter().map(|f| self.content_hash(f)).collect::<io::Result<Vec<_>>>()?;
        write_aside(&self.source_path(), print(entry, &hashes, weights.len() as u64).as_bytes())?;
        self.prune();
        Ok(())
    }

    /// Hash of a file's content; of large files it is remembered beside the entries, by length and time of change.
    fn content_hash(&self, path: &Path) -> io::Result<Hash> {
        let metadata = fs::metadata(path)?;
        let changed = metadata.modified()?;
        let state = format!("{} {}", metadata.len(), nanos(changed));
        let memo = self.directory.join(format!("stat-{}", hex(xxh3_128(path.as_os_str().as_encoded_bytes()))));
        let large = metadata.len() > REMEMBER_ABOVE;
        if large
            && let Ok(text) = fs::read_to_string(&memo)
            && let Some((known, hash)) = text.split_once('\n')
            && known == state
        {
            return Ok(hash.to_owned());
        }
        let now = SystemTime::now();
        let hash = hex(hash_file(path)?);
        if large && now.duration_since(changed).is_ok_and(|age| age > SETTLED) {
            // only a memo: without it the next expansion reads the file again
            let _ = fs::create_dir_all(&self.directory).and_then(|()| write_aside(&memo, format!("{state}\n{hash}").as_bytes()));
        }
        Ok(hash)
    }

    /// Leaves the newest files of this struct. A compiler that still needs one of the others makes it again.
    fn prune(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        let mut sources = Vec::new();
        let mut weights = Vec::new();
        for path in entries.filter_map(|e| Some(e.ok()?.path())) {
            let ours = path.file_name().and_then(OsStr::to_str).is_some_and(|n| n.starts_with(&format!("{}-", self.prefix)));
            if !ours {
                continue;
            }
            let age = fs::metadata(&path).and_then(|m| m.modified()).map_or(0, nanos);
            let list = if path.extension().is_some_and(|e| e == "rs") { &mut sources } else { &mut weights };
            list.push((age, path));
        }
        for mut list in [sources, weights] {
            list.sort();
            let old = list.len().saturating_sub(KEPT);
            for (_, path) in list.into_iter().take(old) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Where entries are kept: `MNC_CACHE_DIR`, else `mnc` in cargo's target directory.
///
/// Cargo does not tell macros its target directory. It gives rustc an `--out-dir` below it, and marks it with `CACHEDIR.TAG`.
/// An editor's macro server has no such argument; there `CARGO_TARGET_DIR` decides, or the place of `Cargo.lock`.
fn directory(crate_dir: &Path) -> PathBuf {
    if let Some(dir) = env::var_os("MNC_CACHE_DIR").filter(|d| !d.is_empty()) {
        return absolute(Path::new(&dir));
    }
    let target = out_dir()
        .and_then(|out| out.ancestors().find(|d| d.join("CACHEDIR.TAG").is_file()).map(Path::to_owned))
        .or_else(|| env::var_os("CARGO_TARGET_DIR").filter(|d| !d.is_empty()).map(|d| absolute(Path::new(&d))))
        .or_else(|| crate_dir.ancestors().find(|d| d.join("Cargo.lock").is_file()).map(|d| d.join("target")));
    target.map_or_else(|| env::temp_dir().join("mnc"), |t| t.join("mnc"))
}

/// rustc's `--out-dir`, if this process is rustc.
fn out_dir() -> Option<PathBuf> {
    let mut args = env::args_os();
    while let Some(arg) = args.next() {
        if arg == "--out-dir" {
            return args.next().map(|d| absolute(Path::new(&d)));
        }
        if let Some(dir) = arg.to_str().and_then(|a| a.strip_prefix("--out-dir=")) {
            return Some(absolute(Path::new(dir)));
        }
    }
    None
}

/// `path`, made absolute without asking whether it exists.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Writes `bytes` to a file of its own and renames it, so that nobody ever sees half of it.
fn write_aside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unique = format!("{}-{:?}-{}.tmp", process::id(), std::thread::current().id(), nanos(SystemTime::now()));
    let aside = path.with_file_name(unique.replace(['(', ')'], ""));
    let written = File::create(&aside).and_then(|mut f| f.write_all(bytes)).and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written
}

fn hash_file(path: &Path) -> io::Result<u128> {
    let mut file = File::open(path)?;
    let mut hash = Xxh3Default::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.digest128()),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn hex(hash: u128) -> Hash {
    format!("{hash:032x}")
}

fn nanos(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos())
}

/// The text of an entry. Strings are Rust literals, so that a line is always one value.
fn print(entry: &Entry, hashes: &[Hash], weight_bytes: u64) -> String {
    let mut out = String::from("// Made by mobilenet_net!; the lines below are read again at the next expansion.\n");
    let mut line = |key: &str, value: &str| out.push_str(&format!("//# {key} {value}\n"));
    line("arena", &entry.arena_floats.to_string());
    line("weights", &format!("{weight_bytes} {:?}", entry.weights.to_string_lossy()));
    for (file, hash) in entry.files.iter().zip(hashes) {
        line("file", &format!("{hash} {:?}", file.to_string_lossy()));
    }
    for doc in &entry.docs {
        line("doc", &format!("{doc:?}"));
    }
    for warning in &entry.warnings {
        line("warning", &format!("{warning:?}"));
    }
    out.push('\n');
    out.push_str(&entry.body);
    out
}

/// The entry, the hashes of its files, and the size of its weights; `None` if `text` is not one.
fn parse(text: &str) -> Option<(Entry, Vec<Hash>, u64)> {
    let (head, body) = text.split_once("\n\n")?;
    let mut entry = Entry { body: body.to_owned(), ..Entry::default() };
    let (mut hashes, mut weight_bytes) = (Vec::new(), None);
    for line in head.lines().skip(1) {
        let (key, value) = line.strip_prefix("//# ")?.split_once(' ')?;
        match key {
            "arena" => entry.arena_floats = value.parse().ok()?,
            "weights" => {
                let (bytes, path) = value.split_once(' ')?;
                weight_bytes = Some(bytes.parse().ok()?);
                entry.weights = unquote(path)?.into();
            }
            "file" => {
                let (hash, path) = value.split_once(' ')?;
                hashes.push(hash.to_owned());
                entry.files.push(unquote(path)?.into());
            }
            "doc" => entry.docs.push(unquote(value)?),
            "warning" => entry.warnings.push(unquote(value)?),
            _ => return None,
        }
    }
    Some((entry, hashes, weight_bytes?))
}

fn unquote(literal: &str) -> Option<String> {
    syn::parse_str::<LitStr>(literal).ok().map(|l| l.value())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slot in a directory of this test's own.
    fn slot(test: &str, key: &str) -> Slot {
        let directory = env::temp_dir().join(format!("mnc-cache-test-{}-{test}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        Slot { directory, prefix: "Net-00000000".into(), key: key.into() }
    }

    fn entry(slot: &Slot, files: Vec<PathBuf>) -> Entry {
        Entry {
            arena_floats: 12,
            docs: vec![" one \"two\"".into(), String::new()],
            warnings: vec!["two\nlines".into()],
            weights: slot.weights_path(&files, "weights").unwrap(),
            files,
            body: "fn a() {}\n\nfn b() {}\n".into(),
        }
    }

    #[test]
    fn an_entry_is_found_until_a_file_changes() {
        let slot = slot("found", "k1");
        let file = slot.directory.join("spec.toml");
        fs::write(&file, "one").unwrap();
        let entry = entry(&slot, vec![file.clone()]);
        assert_eq!(slot.find(), None);
        slot.store(&entry, &[1, 2, 3]).unwrap();
        assert_eq!(slot.find(), Some(entry.clone()));
        fs::write(&file, "two").unwrap();
        assert_eq!(slot.find(), None);
        fs::write(&file, "one").unwrap();
        assert_eq!(slot.find(), Some(entry.clone()));
        fs::write(&entry.weights, [1]).unwrap();
        assert_eq!(slot.find(), None, "half a weight file");
        fs::remove_file(&file).unwrap();
        assert_eq!(slot.find(), None);
        fs::remove_dir_all(&slot.directory).unwrap();
    }

    #[test]
    fn large_files_are_remembered_only_when_settled() {
        let slot = slot("memo", "k");
        let file = slot.directory.join("big");
        let memos = |slot: &Slot| {
            fs::read_dir(&slot.directory)
                .unwrap()
                .filter(|e| e.as_ref().unwrap().path().display().to_string().contains("stat-"))
                .count()
        };
        fs::write(&file, vec![1u8; 2 << 20]).unwrap();
        let first = slot.content_hash(&file).unwrap();
        assert_eq!(memos(&slot), 0, "just written");
        let old = SystemTime::now() - Duration::from_secs(60);
        File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
        assert_eq!(slot.content_hash(&file).unwrap(), first);
        assert_eq!(memos(&slot), 1);
        fs::write(&file, vec![2u8; 2 << 20]).unwrap();
        assert_ne!(slot.content_hash(&file).unwrap(), first);
        fs::remove_dir_all(&slot.directory).unwrap();
    }

    #[test]
    fn only_the_newest_entries_stay() {
        let last = format!("k{}", KEPT + 3);
        for i in 0..KEPT + 4 {
            let slot = slot("prune", &format!("k{i}"));
            slot.store(&entry(&slot, Vec::new()), &[0]).unwrap();
        }
        let slot = slot("prune", &last);
        assert!(slot.find().is_some());
        assert_eq!(fs::read_dir(&slot.directory).unwrap().count(), 2 * KEPT);
        fs::remove_dir_all(&slot.directory).unwrap();
    }
}
