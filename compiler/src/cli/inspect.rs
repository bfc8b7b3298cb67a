//! `mnc inspect`: what compiled files say of themselves, whether they are whole, and whether they belong together.

use std::path::Path;

use mnc_runtime::blob::{HEADER_BYTES, Header, MAGIC};
use mnc_runtime::hash::xxh64;
use mnc_runtime::stamp::FORMAT;
use safetensors::SafeTensors;
use serde_json::json;

use super::Failure;
use super::args::Inspect;
use super::console::{Console, file_error};
use crate::back::stamp::{self, Stamp};
use crate::diag::Diagnostic;

/// A file and what is to be said of it.
struct Found {
    name: String,
    bytes: usize,
    /// Hash of all of it.
    content: String,
    stamp: Stamp,
    /// Of weights: the hash in the file, in hexadecimal.
    weights: Option<String>,
    /// What is wrong with it.
    wrong: Option<String>,
}

pub(super) fn run(args: &Inspect, console: &mut Console) -> Result<(), Failure> {
    let files = args.files.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let apart = strangers(&files);
    for file in &files {
        let Found { name, bytes, content, stamp, weights, wrong } = file;
        if args.json {
            console.json(&json!({
                "file": name, "bytes": bytes, "content": content, "kind": stamp.kind, "version": stamp.version,
                "format": stamp.format, "net": stamp.net, "code": stamp.code, "layout": stamp.layout, "weights": weights,
                "wrong": wrong,
            }))?;
            continue;
        }
        let Stamp { kind, version, format, net, code, layout } = stamp;
        let of = if net.is_empty() { String::new() } else { format!(" of {net}") };
        console.line(format_args!("{name}: {kind}{of}, by mnc {version}, format {format}"))?;
        let weights = weights.as_deref().unwrap_or("");
        for (what, hash) in [("content", content.as_str()), ("code", code), ("layout", layout), ("weights", weights)] {
            if !hash.is_empty() {
                console.line(format_args!("    {what:<8} {hash}"))?;
            }
        }
    }
    let wrong: Vec<_> = files.iter().filter_map(|f| Some(format!("{}: {}", f.name, f.wrong.as_ref()?))).chain(apart).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    console.flush()?;
    let mend = "compile the spec again and take all files of one `mnc compile`";
    Err(Failure::Job(wrong.into_iter().map(|text| Diagnostic::error(text).help(mend)).collect()))
}

/// Reads a file and its stamp.
fn read(path: &Path) -> Result<Found, Failure> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|e| Failure::input(file_error("read", path, e)))?;
    let weights = if bytes.starts_with(&MAGIC) { Some(blob(&bytes)) } else { tensors(&bytes) };
    let (stamp, weights, mut wrong) = match weights {
        Some((stamp, hash, wrong)) => (stamp, Some(hash), wrong),
        None => {
            let Some(stamp) = stamp::find(&bytes) else {
                let d = Diagnostic::error(format!("`{name}` is nothing that `mnc compile` wrote, or an mnc without stamps did"));
                return Err(Failure::input(d.help("give NAME.rs, NAME.o, NAME.h, NAME.weights or libmnc_rt.a")));
            };
            (stamp, None, None)
        }
    };
    if stamp.format != FORMAT.to_string() {
        let theirs = if stamp.format.is_empty() { "none" } else { &stamp.format };
        wrong = Some(format!("its format is {theirs}, that of this mnc {} is {FORMAT}", stamp::VERSION));
    }
    Ok(Found { name, bytes: bytes.len(), content: stamp::content(&bytes), stamp, weights, wrong })
}

/// What a weight file for embedding says, the hash of its weights, and what is wrong.
fn blob(file: &[u8]) -> (Stamp, String, Option<String>) {
    let mut stamp = Stamp { kind: "weights".to_owned(), ..Stamp::default() };
    let header = match Header::read(file) {
        Ok(header) => header,
        Err(error) => return (stamp, String::new(), Some(error.to_string())),
    };
    stamp.version = header.version.map(|n| n.to_string()).join(".");
    stamp.format = header.format.to_string();
    stamp.layout = String::from_utf8_lossy(&header.layout).into_owned();
    let elements = &file[HEADER_BYTES..];
    let whole = usize::try_from(header.bytes).is_ok_and(|n| n == elements.len());
    let wrong = match header.intact(elements) {
        _ if !whole => Some(format!("{} bytes of weights are there, it should be {}", elements.len(), header.bytes)),
        Ok(()) => None,
        Err(error) => Some(error.to_string()),
    };
    (stamp, format!("{:016x}", header.hash), wrong)
}

/// The same of a file of weights given at run time; `None` for anything else.
fn tensors(file: &[u8]) -> Option<(Stamp, String, Option<String>)> {
    let (_, metadata) = SafeTensors::read_metadata(file).ok()?;
    let metadata = metadata.metadata().as_ref()?;
    let entry = |key: &str| metadata.get(key).cloned().unwrap_or_default();
    metadata.get("mnc.layout")?;
    let stamp = Stamp {
        kind: "weights".to_owned(),
        version: entry("mnc.version"),
        format: entry("mnc.format"),
        net: entry("mnc.net"),
        code: String::new(),
        layout: entry("mnc.layout"),
    };
    let hash = entry("mnc.hash");
    let packed = SafeTensors::deserialize(file).ok()?;
    let found = packed.tensor("packed").map(|t| format!("{:016x}", xxh64(t.data())));
    let wrong = (found.ok()? != hash).then(|| "the weights are damaged".to_owned());
    Some((stamp, hash, wrong))
}

/// What does not belong together among files of one net: each is compared with the first that has such a hash.
fn strangers(files: &[Found]) -> Vec<String> {
    type Get = fn(&Found) -> &str;
    let hashes: [(&str, Get); 3] = [
        ("were made for other arrangements of weights", |f| &f.stamp.layout),
        ("are of different code", |f| &f.stamp.code),
        ("are of different formats", |f| &f.stamp.format),
    ];
    let mut all = Vec::new();
    for (i, file) in files.iter().enumerate() {
        let differs = hashes.iter().find_map(|(what, get)| {
            let first = files[..i].iter().find(|f| !get(f).is_empty())?;
            (!get(file).is_empty() && get(first) != get(file)).then_some((first, what))
        });
        all.extend(differs.map(|(first, what)| format!("{} and {} {what}", first.name, file.name)));
    }
    all
}
