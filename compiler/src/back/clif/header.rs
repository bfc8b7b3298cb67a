//! The C header that goes with an object file.

use std::fmt::Write as _;

use super::RUNTIME_FILE;
use crate::front::ColorOrder;
use crate::plan::{ALIGN, Plan, Port};

/// The text of `NAME.h`.
pub(super) fn header(plan: &Plan, target: &str, externals: &[String], library: bool) -> String {
    let name = &plan.name;
    let upper = name.to_uppercase();
    let links = match (externals, library) {
        ([], _) => "nothing: no symbol is left to link".to_owned(),
        (names, true) => format!("{RUNTIME_FILE} behind it in the command that links ({})", names.join(", ")),
        (names, false) => names.join(", "),
    };
    let mut h = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        h,
        "/* {name}: a neural network compiled by mnc for {target}.
 *
 * input    {upper}_INPUT_LEN floats, NHWC {inputs}
 * output   {upper}_OUTPUT_LEN floats, NHWC {outputs}
 * weights  {upper}_WEIGHTS_BYTES bytes: the file {name}.weights as it is (little-endian f32), read only
 * arena    {upper}_ARENA_BYTES bytes of scratch; need not be cleared, holds nothing between calls
 *
 * The four must not overlap. Each must be aligned as a float is; {upper}_ALIGN ({ALIGN}) is faster for weights and arena.
 * The function keeps no state: several threads may call it at once, each with an arena and an output of its own.
 * It needs {links}.
 */
#ifndef {upper}_H
#define {upper}_H

#ifdef __cplusplus
extern \"C\" {{
#endif

{input_sizes}#define {upper}_INPUT_LEN {xn}
{output_sizes}#define {upper}_OUTPUT_LEN {yn}
#define {upper}_ARENA_BYTES {arena}
#define {upper}_WEIGHTS_BYTES {weights}
#define {upper}_ALIGN {ALIGN}
#define {upper}_MACS {macs}ULL
",
        inputs = listed(&plan.inputs, pixels(plan)),
        outputs = listed(&plan.outputs, ""),
        input_sizes = sizes(&format!("{upper}_INPUT"), &plan.inputs),
        xn = plan.input_len(),
        output_sizes = sizes(&format!("{upper}_OUTPUT"), &plan.outputs),
        yn = plan.output_len(),
        arena = plan.memory.arena_bytes,
        weights = plan.weights.bytes(),
        macs = plan.macs,
    );
    if !plan.preprocess.in_graph {
        let list = |values: &[f64]| values.iter().map(|v| format!("{v:?}")).collect::<Vec<_>>().join(", ");
        let _ = write!(
            h,
            "\n/* x[c] = (pixel[c] / 255 - mean[c]) / std[c] */\n#define {upper}_MEAN {{ {} }}\n#define {upper}_STD {{ {} }}\n",
            list(&plan.preprocess.mean),
            list(&plan.preprocess.std),
        );
    }
    if !plan.labels.is_empty() {
        let _ = write!(h, "\n/* static const char *const labels[] = {upper}_LABELS; */\n#define {upper}_LABELS {{ \\\n");
        for label in &plan.labels {
            let _ = writeln!(h, "    {}, \\", literal(label));
        }
        h.push_str("}\n");
    }
    let _ = write!(
        h,
        "
void {name}_run(const float *weights, const float *input, float *output, float *arena);

#ifdef __cplusplus
}}
#endif

#endif
"
    );
    h
}

/// The tensors for the comment at the top: the shape of one, or a line each with what stands where; `first` is said of the first.
fn listed(ports: &[Port], first: &str) -> String {
    if let [port] = ports {
        return format!("{}{first}", port.tensor.shape);
    }
    let mut text = "tensors one behind the other:".to_owned();
    for (i, port) in ports.iter().enumerate() {
        let (name, first) = (comment(&port.name), if i == 0 { first } else { "" });
        let _ = write!(text, "\n *            at {} {name}, {}{first}", port.offset, port.tensor.shape);
    }
    text
}

/// A name inside a comment, which it must not end.
fn comment(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_graphic() && !matches!(c, '*' | '/' | '\\' | '?') { c } else { '_' }).collect()
}

/// Definitions of the sizes of one tensor, or of number, sizes and first elements of several.
fn sizes(prefix: &str, ports: &[Port]) -> String {
    let mut text = String::new();
    if ports.len() > 1 {
        let _ = writeln!(text, "#define {prefix}_COUNT {}", ports.len());
    }
    for (i, port) in ports.iter().enumerate() {
        let one = if ports.len() == 1 { prefix.to_owned() } else { format!("{prefix}_{i}") };
        let s = port.tensor.shape;
        if ports.len() > 1 {
            let _ = writeln!(text, "#define {one}_NAME {}\n#define {one}_OFFSET {}", literal(&port.name), port.offset);
        }
        let _ = writeln!(text, "#define {one}_HEIGHT {}\n#define {one}_WIDTH {}\n#define {one}_CHANNELS {}", s.h, s.w, s.c);
    }
    text
}

/// What the elements of the first input are.
fn pixels(plan: &Plan) -> &'static str {
    let preprocess = &plan.preprocess;
    match (preprocess.in_graph, preprocess.order, plan.input_shape().c) {
        (true, _, 3) => ", red green blue, 0..255",
        (true, ..) => ", pixels 0..255",
        (false, ColorOrder::Rgb, 3) => ", red green blue, normalised",
        (false, ColorOrder::Bgr, 3) => ", blue green red, normalised",
        (false, ..) => ", normalised",
    }
}

/// A C string literal. Octal escapes end after three digits, so what follows cannot join them; `?` is escaped for the sake of
/// trigraphs.
fn literal(text: &str) -> String {
    let mut s = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' | b'?' => s.extend(['\\', char::from(byte)]),
            b' '..=b'~' => s.push(char::from(byte)),
            _ => {
                let _ = write!(s, "\\{byte:03o}");
            }
        }
    }
    s.push('"');
    s
}

#[cfg(test)]
mod tests {
    use super::literal;

    #[test]
    fn literals_are_escaped() {
        assert_eq!(literal(r#"a "b" \ ?"#), r#""a \"b\" \\ \?""#);
        assert_eq!(literal("é1\n"), r#""\303\2511\012""#);
    }
}
