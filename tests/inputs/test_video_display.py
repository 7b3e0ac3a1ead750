"""inputs/decoders: frames have the shape and colors that a player shows, with every decoder."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smolcli import registry
from smolcli.errors import InputError
from smolcli.inputs.video import Video
from smolcli.options import Sampling
from tests.inputs.clips import MAX_PIXELS, Clip, array, run

DATA = Path(__file__).parents[1] / "data"
DECODERS = ("av", "ffmpeg", "decord") if find_spec("decord") else ("av", "ffmpeg")
LUMA = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114), "bt2020nc": (0.2627, 0.0593)}  # H.273, table 4
COLORS = [(255, 255, 255), (0, 0, 0), (200, 40, 90), (255, 140, 0), (60, 90, 220), (128, 128, 128)]


def first_frame(source: Path, decoder: str) -> np.ndarray:
    opened = Video(str(source), Sampling(frames=1, decoder=decoder), MAX_PIXELS)
    [(_, frame)] = opened.pictures([0])
    assert opened.size == (frame.width, frame.height)
    return array(frame).astype(int)


def encode_yuv(path: Path, planes: Sequence[np.ndarray], bits: int, tags: str, *options: str) -> None:
    """Encode 4:4:4 planes of code values without loss, with FFmpeg's tags of color (options of `setparams`)."""
    data = np.stack(planes).astype("u1" if bits == 8 else "<u2").tobytes()
    height, width = planes[0].shape
    pixel_format = "yuv444p" if bits == 8 else f"yuv444p{bits}le"
    raw = ("-f", "rawvideo", "-pix_fmt", pixel_format, "-s", f"{width}x{height}", "-r", "10", "-i", "-")
    run(*raw, "-vf", f"setparams={tags}", *options, "-c:v", "ffv1", path, stdin=3 * data)


def code_values(rgb: np.ndarray, matrix: str, bits: int, full: bool) -> list[np.ndarray]:
    """Return luma and color differences of RGB from 0 to 1, (..., 3), by ITU-T H.273, section 8.3."""
    red, blue = LUMA[matrix]
    luma = rgb @ [red, 1 - red - blue, blue]
    differences = (rgb[..., 2] - luma) / (2 - 2 * blue), (rgb[..., 0] - luma) / (2 - 2 * red)
    unit, middle = 2 ** (bits - 8), 2 ** (bits - 1)
    if full:
        return [np.rint((2**bits - 1) * luma), *(np.rint(middle + (2**bits - 1) * d) for d in differences)]
    return [np.rint(unit * (16 + 219 * luma)), *(np.rint(middle + unit * 224 * d) for d in differences)]


def bars(height: int = 32) -> np.ndarray:
    """The colors side by side, each 32 pixels wide, as RGB from 0 to 1."""
    return np.repeat(np.repeat([COLORS], height, 0), 32, 1) / 255


@pytest.mark.parametrize(
    ("matrix", "bits", "full"),
    [("bt709", 8, False), ("bt709", 10, True), ("smpte170m", 8, True), ("bt2020nc", 10, False)],
)
def test_colors_are_decoded_by_the_matrix_and_range_of_the_file(
    matrix: str, bits: int, full: bool, ffmpeg: None, tmp_path: Path
) -> None:
    tags = f"range={'pc' if full else 'tv'}:colorspace={matrix}"
    encode_yuv(tmp_path / "a.mkv", code_values(bars(), matrix, bits, full), bits, tags)
    for decoder in DECODERS:
        assert np.abs(first_frame(tmp_path / "a.mkv", decoder)[16, 16::32] - COLORS).max() <= 3, decoder


@pytest.mark.parametrize(("height", "matrix"), [(576, "smpte170m"), (578, "bt709")])
def test_untagged_colors_are_bt601_in_standard_and_bt709_in_high_definition(
    height: int, matrix: str, ffmpeg: None, tmp_path: Path
) -> None:
    encode_yuv(tmp_path / "a.mkv", code_values(bars(height), matrix, 8, False), 8, "range=tv")
    for decoder in DECODERS:
        limit = 20 if decoder == "decord" else 3  # decord decodes all as BT.601, and clips strong colors
        assert np.abs(first_frame(tmp_path / "a.mkv", decoder)[height // 2, 16::32] - COLORS).max() <= limit, decoder


@pytest.mark.parametrize("decoder", DECODERS)
def test_hdr10_is_shown_as_a_standard_picture_of_the_scene(decoder: str, ffmpeg: None) -> None:
    """A white square on black; an orange circle on white. Both are PQ of BT.2020 with white at 203 cd/m2."""
    tolerance = 12 if decoder == "decord" else 6  # decord gives 8 bits for 10,000 cd/m2
    square = first_frame(DATA / "hdr10_white_square.mp4", decoder)
    assert 255 - square.max(axis=(0, 1)).min() <= tolerance and square[5, 5].max() <= 20
    circle = first_frame(DATA / "hdr10_orange_circle.mp4", decoder)
    assert np.abs(circle[128, 128] - (255, 140, 0)).max() <= tolerance
    assert np.abs(circle[5, 5] - 255).max() <= tolerance


def test_colors_that_only_the_container_has_a_tag_for(ffmpeg: None, tmp_path: Path) -> None:
    """The same videos, without the tags in the HEVC stream."""
    untagged = "hevc_metadata=colour_primaries=2:transfer_characteristics=2:matrix_coefficients=2"
    for name in ("hdr10_white_square.mp4", "hdr10_orange_circle.mp4"):
        run("-i", DATA / name, "-c", "copy", "-bsf:v", untagged, "-movflags", "write_colr", tmp_path / name)
        for decoder in DECODERS:
            tolerance = 20 if decoder == "decord" else 1  # decord decodes as BT.601
            expected = first_frame(DATA / name, decoder)[128, 128]
            assert np.abs(first_frame(tmp_path / name, decoder)[128, 128] - expected).max() <= tolerance, decoder


def test_hlg_white_and_gray_at_the_levels_of_bt2408(ffmpeg: None, tmp_path: Path) -> None:
    """A signal of 75 % is white at 203 cd/m2, one of 38 % is the gray card at 26 (BT.2408, table 1): sRGB 100."""
    signals = np.repeat(np.repeat([[[0.75] * 3, [0.38] * 3]], 32, 0), 32, 1)
    tags = "range=tv:colorspace=bt2020nc:color_primaries=bt2020:color_trc=arib-std-b67"
    encode_yuv(tmp_path / "a.mkv", code_values(signals, "bt2020nc", 10, False), 10, tags)
    for decoder in DECODERS:
        white, gray = first_frame(tmp_path / "a.mkv", decoder)[16, 16::32]
        assert white.min() >= 249, decoder
        assert np.abs(gray - 100).max() <= 4, decoder


def test_pixels_that_are_not_square_are_stretched(ffmpeg: None, tmp_path: Path) -> None:
    """Stored pixels are twice as wide as high, so that a mark of 20 x 40 of them is a square; turned it is one too."""
    mark = "drawbox=x=10:y=20:w=20:h=40:color=white:t=fill,setsar=2"
    black = ("-f", "lavfi", "-i", "color=black:s=96x128:r=10:d=0.2")
    run(*black, "-vf", mark, "-c:v", "libx264", "-pix_fmt", "yuv420p", tmp_path / "a.mp4")
    run("-display_rotation", "90", "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "turned.mp4")
    for name, size, side in (("a.mp4", (192, 128), 40), ("turned.mp4", (64, 96), 20)):
        for decoder in DECODERS:
            is_white = first_frame(tmp_path / name, decoder)[..., 0] > 128
            assert is_white.shape == size[::-1], decoder
            assert is_white.any(axis=0).sum() == pytest.approx(side, abs=2), decoder
            assert is_white.any(axis=1).sum() == pytest.approx(side, abs=2), decoder


ALPHA_CODECS = {"qtrle": ("argb", "mov"), "libvpx-vp9": ("yuva420p", "webm"), "libvpx": ("yuva420p", "webm")}


@pytest.mark.parametrize(
    ("codec", "drawn", "ground"),
    [("qtrle", 0, 255), ("qtrle", 255, 0), ("libvpx-vp9", 0, 255), ("libvpx", 255, 0)],
)
def test_transparent_video_is_drawn_where_it_can_be_seen(
    codec: str, drawn: int, ground: int, ffmpeg: None, tmp_path: Path
) -> None:
    """A dark square on white, a light one on black. The first frame is empty and has the same ground as the second."""
    pixel_format, suffix = ALPHA_CODECS[codec]
    pixels = np.zeros((3, 64, 64, 4), np.uint8)
    pixels[1:, 16:48, 16:48] = (drawn, drawn, drawn, 255)
    raw = ("-f", "rawvideo", "-pix_fmt", "rgba", "-s", "64x64", "-r", "10", "-i", "-")
    path = tmp_path / f"a.{suffix}"
    run(*raw, "-c:v", codec, "-pix_fmt", pixel_format, "-auto-alt-ref", "0", path, stdin=pixels.tobytes())
    for decoder in ("av", "ffmpeg"):
        opened = Video(str(path), Sampling(decoder=decoder), MAX_PIXELS)
        empty, *frames = (array(frame).astype(int) for _, frame in opened.pictures(range(3)))
        assert np.abs(empty - ground).max() <= 12, decoder
        for frame in frames:
            assert np.abs(frame[20:44, 20:44] - drawn).max() <= 12, decoder
            assert np.abs(frame[:12] - ground).max() <= 12, decoder


def test_scenes_of_a_transparent_video_are_those_that_are_seen(ffmpeg: None, tmp_path: Path) -> None:
    """Everything is black; 1.5 s after the beginning its transparent half becomes opaque."""
    pixels = np.zeros((30, 32, 32, 4), np.uint8)
    pixels[:, :16, :, 3] = pixels[15:, ..., 3] = 255
    raw = ("-f", "rawvideo", "-pix_fmt", "rgba", "-s", "32x32", "-r", "10", "-i", "-")
    run(*raw, "-c:v", "qtrle", tmp_path / "a.mov", stdin=pixels.tobytes())
    for decoder in ("av", "ffmpeg"):
        opened = Video(str(tmp_path / "a.mov"), Sampling(scene=True, decoder=decoder), MAX_PIXELS)
        assert [span.start for span in opened.spans] == pytest.approx([0.0, 1.5]), decoder


def test_decord_refuses_what_it_would_draw_wrongly(clip: Clip, tmp_path: Path) -> None:
    pytest.importorskip("decord")
    clear = ("-f", "lavfi", "-i", "color=black@0:s=32x32:r=10:d=0.3,format=rgba")
    run(*clear, "-c:v", "qtrle", tmp_path / "clear.mov")
    run("-i", clip("h264"), "-i", clip("h264"), "-map", "0", "-map", "1", "-c", "copy", tmp_path / "two.mp4")
    run("-display_hflip", "-i", clip("h264"), "-c", "copy", tmp_path / "mirror.mp4")
    for name, reason in (("clear.mov", "transparency"), ("two.mp4", "several videos"), ("mirror.mp4", "mirrored")):
        with pytest.raises(InputError, match=f"{reason}.*; leave out --decoder"):
            Video(str(tmp_path / name), Sampling(decoder="decord"), MAX_PIXELS)


def test_decord_without_pyav_says_what_is_missing(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("decord")
    find_spec = registry.find_spec  # type: ignore[attr-defined]
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name == "av" else find_spec(name))
    with pytest.raises(InputError, match=r"av needs the library av.*; pip install 'smolcli\[video\]'"):
        Video(str(clip("h264")), Sampling(decoder="decord"), MAX_PIXELS)


def test_light_animation_is_drawn_on_black_in_all_frames(tmp_path: Path) -> None:
    empty, light = Image.new("RGBA", (16, 16)), Image.new("RGBA", (16, 16))
    light.paste((255, 255, 255, 255), (4, 4, 12, 12))
    empty.save(tmp_path / "a.webp", save_all=True, append_images=[light, empty], duration=100, lossless=True)
    opened = Video(str(tmp_path / "a.webp"), Sampling(), MAX_PIXELS)
    assert [array(frame)[0, 0].tolist() for _, frame in opened.pictures(range(3))] == [[0, 0, 0]] * 3
