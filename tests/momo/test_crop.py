"""Crops on the device against Pillow's, and that they are exact."""

import io

import numpy as np
import pyarrow as pa
import pytest
import torch
from making_batches import CONFIG
from PIL import Image
from test_inputs import uniform

from momo.config import TaskConfig
from momo.cost import encoder_passes
from momo.crop import crop_pictures, with_pixels
from momo.decoding import EncodedPicture, decode, plain_jpeg_size
from momo.regions import PIXELS_A_CHUNK, plan_crops, random_box, region
from momo.transforms import image_batch, random_crop

SIZES = [(1, 1), (1, 9), (2, 3), (7, 5), (40, 60), (64, 64), (341, 256), (256, 341), (500, 375)]
PANORAMAS = [(2000, 100), (60, 1500), (1600, 1200)]
# Beside three drawn crops: the smallest and the whole picture, in the corners.
NOISE = np.random.default_rng(1).random((3, 4)).tolist() + [
    [area, aspect, place, place]
    for area in (0.0, 1.0)
    for aspect in (0.0, 0.5, 1.0)
    for place in (0.0, 1.0)
]


def picture(width, height, smooth):
    g = np.random.default_rng([width, height])
    if not smooth:
        return Image.fromarray(g.integers(0, 256, (height, width, 3), dtype=np.uint8))
    coarse = g.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def tensors(batch):
    return {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in batch.items()}


def laid_out(images, noise, size, cut):
    """What readers make of pictures: whole, or cut to what the crops read."""
    flat, place, box, end = [], [], [], 0
    for image, numbers in zip(images, noise, strict=True):
        wanted = random_box(*image.size, np.array(numbers))
        left, top, width, height = region(wanted, *image.size, size)
        pixels = np.asarray(image)
        start, stride = end + 3 * (top * image.width + left), image.width
        if cut:
            pixels = pixels[top : top + height, left : left + width]
            start, stride = end, width
        flat.append(pixels.reshape(-1))
        place.append((start, height, width, stride))
        box.append((wanted[0] - left, wanted[1] - top, wanted[2], wanted[3]))
        end += pixels.size
    arrays = np.concatenate(flat), np.array(place), np.array(box, dtype=np.float32)
    return tuple(torch.from_numpy(a) for a in arrays)


def crops(images, noise, size, flip=None, cut=True, most=PIXELS_A_CHUNK):
    flat, place, box = laid_out(images, noise, size, cut)
    flip = torch.zeros(len(images), dtype=torch.bool) if flip is None else flip
    return crop_pictures(flat, place, box, flip, size, plan_crops(place.numpy(), size, most))


@pytest.mark.parametrize("size", [32, 64, 224])
@pytest.mark.parametrize("smooth", [True, False])
def test_crops_are_pillows_within_half_a_level(size, smooth):
    """The issue's bar is a level on average; at most three anywhere, of white noise too."""
    for shape in SIZES + PANORAMAS:
        image = picture(*shape, smooth)
        noise = NOISE[:7] if shape in PANORAMAS else NOISE
        found = crops([image] * len(noise), noise, size).numpy().astype(int)
        expected = [random_crop(image, size, np.array(n)) for n in noise]
        error = np.abs(found - np.stack(expected))
        assert error.mean(axis=(1, 2, 3)).max() < 0.5, shape
        assert error.max() <= 3, shape


def test_a_crop_is_exact_whatever_lies_beside_it_and_wherever_it_lies():
    """To the bit: in chunks of any size, alone, cut out or in its whole picture."""
    images = [picture(*shape, False) for shape in SIZES + PANORAMAS]
    noise = [NOISE[i % len(NOISE)] for i in range(len(images))]
    together = crops(images, noise, 32)
    assert len(plan_crops(laid_out(images, noise, 32, True)[1].numpy(), 32, 10_000).chunks) > 3
    assert torch.equal(crops(images, noise, 32, most=10_000), together)
    assert torch.equal(crops(images, noise, 32, cut=False), together)
    for row, image in enumerate(images):
        assert torch.equal(crops([image], [noise[row]], 32)[0], together[row])


def test_the_order_of_summation_does_not_count():
    """In double precision the same bits: float32 held every sum without rounding."""
    images = [picture(*shape, False) for shape in SIZES]
    found = crops(images, NOISE[: len(SIZES)], 64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("momo.crop._product", lambda a, b: torch.bmm(a.double(), b.double()))
        assert torch.equal(crops(images, NOISE[: len(SIZES)], 64), found)


def test_flipped_rows_are_mirrored():
    images = [picture(40, 60, False), picture(64, 64, False), picture(33, 90, False)]
    flip = torch.tensor([True, False, True])
    straight, flipped = crops(images, NOISE[:3], 32), crops(images, NOISE[:3], 32, flip)
    assert torch.equal(flipped[1], straight[1])
    assert torch.equal(flipped[[0, 2]], straight[[0, 2]].flip(3))


def test_chunks_cover_all_rows_and_keep_their_bound():
    g = np.random.default_rng(0)
    place = np.stack([np.zeros(200), *g.integers(1, 300, (3, 200))], axis=1).astype(np.int64)
    chunks = plan_crops(place, 32, 500_000).chunks
    assert [c[0] for c in chunks] + [200] == [0, *(c[1] for c in chunks)]
    for first, last, height, width in chunks:
        assert (height, width) == tuple(place[first:last, 1:3].max(axis=0))
        assert (last - first) * height * width <= 500_000
    assert plan_crops(place[:0], 32).chunks == ()


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def kinds():
    image = picture(61, 45, True)
    exif = Image.Exif()
    exif[0x0112] = 6
    transparent = image.convert("RGBA")
    transparent.putalpha(Image.linear_gradient("L").resize(image.size))
    deep = Image.fromarray(np.linspace(0, 65535, 45 * 61).reshape(45, 61).astype(np.uint16))
    return {
        "jpeg": encoded(image, "JPEG", quality=90),
        "progressive": encoded(image, "JPEG", progressive=True),
        "rgb jpeg": encoded(image, "JPEG", keep_rgb=True),
        "grey jpeg": encoded(image.convert("L"), "JPEG"),
        "cmyk jpeg": encoded(image.convert("CMYK"), "JPEG"),
        "turned jpeg": encoded(image, "JPEG", exif=exif.tobytes()),
        "commented jpeg": encoded(image, "JPEG", comment=b"\xff\xc0 not a frame"),
        "png": encoded(image, "PNG"),
        "transparent": encoded(transparent, "PNG"),
        "palette": encoded(image.quantize(16), "PNG"),
        "16 bits": encoded(deep, "PNG"),
        "webp": encoded(image, "WEBP"),
    }


@pytest.mark.parametrize("kind", list(kinds()))
def test_every_kind_of_picture_decodes_as_before(kind):
    raw = kinds()[kind]
    opened = EncodedPicture.of(raw)
    assert opened.plain_jpeg == (kind.endswith(("jpeg", "progressive")) and kind[:4] != "cmyk")
    assert (opened.width, opened.height) == (61, 45)
    assert np.array_equal(opened.pixels(), np.asarray(decode(raw)))


def test_a_damaged_jpeg_fails_as_before():
    raw = kinds()["jpeg"]
    for cut in (raw[:400], raw[: len(raw) // 2]):
        with pytest.raises(OSError, match="(?i)truncated"):
            decode(cut)
        with pytest.raises(OSError, match="(?i)truncated"):
            EncodedPicture.of(cut).pixels()
    for length in range(60):
        plain_jpeg_size(raw[:length])  # never raises


@pytest.fixture
def table():
    return pa.table({"image": pa.array(list(kinds().values()), pa.binary())})


def test_batches_of_every_form_show_the_same(table):
    seeds = np.arange(table.num_rows, dtype=np.uint64)
    cropped, decoded, jpeg = (
        image_batch(table, seeds, uniform, CONFIG, form=form)
        for form in ("cropped", "decoded", "encoded")
    )
    assert 0 < decoded["flip"].sum() < len(seeds)
    sizes = 3 * 45 * 61 * len(seeds)
    assert decoded["flat"].nbytes < sizes  # cut
    pixels = with_pixels(tensors(decoded), CONFIG.image_size)
    assert np.abs(pixels["pixels"].numpy().astype(int) - cropped["pixels"]).mean() < 0.5
    assert list(pixels) == list(cropped)
    assert np.array_equal(pixels["noise"].numpy(), cropped["noise"])
    # By torchvision's decoder for a device, here the CPU: its pixels are the same to the bit.
    assert jpeg["encoded"].flat(torch.device("cpu")).numel() == sizes
    again = with_pixels(tensors(jpeg), CONFIG.image_size)
    assert torch.equal(again["pixels"], pixels["pixels"])
    task = TaskConfig(modalities=("image",))
    assert encoder_passes(task, "image", tensors(decoded)) == encoder_passes(
        task, "image", tensors(cropped)
    )


def test_jpegs_that_the_device_refuses_are_decoded_on_the_cpu(table):
    seeds = np.arange(table.num_rows, dtype=np.uint64)
    batch = image_batch(table, seeds, uniform, CONFIG, form="encoded")["encoded"]
    expected = batch.flat(torch.device("cpu"))
    with pytest.MonkeyPatch.context() as patch:

        def refuse(*_):
            raise RuntimeError("unsupported sampling")

        patch.setattr("momo.decoding._by_torchvision", refuse)
        assert torch.equal(batch.flat(torch.device("cpu")), expected)


def test_without_augmentation_the_centre_is_shown(table):
    seeds = np.arange(table.num_rows, dtype=np.uint64)
    plain = image_batch(table, seeds, uniform, CONFIG, augment=False)["pixels"]
    decoded = image_batch(table, seeds, uniform, CONFIG, augment=False, form="decoded")
    pixels = with_pixels(tensors(decoded), CONFIG.image_size)["pixels"].numpy()
    assert np.abs(pixels.astype(int) - plain).mean() < 0.5
