"""smolcli/writers/sidecar.py: where files go, that no two inputs share one, and what other programs read in them."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smolcli import __version__
from smolcli.errors import InputError, OutputError
from smolcli.types import Record
from smolcli.writers import sidecar
from smolcli.writers.json_lines import as_json
from smolcli.writers.sidecar import Sidecars, sidecar_path
from tests.helpers import BAD, KNOWN, RECORD, sidecars

KINDS = (".txt", ".json", ".xmp")
NASTY = "Ä <b>&amp; \"quotes\" 'n' ]]> \\n\r\nzwei\tTab\r🙂\u2028ende "
needs_exiftool = pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")

DARKTABLE = """\
<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:darktable="http://darktable.sf.net/" xmp:Rating="3" darktable:xmp_version="5">
   <!-- edited by hand -->
   <darktable:history>
    <rdf:Seq>
     <rdf:li darktable:num="0" darktable:operation="exposure" darktable:params="00&#10;ff" darktable:enabled="1"/>
     <rdf:li darktable:num="1" darktable:operation="sigmoid" darktable:multi_name="a&#13;b"/>
    </rdf:Seq>
   </darktable:history>
   <dc:subject><rdf:Bag><rdf:li>Katze&#13;Maus</rdf:li></rdf:Bag></dc:subject>
DESCRIPTION  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def path_of(path: str, suffix: str = ".txt", base: str | None = None, out_dir: Path | None = None) -> str:
    return str(sidecar_path(path, suffix, base, out_dir, KNOWN))


@pytest.mark.parametrize(
    ("folder", "path", "kind", "expected"),
    [
        (["a.png"], "a.png", ".txt", "a.txt"),
        (["p/a.PNG"], "p/a.PNG", ".json", "p/a.json"),
        (["a.png"], "./q/../a.png", ".txt", "q/../a.txt"),
        (["a.png"], "a.png", ".xmp", "a.png.xmp"),
        (["a.b.png"], "a.b.png", ".txt", "a.b.txt"),
        (["a.png", "a.jpg"], "a.png", ".txt", "a.png.txt"),
        (["a.png", "a.MP4"], "a.png", ".txt", "a.png.txt"),
        (["a.png", "a.PNG"], "a.PNG", ".txt", "a.PNG.txt"),
        (["a.png", "a.gif"], "a.png", ".txt", "a.txt"),
        (["a.png", "a"], "a.png", ".txt", "a.png.txt"),
        (["a.png", "a/b.png"], "a.png", ".txt", "a.txt"),
        (["a.Png"], "a.Png", ".txt", "a.txt"),
        (["a.Png", "a.png"], "a.png", ".txt", "a.png.txt"),
        (["a.Png", "a.png"], "a.Png", ".txt", "a.Png.txt"),
        (["a.pNg"], "a.pNg", ".txt", "a.pNg.txt"),
        (["a.foo"], "a.foo", ".txt", "a.foo.txt"),
        (["a"], "a", ".json", "a.json"),
        (["a.txt"], "a.txt", ".txt", "a.txt.txt"),
        ([".png"], ".png", ".txt", ".png.txt"),
        (["\udcff.png"], "\udcff.png", ".txt", "\udcff.txt"),
    ],
)
def test_beside_an_input(here: Path, folder: list[str], path: str, kind: str, expected: str) -> None:
    touch(*folder)
    assert path_of(path, kind) == expected


@pytest.mark.parametrize(
    ("path", "base", "expected"),
    [
        ("in/a.png", "in", "out/a.txt"),
        ("in/s/t/a.png", "in", "out/s/t/a.txt"),
        ("in/s/../s/t/a.png", "./in/", "out/s/t/a.txt"),
        ("in/s/t/a.png", None, "out/in/s/t/a.txt"),
        ("in/_outside/a.png", "in", "out/__outside/a.txt"),
        ("in/__HTTPS/a.png", "in", "out/___HTTPS/a.txt"),
        ("in/_else/a.png", "in", "out/_else/a.txt"),
        ("/else/where/a.png", "in", "out/_outside/else/where/a.txt"),
        ("https://h.org/p/a.png", "in", "out/_https/h.org/p/a.png.txt"),
        ("HTTP://u@h.org:80/a b.png?w=1&p=/x#f", "in", "out/_http/u@h.org%3A80/a%20b.png%3Fw=1&p=%2Fx%23f.txt"),
        ("https://h.org", None, "out/_https/h.org.txt"),
        ("https://h.org/p/", None, "out/_https/h.org/p/%.txt"),
        ("https://h.org/../.?..", None, "out/_https/h.org/%2E%2E/.%3F...txt"),
        ("https:///...//..", None, "out/_https/%/%2E%2E%2E/%/%2E%2E.txt"),
    ],
)
def test_under_a_folder_of_their_own(here: Path, path: str, base: str | None, expected: str) -> None:
    touch("in/s/t/a.png")
    assert path_of(path, ".txt", base, Path("out")) == expected


def test_dots_after_a_symbolic_link_are_resolved_as_the_system_does(here: Path) -> None:
    touch("in/a.png", "far/b/a.png", "far/a.png")
    Path("in/link").symlink_to(here / "far/b")
    assert path_of("in/link/a.png", ".txt", "in", Path("out")) == "out/link/a.txt"
    assert path_of("in/link/../a.png", ".txt", "in", Path("out")) == f"out/_outside{here}/far/a.txt"
    assert Path(path_of("in/link/../a.png")).parent.samefile("far")


@pytest.mark.parametrize("path", ["-", "https://h.org/a.png"])
def test_standard_input_and_a_url_without_out_dir_have_no_sidecar(path: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        path_of(path)
    assert error.value.kind == "unsupported"
    assert not sidecars(".txt").exists(path)


def test_no_two_inputs_of_a_folder_share_a_sidecar(here: Path) -> None:
    dice = random.Random(7)
    stems = ("a", "b", "a.png", "a.txt", ".png")
    names = [stem + end for stem in stems for end in ("", ".png", ".jpg", ".PNG", ".Png", ".txt", ".gif")]
    for number in range(300):
        folder = sorted(set(dice.choices(names, k=6)))
        touch(*(f"{number}/{name}" for name in folder))
        if os.path.exists(f"{number}/a.png"):
            os.link(f"{number}/a.png", f"{number}/a.mp4")
        paths = [path_of(f"{number}/{name}", kind) for name in os.listdir(str(number)) for kind in KINDS]
        assert len(set(paths)) == len(paths), folder


def test_no_two_inputs_share_a_sidecar_under_out_dir(here: Path) -> None:
    folders = ("", "_outside", "__outside", "_http", "_https", "_https/h.org", "h.org", "_outside/h.org", "s")
    inputs = [f"in/{folder}/a.png" for folder in folders] + [f"{folder}/a.png" for folder in folders]
    touch(*inputs)
    inputs = [f"in/{folder}/a.png" for folder in folders] + [str(here / folder / "a.png") for folder in folders]
    tails = (
        "",
        "/",
        "//",
        "/a.png",
        "/a.png?",
        "/a.png#",
        "/a.png?x",
        "/a.png%3Fx",
        "/a?b/c",
        "/a%3Fb%2Fc",
        "/a%3Fb/c",
    )
    inputs += [
        f"{scheme}://h.org{tail}" for scheme in ("http", "https") for tail in (*tails, "/.", "/%2E", "/..", "/%")
    ]
    paths = [path_of(path, kind, "in", Path("out")) for path in inputs for kind in KINDS]
    assert len(set(paths)) == len(paths)
    assert all(".." not in Path(path).parts and path.startswith("out/") for path in paths)


def test_a_file_system_that_ignores_case(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch("a.png", "b.png", "B.JPG")
    lstat = os.lstat

    def without_case(path: str) -> os.stat_result:
        folder, name = os.path.split(path)
        return lstat(
            os.path.join(folder, next((n for n in os.listdir(folder or ".") if n.lower() == name.lower()), name))
        )

    monkeypatch.setattr(os, "lstat", without_case)
    assert [path_of(name) for name in ("a.png", "a.PNG", "A.PNG", "b.png", "B.JPG")] == [
        "a.txt", "a.txt", "A.txt", "b.png.txt", "B.JPG.txt",
    ]  # fmt: skip


def test_the_content_of_each_kind(here: Path) -> None:
    writer = sidecars(*KINDS, ".txt", out_dir=Path("out"))
    record = replace(RECORD, path="in/s/a.png", text="eins\nzwei ü🙂", confidence=0.25)
    assert not writer.exists(record.path)
    writer.write(record)
    assert writer.exists(record.path)
    assert sorted(os.listdir("out/s")) == ["a.json", "a.png.xmp", "a.txt"]
    assert Path("out/s/a.txt").read_bytes() == "eins\nzwei ü🙂\n".encode()
    assert Path("out/s/a.json").read_text("utf-8") == as_json(record, indent=2) + "\n"
    as_written = json.loads(Path("out/s/a.json").read_text("utf-8"))
    assert (as_written["tokens"], as_written["confidence"]) == ({"prompt": 5, "image": 3, "new": 2}, 0.25)
    Path("out/s/a.txt").unlink()
    assert not writer.exists(record.path)


def test_a_failed_record_writes_nothing(here: Path) -> None:
    sidecars(*KINDS, out_dir=Path("out")).write(BAD)
    assert os.listdir() == []


def test_if_exists(here: Path) -> None:
    touch("a.png")
    Path("a.txt").write_text("mine")
    sidecars(".txt", ".json").write(RECORD)
    assert Path("a.txt").read_text() == "mine"
    Path("a.json").unlink()
    with pytest.raises(InputError, match=r"a\.txt exists already") as error:
        sidecars(".json", ".txt", if_exists="error").write(RECORD)
    assert error.value.kind == "exists"
    assert sorted(os.listdir()) == ["a.png", "a.txt"]
    sidecars(".txt", if_exists="overwrite").write(RECORD)
    assert Path("a.txt").read_text() == "a cat\n"


def test_the_sidecars_of_inputs_that_are_done_are_completed(here: Path) -> None:
    """A resumed run may be asked for sidecars that the first one was not asked for; what somebody has edited stays."""
    touch("a.png")
    writer = sidecars(".txt", ".json")
    Path("a.txt").write_text("mine\n")
    writer.complete("a.png", lambda: RECORD)
    assert Path("a.txt").read_text() == "mine\n"
    assert json.loads(Path("a.json").read_text())["text"] == "a cat"
    assert writer.left_alone == 1
    writer = sidecars(".txt", ".json", if_exists="overwrite")
    before = os.stat("a.json")
    writer.complete("a.png", lambda: RECORD)
    assert Path("a.txt").read_text() == "a cat\n"
    assert os.stat("a.json").st_ino == before.st_ino  # it says that already
    writer = sidecars(".txt", if_exists="error")
    writer.complete("a.png", lambda: RECORD)  # the earlier run may have written it
    assert writer.left_alone == 0


def test_sidecars_of_a_large_finished_run_are_not_all_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch("a.png")
    Path("a.txt").write_text("a cat\n")
    writer, looked_up = sidecars(".txt"), []

    def find_record() -> Record:
        looked_up.append(1)
        return RECORD

    for _ in range(1200):
        writer.complete("a.png", find_record)
    assert len(looked_up) == 1000


def test_any_suffix_stands_for_text_which_a_template_formats(here: Path) -> None:
    touch("a.png")
    writer = Sidecars((".caption", ".txt", ".json"), None, None, "skip", KNOWN, template="ohwx style, {text}")
    writer.write(RECORD)
    assert Path("a.caption").read_text() == Path("a.txt").read_text() == "ohwx style, a cat\n"
    assert json.loads(Path("a.json").read_text()) == json.loads(as_json(RECORD))


def test_what_an_input_shares_its_stem_with_is_said(here: Path) -> None:
    touch("a.png", "a.jpg", "b.png", "c.pNg")
    writer = sidecars(".txt", ".xmp")
    for name in ("b.png", "c.pNg", "a.png", "a.jpg"):
        writer.write(replace(RECORD, path=name))
    assert list(writer.closing_notices(0)) == [
        "2 sidecars named like a.png.txt, because several inputs differ in their suffix alone"
    ]


@pytest.mark.parametrize("max_listed", [0, 100])
def test_sidecars_that_exist_are_found_in_folders_of_any_size(
    here: Path, monkeypatch: pytest.MonkeyPatch, max_listed: int
) -> None:
    monkeypatch.setattr(sidecar, "MAX_LISTED", max_listed)
    touch("a.png", "a.txt", "b.png", "b.jpg", "b.txt", "c.Jpg", "c.txt", "d.png")
    writer = sidecars(".txt")
    assert [writer.exists(name) for name in ("a.png", "b.png", "b.jpg", "c.Jpg", "d.png")] == [
        True, False, False, True, False,
    ]  # fmt: skip


def test_an_existing_sidecar_that_says_something_else_is_counted(here: Path) -> None:
    touch("a.png", "b.png")
    writer = sidecars(".txt")
    for name, text in (("a", "a cat\n"), ("b", "of another command\n")):
        Path(f"{name}.txt").write_text(text)
        writer.write(replace(RECORD, path=f"{name}.png"))
    assert writer.left_alone == 1


def test_a_dangling_symbolic_link_exists_and_can_be_replaced(here: Path) -> None:
    Path("a.txt").symlink_to("nothing")
    assert sidecars(".txt").exists("a.png")
    sidecars(".txt").write(RECORD)
    assert not os.path.exists("nothing")
    sidecars(".txt", if_exists="overwrite").write(RECORD)
    assert not Path("a.txt").is_symlink()
    assert Path("a.txt").read_text() == "a cat\n"


def test_a_picture_with_the_name_of_a_sidecar_is_never_overwritten(here: Path) -> None:
    picture = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
    for name in ("a.png", "a.txt", "a.json", "a.png.xmp"):
        Path(name).write_bytes(picture)
    for kind in KINDS:
        with pytest.raises(InputError) as error:
            sidecars(kind, if_exists="overwrite").write(RECORD)
        assert error.value.kind == "exists"
    sidecars(".txt", if_exists="overwrite").write(replace(RECORD, path="a.txt"))
    assert [Path(name).read_bytes() for name in ("a.png", "a.txt", "a.json", "a.png.xmp")] == [picture] * 4
    assert Path("a.txt.txt").read_text() == "a cat\n"


def test_a_full_disk_leaves_what_was_there_and_nothing_else(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.txt").write_text("old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"a\.txt: cannot be written \(No space left on device\)"):
        sidecars(".txt", if_exists="overwrite").write(RECORD)
    assert os.listdir() == ["a.txt"]
    assert Path("a.txt").read_text() == "old"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")
def test_a_file_left_by_a_killed_run_is_hidden_and_replaced_by_the_next_run(here: Path) -> None:
    script = (
        "import os, signal; os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from tests.writers.test_sidecar import *; sidecars('.txt').write(RECORD)"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": root})
    assert done.returncode == -9
    [part] = os.listdir()
    assert part.startswith(".")
    Path(part).unlink()
    Path("precious").write_text("precious")
    Path(part).symlink_to("precious")
    sidecars(".txt").write(RECORD)
    assert sorted(os.listdir()) == ["a.txt", "precious"]
    assert Path("precious").read_text() == "precious"


def test_a_path_that_cannot_be_written_is_in_the_error(here: Path) -> None:
    touch("file")
    sidecars(".txt").write(replace(RECORD, path="n" * 251))
    assert os.path.exists("n" * 251 + ".txt")
    for path, out_dir in (("n" * 252, None), ("a.png", Path("file"))):
        with pytest.raises(InputError, match="txt cannot be written"):
            sidecars(".txt", out_dir=out_dir).write(replace(RECORD, path=path))
    assert sorted(os.listdir()) == ["file", "n" * 251 + ".txt"]


def exiftool(path: str, *tags: str) -> dict[str, Any]:
    done = subprocess.run(["exiftool", "-j", *tags, path], capture_output=True, check=True)
    return dict(json.loads(done.stdout)[0])


def canonical(xml: str) -> str:
    """Return the same text for XML of the same meaning, whatever its prefixes and the order of its attributes."""
    return ET.canonicalize(xml, rewrite_prefixes=True, with_comments=True)


def described(old: str | bytes | None, text: str = NASTY, name: str = "a.png") -> str:
    """Return the .xmp file of the input `name` after a run that overwrites `old`."""
    if old is not None:
        Path(f"{name}.xmp").write_bytes(old.encode() if isinstance(old, str) else old)
    sidecars(".xmp", if_exists="overwrite").write(replace(RECORD, path=name, text=text))
    return Path(f"{name}.xmp").read_bytes().decode("utf-8")


@needs_exiftool
def test_exiftool_reads_a_new_packet(here: Path) -> None:
    text = described(None)
    assert text.startswith('<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta ')
    assert text.endswith('\n<?xpacket end="w"?>\n')
    metadata = exiftool("a.png.xmp", "-XMP-dc:Description", "-XMP-xmp:CreatorTool", "-validate")
    assert metadata["Description"] == NASTY
    assert metadata["CreatorTool"] == f"smolcli {__version__}"
    assert metadata["Validate"] in ("OK", "0 0 0")


OLD = {
    "none": "",
    "text": "   <dc:description><rdf:Alt><rdf:li xml:lang='x-default'>old</rdf:li></rdf:Alt></dc:description>\n",
    "plain": "   <dc:description>old</dc:description>\n",
    "empty": "   <dc:description/>\n",
    "twice": "   <dc:description>old</dc:description><dc:description>older</dc:description>\n",
}


@needs_exiftool
@pytest.mark.parametrize("old", OLD.values(), ids=OLD)
def test_a_new_description_keeps_the_history_of_darktable(here: Path, old: str) -> None:
    before = DARKTABLE.replace("DESCRIPTION", old)
    text = described(before)
    tags = ("-a", "-G1", "-struct", "-XMP:all")
    Path("before.xmp").write_text(before, "utf-8")
    metadata, expected = exiftool("a.png.xmp", *tags), exiftool("before.xmp", *tags)
    assert metadata.pop("XMP-dc:Description") == NASTY
    expected.pop("XMP-dc:Description", None)
    assert {**metadata, "SourceFile": ""} == {**expected, "SourceFile": ""}
    assert metadata["XMP-darktable:History"][0]["Operation"] == "exposure"
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<x:xmpmeta ')
    assert described(text) == text


def test_everything_but_the_description_is_kept(here: Path) -> None:
    before = DARKTABLE.replace("DESCRIPTION", OLD["text"])
    assert canonical(described(before, "old")) == canonical(before)
    assert canonical(described(before, "new")) == canonical(before.replace(">old<", ">new<"))
    assert "<darktable:history>" in described(before)


WRAPPED = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><!-- before -->
<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:d="http://purl.org/dc/elements/1.1/"><r:Description
r:about="uuid:1" xmlns="urn:own" xmlns:ns0="urn:other" ns0:a="1" d:description="short"/><r:Description r:about="uuid:1">
<d:description><r:Alt><r:li xml:lang="x-default">old</r:li><r:li xml:lang="de-DE">alt</r:li></r:Alt></d:description>
</r:Description></r:RDF><!-- after -->
<?xpacket end="w"?>  """


TAGGED = replace(RECORD, text="Katze, Hündin & Co", data=["Katze", "Hündin & Co"])


def subjects(xml: str) -> list[str]:
    """The keywords of a packet, read as the XMP specification writes them: dc:subject, a bag."""
    names = {"rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "dc": "http://purl.org/dc/elements/1.1/"}
    items = ET.fromstring(xml.encode()).findall(".//dc:subject/rdf:Bag/rdf:li", names)
    return [li.text or "" for li in items]


def test_tags_are_keywords_and_no_description(here: Path) -> None:
    sidecars(".xmp").write(TAGGED)
    text = Path("a.png.xmp").read_text("utf-8")
    assert subjects(text) == ["Katze", "Hündin & Co"]
    assert "description" not in text
    sidecars(".xmp", if_exists="overwrite").write(RECORD)
    text = Path("a.png.xmp").read_text("utf-8")
    assert subjects(text) == ["Katze", "Hündin & Co"]
    assert "a cat" in text


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("<dc:subject><rdf:Bag><rdf:li>Maus</rdf:li></rdf:Bag></dc:subject>", ["Maus", "Katze", "Hündin & Co"]),
        ("<dc:subject><rdf:Bag><rdf:li>Katze</rdf:li></rdf:Bag></dc:subject>", ["Katze", "Hündin & Co"]),
        ("<dc:subject/>", ["Katze", "Hündin & Co"]),
        ("", ["Katze", "Hündin & Co"]),
    ],
)
def test_keywords_are_added_to_those_there_are(here: Path, subject: str, expected: list[str]) -> None:
    before = re.sub("<dc:subject>.*</dc:subject>", subject, DARKTABLE).replace("DESCRIPTION", OLD["text"])
    Path("a.png.xmp").write_text(before, "utf-8")
    sidecars(".xmp", if_exists="overwrite").write(TAGGED)
    text = Path("a.png.xmp").read_text("utf-8")
    assert subjects(text) == expected
    assert ">old<" in text and "<darktable:history>" in text
    sidecars(".xmp", if_exists="overwrite").write(TAGGED)
    assert Path("a.png.xmp").read_text("utf-8") == text


def test_a_picture_without_text_keeps_its_description(here: Path) -> None:
    before = DARKTABLE.replace("DESCRIPTION", OLD["text"])
    assert described(before, "") == before
    Path("a.png.xmp").unlink()
    assert "description" not in described(None, " \n")


def test_instructions_other_languages_and_prefixes_are_kept(here: Path) -> None:
    text = described(WRAPPED, "new")
    assert text.startswith('<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<!-- before -->\n<r:RDF ')
    assert text.endswith('<!-- after -->\n<?xpacket end="w"?>\n')
    changed = WRAPPED.replace(">old<", ">new<").replace(' d:description="short"', "")
    inside = [canonical(xml[xml.index("<r:RDF") : xml.index("<!-- after")]) for xml in (text, changed)]
    assert inside[0] == inside[1]


@pytest.mark.parametrize(("name", "codec"), [("UTF-16", "utf-16"), ("UTF-8", "utf-8-sig"), ("latin1", "latin1")])
def test_packets_of_other_encodings_become_utf8(here: Path, name: str, codec: str) -> None:
    before = DARKTABLE.replace("DESCRIPTION", OLD["text"]).replace("Katze", "Kätzchen")
    assert canonical(described(before.replace("UTF-8", name).encode(codec), "old")) == canonical(before)


@pytest.mark.parametrize(
    "old", ["", "no XML", DARKTABLE[:-9], "<html/>", '<?xml version="1.0" encoding="nonsense"?><x/>', b"\xff\xfe\0"]
)
def test_a_file_that_is_not_an_xmp_packet_is_refused_and_kept(here: Path, old: str | bytes) -> None:
    data = old.encode() if isinstance(old, str) else old
    with pytest.raises(InputError, match="is not an XMP packet that can be read; move it away") as error:
        described(data)
    assert error.value.kind == "exists"
    assert Path("a.png.xmp").read_bytes() == data
    assert os.listdir() == ["a.png.xmp"]


def test_characters_that_xml_cannot_hold_are_dropped(here: Path) -> None:
    text = "a\0b\x0bc\x1bd\ufffee\ud800f\x85g\ufffdh\U0010ffff"
    without_a_node = '<x><q:RDF xmlns:q="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x>'
    for old in (None, DARKTABLE.replace("DESCRIPTION", ""), without_a_node):
        packet = ET.fromstring(described(old, text).encode())
        texts = [li.text for li in packet.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li")]
        assert "abcdef\x85g\ufffdh\U0010ffff" in texts


def test_text_and_json_are_written_even_if_they_are_not_utf8(here: Path) -> None:
    record = replace(RECORD, path="\udcff.png", text="\ud800")
    sidecars(".txt", ".json").write(record)
    assert Path("\udcff.txt").read_bytes() == b"?\n"
    assert json.loads(Path("\udcff.json").read_text("utf-8"))["path"] == "\udcff.png"
