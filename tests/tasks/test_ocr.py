"""tasks/ocr.py: every page of a file is read, in order, and none is held longer than it is needed."""

from pathlib import Path

import pytest
from PIL import Image

from smolcli.errors import ErrorKind
from smolcli.inputs.formats.tiff import STRIP_OFFSETS, Directories
from smolcli.tasks.ask import Ask
from smolcli.tasks.caption import Caption
from smolcli.tasks.ocr import QUESTION, Ocr
from smolcli.types import Answer, Fault, Finish, FrameRef, Item, Media, Reply
from tests.helpers import records

NOTICE = "picture 1 of 3 in the file was looked at; smolcli ocr reads all"


def document(path: Path, *sizes: tuple[int, int]) -> Path:
    """Write a TIFF with a page of each size."""
    pages = [Image.new("L", size, 200) for size in sizes]
    pages[0].save(path, "TIFF", save_all=True, append_images=pages[1:], compression="tiff_adobe_deflate")
    return path


def reply(text: str, fault: Fault | None = None) -> Reply:
    return Reply(text, Finish("error" if fault else "stop", fault=fault))


def damage(path: Path, *pages: int) -> Path:
    """Damage the pixels of some pages, counted from 0."""
    data = bytearray(path.read_bytes())
    for page in pages:
        at = Directories(bytes(data)).main[page].value(STRIP_OFFSETS)
        data[at : at + 8] = b"\xff" * 8
    path.write_bytes(data)
    return path


def test_files_of_one_page_of_several_and_with_damaged_ones(tmp_path: Path) -> None:
    sizes = (10, 20), (30, 40), (50, 60)
    paths = [
        document(tmp_path / "one.tif", (10, 20)),
        document(tmp_path / "three.tif", *sizes),
        damage(document(tmp_path / "damaged.tif", *sizes), 1),
        damage(document(tmp_path / "lost.tif", *sizes), 0, 1, 2),
    ]
    found, _ = records(Ocr(), [Item.of(str(path)) for path in paths])
    one, three, damaged, lost = found
    texts = [f"[{width}x{height}] {QUESTION}" for width, height in sizes]
    assert (one["text"], one["data"]) == (texts[0], None)
    assert three["text"] == "\n\f".join(texts)
    assert three["data"] == {"pages": [{"page": n, "text": text} for n, text in enumerate(texts, 1)]}
    assert (three["finish_reason"], three["error"], three["notices"]) == ("stop", None, [])
    assert three["tokens"]["image"] == 3
    # A damaged page costs no other one.
    first, second, third = damaged["data"]["pages"]
    assert [first["text"], second["text"], third["text"]] == [texts[0], "", texts[2]]
    assert second["error"]["kind"] == "truncated"
    assert (damaged["finish_reason"], damaged["error"]) == ("stop", None)
    assert damaged["notices"] == [f"page 2 has no answer: {second['error']['message']}"]
    assert lost["error"]["kind"] == "truncated" and lost["data"] is None


@pytest.mark.parametrize("task", [Caption(), Ask("Why?", together=True)])
def test_other_tasks_say_which_picture_they_looked_at(tmp_path: Path, task: Caption | Ask) -> None:
    path = document(tmp_path / "a.tif", (10, 20), (30, 40), (50, 60))
    [record], _ = records(task, [Item.of(str(path))])
    assert "[10x20]" in record["text"] and "[30x40]" not in record["text"]
    assert record["notices"] == [NOTICE]


def test_objects_of_a_schema_are_the_data_of_their_pages() -> None:
    media = Media(tuple(FrameRef(index, 0, 0) for index in range(3)))
    steps = Ocr().steps(media)
    assert [prompt.page for prompt in next(steps)] == [1, 2, 3]
    total = Reply('{"total": 3}', Finish("stop"), {"total": 3})
    with pytest.raises(StopIteration) as end:
        steps.send([total, reply("b"), reply("half of it", Fault(ErrorKind.TRUNCATED, "is cut"))])
    assert end.value.value == Answer(
        '{"total": 3}\n\fb\n\f',
        {
            "pages": [
                {"page": 1, "text": '{"total": 3}', "data": {"total": 3}},
                {"page": 2, "text": "b"},
                {"page": 3, "text": "", "error": {"kind": "truncated", "message": "is cut"}},
            ]
        },
    )


@pytest.mark.slow
def test_pages_are_decoded_as_they_are_needed(tmp_path: Path) -> None:
    """A page of 6000 x 4000 pixels takes 72 MB; all of these would take 860 MB."""
    path = document(tmp_path / "a.tif", *[(6000, 4000)] * 12)
    [record], _ = records(Ocr(), [Item.of(str(path))])
    assert len(record["data"]["pages"]) == 12
    assert record["memory"]["engine"] < 400e6
