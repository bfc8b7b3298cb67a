//! `.npy` tensors in and out.

use std::path::{Path, PathBuf};

use npyz::{NpyFile, Order, TypeChar, WriterBuilder};

use super::Failure;
use super::console::file_error;
use crate::diag::Diagnostic;
use crate::ir::Shape;
use crate::plan::Port;

/// `left 1x8x8x3, right 1x8x8x3`
pub(super) fn list(ports: &[Port]) -> String {
    ports.iter().map(|p| format!("{} {}", p.name, p.tensor.shape)).collect::<Vec<_>>().join(", ")
}

/// The tensors of `ports`, one file each, one behind the other. `who` and `flag` say in a diagnostic what they are for.
pub(super) fn read_all(paths: &[PathBuf], ports: &[Port], who: &str, flag: &str) -> Result<Vec<f32>, Failure> {
    if paths.len() != ports.len() {
        let d = Diagnostic::error(format!("{who} {} tensors, `{flag}` is there {} times", ports.len(), paths.len()));
        return Err(Failure::input(d.help(format!("say it once for each, in this order: {}", list(ports)))));
    }
    let all: Result<Vec<Vec<f32>>, Failure> = paths.iter().zip(ports).map(|(path, port)| read(path, port.tensor.shape)).collect();
    Ok(all?.concat())
}

/// Reads a C-ordered f32 array of shape `[h, w, c]` or `[1, h, w, c]`; a vector of one pixel's channels with any axes of one.
pub(super) fn read(path: &Path, shape: Shape) -> Result<Vec<f32>, Failure> {
    let fail = |e: &dyn std::fmt::Display| Failure::input(file_error("read", path, e));
    let meta = std::fs::metadata(path).map_err(|e| fail(&e))?;
    if !meta.is_file() {
        return Err(fail(&"not a regular file"));
    }
    // Even as 16-byte elements an array of the right shape is not longer than this; nothing larger needs to be read.
    if meta.len() > (shape.elements() as u64) * 16 + 65_536 {
        return Err(Failure::input(wrong(path, "a far larger array", shape)));
    }
    let bytes = std::fs::read(path).map_err(|e| fail(&e))?;
    parse(&bytes, shape).map_err(|d| match d {
        Problem::File(why) => fail(&why),
        Problem::Array(found) => Failure::input(wrong(path, &found, shape)),
    })
}

enum Problem {
    /// Not a readable .npy file.
    File(String),
    /// A good file with another array than asked for.
    Array(String),
}

fn wrong(path: &Path, found: &str, want: Shape) -> Diagnostic {
    let Shape { h, w, c, .. } = want;
    Diagnostic::error(format!("`{}` holds {found}", path.display())).help(format!(
        "the net takes float32 in C order, shape [{h}, {w}, {c}] or [1, {h}, {w}, {c}] (NHWC), already preprocessed; \
         in numpy: np.save(path, np.ascontiguousarray(x, dtype=np.float32)), with x.transpose(0, 2, 3, 1) first if it is NCHW"
    ))
}

fn parse(bytes: &[u8], shape: Shape) -> Result<Vec<f32>, Problem> {
    check_header(bytes).map_err(|why| Problem::File(why.to_owned()))?;
    let file = NpyFile::new(bytes).map_err(|e| Problem::File(e.to_string()))?;
    let is_f32 = match file.dtype() {
        npyz::DType::Plain(t) => t.type_char() == TypeChar::Float && t.size_field() == 4,
        npyz::DType::Array(..) | npyz::DType::Record(_) => false,
    };
    if !is_f32 {
        return Err(Problem::Array(format!("elements of type {}", file.dtype().descr())));
    }
    let dims: Vec<u64> = [shape.n, shape.h, shape.w, shape.c].map(|d| d as u64).to_vec();
    let long = |dims: &[u64]| dims.iter().copied().filter(|&d| d != 1).collect::<Vec<_>>();
    let vector = (shape.h, shape.w) == (1, 1) && long(file.shape()) == long(&dims);
    if file.shape() != dims && file.shape() != &dims[1..] && !vector {
        return Err(Problem::Array(format!("an array of shape {:?}", file.shape())));
    }
    if file.order() == Order::Fortran {
        return Err(Problem::Array("an array in Fortran order".to_owned()));
    }
    file.into_vec().map_err(|e| Problem::File(e.to_string()))
}

/// Refuses headers on whose sizes the parser would overflow or that ask for a header of gigabytes.
fn check_header(bytes: &[u8]) -> Result<(), &'static str> {
    if !bytes.starts_with(b"\x93NUMPY") {
        return Err("not a .npy file");
    }
    let (length, start) = match bytes.get(6..12) {
        Some(&[1, _, a, b, ..]) => (usize::from(u16::from_le_bytes([a, b])), 10),
        Some(&[2 | 3, _, a, b, c, d]) => (u32::from_le_bytes([a, b, c, d]) as usize, 12),
        _ => return Err("not a .npy file of a known version"),
    };
    let header = bytes.get(start..).and_then(|b| b.get(..length)).ok_or("the header is cut short")?;
    let header = String::from_utf8_lossy(header);
    let shape = header.split_once("shape").and_then(|(_, rest)| rest.split_once('(')).and_then(|(_, rest)| rest.split_once(')'));
    let Some((shape, _)) = shape else { return Err("the header has no shape") };
    // Together they bound the product of all sizes by 10^18.
    if shape.chars().filter(char::is_ascii_digit).count() > 18 { Err("the shape in the header is absurd") } else { Ok(()) }
}

/// The bytes of a `.npy` file with `data` in `shape`.
pub(super) fn bytes(data: &[f32], shape: &[u64]) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(shape).writer(&mut out).begin_nd()?;
    writer.extend(data.iter().copied())?;
    writer.finish()?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(r: Result<Vec<f32>, Problem>) -> String {
        match r {
            Ok(_) => panic!("accepted"),
            Err(Problem::File(s) | Problem::Array(s)) => s,
        }
    }

    fn header(text: &str) -> Vec<u8> {
        let mut out = b"\x93NUMPY\x01\x00".to_vec();
        out.extend_from_slice(&u16::try_from(text.len()).unwrap().to_le_bytes());
        out.extend_from_slice(text.as_bytes());
        out
    }

    #[test]
    fn what_is_written_is_read_back() {
        let data: Vec<f32> = (0..24).map(|i| i as f32 * 0.5 - 3.0).collect();
        let shape = Shape::hwc(2, 3, 4);
        for dims in [&[1u64, 2, 3, 4][..], &[2, 3, 4]] {
            assert_eq!(parse(&bytes(&data, dims).unwrap(), shape).ok().unwrap(), data);
        }
        assert!(problem(parse(&bytes(&data, &[1, 4, 2, 3]).unwrap(), shape)).contains("[1, 4, 2, 3]"));
        let whole = bytes(&data, &[2, 3, 4]).unwrap();
        for cut in 0..whole.len() {
            problem(parse(&whole[..cut], shape));
        }
    }

    #[test]
    fn other_arrays_are_named() {
        let shape = Shape::hwc(1, 1, 2);
        for dims in [&[2u64][..], &[1, 2], &[1, 2, 1, 1]] {
            assert_eq!(parse(&bytes(&[1.0, 2.0], dims).unwrap(), shape).ok().unwrap(), [1.0, 2.0]);
        }
        let f64s = header("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1, 2), }\n");
        assert!(problem(parse(&f64s, shape)).contains("f8"));
        let fortran = header("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1, 2), }\n");
        assert!(problem(parse(&fortran, shape)).contains("Fortran"));
        let absurd = header("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 4294967296), }\n");
        assert!(problem(parse(&absurd, shape)).contains("absurd"));
        assert!(problem(parse(&header("{}"), shape)).contains("no shape"));
        assert!(problem(parse(b"PK\x03\x04", shape)).contains("not a .npy"));
    }
}
