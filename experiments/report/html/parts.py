"""Pieces of a page. Everything that comes from outside is escaped here, and nowhere else."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Literal

Tone = Literal["good", "warn", "bad", "quiet"]


def text(words: object) -> str:
    return escape(str(words))


def paragraph(words: str, *, kind: str = "") -> str:
    mark = f' class="{kind}"' if kind else ""
    return f"<p{mark}>{text(words)}</p>"


def badge(words: str, tone: Tone) -> str:
    """A light; its words say what its colour says."""
    return f'<span class="badge {tone}">{text(words)}</span>'


def section(title: str, *parts: str, lead: str = "") -> str:
    """A part of the page under its own heading; nothing at all where it has no parts."""
    if not any(parts):
        return ""
    told = f'<p class="lead">{text(lead)}</p>' if lead else ""
    return f"<section><h2>{text(title)}</h2>{told}{''.join(parts)}</section>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str) -> str:
    """A table with row and column headings, in a box that scrolls by itself."""
    top = "".join(f'<th scope="col">{text(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{text(row[0])}</th>'
        + "".join(f"<td>{text(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}"><table>'
        f"<caption>{text(caption)}</caption><thead><tr>{top}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def folded(summary: str, *parts: str) -> str:
    return f"<details><summary>{text(summary)}</summary>{''.join(parts)}</details>"


def listed(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{text(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""
