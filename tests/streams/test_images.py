"""What numbers in image files mean: nothing is black or white in silence, and what is cut away is said once."""

import io

import numpy as np
import pytest
from PIL import Image, features

from cl_core.config import StreamConfig
from cl_core.streams.images import Noted, picture
from tests.streams.test_folder import paint, refused, stream

ONE = StreamConfig(tasks=1, class_order="name")


def save(folder, array, name="x.tif", **settings):
    file = folder / name
    Image.fromarray(array).save(file, **settings)
    return file


def notes_of(file, config=ONE):
    noted = Noted()
    return picture(file, 8, config, noted.of("cat")), noted.lines(config)


def grey(top, dtype, low=0):
    """A ramp from `low` to `top`."""
    return np.linspace(low, top, 64).reshape(8, 8).astype(dtype)


# ---------------------------------------------------------------- more than 8 bits


@pytest.mark.parametrize(("name", "dtype"), [("x.png", np.uint16), ("x.tif", np.uint16)])
def test_sixteen_bits_are_scaled_by_all_of_them(tmp_path, name, dtype):
    shown, lines = notes_of(save(tmp_path, grey(65535, dtype), name))
    assert shown.max() == 255 and abs(int(shown[4, 0, 0]) - 130) < 3 and lines == []


def test_twelve_bits_in_sixteen_are_asked_back_and_read_when_white_is_known(tmp_path):
    file = save(tmp_path, grey(4000, np.uint16), "x.png")
    with pytest.raises(ValueError, match=r"values up to 4000 in 16 bits.*stream.white.*4095"):
        picture(file, 8)
    shown, _ = notes_of(file, StreamConfig(white=4095))
    assert 245 < shown.max() < 252
    declared = save(tmp_path, grey(4000, np.uint16), "y.tif", tiffinfo={281: 4095})
    assert 245 < picture(declared, 8).max() < 252, "as the file declares"
    assert picture(file, 8, StreamConfig(reading_rules=1)).max() == 15, "runs from before see what they saw"


def test_whole_numbers_of_32_bits_are_scaled_or_refused_by_name(tmp_path):
    shown, lines = notes_of(save(tmp_path, grey(255, np.int32)))
    assert shown.max() == 255 and "wider numbers" in lines[0]
    file = save(tmp_path, grey(70_000, np.int32))
    with pytest.raises(ValueError, match=r"values up to 70000 in 32 bits"):
        picture(file, 8)
    assert picture(file, 8, StreamConfig(white=70_000)).max() == 255
    shown, lines = notes_of(file, StreamConfig(white=35_000))
    assert (shown == 255).sum() > 60 and "brighter than stream.white=35000" in lines[0]
    with pytest.raises(ValueError, match="negative"):
        picture(save(tmp_path, grey(100, np.int32, low=-5)), 8)


def test_decimals_from_0_to_1_are_not_black(tmp_path):
    shown, lines = notes_of(save(tmp_path, grey(1, np.float32)))
    assert shown.max() == 255 and abs(int(shown[4, 0, 0]) - 130) < 3 and "1 is read as white" in lines[0]
    for bad in (np.nan, np.inf):
        array = grey(1, np.float32)
        array[0, 0] = bad
        with pytest.raises(ValueError, match="no numbers"):
            picture(save(tmp_path, array), 8)
    with pytest.raises(ValueError, match="values up to 1000 in 32 bits"):
        picture(save(tmp_path, grey(1000, np.float32)), 8)
    assert picture(save(tmp_path, np.zeros((8, 8), np.float32)), 8).max() == 0, "black is black"


def test_white_is_zero_where_a_tiff_says_so(tmp_path):
    file = save(tmp_path, grey(65535, np.uint16), "x.tif", tiffinfo={262: 0})
    with Image.open(file) as opened:
        declared = opened.tag_v2[262]
    shown = picture(file, 8)
    assert (shown[0, 0, 0] == 255) == (declared == 0), "the first value of the ramp is 0"


def test_a_folder_of_twelve_bits_is_refused_with_the_way_out(tmp_path):
    for i in range(3):
        (tmp_path / "cat").mkdir(exist_ok=True)
        save(tmp_path / "cat", grey(4000, np.uint16), f"{i}.png")
    assert "stream.white" in refused(tmp_path, ONE)


# ---------------------------------------------------------------- transparency


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparent_parts_lie_on_the_ground_and_hide_what_is_under_them(tmp_path, mode):
    image = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 8))
    file = tmp_path / "x.png"
    if mode == "RGB":  # one colour is transparent
        image = Image.new("RGB", (8, 8), (200, 0, 0))
        image.paste((0, 0, 0), (0, 0, 4, 8))
        image.save(file, transparency=(200, 0, 0))
    else:
        image.convert(mode).save(file)
    shown, lines = notes_of(file)
    assert shown[4, 6].tolist() == [255, 255, 255] and shown[4, 1].max() < 40
    assert lines == ["1 image of cat (1) has transparent parts, laid on white (stream.ground)"]
    assert notes_of(file, StreamConfig(ground="grey"))[0][4, 6].tolist() == [128, 128, 128]


def test_an_opaque_alpha_channel_is_nothing_to_say(tmp_path):
    Image.new("RGBA", (8, 8), (200, 10, 10, 255)).save(tmp_path / "x.png")
    shown, lines = notes_of(tmp_path / "x.png")
    assert lines == [] and shown[0, 0].tolist() == [200, 10, 10]


# ---------------------------------------------------------------- four inks


def adobe_jpeg(colour, transform):
    """A JPEG of four inks with Adobe's marker: `transform` 0 (CMYK) or 2 (the first three as YCbCr). Pillow writes the
    first; of the second the values are made here and the marker is changed."""
    inks = np.full((16, 16, 4), 0, np.uint8)
    inks[:] = Image.new("RGB", (1, 1), colour).convert("CMYK").getpixel((0, 0))
    if transform == 2:
        ycc = np.asarray(Image.fromarray(inks[..., :3].copy()).convert("YCbCr"))
        inks[..., :3] = 255 - ycc  # Adobe stores inks inverted, and Pillow inverts what it writes
    file = io.BytesIO()
    Image.frombytes("CMYK", (16, 16), inks.tobytes()).save(file, "JPEG", quality=95)
    data = bytearray(file.getvalue())
    place = data.index(b"Adobe")
    data[place + 11] = transform
    return bytes(data)


@pytest.mark.parametrize("transform", [0, 2])
@pytest.mark.parametrize("colour", [(220, 40, 30), (20, 60, 200), (250, 250, 250)])
def test_four_inks_have_the_right_colours(tmp_path, transform, colour):
    (tmp_path / "x.jpg").write_bytes(adobe_jpeg(colour, transform))
    with Image.open(tmp_path / "x.jpg") as opened:
        assert opened.mode == "CMYK" and opened.info["adobe_transform"] == transform
    assert np.abs(picture(tmp_path / "x.jpg", 8)[4, 4].astype(int) - colour).max() < 12


# ---------------------------------------------------------------- formats, strips, animations


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
def test_avif_is_read(tmp_path):
    Image.new("RGB", (16, 16), (200, 30, 30)).save(tmp_path / "x.avif")
    assert np.abs(picture(tmp_path / "x.avif", 8)[4, 4].astype(int) - (200, 30, 30)).max() < 12


def test_formats_that_are_not_read_are_named_with_the_way_out(tmp_path):
    paint(tmp_path / "cat" / "1.png"), paint(tmp_path / "cat" / "2.png")
    for name in ("a.heic", "b.JXL", "c.dng"):
        (tmp_path / "cat" / name).write_bytes(b"x")
    assert [line.split(",")[0] for line in stream(tmp_path, ONE).skipped] == [
        "cat/a.heic: HEIC", "cat/b.JXL: JPEG XL", "cat/c.dng: raw camera data",
    ]  # fmt: skip
    for name in ("1.png", "2.png"):
        (tmp_path / "cat" / name).unlink()
    assert "HEIC, which is not read; convert it to JPEG or PNG" in refused(tmp_path, ONE)


def test_strips_and_animations_are_said_once_a_class(tmp_path):
    for shade, key in enumerate(("cat", "dog")):
        for i in range(3):
            paint(tmp_path / key / f"{i}.png", (shade, i, 0), size=(40, 10))
        paint(tmp_path / key / "square.png", (shade, 9, 0))
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 90, 200)]
    frames[0].save(tmp_path / "cat" / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "cat" / "pages.tif", save_all=True, append_images=frames[1:])
    strips, moving = stream(tmp_path, ONE).notes if len(stream(tmp_path, ONE).notes) == 2 else ("", "")
    assert "6 images of cat (3), dog (3) are more than 2 times as long as wide" in strips + moving
    assert "2 images of cat (2) hold several frames or pages: the first one is read" in strips + moving


def test_metadata_that_is_no_text_is_no_reason_to_leave_an_image_out(tmp_path):
    image = Image.new("RGB", (8, 8), (9, 9, 9))
    image.save(tmp_path / "x.jpg", xmp=b"<x:xmpmeta>\xff\xfe\x00bad")
    assert picture(tmp_path / "x.jpg", 8).shape == (8, 8, 3)


def test_a_run_says_what_was_understood(tmp_path):
    from dataclasses import replace

    from cl_core.config import RunConfig
    from cl_core.events import PicturesSkipped
    from cl_core.training.factory import build

    for key in ("cat", "dog"):
        for i in range(2):
            paint(tmp_path / key / f"{i}.png", size=(40, 10))
    config = RunConfig("nsp2", backbone="random-vit", stream=f"folder:{tmp_path}", device="cpu")
    config = replace(config, stream_settings=StreamConfig(tasks=2))
    (told,) = [event for event in next(build(config).run()) if isinstance(event, PicturesSkipped)]
    assert told.count == 0 and "as long as wide" in told.notes[0]
