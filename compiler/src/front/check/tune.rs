//! Tuning files; [`crate::front::tune`] says what stands in them.

use super::reader::{Reader, array, boolean, int, number, string, table, word};
use crate::diag::Diagnostics;
use crate::front::ast::MAX_THREADS;
use crate::front::tune::{Decision, Decisions, Split, Tuned};
use crate::front::value::Value;

/// Rows and layers that no net has.
const MANY: usize = 1 << 20;

/// The decisions in `root`.
pub(in crate::front) fn tuned(root: &Value) -> Result<Tuned, Diagnostics> {
    let mut out = Diagnostics::new();
    match read(root, &mut out) {
        Some(tuned) if out.is_empty() => Ok(tuned),
        Some(_) | None => Err(out),
    }
}

fn read(root: &Value, out: &mut Diagnostics) -> Option<Tuned> {
    let mut r = Reader::new(table(root, out)?, &root.span, "a tuning file");
    let mut text = |key, example: &str, out: &mut Diagnostics| Some(string(r.need(key, example, out)?, out)?.to_owned());
    let mnc = text("mnc", "mnc = \"0.1.0\"", out);
    let network = text("network", "network = \"…\"", out);
    let cpu = text("cpu", "cpu = \"…\"", out);
    let isa = text("isa", "isa = \"avx2\"", out);
    let date = text("date", "date = \"2026-11-23\"", out);
    let threads = r.need("threads", "threads = 1", out).and_then(|v| int(v, 1..=MAX_THREADS, out));
    let mut ms = |key, out: &mut Diagnostics| {
        r.need(key, "before_ms = 3.2", out).and_then(|v| number(v, "a time in milliseconds", |n| n >= 0.0, out))
    };
    let (before_ms, after_ms) = (ms("before_ms", out), ms("after_ms", out));
    let gaps = r.need("gaps", "gaps = true", out).and_then(|v| boolean(v, out));
    let listed = r.get("stage").map_or(Some(&[][..]), |v| array(v, "[[stage]] tables", out))?;
    let stages: Option<Vec<Decision>> = listed.iter().map(|v| stage(v, out)).collect();
    r.finish(out);
    let decisions = Decisions { gaps: gaps?, stages: stages? };
    Some(Tuned {
        mnc: mnc?,
        network: network?,
        cpu: cpu?,
        isa: isa?,
        threads: threads?,
        date: date?,
        before_ms: before_ms?,
        after_ms: after_ms?,
        decisions,
    })
}

fn stage(value: &Value, out: &mut Diagnostics) -> Option<Decision> {
    let mut r = Reader::new(table(value, out)?, &value.span, "`[[stage]]`");
    let last = r.need("last", "last = \"block1.project\"", out).and_then(|v| string(v, out));
    let layers = r.need("layers", "layers = 3", out).and_then(|v| int(v, 1..=MANY, out));
    let strip = r.need("strip", "strip = 2", out).and_then(|v| int(v, 1..=MANY, out));
    let split = r.need("split", "split = \"alone\"", out).and_then(|v| word(v, &Split::WORDS, out));
    r.finish(out);
    Some(Decision { last: last?.to_owned(), layers: layers?, strip: strip?, split: split? })
}
