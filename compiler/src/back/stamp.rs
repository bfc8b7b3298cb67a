//! What an artefact says of itself: which mnc wrote it, for which format of the runtime, and hashes of what it was made of.
//!
//! The same line of text stands in emitted Rust, in objects, in their headers and in the static library
//! ([`mnc_runtime::stamp`]); weight files have it as fields. [`find`] reads it back, for `mnc inspect`.

use std::fmt;

use mnc_runtime::blob::{HEADER_BYTES, Header};
use mnc_runtime::stamp::{FORMAT, MARK};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

use super::program::Tables;
use crate::plan::Plan;

/// The compiler's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Longest stamp that is read.
const LONGEST: usize = 400;

/// Names the arrangement of the packed weights: equal keys mean that one net's weight file serves the other's code.
/// It covers every kernel, its sizes and the place of each constant, and not the values, so retrained weights of the same
/// spec fit a program that was built before them.
#[must_use]
pub fn layout(plan: &Plan) -> String {
    let mut hash = Xxh3Default::new();
    for step in plan.steps() {
        hash.update(format!("{:?};", step.kernel).as_bytes());
    }
    for entry in &plan.weights.entries {
        hash.update(format!("{}@{}+{};", entry.name, entry.offset, entry.len).as_bytes());
    }
    format!("{:032x}", hash.digest128())
}

/// Names the code: every step and where its operands stand, memory, threads, inputs and outputs, the way of pixels, labels. Not
/// the weights' values.
#[must_use]
pub fn code(plan: &Plan) -> String {
    let tables = Tables::new(plan);
    let Plan { name, inputs, outputs, preprocess, labels, macs, params, .. } = plan;
    let mut hash = Xxh3Default::new();
    hash.update(format!("{FORMAT};{name};{:?};", tables.program()).as_bytes());
    for port in inputs.iter().chain(outputs) {
        hash.update(format!("{}@{} {};", port.name, port.offset, port.tensor.shape).as_bytes());
    }
    hash.update(format!("{preprocess:?};{labels:?};{macs};{params}").as_bytes());
    format!("{:032x}", hash.digest128())
}

/// The packed weights as a file that begins with what it is ([`mnc_runtime::blob`]).
#[must_use]
pub fn blob(plan: &Plan) -> Vec<u8> {
    let mut file = vec![0; HEADER_BYTES];
    file.reserve(plan.weights.bytes());
    file.extend(plan.weights.data.iter().flat_map(|x| x.to_le_bytes()));
    let header = Header::of(version(), &layout(plan), &file[HEADER_BYTES..]);
    file[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    file
}

/// [`VERSION`] in numbers.
fn version() -> [u16; 3] {
    let mut numbers = VERSION.split(['.', '-', '+']).map(|n| n.parse().unwrap_or(0));
    [(); 3].map(|()| numbers.next().unwrap_or(0))
}

/// Content hash of a file, as reports have it: 128 bits of XXH3 in hexadecimal.
#[must_use]
pub fn content(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

/// A stamp.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stamp {
    /// `rust`, `object`, `header`, `weights` or `runtime`.
    pub kind: String,
    /// Version of mnc that wrote it.
    pub version: String,
    /// [`FORMAT`] of that version.
    pub format: String,
    /// The net; empty where it is for all.
    pub net: String,
    /// [`code`]; empty where it is for any.
    pub code: String,
    /// [`layout`]; empty as well.
    pub layout: String,
}

impl Stamp {
    /// Of an artefact of `plan`.
    #[must_use]
    pub fn of(kind: &str, plan: &Plan) -> Self {
        Self {
            kind: kind.to_owned(),
            version: VERSION.to_owned(),
            format: FORMAT.to_string(),
            net: plan.name.clone(),
            code: code(plan),
            layout: layout(plan),
        }
    }

    fn fields(&self) -> [(&'static str, &str); 6] {
        let Self { kind, version, format, net, code, layout } = self;
        [("kind", kind), ("version", version), ("format", format), ("net", net), ("code", code), ("layout", layout)]
    }
}

/// The line.
impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields: Vec<String> =
            self.fields().iter().filter(|(_, v)| !v.is_empty()).map(|(key, value)| format!("{key}={value}")).collect();
        write!(f, "{MARK}{}", fields.join(" "))
    }
}

/// The first stamp in `bytes`, wherever it stands.
#[must_use]
pub fn find(bytes: &[u8]) -> Option<Stamp> {
    let mark = MARK.as_bytes();
    let mut rest = bytes;
    while let Some(at) = rest.windows(mark.len()).position(|w| w == mark) {
        rest = &rest[at + mark.len()..];
        let text: String =
            rest.iter().take(LONGEST).take_while(|b| matches!(b, b' '..=b'~') && **b != b'"').map(|&b| char::from(b)).collect();
        let mut stamp = Stamp::default();
        for (key, value) in text.split(' ').filter_map(|word| word.split_once('=')) {
            match key {
                "kind" => value.clone_into(&mut stamp.kind),
                "version" => value.clone_into(&mut stamp.version),
                "format" => value.clone_into(&mut stamp.format),
                "net" => value.clone_into(&mut stamp.net),
                "code" => value.clone_into(&mut stamp.code),
                "layout" => value.clone_into(&mut stamp.layout),
                _ => {}
            }
        }
        if !stamp.kind.is_empty() && !stamp.version.is_empty() {
            return Some(stamp);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use mnc_runtime::hash::xxh64;

    use super::*;

    #[test]
    fn stamps_go_round() {
        let stamp = Stamp {
            kind: "object".into(),
            version: VERSION.into(),
            format: FORMAT.to_string(),
            net: "net".into(),
            code: "0f".repeat(16),
            layout: "1e".repeat(16),
        };
        for text in [
            format!("{stamp}"),
            format!("\0\u{1}{stamp}\0more"),
            format!("mnc-stamp: no {stamp}\nkind=b"),
            format!("\"{stamp}\" net=b"),
        ] {
            assert_eq!(find(text.as_bytes()).as_ref(), Some(&stamp), "{text:?}");
        }
        let library = Stamp { net: String::new(), code: String::new(), layout: String::new(), ..stamp };
        assert_eq!(find(library.to_string().as_bytes()), Some(library));
        assert_eq!(find(b"mnc-stamp: "), None);
        assert_eq!(version().map(|n| n.to_string()).join("."), VERSION);
    }

    /// The runtime's own hash is the one that everybody knows by that name.
    #[test]
    fn the_runtimes_hash_is_xxh64() {
        let bytes: Vec<u8> = (0..300u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for len in 0..=bytes.len() {
            assert_eq!(xxh64(&bytes[..len]), xxhash_rust::xxh64::xxh64(&bytes[..len], 0), "{len} bytes");
        }
    }
}
