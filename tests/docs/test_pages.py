"""README.md and docs/: links lead somewhere, lines are wrapped, and the commands and files named exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import smolcli
from smolcli import registry
from smolcli.writers.json_lines import as_json
from tests.docs.commands_in_pages import FENCE, command, commands
from tests.helpers import RECORD

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MADE = {"commands.md", "errors.md", "messages.md"}  # made from the program, which wraps its own lines
COG = re.compile(r"<!-- \[\[\[cog.*?-->", re.DOTALL)
NAMED_FILE = re.compile(
    r"(?<![\w/.-])((?:benchmarks|tests|smolcli|converters|docs)/[\w./-]+\.(?:py|md|json|svg|css))\b"
)
OTHER_WORDS = {"--help", "--install-completion", "help", "COMMAND", "…", "..."}

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page: Path) -> str:
    """The page without what stands in fences and in cog's code."""
    return COG.sub("", FENCE.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub makes addresses of them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def option_names(name: str, part: str = "") -> set[str] | None:
    """The options of a command, or of a part of it, as `models pull`; None if it takes those of others too."""
    chosen = getattr(command(name), "commands", {}).get(part, command(name))
    if chosen.context_settings.get("ignore_unknown_options"):
        return None
    return {"--help", "-h", *(option for param in chosen.params for option in (*param.opts, *param.secondary_opts))}


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


@pages
def test_lines_are_wrapped(page: Path) -> None:
    if page.name not in MADE:
        lines = [line for line in prose(page).splitlines() if not line.startswith("|")]
        assert not [line for line in lines if len(line) > 120]
        assert not [line for line in lines if line.count("`") % 2], "code that goes on in the next line"


@pages
def test_the_files_named_exist(page: Path) -> None:
    if page.name == "changelog.md":
        return
    text = page.read_text(encoding="utf-8")
    examples = set(re.findall(r"`(\S+)`:\n", text)) if page.name == "contributing.md" else set()
    assert not [name for name in NAMED_FILE.findall(text) if name not in examples and not (ROOT / name).exists()]


@pages
def test_the_commands_named_exist(page: Path) -> None:
    known = {*registry.TASKS, *registry.COMMANDS, *OTHER_WORDS}
    examples = {"tag"} if page.name == "contributing.md" else set()
    for words in commands(page, "smolcli"):
        assert not words[1:] or words[1] in known | examples, words


@pages
def test_the_options_named_exist(page: Path) -> None:
    if page.name == "messages.md":  # where an ellipsis may be anything
        return
    for _, *words in commands(page, "smolcli"):
        if words and words[0] in (*registry.TASKS, *registry.COMMANDS):
            names = option_names(*words[:2])
            options = [word.partition("=")[0] for word in words[1:] if re.match(r"--?\w", word)]
            assert names is None or not [option for option in options if option not in names], words


@pages
def test_the_benchmarks_named_have_these_options(page: Path) -> None:
    for words in commands(page, "python"):
        if words[1].startswith("benchmarks/"):
            script = (ROOT / words[1]).read_text(encoding="utf-8")
            options = [word.split("=")[0] for word in words[2:] if word.startswith("--")]
            assert not [option for option in options if f'"{option}"' not in script], words


def test_the_readme_is_short_and_has_what_ci_runs() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    for name in ("install", "test"):
        assert re.search(rf"<!-- {name} -->\n```sh\n.+\n```\n<!-- end -->\n", text), name


def test_every_extra_is_described() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = re.findall(
        r"^(\w+) = \[", project.split("[project.optional-dependencies]")[1].split("\n[")[0], re.MULTILINE
    )
    described = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "install.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(described) == sorted({*extras} - {"dev"})


def test_the_record_shown_has_the_fields_of_the_program() -> None:
    shown = json.loads(
        re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "records.md").read_text("utf-8"), re.DOTALL)[0]
    )
    written = json.loads(as_json(RECORD))
    assert list(shown) == list(written)
    for name in ("tokens", "seconds", "memory"):
        assert list(shown[name]) == list(written[name])


def test_the_citation_is_of_this_version() -> None:
    assert f"\nversion: {smolcli.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
