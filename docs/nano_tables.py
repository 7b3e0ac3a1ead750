"""The tables of docs/models.md about nano's materials, which cog writes into the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from smolcli.nano import icon_sets, photographs


def sources() -> str:
    """Every package that nano's lessons are drawn from: registry, version, licence, and what it gave."""
    photos = [
        (registry, package, version, licence, f"{count} photographs, {pictures} pictures", held_out)
        for registry, package, version, licence, count, pictures, held_out in photographs.sources()
    ]
    icons = [
        (
            icon_set.package.registry, icon_set.package.name, icon_set.version, icon_set.licence,
            f"icons by {icon_set.author}", icon_set.is_held_out,
        )
        for icon_set in icon_sets.SETS
    ]  # fmt: skip
    return "\n".join(_rows(("registry", "package", "version", "licence", "gives", "for"), [*photos, *icons]))


def _rows(head: Sequence[str], sources: Sequence[tuple[str, str, str, str, str, bool]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for *cells, held_out in sources:
        yield f"| {' | '.join(map(str, cells))} | {'evaluation' if held_out else 'training'} |"
