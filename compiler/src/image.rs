//! Pictures: decoding, and the way from a decoded picture to an input tensor as [`Preprocess`] says.
//!
//! Compatible with Pillow, which the publishers' own code uses: JPEG decoding (`jpeg`) and resizing (`resample`) are its to the
//! bit, EXIF orientation is applied, grey, palette and alpha become plain RGB (alpha is dropped, not blended). 16-bit pictures
//! keep their high byte; so does Pillow, except for grey ones, which it clips to white: that is not imitated.
//!
//! A file cannot make the decoder take more than its own size allows: a picture that says it has more pixels than so many bytes can
//! code is refused before anything is allocated. That is at most 1024 pixels a byte of JPEG and 1032 bytes of samples a byte of PNG, and
//! never more than a hundred million. Decoding takes at most a megabyte, the file twice and 16 bytes a pixel (`tests/allocation`).

mod jpeg;
mod resample;

use std::io::Cursor;
use std::ops::Range;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::front::{ColorOrder, Preprocess, Resize};
use crate::ir::Shape;

/// The largest side that is decoded: JPEG's own limit.
const MAX_SIDE: u32 = 65_535;
/// The most pixels that are decoded; with it a hostile file costs 1.6 gigabytes at most.
const MAX_PIXELS: u64 = 100_000_000;
/// The largest file that is read.
const MAX_FILE: u64 = 1 << 30;

/// Why a picture could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The file could not be read.
    #[error("cannot read the file: {0}")]
    Io(#[from] std::io::Error),
    /// A directory, a device, a socket.
    #[error("not a regular file")]
    NotAFile,
    /// The first bytes are those of no supported format.
    #[error("neither a JPEG nor a PNG picture")]
    Format,
    /// More than this program is willing to decode.
    #[error("the picture is too large: {0}")]
    TooLarge(String),
    /// The file ends before the picture does.
    #[error("the picture is cut short")]
    Truncated,
    /// The decoder gave up.
    #[error("cannot decode the picture: {0}")]
    Decode(String),
    /// The net does not take pictures.
    #[error("a picture has 1 or 3 channels, this net takes {0}")]
    Channels(usize),
}

/// A decoded picture: RGB, 8 bits, rows from the top, three bytes a pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width * 3` bytes.
    pub rgb: Vec<u8>,
}

/// Reads and decodes the JPEG or PNG file at `path`.
///
/// # Errors
/// When the file cannot be read, is no picture, is cut short, or is too large.
pub fn open(path: &Path) -> Result<Picture, PictureError> {
    let meta = std::fs::metadata(path)?;
    if !meta.is_file() {
        return Err(PictureError::NotAFile);
    }
    if meta.len() > MAX_FILE {
        return Err(PictureError::TooLarge(format!("{} bytes, at most {MAX_FILE}", meta.len())));
    }
    decode(&std::fs::read(path)?)
}

/// Decodes a JPEG or PNG file held in memory and applies its EXIF orientation.
///
/// # Errors
/// As [`open`].
pub fn decode(bytes: &[u8]) -> Result<Picture, PictureError> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let format = match reader.format() {
        Some(ImageFormat::Jpeg) if !jpeg_is_whole(bytes) => return Err(PictureError::Truncated),
        Some(format @ (ImageFormat::Jpeg | ImageFormat::Png)) => format,
        _ => return Err(PictureError::Format),
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_PIXELS * 8);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(decode_error)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(PictureError::TooLarge(format!("{width} x {height} pixels, at most {MAX_PIXELS}")));
    }
    if !may_hold(format, bytes, u64::from(width) * u64::from(height)) {
        return Err(PictureError::Truncated);
    }
    // A broken EXIF block does not spoil the pixels.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let exact = if format == ImageFormat::Jpeg { jpeg::decode(bytes) } else { None };
    let mut picture = match exact {
        Some(p) => {
            let rgb = image::RgbImage::from_raw(p.width as u32, p.height as u32, p.rgb);
            DynamicImage::ImageRgb8(rgb.expect("three bytes a pixel"))
        }
        None => to_rgb8(DynamicImage::from_decoder(decoder).map_err(decode_error)?),
    };
    picture.apply_orientation(orientation);
    let rgb = picture.into_rgb8();
    Ok(Picture { width: rgb.width() as usize, height: rgb.height() as usize, rgb: rgb.into_raw() })
}

/// Whether a file as long as `bytes` can code so many pixels at all.
fn may_hold(format: ImageFormat, bytes: &[u8], pixels: u64) -> bool {
    let len = bytes.len() as u64;
    match format {
        // Every block of 64 samples takes a bit; of the sixteen blocks that the coarsest sampling makes of 1024 pixels at least
        // eight are coded.
        ImageFormat::Jpeg => pixels <= len.saturating_mul(1024),
        // Deflate makes at most 1032 bytes of one (zlib's technical details). The header's bit depth and colour type stand here.
        _ => {
            let [depth, kind] = [24, 25].map(|at| bytes.get(at).copied().unwrap_or(0));
            let channels = match kind {
                2 => 3,
                4 => 2,
                6 => 4,
                _ => 1,
            };
            pixels.saturating_mul(u64::from(depth.max(1)) * channels) / 8 <= len.saturating_mul(1032)
        }
    }
}

fn decode_error(e: image::ImageError) -> PictureError {
    match e {
        image::ImageError::Limits(e) => PictureError::TooLarge(e.to_string()),
        image::ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => PictureError::Truncated,
        e @ (image::ImageError::Decoding(_)
        | image::ImageError::Encoding(_)
        | image::ImageError::Parameter(_)
        | image::ImageError::Unsupported(_)
        | image::ImageError::IoError(_)) => PictureError::Decode(e.to_string()),
    }
}

/// 8-bit RGB; 16-bit samples keep their high byte as in Pillow (the `image` crate would round).
fn to_rgb8(picture: DynamicImage) -> DynamicImage {
    let (w, h, data, channels) = match picture {
        DynamicImage::ImageLuma16(p) => (p.width(), p.height(), p.into_raw(), 1),
        DynamicImage::ImageLumaA16(p) => (p.width(), p.height(), p.into_raw(), 2),
        DynamicImage::ImageRgb16(p) => (p.width(), p.height(), p.into_raw(), 3),
        DynamicImage::ImageRgba16(p) => (p.width(), p.height(), p.into_raw(), 4),
        eight_bit => return DynamicImage::ImageRgb8(eight_bit.into_rgb8()),
    };
    let rgb = data.chunks_exact(channels).flat_map(|p| if channels < 3 { [p[0]; 3] } else { [p[0], p[1], p[2]] });
    let rgb: Vec<u8> = rgb.map(|v| (v >> 8) as u8).collect();
    DynamicImage::ImageRgb8(image::RgbImage::from_raw(w, h, rgb).expect("three bytes a pixel"))
}

/// Whether the marker segments of a JPEG file run up to its end-of-image marker. The decoder itself fills what is missing with
/// grey, and a half grey picture must not be classified.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        // Entropy-coded data is skipped byte by byte: in it 0xFF is followed by 0 or a restart marker.
        let Some(marker) =
            bytes[at.min(bytes.len())..].windows(2).position(|w| w[0] == 0xFF && !matches!(w[1], 0 | 0xFF | 0xD0..=0xD7))
        else {
            return false;
        };
        at += marker;
        if bytes[at + 1] == 0xD9 {
            return true;
        }
        let Some(&[high, low]) = bytes.get(at + 2..at + 4) else { return false };
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
}

/// Brings `picture` to `height x width` as `preprocess` says: resize and centre crop, or squash. Parts of the crop outside the
/// picture are black. A picture that already has that size is returned as it is.
///
/// # Panics
/// If `height` or `width` is zero, which no checked spec has.
#[must_use]
pub fn fit(picture: &Picture, preprocess: &Preprocess, height: usize, width: usize) -> Picture {
    if (picture.width, picture.height) == (width, height) {
        return picture.clone();
    }
    let (w, h) = (picture.width, picture.height);
    let (new_w, new_h) = match preprocess.resize {
        Resize::Squash => (width, height),
        Resize::ShorterSide(side) if w < h => (side, side * h / w),
        Resize::ShorterSide(side) => (side * w / h, side),
    };
    let x = centre(new_w, width);
    let y = centre(new_h, height);
    let inner = resample::resample(picture, [new_w, new_h], [x.clone(), y.clone()], preprocess.filter);
    if (inner.width, inner.height) == (width, height) {
        return inner;
    }
    // The resized picture is smaller than the input: the rest stays black, as in Pillow's crop.
    let mut rgb = vec![0; width * height * 3];
    let (left, top) = (width.saturating_sub(new_w).div_ceil(2), height.saturating_sub(new_h).div_ceil(2));
    for (row, line) in inner.rgb.chunks_exact(inner.width * 3).enumerate() {
        let at = ((top + row) * width + left) * 3;
        rgb[at..at + line.len()].copy_from_slice(line);
    }
    Picture { width, height, rgb }
}

/// The part of `0..size` that a centre crop of `crop` keeps, from `floor((size - crop) / 2)`.
fn centre(size: usize, crop: usize) -> Range<usize> {
    let start = size.saturating_sub(crop) / 2;
    start..size.min(start + crop)
}

/// Luma of RGB bytes, as Pillow's `convert("L")`: ITU-R 601-2 in 16-bit fixed point, rounded.
#[must_use]
pub fn luma(rgb: &[u8]) -> Vec<u8> {
    let weigh = |p: &[u8]| u32::from(p[0]) * 19_595 + u32::from(p[1]) * 38_470 + u32::from(p[2]) * 7_471 + 0x8000;
    rgb.chunks_exact(3).map(|p| (weigh(p) >> 16) as u8).collect()
}

/// The input tensor of `shape` (`[1, h, w, 1 | 3]`) for `picture`: fitted, then `(p / 255 - mean[c]) / std[c]` in the net's channel
/// order; raw RGB or grey values 0..255 for a net that normalises by itself.
///
/// # Errors
/// When `shape` has neither 1 nor 3 channels.
pub fn input(picture: &Picture, preprocess: &Preprocess, shape: Shape) -> Result<Vec<f32>, PictureError> {
    let fitted = fit(picture, preprocess, shape.h, shape.w);
    let (bytes, order) = match (shape.c, preprocess.order) {
        (1, _) => (luma(&fitted.rgb), vec![0]),
        (3, ColorOrder::Bgr) if !preprocess.in_graph => (fitted.rgb, vec![2, 1, 0]),
        (3, _) => (fitted.rgb, vec![0, 1, 2]),
        (c, _) => return Err(PictureError::Channels(c)),
    };
    let value = |p: &[u8], c: usize| {
        let v = f64::from(p[order[c]]);
        (if preprocess.in_graph { v } else { (v / 255.0 - preprocess.mean[c]) / preprocess.std[c] }) as f32
    };
    Ok(bytes.chunks_exact(shape.c).flat_map(|p| (0..shape.c).map(move |c| value(p, c))).collect())
}

#[cfg(test)]
mod tests;
