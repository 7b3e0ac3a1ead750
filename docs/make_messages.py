"""Makes docs/messages.md, a list of all errors, from the source: `python docs/make_messages.py`; --check only compares.

An error is a call of a class of smolcli/errors.py with what is wrong and what to do. Its words are read from the syntax
tree: texts, f-strings, and names that stand for them in the function, in a call of it in the same file, or in a module.
What only a run knows becomes an ellipsis.
"""

from __future__ import annotations

import ast
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).parent / "messages.md"
UNKNOWN = "…"
MOST = 40  # texts that one expression may be; of more, what differs is an ellipsis
# The errors of each class in a section of its own: its heading, and what it means for the run.
SECTIONS = {
    "InputError": "Inputs\n\nOne input failed, and its record has the message (exit code 5 or 6), or there is nothing "
    "to do (exit code 4).",
    "UsageError": "The command line and settings\n\nExit code 2; nothing was done.",
    "ModelError": "Models\n\nExit code 3.",
    "UnavailableError": "Libraries, devices and the network\n\nExit code 3.",
    "EngineError": "The engine\n\nOne input failed, or the run ended with exit code 1.",
    "SmolError": "Output, and all else\n\nExit code 1.",
}
SAME_SECTION = {
    "UnsupportedError": "ModelError",
    "OfflineError": "UnavailableError",
    "DeviceLostError": "EngineError",
    "Fault": "EngineError",
    "OutputError": "SmolError",
}
HEAD = """\
# Messages

Every error of the program, made from its source by `make docs`, and what it says to do. The name of an input, option or
file stands before many of them; … is what differs from run to run. Look for words of yours with the search of the page.
[Troubleshooting](troubleshooting.md) says more of those that are met often, [errors.md](errors.md) has the exit codes
and the kinds.
"""
Scope = Mapping[str, list[str]]  # the texts that a name may stand for
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Message(NamedTuple):
    """What is wrong, and what to do about it."""

    what: str
    advice: str


class Call(NamedTuple):
    """A call, and what names stand for where it is made."""

    name: str
    node: ast.Call
    scope: Scope


class Module:
    """The syntax tree of one file."""

    def __init__(self, path: Path) -> None:
        self._tree = ast.parse(path.read_text(encoding="utf-8"))
        self.constants = _follow(self._tree.body, _imported(self._tree, path), [])
        self._callers: dict[str, list[Call]] = {}  # by the name of a function: calls of it
        for function in _functions(self._tree):
            calls: list[Call] = []
            _follow(function.body, self.constants, calls)
            for call in calls:
                self._callers.setdefault(call.name, []).append(call)

    def errors(self) -> Iterator[tuple[str, Message]]:
        """The section and the message of every error that the file makes."""
        for function in _functions(self._tree):
            for arguments in self._arguments(function):
                calls: list[Call] = []
                _follow(function.body, {**self.constants, **arguments}, calls)
                for call in calls:
                    if call.name in {*SECTIONS, *SAME_SECTION}:
                        for message in _messages(call):
                            yield SAME_SECTION.get(call.name, call.name), message

    def _arguments(self, function: Function) -> Iterable[Scope]:
        """What each caller in this file gives for the parameters of a function."""
        names = [parameter.arg for parameter in function.args.args if parameter.arg not in ("self", "cls")]
        for _, node, scope in self._callers.get(function.name, []):
            given = [*zip(names, node.args, strict=False), *((word.arg, word.value) for word in node.keywords)]
            yield {name: _texts(value, scope) for name, value in given if name is not None}
        if function.name not in self._callers:
            yield {}


@cache
def module(path: Path) -> Module:
    """The file at `path`."""
    return Module(path)


def _functions(tree: ast.AST) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _name(function: ast.expr) -> str:
    """The last name of what is called."""
    return getattr(function, "id", "") or getattr(function, "attr", "")


def _imported(tree: ast.Module, path: Path) -> dict[str, list[str]]:
    """The texts that a file imports by name from others of smolcli."""
    texts = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("smolcli."):
            words = str(node.module).split(".")
            source = ROOT.joinpath(*(words[1:] if words[1] == "converters" else words)).with_suffix(".py")
            for alias in node.names if source.exists() and source != path else []:
                if alias.name.isupper() and alias.name in (constants := module(source).constants):
                    texts[alias.asname or alias.name] = constants[alias.name]
    return texts


def _follow(body: Iterable[ast.stmt], scope: Scope, calls: list[Call]) -> Scope:
    """Add the calls of some statements to `calls`, and return what names stand for behind them: nothing after a raise.

    Where a statement holds others, a name may be what it is before it or behind any of its blocks.
    """
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        calls += (Call(_name(node.func), node, scope) for node in _expressions(statement) if isinstance(node, ast.Call))
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for place, value in (pair for target in targets for pair in _pairs(target, statement.value)):
                if isinstance(place, ast.Name):
                    scope = {**scope, place.id: _texts(value, scope)}
        if isinstance(statement, ast.Raise | ast.Return | ast.Continue):
            return {}
        ends = [scope, *(_follow(block, scope, calls) for block in _blocks(statement))]
        scope = {name: _unique([text for end in ends for text in end.get(name, [])]) for end in ends for name in end}
    return scope


def _blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The statements that one holds: those of a condition, a loop, a try or a match."""
    for name in ("body", "orelse", "finalbody"):
        yield getattr(statement, name, [])
    for part in (*getattr(statement, "handlers", []), *getattr(statement, "cases", [])):
        yield part.body


def _expressions(node: ast.AST) -> Iterator[ast.AST]:
    """What stands in a statement, but in no other that it holds."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield child
            yield from _expressions(child)


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    """What is assigned to what, where several are in one line."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return list(zip(target.elts, value.elts, strict=False))
    return [(target, value)]


def _messages(call: Call) -> Iterator[Message]:
    """The messages that a call may make; those without words of their own are left out."""
    whats, *more = [_texts(argument, call.scope) for argument in call.node.args[:2]] or [[UNKNOWN]]
    advices = more[0] if more else [""]
    if call.name == "Fault":  # its kind, and one text of both
        pairs = [text.partition("; ")[::2] for text in advices]
    else:
        pairs = list(zip(whats, advices, strict=True) if len(whats) == len(advices) else product(whats, advices))
    for what, advice in pairs:
        if any(word.isalpha() for word in what.split()):
            yield Message(" ".join(what.split()), " ".join(advice.split()))


def _texts(node: ast.expr, scope: Scope) -> list[str]:
    """What an expression may be, as text."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return _joined([_texts(part, scope) for part in parts])
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _joined([_texts(left, scope), _texts(right, scope)])
        case ast.IfExp(body=body, orelse=other):
            return _unique([*_texts(body, scope), *_texts(other, scope)])
        case ast.Name(id=name) if name in scope:
            return scope[name]
        case ast.Call(args=[package, *flags]) if _name(node.func) == "install_command":
            words = ([f" {shlex.quote(text)}" for text in _texts(argument, scope)] for argument in (*flags, package))
            return _joined([["pip install"], *words])  # pipx and uv have commands of their own
        case _:
            return [UNKNOWN]


def _joined(parts: list[list[str]]) -> list[str]:
    texts = _unique(["".join(words) for words in product(*parts)])
    return texts if len(texts) <= MOST else ["".join(words[0] if len(words) == 1 else UNKNOWN for words in parts)]


def _unique(texts: list[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def messages() -> dict[str, list[Message]]:
    """All errors by their section, in alphabetical order."""
    found: dict[str, set[Message]] = {section: set() for section in SECTIONS}
    for path in (*(ROOT / "smolcli").rglob("*.py"), *(ROOT / "converters").rglob("*.py")):
        if "nano" not in path.parts:  # whose commands are for those who train it
            for section, message in module(path).errors():
                found[section].add(message)
    return {
        section: sorted(rows, key=lambda row: (row.what.lstrip(f"{UNKNOWN}:., ").lower(), row))
        for section, rows in found.items()
    }


def page() -> str:
    """The whole text of docs/messages.md."""
    parts = [HEAD]
    for section, rows in messages().items():
        lines = [f"| {_code(row.what)} | {_code(row.advice)} |" for row in rows]
        parts.append("\n".join([f"## {SECTIONS[section]}\n", "| message | what to do |", "|---|---|", *lines, ""]))
    return "\n".join(parts)


def _code(text: str) -> str:
    """Text as it is printed, in a cell of a table."""
    marks = "``" if "`" in text else "`"
    return f"{marks}{text}{marks}".replace("|", "\\|") if text else ""


def main() -> None:
    """Write the page, or with --check exit with a message if it is another one."""
    text = page()
    if "--check" not in sys.argv:
        PAGE.write_text(text, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != text:
        sys.exit("docs/messages.md is not what the program says; run make docs")


if __name__ == "__main__":
    main()
