"""commands/config/: smolcli config shows and changes the settings, through the program itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.helpers import line, loaded, smolcli

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MINE = '# mine\nmodel = "nano"  # small\n\n[caption]\n# for the blind\nstyle = "alt-text"\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "smolcli" / "config.toml"


def run(config: Path, *words: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    return smolcli("config", *words, stdin=b"", XDG_CONFIG_HOME=str(config.parent.parent), **env)


def write(config: Path, text: str) -> None:
    config.parent.mkdir(exist_ok=True)
    config.write_text(text)


def test_show_names_the_source_of_each_value(config: Path) -> None:
    write(config, f'{MINE}[prompts]\nx = "a\\tb"\n')
    done = run(config, "show", SMOLCLI_MODEL="256m", SMOLCLI_BENCH_SPEED_REPEAT="2")
    assert done.stdout.decode().splitlines() == [
        "key\tvalue\tsource", "model\t256m\tSMOLCLI_MODEL", "caption.style\talt-text\tconfig.toml:6",
        "bench.speed.repeat\t2\tSMOLCLI_BENCH_SPEED_REPEAT", "prompts.x\ta\\tb\tconfig.toml:8",
    ]  # fmt: skip
    done = run(config, "show", "caption", "-n", "9", "--style=tags", "photo.jpg")
    assert done.stdout.decode().splitlines()[1:] == [
        "style\ttags\t--style", "model\tnano\tconfig.toml:2", "max-tokens\t9\t--max-tokens",
    ]  # fmt: skip


def test_show_all_has_every_option_and_its_default(config: Path) -> None:
    lines = run(config, "show", "--all").stdout.decode().splitlines()
    assert "max-tokens\t512 tokens\tdefault" in lines and "bench.compare.tolerance\t0.05\tdefault" in lines
    rows = {row["key"]: row for row in json.loads(run(config, "show", "--all", "--json").stdout)}
    assert rows["max-tokens"]["value"] == rows["max-tokens"]["default"] == 512
    assert (rows["include"]["type"], rows["include"]["variable"]) == ("list of str", "SMOLCLI_INCLUDE")
    done = run(config, "show")
    assert (done.returncode, done.stdout) == (0, b"") and "every setting has its default" in line(done)


def test_set_keeps_comments_and_writes_what_the_command_line_takes(config: Path) -> None:
    write(config, MINE)
    for words in (
        ("max-tokens", "64"), ("include", "*.png", "*.jpg"), ("offline", "yes"), ("caption.model", "256m"),
        ("bench.speed.repeat", "3"), ("prompts.count", "How", "many?"), ("video-summarize.segment", "1:30"),
    ):  # fmt: skip
        done = run(config, "set", *words)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    text = config.read_text()
    assert text.startswith('# mine\nmodel = "nano"  # small\n') and "\n# for the blind\n" in text
    assert tomllib.loads(text) == {
        "model": "nano", "max-tokens": 64, "include": ["*.png", "*.jpg"], "offline": True,
        "caption": {"style": "alt-text", "model": "256m"}, "bench": {"speed": {"repeat": 3}},
        "prompts": {"count": "How many?"}, "video-summarize": {"segment": "1:30"},
    }  # fmt: skip
    assert [entry.name for entry in config.parent.iterdir()] == ["config.toml"]


def test_set_makes_the_file_and_its_folder(config: Path) -> None:
    done = run(config, "set", "model", "nano", SMOLCLI_MODEL="256m")
    assert done.returncode == 0 and "SMOLCLI_MODEL is set, and comes before the file" in line(done)
    assert config.read_text() == 'model = "nano"\n'
    assert run(config, "path").stdout.decode() == f"{config}\n"


def test_a_link_stays_a_link_and_permissions_stay(config: Path) -> None:
    write(config.with_name("dotfiles.toml"), MINE)
    config.with_name("dotfiles.toml").chmod(0o600)
    config.symlink_to("dotfiles.toml")
    assert run(config, "set", "model", "256m").returncode == 0
    assert config.is_symlink() and config.read_text() == MINE.replace("nano", "256m")
    assert config.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("set", "modle", "x"), "the setting modle is not known; did you mean model?"),
        (("set", "style", "tags"), "style is an option of caption alone; name it caption.style"),
        (("set", "stlye", "tags"), "the setting stlye is not known; did you mean caption.style?"),
        (("set", "caption.style", "loud"), "--style loud is not known; choose one of"),
        (("set", "max-tokens", "0"), "max-tokens: 0 is not a whole number of 1 or more"),
        (("set", "model", "a", "b"), "model takes one value, and 2 are given"),
        (("set", "model"), "a setting and its value are needed"),
        (("set",), "a setting and its value are needed"),
        (("set", "prompts.x", " "), "the prompt is empty; smolcli config unset prompts.x removes it"),
        (("set", "prompts.a b", "x"), "a b cannot be the name of a prompt"),
        (("unset",), "no setting was named"),
        (("unset", "modle"), "the setting modle is not known; did you mean model?"),
        (("show", "captoin"), "No such command captoin; did you mean caption?"),
        (("show", "bench"), "bench is no command; choose one of bench speed,"),
        (("show", "caption", "-n", "x"), "max-tokens: x is not a whole number"),
        (("show", "caption", "--frob"), "No such option --frob"),
    ],
)
def test_wrong_words_change_nothing(config: Path, words: tuple[str, ...], message: str) -> None:
    write(config, MINE)
    done = run(config, *words)
    assert (done.returncode, done.stdout) == (2, b"") and message in line(done)
    assert config.read_text() == MINE


def test_unset_removes_also_what_does_not_exist(config: Path) -> None:
    write(config, f"modle = 3\n{MINE}")
    assert run(config, "unset", "modle").returncode == 0
    assert config.read_text() == MINE
    assert run(config, "unset", "caption").returncode == 0
    assert tomllib.loads(config.read_text()) == {"model": "nano"}
    done = run(config, "unset", "offline")
    assert done.returncode == 0 and f"offline is not set in {config}" in line(done)


def test_a_broken_file_is_not_changed(config: Path) -> None:
    write(config, "model = nano\n")
    for words in (("set", "model", "x"), ("unset", "model"), ("show",)):
        done = run(config, *words)
        assert done.returncode == 2 and f"{config}:1: cannot be read as TOML" in line(done)
    assert config.read_text() == "model = nano\n"
    assert run(config, "path").returncode == run(config, "schema").returncode == 0


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "smolcli").write_text("a file")
    done = run(tmp_path / "smolcli" / "config.toml", "set", "model", "x")
    assert done.returncode == 1 and "config.toml: cannot be written (" in line(done)


def test_the_schema_takes_right_files_and_no_wrong_ones(config: Path) -> None:
    schema = json.loads(run(config, "schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    right = 'model = "nano"\ndetail = 2\ninclude = "*.png"\n[caption]\nstyle = "tags"\n[bench.speed]\nrepeat = 3\n'
    assert validator.is_valid(tomllib.loads(right + '[prompts]\nx = "y"\n'))
    for wrong in ("modle = 1", 'max-tokens = "3"', "max-tokens = 0", '[caption]\nstyle = "loud"', "[prompts]\nx = 1"):
        assert not validator.is_valid(tomllib.loads(wrong)), wrong


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("smolcli config set caption.st", "caption.style"), ("smolcli config set caption.style al", "alt-text"),
        ("smolcli config set offline t", "true"), ("smolcli config unset prompts.", "prompts.mine"),
        ("smolcli caption --prompt @m", "@mine"),
    ],
)  # fmt: skip
def test_a_shell_completes_settings(config: Path, words: str, completed: str) -> None:
    write(config, '[prompts]\nmine = "x"\n')
    request = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "XDG_CONFIG_HOME": str(config.parent.parent)}
    _, output = loaded(_SMOLCLI_COMPLETE="complete_bash", **request)
    assert completed in output.split()
