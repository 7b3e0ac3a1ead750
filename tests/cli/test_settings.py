"""cli/settings.py: defaults of options from the environment and config.toml, through the program itself."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from smolcli import registry
from smolcli.cli import settings
from smolcli.cli.setting_keys import all_options, section_options, shared_options
from smolcli.errors import UsageError
from smolcli.system.config_file import key_lines, parse_config
from tests.helpers import SAMPLES, line, loaded, smolcli

SCENE = SAMPLES / "scene.png"
ECHO = ("-q", "-b", "echo")  # answers with the prompt, and takes as many words as there are tokens


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "smolcli"
    folder.mkdir()
    return folder / "config.toml"


def run(config: Path, *words: object, **env: str) -> subprocess.CompletedProcess[bytes]:
    return smolcli(*words, stdin=b"", XDG_CONFIG_HOME=str(config.parent.parent), **env)


def answer(config: Path, *words: object, **env: str) -> str:
    done = run(config, *words, *ECHO, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def test_command_line_then_environment_then_file_then_default(config: Path) -> None:
    """The echo backend answers with the prompt, of which each style has its own."""
    caption = ("caption", SCENE)
    assert answer(config, *caption).endswith("Describe this image in one sentence.")
    config.write_text('[caption]\nstyle = "detailed"\n')
    assert answer(config, *caption).endswith("Can you describe this image?")
    assert answer(config, *caption, SMOLCLI_CAPTION_STYLE="alt-text").endswith("Write a short alt text for this image.")
    tags = answer(config, *caption, "--style", "tags", SMOLCLI_CAPTION_STYLE="alt-text")
    assert tags.endswith("as tags, separated by commas.")
    assert answer(config, *caption, "--no-config").endswith("in one sentence.")
    assert answer(config, *caption, SMOLCLI_NO_CONFIG="1").endswith("in one sentence.")
    assert answer(config, *caption, SMOLCLI_CAPTION_STYLE="").endswith("Can you describe this image?")


def test_the_section_of_a_command_comes_before_the_top(config: Path) -> None:
    config.write_text("temperature = 0.5\nseed = 3\n[ask]\nseed = 4\n")
    in_force = {row["key"]: (row["value"], row["source"]) for row in shown(config, "ask")}
    assert in_force == {"temperature": (0.5, "config.toml:1"), "seed": (4, "config.toml:4")}
    for command, seed in (("caption", 5), ("ask", 6)):
        rows = shown(config, command, SMOLCLI_SEED="5", SMOLCLI_ASK_SEED="6")
        assert [row["value"] for row in rows if row["key"] == "seed"] == [seed]


def shown(config: Path, *words: str, **env: str) -> list[dict[str, Any]]:
    done = run(config, "config", "show", "--json", *words, **env)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def test_a_record_has_the_id_that_it_has_with_the_same_options(config: Path) -> None:
    words = ("caption", SCENE, "-f", "jsonl")
    given = answer(config, *words, "--prompt", "What is it?", "-n", "7", "--detail", "2")
    config.write_text('max-tokens = 7\ndetail = 2\n[caption]\nprompt = "@it"\n[prompts]\nit = "What is it?"\n')
    assert json.loads(answer(config, *words))["id"] == json.loads(given)["id"]
    assert json.loads(answer(config, *words, "-n", "8"))["id"] != json.loads(given)["id"]


def test_lists_and_flags_in_both_layers(config: Path) -> None:
    config.write_text('include = ["*.png", "a b.jpg"]\nrecursive = false\nquiet = true\n')
    values = {row["key"]: row["value"] for row in shown(config, "caption")}
    assert values == {"include": ["*.png", "a b.jpg"], "recursive": False, "quiet": True}
    variables = {"SMOLCLI_INCLUDE": '*.gif, "a,b.png"', "SMOLCLI_RECURSIVE": "Yes", "SMOLCLI_QUIET": "off"}
    values = {row["key"]: row["value"] for row in shown(config, "caption", **variables)}
    assert values == {"include": ["*.gif", "a,b.png"], "recursive": True, "quiet": False}


def test_a_key_at_the_top_is_for_the_other_commands_that_have_the_same_option(config: Path) -> None:
    config.write_text('model = "nano"\noffline = true\noutput = "results.jsonl"\nmax-tokens = 9\ndetail = "low"\n')
    taken = {words: {row["key"] for row in shown(config, *words.split())} for words in TAKEN}
    assert taken == TAKEN


TAKEN = {
    "caption": {"model", "offline", "output", "max-tokens", "detail"},
    "models pull": {"offline"},
    "convert-to-gguf": {"offline"},
    "bench quality": {"model", "offline"},  # what is measured and where it goes is not the user's habit
    "records": set(),
    "doctor": set(),
}


def test_an_option_displaces_the_setting_that_it_contradicts(config: Path) -> None:
    config.write_text('template = "{text}!"\n[caption]\nstyle = "tags"\n[video-summarize]\nfps = 2\n')
    assert answer(config, "caption", SCENE, "--prompt", "Why?").endswith("Why?!")
    assert answer(config, "caption", SCENE, SMOLCLI_CAPTION_PROMPT="Why?").endswith("Why?!")
    assert json.loads(answer(config, "caption", SCENE, "-f", "json"))["data"] is not None
    assert {row["key"] for row in shown(config, "video-summarize", "--frames", "3")} == {"template", "frames"}
    done = run(config, "caption", SCENE, *ECHO, SMOLCLI_CAPTION_STYLE="tags", SMOLCLI_CAPTION_PROMPT="Why?")
    assert done.returncode == 2
    assert "--prompt replaces the prompt of --style (--style is from SMOLCLI_CAPTION_STYLE)" in line(done)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nmodel = 256m", ":2: cannot be read as TOML"),
        ("model = 256", ':1: model must be text in quotes, not a number; write model = "256m"'),
        ("model = true", ":1: model must be text in quotes, not true or false"),
        ("model = 2001-01-01", ":1: model must be text in quotes, not a date or time"),
        ('modle = "256m"', ":1: the setting modle is not known; did you mean model?"),
        ("max_tokens = 5", ":1: the setting max_tokens is not known; did you mean max-tokens?"),
        ("# x\nmax-tokens = 0", ":2: max-tokens: 0 is not a whole number of 1 or more; correct it, or smolcli config"),
        ('max-tokens = "9"', ":1: max-tokens must be a number, not text; write max-tokens = 512"),
        ("max-tokens = 9.5", ":1: max-tokens: 9.5 is not a whole number"),
        ('offline = "yes"', ":1: offline must be true or false, not text; write offline = true"),
        ('include = ["*.png", 3]', ":1: include must be text in quotes, or a list of that, not a number"),
        ('detail = "9.5"', ":1: --detail 9.5 is not known; choose low, auto, high or a number of tiles"),
        ('style = "tags"', ":1: style is an option of caption alone; write it under [caption]"),
        ('[caption]\nstyle = "loud"', ":2: --style loud is not known; choose one of short"),
        ('[caption]\nstlye = "tags"', ":2: the setting caption.stlye is not known; did you mean caption.style?"),
        ('[captoin]\nstyle = "tags"', ":1: the section [captoin] is not known; did you mean [caption]?"),
        ("[weather]", ":1: the section [weather] is not known; a section has the name of a command"),
        ("caption = 3", ":1: caption is a section, not a setting"),
        ("bench = 3", ":1: bench is a section, not a setting"),
        ("prompts = 3", ":1: prompts is a section, not a setting"),
        ("[prompts]\nx = 3", ":2: the prompt x is no text"),
        ('[prompts]\n"a b" = "c"', ":2: a b cannot be the name of a prompt"),
    ],
)
def test_a_wrong_file_is_an_error_of_every_run(config: Path, text: str, message: str) -> None:
    config.write_text(text)
    done = run(config, "caption", SCENE, *ECHO)
    assert (done.returncode, done.stdout) == (2, b"")
    assert f"{config}{message}" in line(done)
    assert run(config, "caption", SCENE, "--no-config", *ECHO).returncode == 0
    assert run(config, "caption", "--help").returncode == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[bench]\nrepeat = 3", ":2: [bench] has no options of its own; its sections are bench.speed,"),
        ("[bench.sped]\nrepeat = 3", ":1: [bench] has no options of its own; did you mean [bench.speed]?"),
        ("[bench]\nspeed = 3", ":2: bench.speed is a section, not a setting"),
        ("[bench.speed]\nrepaet = 3", ":2: the setting bench.speed.repaet is not known; did you mean bench.speed.rep"),
    ],
)
def test_a_wrong_section_is_an_error_of_its_command_and_of_what_shows_all(
    config: Path, text: str, message: str
) -> None:
    config.write_text(text)
    for words in (("bench", "memory", SCENE), ("config", "show")):
        done = run(config, *words)
        assert done.returncode == 2 and f"{config}{message}" in line(done)
    assert run(config, "caption", SCENE, *ECHO).returncode == 0


def test_sections_of_other_commands_import_none_of_them(config: Path) -> None:
    """Nor do their variables. What a command imports of others without settings is its own affair."""
    words = ("caption", SCENE, *ECHO, "--dry-run")
    without, _ = loaded(*words, XDG_CONFIG_HOME="/proc/nonexistent")
    config.write_text('[ocr]\nlayout = "markdown"\n[bench.speed]\nrepeat = 3\n[caption]\nstyle = "tags"\n')
    env = {"SMOLCLI_ASK_YES_NO": "1", "SMOLCLI_MODELS_PULL_OFFLINE": "1"}
    modules, output = loaded(*words, XDG_CONFIG_HOME=str(config.parent.parent), **env)
    assert "smolcli.cli.setting_check" in modules and output
    entries = {**registry.TASKS, **registry.COMMANDS}.values()
    assert not {entry.target.partition(":")[0] for entry in entries} & (modules - without)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SMOLCLI_MAX_TOKENS", "x", "SMOLCLI_MAX_TOKENS: max-tokens: x is not a whole number of 1 or more; correct it"),
        ("SMOLCLI_OFFLINE", "maybe", "SMOLCLI_OFFLINE: maybe is neither true nor false; set it to 1 or 0"),
        ("SMOLCLI_MODLE", "nano", "SMOLCLI_MODLE: no such setting; did you mean SMOLCLI_MODEL?"),
        ("SMOLCLI_STYLE", "tags", "SMOLCLI_STYLE: no such setting; did you mean SMOLCLI_CAPTION_STYLE?"),
    ],
)
def test_a_wrong_variable_is_an_error(config: Path, name: str, value: str, message: str) -> None:
    done = run(config, "caption", SCENE, *ECHO, **{name: value})
    assert done.returncode == 2 and message in line(done)


def test_variables_of_others_are_left_alone(config: Path) -> None:
    """A cluster sets these where a service is called smolcli."""
    others = {"SMOLCLI_SERVICE_HOST": "10.0.0.1", "SMOLCLI_PORT_8080_TCP_ADDR": "10.0.0.1"}
    assert run(config, "caption", SCENE, *ECHO, **others).returncode == 0


@pytest.mark.parametrize("content", [b"\xff\xfe", None], ids=["no text", "a folder"])
def test_a_file_that_cannot_be_read(config: Path, content: bytes | None) -> None:
    if content is None:
        config.mkdir()
    else:
        config.write_bytes(content)
    done = run(config, "caption", SCENE, *ECHO)
    assert done.returncode == 2 and f"{config}: " in line(done) and "--no-config" in line(done)


def test_a_file_of_windows_and_a_link_are_read(config: Path) -> None:
    other = config.with_name("other.toml")
    other.write_bytes(b'\xef\xbb\xbf[caption]\r\nstyle = "detailed"\r\n')
    config.symlink_to(other)
    assert answer(config, "caption", SCENE).endswith("Can you describe this image?")


def test_an_error_says_which_setting_its_value_is_from(config: Path) -> None:
    config.write_text('model = "2.2b"\n')
    done = run(config, "caption", SCENE, *ECHO[:1])
    assert done.returncode == 3 and "2.2b (from config.toml:1): not on this machine" in line(done)
    config.write_text("resume = true\n")
    assert "(--resume is from config.toml:1)" in line(run(config, "caption", SCENE, *ECHO))


def test_a_dry_run_says_which_settings_are_in_force(config: Path) -> None:
    config.write_text('max-tokens = 5\n[ocr]\npassword = "open sesame"\n')
    done = run(config, "ocr", SCENE, "--dry-run", "-b", "echo", "-m", "nano")
    message = "smolcli: settings: max-tokens 5 (config.toml:1), password (hidden) (config.toml:3)\n"
    assert done.stderr.decode().startswith(message)
    assert b"smolcli: settings:" not in run(config, "caption", SCENE, "-b", "echo").stderr


# ---- saved prompts -----------------------------------------------------------------------------


def test_saved_prompts(config: Path) -> None:
    config.write_text('[prompts]\nbroken = "Is it broken?"\ncolor = "Which color?"\n')
    assert answer(config, "caption", SCENE, "--prompt", "@broken").endswith("Is it broken?")
    both = answer(config, "ask", "@broken", "-Q", "@color", SCENE).splitlines()
    assert [words.partition("] ")[2] for words in both] == ["Is it broken?", "Which color?"]
    assert answer(config, "ask", "@@broken", SCENE).endswith("] @broken")
    assert answer(config, "ask", "@ home?", SCENE).endswith("] @ home?")
    done = run(config, "ask", "@brokn", SCENE, *ECHO)
    assert done.returncode == 2 and line(done) == "smolcli: @brokn: no such prompt is saved; did you mean @broken?\n"
    assert "saved are broken, color; write @@x for" in line(run(config, "ask", "@x", SCENE, *ECHO))


# ---- keys --------------------------------------------------------------------------------------


def test_every_option_has_a_key_and_no_two_the_same_variable() -> None:
    options = list(all_options())
    assert len({option.name for option in options}) == len(options)
    assert len({option.variable for option in options}) == len(options)
    assert all(key in section_options("caption") for key in shared_options())
    assert section_options("models.pull")["for"].variable == "SMOLCLI_MODELS_PULL_FOR"
    assert section_options("nothing") == section_options("bench") == section_options("caption.style") == {}


def test_what_an_option_excludes_exists() -> None:
    for option in all_options():
        fields = {other.field.name for other in section_options(option.section or "caption").values()}
        assert set(option.field.metadata.get("excludes", ())) <= fields


def test_lines_of_keys() -> None:
    text = 'a = """\n[x]\nb = 1\n"""\n[c."d e"]\nf.g = {h = 1}\n[[i]]\n'
    assert key_lines(text) == {("a",): 1, ("c", "d e"): 5, ("c", "d e", "f", "g"): 6}
    file = parse_config(Path("/x/config.toml"), text)
    assert file.place("c", "d e", "f", "g", "h") == "config.toml:6" and file.place("nowhere") == "config.toml"


def test_without_a_command_only_the_top_counts(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config.parent.parent))
    config.write_text('model = "a"\n[caption]\nmodel = "b"\n')
    [setting] = settings.load("").in_force
    assert (setting.words, setting.source) == ("a", "config.toml:1")
    config.write_text("[caption]\nx = 1\n")
    with pytest.raises(UsageError, match="caption.x is not known"):
        settings.load("")
