"""Makes the pictures of this folder: each file that mnc must read, and beside it, as RGB PNG, what Pillow reads in it.

Run with Pillow, numpy and simplejpeg: python make.py
"""
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

HERE = Path(__file__).parent
W, H = 37, 29  # no multiple of a block or macroblock


def pattern(channels=3):
    y, x = np.mgrid[0:H, 0:W]
    wave = [128 + 100 * np.sin(x / (3 + c) + c) * np.cos(y / (5 - c)) + 27 * ((x // 7 + y // 5 + c) % 2) for c in range(channels)]
    return np.clip(np.stack(wave, -1), 0, 255).astype(np.uint8)


def put(name, data):
    (HERE / name).write_bytes(data)
    want = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    want.save(HERE / f"{name}.want.png", optimize=True)


def jpeg(image, **options):
    out = io.BytesIO()
    image.save(out, "JPEG", quality=options.pop("quality", 85), **options)
    return out.getvalue()


def png(image, **options):
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True, **options)
    return out.getvalue()


def png_16(samples):
    """16 bits a sample, which Pillow cannot write."""
    height, width, _ = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


rgb = Image.fromarray(pattern())
for sampling in ["4:4:4", "4:2:2", "4:2:0"]:
    for progressive in [False, True]:
        name = f"{sampling.replace(':', '')}{'_progressive' if progressive else ''}.jpg"
        put(name, jpeg(rgb, subsampling=sampling, progressive=progressive))
put("440.jpg", simplejpeg.encode_jpeg(pattern(), quality=85, colorspace="RGB", colorsubsampling="440"))
put("411.jpg", simplejpeg.encode_jpeg(pattern(), quality=85, colorspace="RGB", colorsubsampling="411"))
put("restart.jpg", jpeg(rgb, subsampling="4:2:0", restart_marker_blocks=2))
put("restart_progressive.jpg", jpeg(rgb, subsampling="4:2:0", restart_marker_rows=1, progressive=True))
put("coarse.jpg", jpeg(rgb, quality=5))
put("finest.jpg", jpeg(rgb, quality=100, subsampling="4:2:0"))
put("optimised.jpg", jpeg(rgb, optimize=True))
put("rgb.jpg", jpeg(rgb, keep_rgb=True))
put("grey.jpg", jpeg(rgb.convert("L")))
put("grey_progressive.jpg", jpeg(rgb.convert("L"), progressive=True))
put("thin.jpg", jpeg(rgb.crop((0, 0, 3, H)), subsampling="4:2:0"))
put("column.jpg", jpeg(rgb.crop((0, 0, 1, H)), subsampling="4:2:0"))
put("pixel.jpg", jpeg(rgb.crop((0, 0, 1, 1))))
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    put(f"turned_{orientation}.jpg", jpeg(rgb, exif=exif))
exif = Image.Exif()
exif[0x0112] = 6
put("turned_6.png", png(rgb, exif=exif))
put("rgb.png", png(rgb))
put("rgba.png", png(Image.fromarray(pattern(4), "RGBA")))
put("grey.png", png(rgb.convert("L")))
put("grey_alpha.png", png(Image.fromarray(pattern(2), "LA")))
put("bits_1.png", png(rgb.convert("1")))
put("palette.png", png(rgb.quantize(200)))
put("palette_4.png", png(rgb.quantize(11)))
put("palette_transparent.png", png(rgb.quantize(60), transparency=3))
put("rgb_16.png", png_16(pattern().astype(np.uint16) * 251 + 137))
