//! JPEG as libjpeg decodes it, bit for bit: the decoder behind Pillow, torchvision and TensorFlow.
//!
//! JPEG leaves the inverse transform's rounding and the interpolation of colour to the decoder. Nets notice: with chroma at half
//! resolution, as cameras write it, a decoder that interpolates a little differently moves probabilities by up to 0.02. So
//! this follows libjpeg: its accurate integer transform, its "fancy" upsampling, its colour tables ([`pixels`]).
//!
//! It knows what cameras and programs write: Huffman-coded baseline and progressive pictures of 8 bits, grey or of three colours. For anything else, damaged files among it, [`decode`] answers `None` and the caller takes a
//! general decoder. Formats and procedures: ITU-T T.81.

mod entropy;
mod pixels;

use entropy::{Bits, Part, Scan, Table};

use super::{MAX_PIXELS, Picture};

/// A hostile file could ask for more passes over the picture than any encoder makes.
const MAX_SCANS: usize = 100;

/// Natural position of each coefficient in coding order (T.81, figure A.6).
const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42,
    49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// One colour channel.
struct Component {
    id: u8,
    /// Sampling factors: blocks a macroblock across and down.
    h: usize,
    v: usize,
    /// Columns and rows of the picture a sample.
    factors: [usize; 2],
    /// Its quantisation table, fixed at its first scan.
    quantiser: usize,
    steps: Option<[u16; 64]>,
    /// Samples that belong to the picture.
    width: usize,
    height: usize,
    /// Blocks in memory: whole macroblocks.
    blocks_w: usize,
    blocks_h: usize,
    /// 64 coefficients a block in natural order.
    coefficients: Vec<i16>,
}

impl Component {
    /// The coefficients of one block.
    fn block(&mut self, x: usize, y: usize) -> Option<&mut [i16; 64]> {
        let at = (y * self.blocks_w + x) * 64;
        self.coefficients.get_mut(at..at + 64)?.try_into().ok()
    }
}

/// What the frame header says.
struct Frame {
    progressive: bool,
    width: usize,
    height: usize,
    components: Vec<Component>,
}

/// Everything read so far.
#[derive(Default)]
struct State {
    quantisers: [Option<[u16; 64]>; 4],
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    restart: usize,
    jfif: bool,
    adobe: Option<u8>,
    frame: Option<Frame>,
}

/// Decodes the file `bytes` to RGB, orientation not applied; `None` if it is not of the kinds described above.
pub(super) fn decode(bytes: &[u8]) -> Option<Picture> {
    let mut state = State::default();
    let mut at = 2;
    let mut scans = 0;
    loop {
        while *bytes.get(at)? != 0xFF || matches!(bytes.get(at + 1)?, 0 | 0xFF | 0xD0..=0xD7) {
            at += 1;
        }
        let marker = bytes[at + 1];
        if marker == 0xD9 {
            return finish(state);
        }
        let length = usize::from(u16::from_be_bytes([*bytes.get(at + 2)?, *bytes.get(at + 3)?]));
        let segment = bytes.get(at + 4..at + 2 + length)?;
        at += 2 + length;
        match marker {
            0xDB => quantisers(segment, &mut state)?,
            0xC4 => tables(segment, &mut state)?,
            0xC0..=0xC2 => frame(segment, marker == 0xC2, &mut state)?,
            // Other frames: lossless, hierarchical, arithmetic; and the height given late.
            0xC3 | 0xC5..=0xCF | 0xDC => return None,
            0xDD => state.restart = usize::from(u16::from_be_bytes(segment.try_into().ok()?)),
            0xE0 => state.jfif |= segment.starts_with(b"JFIF\0"),
            0xEE if segment.starts_with(b"Adobe") => state.adobe = Some(*segment.get(11)?),
            0xDA => {
                scans += 1;
                if scans > MAX_SCANS {
                    return None;
                }
                at += scan(segment, &bytes[at..], &mut state)?;
            }
            _ => {}
        }
    }
}

fn quantisers(mut segment: &[u8], state: &mut State) -> Option<()> {
    while let Some((&head, rest)) = segment.split_first() {
        let wide = usize::from(head >> 4);
        let size = 64 * (wide + 1);
        let values = rest.get(..size)?;
        let mut table = [0; 64];
        for (i, &natural) in ZIGZAG.iter().enumerate() {
            table[natural] =
                if wide == 0 { u16::from(values[i]) } else { u16::from_be_bytes([values[2 * i], values[2 * i + 1]]) };
        }
        *state.quantisers.get_mut(usize::from(head & 15))? = Some(table);
        segment = &rest[size..];
    }
    Some(())
}

fn tables(mut segment: &[u8], state: &mut State) -> Option<()> {
    while let Some((&head, rest)) = segment.split_first() {
        let counts: [u8; 16] = rest.get(..16)?.try_into().ok()?;
        let total = counts.iter().map(|&c| usize::from(c)).sum::<usize>();
        let table = Table::new(&counts, rest.get(16..16 + total)?)?;
        let class = if head >> 4 == 0 { &mut state.dc } else { &mut state.ac };
        *class.get_mut(usize::from(head & 15))? = Some(table);
        segment = &rest[16 + total..];
    }
    Some(())
}

fn frame(segment: &[u8], progressive: bool, state: &mut State) -> Option<()> {
    let &[8, y0, y1, x0, x1, count, ref rest @ ..] = segment else { return None };
    let height = usize::from(u16::from_be_bytes([y0, y1]));
    let width = usize::from(u16::from_be_bytes([x0, x1]));
    if state.frame.is_some()
        || height == 0
        || width == 0
        || (width * height) as u64 > MAX_PIXELS
        || !matches!(count, 1 | 3)
        || rest.len() != usize::from(count) * 3
    {
        return None;
    }
    let factors = |c: &[u8]| (usize::from(c[1] >> 4), usize::from(c[1] & 15));
    let (mut h_max, mut v_max) = (0, 0);
    for c in rest.chunks_exact(3) {
        let (h, v) = factors(c);
        (h_max, v_max) = (h_max.max(h), v_max.max(v));
    }
    let mut components = Vec::new();
    for c in rest.chunks_exact(3) {
        // A lone component is not subsampled, whatever its factors say.
        let (h, v, h_max, v_max) = if count == 1 { (1, 1, 1, 1) } else { (factors(c).0, factors(c).1, h_max, v_max) };
        if h == 0 || v == 0 || h_max > 4 || v_max > 4 || h_max % h != 0 || v_max % v != 0 {
            return None;
        }
        let blocks_w = width.div_ceil(8 * h_max) * h;
        let blocks_h = height.div_ceil(8 * v_max) * v;
        components.push(Component {
            id: c[0],
            h,
            v,
            factors: [h_max / h, v_max / v],
            quantiser: usize::from(c[2]),
            steps: None,
            width: (width * h).div_ceil(h_max),
            height: (height * v).div_ceil(v_max),
            blocks_w,
            blocks_h,
            coefficients: vec![0; blocks_w * blocks_h * 64],
        });
    }
    state.frame = Some(Frame { progressive, width, height, components });
    Some(())
}

/// Decodes the scan whose header is `segment` and whose data starts `data`; returns how much of it was data.
fn scan(segment: &[u8], data: &[u8], state: &mut State) -> Option<usize> {
    let State { quantisers, dc, ac, restart, frame, .. } = state;
    let frame = frame.as_mut()?;
    let (&count, rest) = segment.split_first()?;
    let count = usize::from(count);
    let (selectors, rest) = rest.split_at_checked(2 * count)?;
    let &[first, last, approximation] = rest else { return None };
    let scan = Scan {
        progressive: frame.progressive,
        first: usize::from(first),
        last: usize::from(last),
        high: approximation >> 4,
        low: approximation & 15,
    };
    if !scan.is_possible() || scan.progressive && scan.first > 0 && count != 1 {
        return None;
    }
    let mut parts: Vec<Part<'_>> = Vec::new();
    for selector in selectors.chunks_exact(2) {
        let component = frame.components.iter().position(|c| c.id == selector[0])?;
        if parts.iter().any(|p| p.component == component) {
            return None;
        }
        let c = &mut frame.components[component];
        if c.steps.is_none() {
            c.steps = Some((*quantisers.get(c.quantiser)?)?);
        }
        let (dc, ac) = (dc.get(usize::from(selector[1] >> 4))?.as_ref(), ac.get(usize::from(selector[1] & 15))?.as_ref());
        parts.push(Part { component, dc, ac, before: 0 });
    }
    let first = &frame.components[parts.first()?.component];
    let alone = parts.len() == 1;
    // A scan of one component goes through its blocks, any other through macroblocks of all its components.
    let (across, down) = if alone {
        (first.width.div_ceil(8), first.height.div_ceil(8))
    } else {
        (first.blocks_w / first.h, first.blocks_h / first.v)
    };
    let mut bits = Bits::new(data);
    let mut run = 0;
    for unit in 0..across * down {
        if *restart > 0 && unit > 0 && unit % *restart == 0 {
            bits.restart(((unit / *restart - 1) % 8) as u8)?;
            parts.iter_mut().for_each(|p| p.before = 0);
            run = 0;
        }
        let (x, y) = (unit % across, unit / across);
        for part in &mut parts {
            let c = &mut frame.components[part.component];
            let (h, v) = if alone { (1, 1) } else { (c.h, c.v) };
            for (row, column) in (0..v).flat_map(|row| (0..h).map(move |column| (row, column))) {
                scan.block(c.block(x * h + column, y * v + row)?, &mut bits, part, &mut run)?;
            }
        }
    }
    Some(bits.position())
}

/// The picture, when the last scan has been read.
fn finish(state: State) -> Option<Picture> {
    let Frame { width, height, components, .. } = state.frame?;
    let ids: Vec<u8> = components.iter().map(|c| c.id).collect();
    // libjpeg's guess, `default_decompress_parms`.
    let is_rgb = match (state.jfif, state.adobe) {
        (true, _) => false,
        (false, Some(transform)) => transform == 0,
        (false, None) => ids == *b"RGB",
    };
    let mut planes = Vec::new();
    for c in components {
        let (plane, w, h) = (pixels::samples(&c.coefficients, &c.steps?, c.blocks_w), c.width, c.height);
        drop(c.coefficients);
        planes.push(pixels::upsample(&plane, c.blocks_w * 8, [w, h], c.factors, [width, height]));
    }
    let rgb = match &planes[..] {
        [grey] => grey.iter().flat_map(|&v| [v; 3]).collect(),
        [r, g, b] if is_rgb => r.iter().zip(g).zip(b).flat_map(|((&r, &g), &b)| [r, g, b]).collect(),
        [y, cb, cr] => pixels::to_rgb(y, cb, cr),
        _ => return None,
    };
    Some(Picture { width, height, rgb })
}
