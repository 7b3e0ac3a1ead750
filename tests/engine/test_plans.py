"""engine/plans.py: what --dry-run opens is what the run would look at."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from smolcli.backends.numpy_weights import open_source
from smolcli.backends.prompt_preparer import PromptPreparer
from smolcli.engine.plans import fit_pictures, open_plans
from smolcli.engine.protocol import OpenedPlan, Work
from smolcli.errors import ErrorKind
from smolcli.inputs.pages import Pages
from smolcli.models.chat_template import Grid
from smolcli.models.files import ModelFiles
from smolcli.models.resolve import find_files
from smolcli.models.tokenizer import tokenize
from smolcli.options import Generate, Input, Model
from smolcli.types import Fault, Frame, FrameRef, Item, Prompt
from tests.inputs.pdfs import PdfPage, make_pdf


def work(every_page: bool) -> Work:
    return Work(
        "smolcli.backends.echo:Echo", ModelFiles("echo"), Model(), Input(), Generate(), every_page=every_page
    )  # fmt: skip


@pytest.mark.parametrize(("every_page", "sizes"), [(False, [(40, 30)]), (True, [(40, 30), (20, 10)])])
def test_a_plan_has_the_pages_that_the_task_reads(
    every_page: bool, sizes: list[tuple[int, int]], tmp_path: Path
) -> None:
    path = tmp_path / "fax.tif"
    pages = [Image.new("RGB", size) for size in ((40, 30), (20, 10))]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    [plan] = open_plans([Item.of(str(path))], work(every_page))
    assert isinstance(plan, OpenedPlan)
    assert [(frame.width, frame.height) for frame in plan.media.frames] == sizes
    assert len(plan.grids) == len(sizes)


@pytest.mark.parametrize("text_bytes", [1, 1285, 1286, 9000])
def test_pictures_that_do_not_fit_are_cut_as_the_run_cuts_them(text_bytes: int) -> None:
    """Four pictures of 6 x 6 tiles of nano's, with the most text that fits beside 5 x 5, and with less and more."""
    source = open_source(find_files("nano"))
    assert (source.layout.tile, source.layout.tokens, source.text.positions) == (128, 64, 8192)
    prepare = PromptPreparer(source.layout, "auto", partial(tokenize, source.tokenizer()[0]), source.text.positions)
    pictures = [Frame(bytes(3 * 768 * 768), 768, 768) for _ in range(4)]
    of_run = prepare(Prompt.user(*pictures, "a" * text_bytes))
    references = [FrameRef(index, 768, 768) for index in range(4)]
    prompt = Prompt.user(*references, "a" * text_bytes)
    given = replace(work(False), backend="smolcli.backends.numpy_reference:NumPy", files=find_files("nano"))
    [grids] = fit_pictures([prompt], given)
    assert 64 * sum(grid.tiles for grid in grids) == of_run.image_tokens
    if text_bytes == 1:
        assert grids == (Grid(5, 5),) * 4


def test_an_input_that_cannot_be_opened_is_a_fault_among_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 30)).save(path)
    missing, plan = open_plans([Item.of(str(tmp_path / "b.png")), Item.of(str(path))], work(False))
    assert isinstance(missing, Fault) and missing.kind == ErrorKind.MISSING
    assert isinstance(plan, OpenedPlan)


def test_a_plan_has_the_chosen_pages_of_a_document_and_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    pages = [PdfPage(media=(0, 0, 72 * number, 36)) for number in range(1, 6)]
    data = make_pdf(*pages)
    path.write_bytes(data)
    [plan] = open_plans([Item.of(str(path))], replace(work(True), pages=Pages("2,5-9", dpi=100)))
    assert isinstance(plan, OpenedPlan)
    assert [(frame.index, frame.width, frame.height) for frame in plan.media.frames] == [(1, 200, 50), (4, 500, 50)]
    assert plan.media.notices == ("has 5 pages, and not all of --pages 2,5-9",)
    assert len(plan.media.content.sha256) == 64 and len(plan.grids) == 2
    path.write_bytes(data.replace(b"/Kids[3 0 R 6 0 R", b"/Kids[3 0 R 99 0 R"))
    [plan] = open_plans([Item.of(str(path))], work(True))
    assert isinstance(plan, OpenedPlan)
    assert [frame.index for frame in plan.media.frames] == [0, 2, 3, 4]
    assert [notice[:17] for notice in plan.media.notices] == ["page 2 is damaged"]
