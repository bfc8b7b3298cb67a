//! Pillow's antialiased resampling, bit for bit: a triangle or cubic whose support grows with the scale, weights in 22-bit fixed
//! point, rows shortened first and rounded to bytes, then columns.
//!
//! Formulas: Pillow's `Resample.c`. Resizing libraries that keep 16-bit weights or start with the columns are up to two levels
//! off, and a net's answer to a photograph is compared with the publisher's, so this is written out. (Since version 13 Pillow itself
//! starts with the columns for some tall pictures; the results then differ by one level here and there.)

use std::ops::Range;

use super::Picture;
use crate::front::Filter;

/// Bits behind the point of a weight; 8 for the byte and 2 for overshoot remain of 32.
const BITS: u32 = 22;

/// The source elements that one output element is made of.
struct Window {
    start: usize,
    weights: Vec<i32>,
}

impl Window {
    fn end(&self) -> usize {
        self.start + self.weights.len()
    }
}

/// The windows of the elements `kept` when `input` elements become `output`.
fn windows(input: usize, output: usize, kept: Range<usize>, filter: Filter) -> Vec<Window> {
    let scale = input as f64 / output as f64;
    let stretch = scale.max(1.0);
    let radius = stretch
        * match filter {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
        };
    kept.map(|i| {
        let centre = (i as f64 + 0.5) * scale;
        // A negative float becomes 0 here, which is the clamp to the first element.
        let start = (centre - radius + 0.5) as usize;
        let end = ((centre + radius + 0.5) as usize).min(input);
        let weights: Vec<f64> = (start..end).map(|x| weigh(filter, (x as f64 - centre + 0.5) * (1.0 / stretch))).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |w: f64| (w / sum * f64::from(1 << BITS) + 0.5_f64.copysign(w)) as i32;
        Window { start, weights: weights.into_iter().map(fixed).collect() }
    })
    .collect()
}

/// The filter at distance `x`, in units of its own grid.
fn weigh(filter: Filter, x: f64) -> f64 {
    let x = x.abs();
    match filter {
        Filter::Bilinear if x < 1.0 => 1.0 - x,
        Filter::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        Filter::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
        Filter::Bilinear | Filter::Bicubic => 0.0,
    }
}

/// Rounds and clips a fixed-point sum to a byte.
fn byte(sum: i32) -> u8 {
    ((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8
}

/// The columns and rows `crop` of `picture` resized to `size` (width, height). Only what the crop needs is computed.
pub(super) fn resample(picture: &Picture, size: [usize; 2], crop: [Range<usize>; 2], filter: Filter) -> Picture {
    let [columns, rows] = crop;
    let (width, height) = (columns.len(), rows.len());
    let across = windows(picture.width, size[0], columns, filter);
    let down = windows(picture.height, size[1], rows, filter);
    let first = down.iter().map(|w| w.start).min().unwrap_or(0);
    let last = down.iter().map(Window::end).max().unwrap_or(0);

    let mut narrow = Vec::with_capacity((last - first) * width * 3);
    for row in picture.rgb.chunks_exact(picture.width * 3).take(last).skip(first) {
        for window in &across {
            let mut sum = [0; 3];
            for (pixel, &weight) in row[window.start * 3..window.end() * 3].chunks_exact(3).zip(&window.weights) {
                for (sum, &v) in sum.iter_mut().zip(pixel) {
                    *sum += i32::from(v) * weight;
                }
            }
            narrow.extend(sum.map(byte));
        }
    }

    let mut rgb = Vec::with_capacity(height * width * 3);
    let mut sums = vec![0; width * 3];
    for window in &down {
        sums.fill(0);
        for (y, &weight) in (window.start - first..).zip(&window.weights) {
            for (sum, &v) in sums.iter_mut().zip(&narrow[y * width * 3..(y + 1) * width * 3]) {
                *sum += i32::from(v) * weight;
            }
        }
        rgb.extend(sums.iter().map(|&sum| byte(sum)));
    }
    Picture { width, height, rgb }
}
