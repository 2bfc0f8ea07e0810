"""A plot of a run: for each row a bar for each peer, as long as it is fast. SVG, and nothing else is needed for it."""

from __future__ import annotations

from html import escape
from typing import Any

LEFT, WIDTH, BAR, GAP, HEAD = 270, 620, 15, 22, 40
COLOURS = {"tpio": "#2266aa", "plain C": "#555555"}
OTHERS = "#bb8844"


def svg(run: dict[str, Any], title: str, rows: list[dict[str, Any]]) -> str:
    """The longest bar of a row is its fastest peer's."""
    height = HEAD + sum(GAP + BAR * len(row["peers"]) for row in rows) + 3 * BAR
    machine = "; ".join(f"{name} {value}" for name, value in run["machine"].items())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH}" height="{height}" '
        f'viewBox="0 0 {LEFT + WIDTH} {height}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="8" y="18" font-size="14" font-weight="bold">{escape(title)}</text>',
        f'<text x="8" y="32" fill="#666">{escape(machine)}</text>',
    ]
    y = HEAD
    for row in rows:
        y += GAP
        parts.append(f'<text x="8" y="{y - 6}" font-weight="bold">{escape(row["title"])}</text>')
        for peer, figures in sorted(row["peers"].items(), key=lambda item: -_speed(row, item[1])):
            parts += _bar(row, peer, figures, y)
            y += BAR
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _speed(row: dict[str, Any], figures: dict[str, Any]) -> float:
    """Of the median: more is faster."""
    median: float = figures["median"]
    return median if row["unit"] == "MB/s" else 1 / median


def _bar(row: dict[str, Any], peer: str, figures: dict[str, Any], y: int) -> list[str]:
    fastest = max(_speed(row, each) for each in row["peers"].values())
    length = max(1, round((WIDTH - 110) * _speed(row, figures) / fastest))
    colour = next((colour for start, colour in COLOURS.items() if peer.startswith(start)), OTHERS)
    median = figures["median"]
    number = f"{median:,.0f}" if median >= 100 else f"{median:.3g}"
    return [
        f'<text x="{LEFT - 6}" y="{y + 11}" text-anchor="end">{escape(peer)}</text>',
        f'<rect x="{LEFT}" y="{y + 2}" width="{length}" height="{BAR - 4}" fill="{colour}"/>',
        f'<text x="{LEFT + length + 4}" y="{y + 11}">{number} {escape(row["unit"])}</text>',
    ]
