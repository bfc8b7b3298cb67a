//! Geometry, colour and broken files; the comparison with Pillow's own crops is in the suite (`images`).

use super::resample::resample;
use super::*;
use crate::front::Filter;

fn preprocess(resize: Resize, filter: Filter) -> Preprocess {
    Preprocess { resize, filter, order: ColorOrder::Rgb, mean: vec![0.5; 3], std: vec![0.25; 3], in_graph: false }
}

/// A smooth pattern with some texture.
fn pattern(width: usize, height: usize) -> Picture {
    let rgb = (0..height)
        .flat_map(|y| (0..width).flat_map(move |x| (0..3).map(move |c| ((x * (3 + c) + y * 5 + (x * y) % (7 + c)) % 256) as u8)))
        .collect();
    Picture { width, height, rgb }
}

fn png(picture: DynamicImage) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    picture.write_to(&mut out, ImageFormat::Png).unwrap();
    out.into_inner()
}

#[test]
fn the_crop_alone_equals_the_crop_of_the_whole() {
    for (w, h) in [(61, 40), (40, 61), (300, 97), (17, 23), (64, 64), (500, 33)] {
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            let picture = pattern(w, h);
            let side = 48;
            let (nw, nh) = if w < h { (side, side * h / w) } else { (side * w / h, side) };
            let whole = resample(&picture, [nw, nh], [0..nw, 0..nh], filter);
            let fitted = fit(&picture, &preprocess(Resize::ShorterSide(side), filter), 32, 40);
            let (left, top) = ((nw - 40) / 2, (nh - 32) / 2);
            for y in 0..32 {
                let at = ((top + y) * nw + left) * 3;
                assert_eq!(fitted.rgb[y * 120..(y + 1) * 120], whole.rgb[at..at + 120], "{w}x{h} {filter:?} row {y}");
            }
        }
    }
}

#[test]
fn a_crop_larger_than_the_resized_picture_is_black_around_it() {
    let white = Picture { width: 20, height: 20, rgb: vec![255; 1200] };
    let fitted = fit(&white, &preprocess(Resize::ShorterSide(3), Filter::Bilinear), 6, 6);
    // Pillow: left = floor((3 - 6) / 2) = -2, so two black columns left and one right.
    let row = |y: usize| (0..6).map(|x| fitted.rgb[(y * 6 + x) * 3]).collect::<Vec<_>>();
    assert_eq!(row(1), [0; 6]);
    assert_eq!(row(2), [0, 0, 255, 255, 255, 0]);
    assert_eq!(row(4), [0, 0, 255, 255, 255, 0]);
    assert_eq!(row(5), [0; 6]);
}

#[test]
fn a_picture_of_the_input_size_is_taken_as_it_is() {
    let picture = pattern(32, 24);
    assert_eq!(fit(&picture, &preprocess(Resize::ShorterSide(100), Filter::Bilinear), 24, 32), picture);
}

#[test]
fn extreme_aspect_ratios_cost_no_memory() {
    for (w, h) in [(1, 60_000), (60_000, 1)] {
        for resize in [Resize::ShorterSide(256), Resize::Squash] {
            let fitted = fit(&pattern(w, h), &preprocess(resize, Filter::Bicubic), 224, 224);
            assert_eq!(fitted.rgb.len(), 224 * 224 * 3);
        }
    }
}

#[test]
fn luma_is_pillows() {
    // Pillow 13: Image.new("RGB", (1, 1), c).convert("L")
    for (c, want) in [([255, 0, 0], 76), ([0, 255, 0], 150), ([0, 0, 255], 29), ([12, 200, 77], 130), ([254, 254, 254], 254)] {
        assert_eq!(luma(&c), [want], "{c:?}");
    }
}

#[test]
fn channel_order_and_normalisation() {
    let picture = Picture { width: 1, height: 1, rgb: vec![255, 128, 0] };
    let mut p = preprocess(Resize::Squash, Filter::Bilinear);
    p.mean = vec![0.1, 0.2, 0.3];
    let shape = Shape::hwc(1, 1, 3);
    let f = |v: f64, m: f64| ((v / 255.0 - m) / 0.25) as f32;
    assert_eq!(input(&picture, &p, shape).unwrap(), [f(255.0, 0.1), f(128.0, 0.2), f(0.0, 0.3)]);
    p.order = ColorOrder::Bgr;
    assert_eq!(input(&picture, &p, shape).unwrap(), [f(0.0, 0.1), f(128.0, 0.2), f(255.0, 0.3)]);
    p.in_graph = true;
    assert_eq!(input(&picture, &p, shape).unwrap(), [255.0, 128.0, 0.0], "the graph itself reorders");
    assert!(matches!(input(&picture, &p, Shape::hwc(1, 1, 4)), Err(PictureError::Channels(4))));
}

#[test]
fn every_png_colour_type_becomes_rgb() {
    let deep = |channels: u8| (0..2 * 2 * u16::from(channels)).map(|i| i * 4000 + 200).collect::<Vec<u16>>();
    let high = |v: &[u16]| v.iter().map(|v| (v >> 8) as u8).collect::<Vec<u8>>();
    let rgb16 = image::ImageBuffer::from_raw(2, 2, deep(3)).unwrap();
    assert_eq!(decode(&png(DynamicImage::ImageRgb16(rgb16))).unwrap().rgb, high(&deep(3)));
    let grey16 = image::ImageBuffer::from_raw(2, 2, deep(1)).unwrap();
    let got = decode(&png(DynamicImage::ImageLuma16(grey16))).unwrap();
    assert_eq!(got.rgb.iter().step_by(3).copied().collect::<Vec<_>>(), high(&deep(1)));
    let rgba = image::RgbaImage::from_raw(1, 1, vec![9, 8, 7, 0]).unwrap();
    assert_eq!(decode(&png(DynamicImage::ImageRgba8(rgba))).unwrap().rgb, [9, 8, 7], "alpha is dropped, not blended");
    let grey = image::GrayImage::from_raw(1, 1, vec![77]).unwrap();
    assert_eq!(decode(&png(DynamicImage::ImageLuma8(grey))).unwrap().rgb, [77; 3]);
}

#[test]
fn broken_files_are_refused() {
    let p = pattern(40, 30);
    let rgb = DynamicImage::ImageRgb8(image::RgbImage::from_raw(40, 30, p.rgb).unwrap());
    let whole = png(rgb.clone());
    assert!(decode(&whole).is_ok());
    assert!(decode(&whole[..whole.len() / 2]).is_err());
    let mut jpeg = Cursor::new(Vec::new());
    rgb.write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
    let jpeg = jpeg.into_inner();
    assert!(decode(&jpeg).is_ok());
    for cut in [1, 2, 3, 20, jpeg.len() / 4, jpeg.len() / 2, jpeg.len() * 3 / 4, jpeg.len() - 1] {
        assert!(decode(&jpeg[..cut]).is_err(), "cut at {cut}");
    }
    assert!(matches!(decode(b""), Err(PictureError::Format)));
    assert!(matches!(decode(b"not a picture"), Err(PictureError::Format)));
    assert!(matches!(decode(b"GIF89a\x01\x00\x01\x00"), Err(PictureError::Format)));
}

#[test]
fn a_header_that_promises_too_much_is_refused() {
    // A PNG header of 60000 x 60000 RGB: 10 GB if it were believed.
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0".to_vec();
    let crc = crc32(&bytes[12..]);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes.extend_from_slice(b"\0\0\0\x01IDAT\0");
    let crc = crc32(b"IDAT\0");
    bytes.extend_from_slice(&crc.to_be_bytes());
    assert!(matches!(decode(&bytes), Err(PictureError::TooLarge(_))));
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0u32, |crc, &b| (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { c >> 1 ^ 0xEDB8_8320 } else { c >> 1 }))
}

#[test]
fn exif_orientation_is_applied() {
    let p = pattern(24, 16);
    let rgb = DynamicImage::ImageRgb8(image::RgbImage::from_raw(24, 16, p.rgb).unwrap());
    let mut jpeg = Cursor::new(Vec::new());
    rgb.write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
    let jpeg = jpeg.into_inner();
    let upright = decode(&jpeg).unwrap();
    for (orientation, turn) in [
        (1u8, (|p| p) as fn(DynamicImage) -> DynamicImage),
        (3, |p| p.rotate180()),
        (6, |p| p.rotate90()),
        (8, |p| p.rotate270()),
        (2, |p| p.fliph()),
    ] {
        // APP1: "Exif", little-endian TIFF, one entry: tag 0x0112 (orientation), SHORT, 1 value.
        let mut app1 = b"\xff\xe1\0\x22Exif\0\0II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        app1.extend_from_slice(&[orientation, 0, 0, 0, 0, 0, 0, 0]);
        let mut tagged = jpeg[..2].to_vec();
        tagged.extend_from_slice(&app1);
        tagged.extend_from_slice(&jpeg[2..]);
        let got = decode(&tagged).unwrap();
        let want = turn(DynamicImage::ImageRgb8(image::RgbImage::from_raw(24, 16, upright.rgb.clone()).unwrap())).into_rgb8();
        assert_eq!((got.width, got.height), (want.width() as usize, want.height() as usize), "orientation {orientation}");
        assert_eq!(got.rgb, want.into_raw(), "orientation {orientation}");
    }
}

#[test]
fn resampling_is_pillows_to_the_bit() {
    // Pillow 13: resize of `pattern(w, h)` so that the shorter side has `side` pixels, then the centre 6 x 4.
    let cases: [(usize, usize, usize, Filter, [u8; 72]); 4] = [
        (
            61,
            40,
            9,
            Filter::Bilinear,
            [
                104, 120, 136, 118, 139, 159, 132, 157, 182, 146, 176, 206, 160, 195, 222, 174, 213, 140, 126, 142, 158, 140,
                161, 182, 154, 179, 205, 168, 198, 226, 182, 217, 162, 196, 225, 41, 148, 164, 181, 162, 183, 204, 176, 201, 222,
                190, 220, 153, 204, 221, 44, 218, 118, 42, 170, 186, 203, 184, 205, 225, 198, 222, 177, 212, 197, 46, 226, 87,
                41, 222, 31, 64,
            ],
        ),
        (
            40,
            61,
            9,
            Filter::Bicubic,
            [
                124, 130, 137, 138, 148, 159, 151, 166, 182, 164, 184, 204, 178, 201, 238, 191, 226, 176, 147, 154, 160, 161,
                171, 183, 174, 189, 205, 188, 208, 236, 201, 235, 188, 216, 209, 35, 171, 177, 184, 185, 195, 207, 198, 214, 241,
                211, 242, 160, 233, 174, 27, 234, 35, 33, 194, 200, 208, 208, 224, 236, 226, 242, 170, 244, 138, 27, 201, 18, 35,
                80, 28, 63,
            ],
        ),
        (
            7,
            5,
            11,
            Filter::Bilinear,
            [
                12, 14, 16, 14, 16, 18, 16, 19, 21, 18, 21, 24, 19, 22, 27, 21, 25, 30, 15, 17, 18, 17, 19, 21, 19, 22, 24, 21,
                24, 27, 22, 25, 30, 22, 26, 34, 18, 20, 21, 20, 22, 24, 23, 25, 28, 25, 28, 31, 24, 27, 34, 23, 26, 38, 21, 23,
                24, 23, 25, 27, 24, 26, 29, 25, 28, 31, 26, 29, 34, 27, 30, 38,
            ],
        ),
        (
            5,
            7,
            11,
            Filter::Bicubic,
            [
                13, 13, 14, 15, 17, 18, 18, 19, 21, 20, 22, 24, 23, 25, 27, 25, 28, 30, 16, 16, 17, 19, 20, 21, 22, 23, 25, 24,
                26, 28, 25, 27, 29, 25, 28, 30, 18, 19, 20, 22, 23, 24, 25, 26, 28, 27, 29, 31, 27, 29, 31, 26, 28, 30, 21, 22,
                22, 24, 25, 27, 26, 27, 32, 27, 29, 35, 28, 30, 34, 30, 31, 33,
            ],
        ),
    ];
    for (w, h, side, filter, want) in cases {
        let fitted = fit(&pattern(w, h), &preprocess(Resize::ShorterSide(side), filter), 4, 6);
        assert_eq!(fitted.rgb, want, "{w}x{h} to {side} {filter:?}");
    }
}

/// A few hundred bytes that say they are a huge picture are refused before it is allocated; what is merely plain is not.
#[test]
fn a_small_file_is_no_huge_picture() {
    let file = |format, width, height| {
        let mut file = Cursor::new(Vec::new());
        image::GrayImage::from_pixel(width, height, image::Luma([7])).write_to(&mut file, format).expect("it is encoded");
        file.into_inner()
    };
    for format in [ImageFormat::Png, ImageFormat::Jpeg] {
        let plain = decode(&file(format, 3000, 2000)).expect("a whole picture");
        assert_eq!((plain.width, plain.height, plain.rgb.len()), (3000, 2000, 18_000_000));
    }
    let mut png = file(ImageFormat::Png, 9, 9);
    png[16..24].copy_from_slice(&[0, 0, 0x23, 0x28, 0, 0, 0x23, 0x28]);
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    assert!(matches!(decode(&png), Err(PictureError::Truncated)), "{:?}", decode(&png));
    let mut jpeg = file(ImageFormat::Jpeg, 9, 9);
    let size = jpeg.windows(2).position(|m| m == [0xff, 0xc0]).expect("a frame") + 5;
    jpeg[size..size + 4].copy_from_slice(&[0x23, 0x28, 0x23, 0x28]);
    assert!(matches!(decode(&jpeg), Err(PictureError::Truncated)), "{:?}", decode(&jpeg));
}
