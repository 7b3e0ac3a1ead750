"""Documents of several pages, as a user runs `smolcli ocr` over them, in processes of their own."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from smolcli import registry
from smolcli.errors import ErrorKind, InputError
from smolcli.inputs.load import load, open_pictures
from smolcli.inputs.pages import Pages
from smolcli.options import Input
from smolcli.tasks.ocr import Ocr
from smolcli.types import Item
from tests.helpers import line, png, records, smolcli
from tests.inputs.pdfs import PdfPage, gray_image, make_pdf, stream, text


def ocr(*words: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return smolcli("ocr", "--pieces", "page", "-b", "echo", "-q", *words, stdin=stdin)


def pdf(count: int, broken: int | None = None) -> bytes:
    """A document whose page N is N inches wide; the page `broken` is missing."""
    data = make_pdf(*[PdfPage(media=(0, 0, 72 * number, 72)) for number in range(1, count + 1)])
    return data if broken is None else data.replace(b" %d 0 R" % (3 * broken), b" 99 0 R", 1)


def widths(shown: str) -> list[int]:
    """The widths in inches of what the echo backend has seen."""
    return [int(part.split("x")[0].strip("[\n")) // 100 for part in shown.split("\f")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "two.pdf").write_bytes(pdf(2))
    (tmp_path / "scan.dat").write_bytes(pdf(1))
    (tmp_path / "a.png").write_bytes(png((400, 100)))
    (tmp_path / "notes.odt").write_bytes(b"PK\3\4")
    pages = [Image.new("L", (100 * number, 100)) for number in range(1, 4)]
    pages[0].save(tmp_path / "fax.tif", save_all=True, append_images=pages[1:])
    return tmp_path


def test_a_folder_of_documents_and_pictures(folder: Path) -> None:
    done = smolcli("ocr", "--pieces", "page", "-b", "echo", "--no-progress", "--dpi", 100, folder, "-f", "jsonl")
    found = {Path(row["path"]).name: row for row in map(json.loads, done.stdout.splitlines())}
    assert {name: widths(row["text"]) for name, row in found.items()} == {
        "a.png": [4], "fax.tif": [1, 2, 3], "scan.dat": [1], "two.pdf": [1, 2],
    }  # fmt: skip
    assert [page["page"] for page in found["two.pdf"]["data"]["pages"]] == [1, 2]
    assert b"passed by 1 file" in done.stderr
    captions = smolcli("caption", "-b", "echo", "--no-progress", folder, "-f", "jsonl")
    assert [Path(json.loads(row)["path"]).name for row in captions.stdout.splitlines()] == ["a.png", "fax.tif"]
    assert b"passed by 3 files that are no pictures" in captions.stderr


def test_chosen_pages_of_a_document_and_of_a_fax_keep_their_numbers(folder: Path) -> None:
    done = ocr("--pages", "2-", "--dpi", 100, folder / "two.pdf", folder / "fax.tif", folder / "a.png", "-f", "jsonl")
    document, fax, picture = map(json.loads, done.stdout.splitlines())
    assert (done.returncode, widths(document["text"]), widths(fax["text"])) == (5, [2], [2, 3])
    assert [page["page"] for page in fax["data"]["pages"]] == [2, 3]
    assert picture["error"]["message"] == "has 1 page, and none of --pages 2-; choose others"


def test_standard_input_and_a_page_that_is_missing() -> None:
    done = ocr("-", "--dpi", 100, "-f", "json", stdin=pdf(3, broken=2))
    record = json.loads(done.stdout)
    assert done.returncode == 5
    assert [page.get("error", {}).get("kind") for page in record["data"]["pages"]] == [None, "truncated", None]
    assert record["notices"] == [
        "page 2 has no answer: is damaged or cut short (Failed to load page); get a whole copy"
    ]


def test_a_record_for_each_page(folder: Path) -> None:
    (folder / "broken.pdf").write_bytes(pdf(3, broken=2))
    inputs = (folder / "two.pdf", folder / "broken.pdf", folder / "a.png")
    done = ocr("--split-pages", "--dpi", 100, *inputs, "-f", "csv", "--fields", "name,page,text,error.kind")
    rows = list(csv.reader(io.StringIO(done.stdout.decode())))[1:]
    assert [(name, page, text[:5], kind) for name, page, text, kind in rows] == [
        ("two.pdf", "1", "[100x", ""), ("two.pdf", "2", "[200x", ""),
        ("broken.pdf", "1", "[100x", ""), ("broken.pdf", "2", "", "truncated"), ("broken.pdf", "3", "[300x", ""),
        ("a.png", "1", "[400x", ""),
    ]  # fmt: skip
    assert done.returncode == 5
    assert b"broken.pdf, page 2: is damaged" in done.stderr
    shown = ocr("--split-pages", "--dpi", 100, folder / "two.pdf").stdout.decode()
    assert [row for row in shown.splitlines() if row.startswith("==>")] == [
        f"==> {folder / 'two.pdf'}, page {number} <==" for number in (1, 2)
    ]


def test_a_run_over_pages_is_resumed(folder: Path, tmp_path: Path) -> None:
    results = tmp_path / "r.jsonl"
    command = ("--split-pages", "--dpi", 100, folder / "two.pdf", folder / "fax.tif", "-o", results, "--resume")
    ocr(*command)
    whole = results.read_bytes()
    assert whole.count(b"\n") == 5
    rows = whole.splitlines(keepends=True)
    results.write_bytes(b"".join(rows[:3]) + rows[3][:50])  # killed within the fax
    ocr(*command)
    shown = [(json.loads(row)["path"], json.loads(row)["page"]) for row in results.read_bytes().splitlines()]
    assert shown == [(json.loads(row)["path"], json.loads(row)["page"]) for row in rows]
    before = results.read_bytes()
    ocr(*command)
    assert results.read_bytes() == before


def test_records_of_documents_are_not_those_of_their_pages(folder: Path, tmp_path: Path) -> None:
    results = tmp_path / "r.jsonl"
    command = ("--dpi", 100, folder / "two.pdf", "-o", results, "--resume")
    for more, pages in (((), [None]), (("--split-pages",), [None, 1, 2]), ((), [None, 1, 2])):
        ocr(*command, *more)
        assert [json.loads(row)["page"] for row in results.read_bytes().splitlines()] == pages


def test_what_is_written_beside_a_document_is_about_all_of_its_pages(folder: Path) -> None:
    ocr("--sidecar", ".txt", "--dpi", 100, folder / "two.pdf")
    assert widths((folder / "two.txt").read_text()) == [1, 2]
    refused = ocr("--split-pages", "--sidecar", ".txt", folder / "two.pdf")
    assert refused.returncode == 2
    assert "--sidecar writes whole documents, and --split-pages their pages" in line(refused)


def test_the_plan_counts_pages(folder: Path) -> None:
    (folder / "long.pdf").write_bytes(pdf(9))
    done = ocr("--dry-run", "--dpi", 100, folder / "long.pdf", folder / "two.pdf", "--pages", "2-")
    long, two, total = done.stdout.decode().splitlines()
    assert long.endswith("long.pdf: 8 pages of at most 900 x 100 pixels")
    assert two.endswith("two.pdf: 200 x 100 pixels")
    assert total.startswith("2 of 2 ")


def test_the_plan_of_a_run_with_a_schema_has_prompts_about_whole_pages(folder: Path) -> None:
    done = ocr("--dry-run", "--dpi", 100, folder / "two.pdf", "--schema", "total int", "-f", "jsonl")
    assert json.loads(done.stdout)["prompts"] == 2


def test_other_commands_say_that_it_is_a_pdf(folder: Path) -> None:
    for words in (("caption",), ("ask", "What?")):
        assert "is a PDF; smolcli ocr reads it" in line(smolcli(*words, "-b", "echo", "-q", folder / "two.pdf"))


def test_without_the_library_the_command_that_installs_it_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    for item in (Item.of(str(folder / "two.pdf")), Item.of("-", pdf(1))):
        loaded, _ = load(item, leaves_pdf=True)
        with pytest.raises(
            InputError, match=r"the library pypdfium2 is not installed; pip .*smolcli\[pdf\]"
        ) as refusal:
            open_pictures(item, loaded, Input(), Pages())
        assert refusal.value.kind == ErrorKind.UNSUPPORTED
        open_pictures(Item.of(str(folder / "a.png")), load(Item.of(str(folder / "a.png")))[0], Input(), Pages())


def test_what_is_chosen_is_a_part_of_the_id_and_the_password_is_not() -> None:
    ids = [
        Ocr(**options).id_options
        for options in (
            {}, {"pages": "1-3"}, {"pages": "1-4"}, {"dpi": 300}, {"force_ocr": True}, {"split_pages": True}
        )
    ]  # fmt: skip
    assert len({json.dumps(options) for options in ids}) == 6
    assert Ocr(password="sesame").id_options == Ocr().id_options


def test_in_one_run_a_copy_of_a_document_is_split_too(tmp_path: Path) -> None:
    for name in ("a.pdf", "b.pdf"):
        (tmp_path / name).write_bytes(pdf(2))
    rows, sink = records(
        Ocr(split_pages=True, dpi=100, pieces="page"), [Item.of(str(tmp_path / name)) for name in ("a.pdf", "b.pdf")]
    )
    assert [(Path(row["path"]).name, row["page"]) for row in rows] == [
        ("a.pdf", 1), ("a.pdf", 2), ("b.pdf", 1), ("b.pdf", 2),
    ]  # fmt: skip
    assert sink.exit_code == 0


GROWTH = """
import sys
from smolcli.inputs.pdf import Pdf
from smolcli.inputs.pages import Pages
from smolcli.options import Input
pdf = Pdf(sys.argv[1], Input(), Pages(dpi=36))
held = []
for index in range(600):
    list(pdf.pictures([index])); pdf.text_layer(index)
    if index in (99, 599):
        held.append(int(open("/proc/self/statm").read().split()[1]) * 4096)
print(held[1] - held[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_pages(tmp_path: Path) -> None:
    field = b"<</Type/Annot/Subtype/Widget/FT/Tx/T(f)/V(x)/DA(/F 9 Tf)/Rect[9 9 90 30]/F 4>>"
    form = b"/AcroForm<</Fields[3 0 R]/DR<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>"
    buffer = io.BytesIO()
    Image.effect_noise((300, 300), 90).save(buffer, "JPEG", quality=95)
    picture = buffer.getvalue()  # 65 kB, which PDFium keeps
    entries = b"/Subtype/Image/Width 300/Height 300/ColorSpace/DeviceGray/BitsPerComponent 8/Filter/DCTDecode"
    image = b"<<%s/Length %d>>\nstream\n%s\nendstream" % (entries, len(picture), picture)
    page = PdfPage(b"100 0 0 100 0 0 cm /I Do", (0, 0, 100, 100), image=image, more=b"/Annots[3 0 R]")
    path = tmp_path / "long.pdf"
    path.write_bytes(make_pdf(*[page] * 600, objects=[field], catalog=form))
    done = subprocess.run([sys.executable, "-c", GROWTH, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 10e6  # bytes; it has 65 kB a page


def test_text_that_a_page_holds_is_taken_and_an_earlier_ocr_is_told(tmp_path: Path) -> None:
    words = ["The words of a scanned page,", "which a scanner has read before."] * 2
    scan = gray_image(595, 842)
    pages = [PdfPage(text(words)), PdfPage(b"q 595 0 0 842 0 0 cm /I Do Q 3 Tr " + text(words), image=scan)]
    path = tmp_path / "a.pdf"
    path.write_bytes(make_pdf(*pages))
    done = smolcli("ocr", "-b", "echo", "--no-progress", path, "-f", "json")
    record = json.loads(done.stdout)
    assert [page["text"].split("\n") for page in record["data"]["pages"]] == [words, words]
    assert record["notices"] == ["has the text of an earlier OCR, which was taken as it is; --force-ocr reads it anew"]
    assert record["notices"][0] in done.stderr.decode()
    assert record["tokens"]["new"] == 0  # the model was not asked
    again = json.loads(ocr("--force-ocr", path, "-f", "json").stdout)
    assert all("What is written" in page["text"] for page in again["data"]["pages"])
    assert again["id"] != record["id"]


def test_the_record_of_a_page_has_its_text_in_the_form_of_layout(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    pages = [text([f"Chapter {n}"], size=24) + text(["Some words of it,", "in two lines."], y=700) for n in (1, 2)]
    path.write_bytes(make_pdf(*[PdfPage(page) for page in pages]))
    done = ocr("--split-pages", "--layout", "markdown", path, "-f", "jsonl")
    texts = [json.loads(row)["text"] for row in done.stdout.splitlines()]
    assert [page.splitlines()[0] for page in texts] == ["# Chapter 1", "# Chapter 2"]


@pytest.mark.slow
def test_a_page_that_never_ends_is_given_up_and_all_others_are_read(tmp_path: Path) -> None:
    """Thirty forms each draw the next one twice: the first one draws a billion."""
    entries = b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X %d 0 R>>>>"
    forms = [stream(b"/X Do /X Do", entries % number) for number in range(4, 34)] + [gray_image(1, 1)]
    data = make_pdf(PdfPage(b"/I Do", image=b"null"), PdfPage(text(["Page 2"])), objects=forms)
    number = 3 + len(forms) + 2  # of the first page's image
    (tmp_path / "bomb.pdf").write_bytes(data.replace(b"/I %d 0 R" % number, b"/I 3 0 R"))
    for name in ("a.pdf", "z.pdf"):
        (tmp_path / name).write_bytes(make_pdf(*[PdfPage(text([f"Page {page} of {name}"])) for page in range(5)]))
    done = smolcli("ocr", "-b", "echo", "-q", "--timeout", 4, tmp_path, "-f", "jsonl")
    rows = {Path(row["path"]).name: row for row in map(json.loads, done.stdout.splitlines())}
    bomb = rows["bomb.pdf"]
    assert (done.returncode, bomb["error"]) == (5, None)
    assert [page.get("error", {}).get("kind") for page in bomb["data"]["pages"]] == ["timeout", None]
    assert bomb["data"]["pages"][1]["text"] == "Page 2"
    for name in ("a.pdf", "z.pdf"):
        assert rows[name]["error"] is None
        assert [page["text"] for page in rows[name]["data"]["pages"]] == [f"Page {page} of {name}" for page in range(5)]
