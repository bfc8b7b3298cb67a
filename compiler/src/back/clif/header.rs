//! The C header that goes with an object file.

use std::fmt::Write as _;

use mnc_runtime::blob::HEADER_BYTES;
use mnc_runtime::stamp::FORMAT;

use super::RUNTIME_FILE;
use super::object::code_symbol;
use crate::back::stamp::{self, Stamp};
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
 * weights  what {name}_weights() finds in the {upper}_WEIGHTS_FILE_BYTES bytes of the file {name}.weights, read only
 * arena    {upper}_ARENA_BYTES bytes of scratch; need not be cleared, holds nothing between calls
 *
 * The four must not overlap. Each must be aligned as a float is; {upper}_ALIGN ({ALIGN}) is faster for weights and arena.
 * The function keeps no state: several threads may call it at once, each with an arena and an output of its own.
 * It needs {links}.
 * An undefined symbol `{code}` means that this header and the object are
 * of two compilations, one `mnc_rt_{FORMAT}_…` that the library is another version's: take all files of one `mnc compile`.
 *
 * {stamp}
 */
#ifndef {upper}_H
#define {upper}_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern \"C\" {{
#endif

{input_sizes}#define {upper}_INPUT_LEN {xn}
{output_sizes}#define {upper}_OUTPUT_LEN {yn}
#define {upper}_ARENA_BYTES {arena}
#define {upper}_WEIGHTS_FILE_BYTES {weights}
#define {upper}_ALIGN {ALIGN}
#define {upper}_MACS {macs}ULL
#define {upper}_VERSION \"{version}\"
#define {upper}_FORMAT {FORMAT}
#define {upper}_LAYOUT \"{layout}\"
",
        code = code_symbol(plan),
        stamp = Stamp::of("header", plan),
        version = stamp::VERSION,
        layout = stamp::layout(plan),
        inputs = listed(&plan.inputs, pixels(plan)),
        outputs = listed(&plan.outputs, ""),
        input_sizes = sizes(&format!("{upper}_INPUT"), &plan.inputs),
        xn = plan.input_len(),
        output_sizes = sizes(&format!("{upper}_OUTPUT"), &plan.outputs),
        yn = plan.output_len(),
        arena = plan.memory.arena_bytes,
        weights = HEADER_BYTES + plan.weights.bytes(),
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
    h.push_str(&declarations(plan));
    h
}

/// What is declared and defined: the function, the stamp, and how weights are found in their file.
fn declarations(plan: &Plan) -> String {
    let upper = plan.name.to_uppercase();
    DECLARATIONS.replace("@c", &code_symbol(plan)).replace("@n", &plan.name).replace("@N", &upper)
}

/// For a net called `@n`, in capitals `@N`; `@c` is the symbol of its code. XXH64 is written once for all nets.
const DECLARATIONS: &str = r#"
void @n_run(const float *weights, const float *input, float *output, float *arena);

/* What the object says of itself, as text. */
extern const char @n_stamp[];

/* Only the object of this very header has it. */
extern const char @c[];
#ifdef __GNUC__
static const char *const @n_header_of_object __attribute__((used)) = @c;
#endif

#ifndef MNC_XXH64
#define MNC_XXH64
/* XXH64 (Yann Collet) of `size` bytes, for a little-endian machine. */
static inline uint64_t mnc_xxh64_round(uint64_t lane, const unsigned char *p) {
    uint64_t word;
    memcpy(&word, p, 8);
    lane += word * 0xC2B2AE3D27D4EB4FULL;
    return (lane << 31 | lane >> 33) * 0x9E3779B185EBCA87ULL;
}
static inline uint64_t mnc_xxh64(const unsigned char *p, size_t size) {
    const uint64_t p1 = 0x9E3779B185EBCA87ULL, p2 = 0xC2B2AE3D27D4EB4FULL, p3 = 0x165667B19E3779F9ULL;
    const uint64_t p4 = 0x85EBCA77C2B2AE63ULL, p5 = 0x27D4EB2F165667C5ULL;
    uint64_t h = p5, v[4] = { p1 + p2, p2, 0, 0 - p1 };
    size_t left = size;
    if (left >= 32) {
        for (; left >= 32; left -= 32, p += 32) {
            for (int i = 0; i < 4; i++) v[i] = mnc_xxh64_round(v[i], p + 8 * i);
        }
        h = (v[0] << 1 | v[0] >> 63) + (v[1] << 7 | v[1] >> 57) + (v[2] << 12 | v[2] >> 52) + (v[3] << 18 | v[3] >> 46);
        for (int i = 0; i < 4; i++) {
            unsigned char lane[8];
            memcpy(lane, &v[i], 8);
            h = (h ^ mnc_xxh64_round(0, lane)) * p1 + p4;
        }
    }
    h += size;
    for (; left >= 8; left -= 8, p += 8) {
        h ^= mnc_xxh64_round(0, p);
        h = (h << 27 | h >> 37) * p1 + p4;
    }
    if (left >= 4) {
        uint32_t word;
        memcpy(&word, p, 4);
        h ^= word * p1;
        h = (h << 23 | h >> 41) * p2 + p3;
        p += 4;
        left -= 4;
    }
    for (; left; left--, p++) {
        h ^= *p * p5;
        h = (h << 11 | h >> 53) * p1;
    }
    h = (h ^ h >> 33) * p2;
    h = (h ^ h >> 29) * p3;
    return h ^ h >> 32;
}
#endif

/* Finds the weights in the `size` bytes of the file @n.weights, which must stand at a multiple of 4 bytes in memory. Looks at what
 * the file says of itself, not at the weights. Returns NULL, or what is wrong. */
static inline const char *@n_weights(const void *file, size_t size, const float **weights) {
    static const unsigned char magic[8] = { 0x89, 'm', 'n', 'c', 'w', '\r', '\n', 0x1a };
    const unsigned char *p = (const unsigned char *)file;
    uint32_t format;
    uint64_t length;
    if (size >= 8 && memcmp(p, magic, 8) != 0) return "this is not a file of weights that mnc wrote";
    if (size < 64) return "the file of weights is cut short";
    memcpy(&format, p + 8, 4);
    if (format != @N_FORMAT) return "the file of weights was written by another version of mnc";
    if (memcmp(p + 16, @N_LAYOUT, 32) != 0) return "the file of weights was made for another net, or for another plan of it";
    memcpy(&length, p + 48, 8);
    if (size < @N_WEIGHTS_FILE_BYTES) return "the file of weights is cut short";
    if (size > @N_WEIGHTS_FILE_BYTES || length != @N_WEIGHTS_FILE_BYTES - 64) {
        return "the file of weights has another size than the net needs";
    }
    if ((uintptr_t)file % sizeof(float) != 0) return "the file of weights does not stand at a multiple of 4 bytes in memory";
    *weights = (const float *)(const void *)(p + 64);
    return NULL;
}

/* Reads all weights of a file that @n_weights() took. Returns NULL where they are those that mnc wrote, or what is wrong. */
static inline const char *@n_weights_intact(const void *file) {
    const unsigned char *p = (const unsigned char *)file;
    uint64_t hash;
    memcpy(&hash, p + 56, 8);
    return mnc_xxh64(p + 64, @N_WEIGHTS_FILE_BYTES - 64) == hash ? NULL : "the weights are damaged";
}

#ifdef __cplusplus
}
#endif

#endif
"#;

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
