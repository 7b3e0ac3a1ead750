"""engine/plans.py: what --dry-run opens is what the run would look at."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.golden import load_processor, prompt_ids
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
from tests import tiny
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


# nano has tiles of 128 pixels, 64 tokens each, 768 pixels along the longest edge, and a context of 8192; its tokens of
# such texts are their bytes. A prompt of at most 8191 tokens fits. Its turns take 18: <|im_start|>, "User:",
# <end_of_utterance> and a line end, "Assistant:". A picture takes, beside its tiles, 2 markers for each of them but the
# global one, a token for the end of each row (the last with the empty line), and 3 markers around the global tile.
#   768 x 768: 6 x 6 and a global tile, 37 * 64 + 72 + 6 + 3 = 2449 tokens; 3 are 7347, and 4 are 9796
#     5 x 5: 26 * 64 + 50 + 5 + 3 = 1722; 4 are 6888, which leave 8191 - 18 - 6888 = 1285 for the text
#     4 x 4: 17 * 64 + 32 + 4 + 3 = 1127; 4 are 4508, which leave 3665
#     one tile: 64 + 3 = 67; 9000 bytes do not fit even beside those
#   768 x 384: 3 x 6, 19 * 64 + 36 + 3 + 3 = 1258; 7 are 8806
#     640 x 320 is 3 x 5, 16 * 64 + 30 + 3 + 3 = 1060; 7 are 7420, which leave 753
#     512 x 256 is 2 x 4
#   384 x 768: as many tiles in 5 rows, 16 * 64 + 30 + 5 + 3 = 1062; 7 are 7434, which leave 739
@pytest.mark.parametrize(
    ("width", "height", "count", "text_bytes", "grid"),
    [
        (768, 768, 3, 1, Grid(6, 6)),
        (768, 768, 4, 1, Grid(5, 5)),
        (768, 768, 4, 1285, Grid(5, 5)),
        (768, 768, 4, 1286, Grid(4, 4)),
        (768, 768, 4, 3665, Grid(4, 4)),
        (768, 768, 4, 3666, Grid(3, 3)),
        (768, 768, 4, 9000, Grid()),
        (768, 384, 7, 753, Grid(3, 5)),
        (768, 384, 7, 754, Grid(2, 4)),
        (384, 768, 7, 739, Grid(5, 3)),
        (384, 768, 7, 740, Grid(4, 2)),
    ],
)
def test_pictures_that_do_not_fit_are_cut_as_the_run_cuts_them(
    width: int, height: int, count: int, text_bytes: int, grid: Grid
) -> None:
    source = open_source(find_files("nano"))
    assert (source.layout.tile, source.layout.tokens, source.layout.longest_edge) == (128, 64, 768)
    assert source.text.positions == 8192
    references = [FrameRef(index, width, height) for index in range(count)]
    prompt = Prompt.user(*references, "a" * text_bytes)
    given = replace(work(False), backend="smolcli.backends.numpy_reference:NumPy", files=find_files("nano"))
    assert fit_pictures([prompt], given) == [(grid,) * count]
    prepare = PromptPreparer(source.layout, "auto", partial(tokenize, source.tokenizer()[0]), source.text.positions)
    pictures = [Frame(bytes(3 * width * height), width, height) for _ in range(count)]
    assert prepare(Prompt.user(*pictures, "a" * text_bytes)).image_tokens == 64 * count * grid.tiles


def test_pictures_are_fitted_beside_the_turns_of_the_model(tmp_path: Path) -> None:
    """Of granite-docling's; transformers' processor tells with which text the prompt is one token under the context."""
    folder = tiny.make_checkpoint(tmp_path / "Tiny", "docling")
    processor, count, context = load_processor(folder), 6, 2048
    pictures = [Frame(bytes(3 * 256 * 256), 256, 256) for _ in range(count)]
    longest = context - 1 - len(prompt_ids(processor, Prompt.user(*pictures, "")))
    assert longest > 0 and len(prompt_ids(processor, Prompt.user(*pictures, "a" * longest))) == context - 1
    references = [FrameRef(index, 256, 256) for index in range(count)]
    prompts = [Prompt.user(*references, "a" * length) for length in (longest, longest + 1)]
    given = replace(work(False), backend="smolcli.backends.numpy_reference:NumPy", files=ModelFiles("Tiny", folder))
    assert fit_pictures(prompts, given) == [(Grid(4, 4),) * count, (Grid(3, 3),) * count]


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
