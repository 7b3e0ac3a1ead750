"""Fixtures that make video clips, once for all tests.

tests.inputs.clips is imported in the fixtures, since it skips the test where imageio-ffmpeg is not installed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    from tests.inputs.clips import CLIPS, raw_options, raw_pixels, run

    folder = tmp_path_factory.mktemp("clips")

    @cache
    def make(name: str) -> Path:
        recipe = CLIPS[name]
        path = folder / f"{name}.{recipe.suffix}"
        if name == "edit-list":
            run(*recipe.options, "-i", make("h264"), "-c", "copy", path)
        elif name == "live":
            stream = run(*raw_options(recipe), *recipe.options, "-f", "webm", "-", stdin=raw_pixels(recipe))
            path.write_bytes(stream)
        elif recipe.rotation:
            plain = folder / f"{name}-plain.mp4"
            run(*raw_options(recipe), *recipe.options, plain, stdin=raw_pixels(recipe))
            run("-display_rotation", str(90 * recipe.rotation), "-i", plain, "-c", "copy", path)
        else:
            run(*raw_options(recipe), *recipe.options, path, stdin=raw_pixels(recipe))
        return path

    return make


@pytest.fixture(scope="session")
def ffmpeg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Put the ffmpeg of the package imageio-ffmpeg on the PATH."""
    from tests.inputs.clips import FFMPEG

    folder = tmp_path_factory.mktemp("bin")
    (folder / "ffmpeg").symlink_to(FFMPEG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(folder), prepend=os.pathsep)
        yield
