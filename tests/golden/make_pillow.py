#!/usr/bin/python3
"""Writes tests/golden/pillow: odd-sized pictures, and what Pillow makes of them.

    tests/golden/make_pillow.py [SKIMAGE_DATA]

For each picture NAME, NAME.safetensors holds
  decoded                     u8  [h,w,3]  the middle of the decoded RGB picture
  bicubic, bilinear, nearest  u8  [h,w,3]  Image.resize to that size; a suffix tells cases apart
  chw                         f32 [3,h,w]  all steps of preprocessor_config.json in this folder
Two pictures are photographs and stay as they are, unless SKIMAGE_DATA names the folder of
scikit-image's sample pictures to cut them from again; the others are synthesised.
"""

import json
import pathlib
import struct
import sys

import numpy as np
import PIL
from PIL import Image

OUT = pathlib.Path(__file__).resolve().parent / "pillow"
FILTERS = {"nearest": Image.NEAREST, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}


def synthesise(width, height, seed):
    """Smooth gradients, edges and noise: what a photograph is made of."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    planes = []
    for _ in range(3):
        p = np.zeros((height, width))
        for _ in range(6):  # light and shade
            fx, fy, phase = rng.uniform(-9, 9), rng.uniform(-9, 9), rng.uniform(0, 6.3)
            p += rng.uniform(10, 40) * np.sin(fx * x + fy * y + phase)
        planes.append(p + rng.uniform(90, 160))
    picture = np.stack(planes, -1)
    for _ in range(5):  # things with outlines
        cx, cy, r = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.05, 0.25)
        inside = (x - cx) ** 2 + (y - cy) ** 2 < r * r
        picture[inside] = 0.4 * picture[inside] + 0.6 * rng.uniform(0, 255, 3)
    picture[(x * 40).astype(int) % 9 == 0] *= 0.6  # a fence
    picture += rng.normal(0, 5, picture.shape)
    return Image.fromarray(np.clip(np.rint(picture), 0, 255).astype(np.uint8))


def transparent_palette(image):
    """A palette whose first entries are transparent: RGB keeps their colours."""
    image = image.quantize(40, dither=Image.NONE)
    image.info["transparency"] = bytes([0, 128])
    return image


def pictures():
    synthesise(137, 201, 1).save(OUT / "portrait.jpg", quality=70, progressive=True)
    synthesise(97, 65, 2).save(OUT / "full-chroma.jpg", quality=92, subsampling=0)
    synthesise(61, 43, 3).convert("L").save(OUT / "grey.jpg", quality=80)
    inks = [*synthesise(53, 37, 4).split(), synthesise(53, 37, 10).convert("L")]
    Image.merge("CMYK", inks).save(OUT / "cmyk.jpg", quality=85)
    synthesise(101, 67, 5).save(OUT / "rgb.png", optimize=True)
    alpha = synthesise(45, 31, 6)
    alpha.putalpha(synthesise(45, 31, 7).convert("L"))
    alpha.save(OUT / "alpha.png", optimize=True)
    transparent_palette(synthesise(75, 53, 8)).save(OUT / "palette.png", optimize=True)
    synthesise(63, 45, 9).convert("L").convert("1").save(OUT / "bilevel.png", optimize=True)


def photographs(folder):
    cat = Image.open(folder / "chelsea.png").convert("RGB")
    cat.crop((0, 0, 451, 299)).save(OUT / "cat.jpg", quality=85)
    coffee = Image.open(folder / "coffee.png").convert("RGB")
    coffee.crop((170, 90, 323, 197)).save(OUT / "coffee.png", optimize=True)


def steps(image, config):
    """The upstream's image processor, step by step, in its types."""
    size, crop = config["size"], config["crop_size"]
    a = np.asarray(image)
    side = min(a.shape[:2])
    h = int((size["height"] / crop["height"]) * side)
    w = int((size["width"] / crop["width"]) * side)
    top, left = (a.shape[0] - h) // 2, (a.shape[1] - w) // 2
    a = a[top : top + h, left : left + w]
    small = Image.fromarray(a).resize((size["width"], size["height"]), config["resample"])
    a = (np.asarray(small) * config["rescale_factor"]).astype(np.float32)
    a = (a - np.float32(config["image_mean"])) / np.float32(config["image_std"])
    return np.ascontiguousarray(a.transpose(2, 0, 1))


def expected(image, config):
    width, height = image.size
    a = np.asarray(image)
    h, w = min(height, 40), min(width, 40)
    top, left = (height - h) // 2, (width - w) // 2
    out = {"decoded": a[top : top + h, left : left + w]}
    for name, (w, h) in {
        "bicubic": (56, 56),
        "bicubic.flat": (71, 19),
        "bicubic.tall": (13, height),
        "bilinear": (29, 47),
        "nearest": (43, 59),
    }.items():
        out[name] = np.asarray(image.resize((w, h), FILTERS[name.split(".")[0]]))
    if width < 60:
        out["bicubic.larger"] = np.asarray(image.resize((57, 41), Image.BICUBIC))
        out["bilinear.larger"] = np.asarray(image.resize((width + 9, 39), Image.BILINEAR))
    out["chw"] = steps(image, config)
    return out


def write(path, tensors):
    names = {"uint8": "U8", "float32": "F32"}
    header, at = {}, 0
    for name, t in tensors.items():
        header[name] = {
            "dtype": names[str(t.dtype)],
            "shape": list(t.shape),
            "data_offsets": [at, at + t.nbytes],
        }
        at += t.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(t.tobytes() for t in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def main():
    if int(PIL.__version__.split(".")[0]) > 12:
        sys.exit("Pillow 13 runs the vertical pass first where the height shrinks more; use 9 to 12")
    config = json.loads((OUT / "preprocessor_config.json").read_text())
    pictures()
    if len(sys.argv) > 1:
        photographs(pathlib.Path(sys.argv[1]))
    for path in sorted(OUT.iterdir()):
        if path.suffix in (".jpg", ".png"):
            image = Image.open(path).convert("RGB")
            write(path.parent / (path.name + ".safetensors"), expected(image, config))
            print(path.name, image.size)


if __name__ == "__main__":
    main()
