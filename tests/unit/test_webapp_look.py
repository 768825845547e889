"""The colours of webapp/pages/static/css/tokens.css: text never under 4.5 to its ground, marks never under 3
(WCAG 1.4.3, 1.4.11); and no inline code in any template."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGES = Path(__file__).resolve().parents[2] / "webapp" / "pages"
TOKENS = (PAGES / "static" / "css" / "tokens.css").read_text("utf-8")
#: What text of each colour stands on. Accent is text only in labels that bring the panel's ground along.
TEXT = {
    "panel": ("text", "muted", "faint", "up", "down", "accent"),
    "bg": ("text", "muted", "up", "down"),
}
TEXT_CONTRAST = 4.5
MARK_CONTRAST = 3.0


def tokens(*selectors: str) -> dict[str, str]:
    """Hex colours declared under the selectors, later ones over earlier ones."""
    found: dict[str, str] = {}
    for selector in selectors:
        match = re.search(rf"(?m)^{re.escape(selector)} {{\n(.*?)^}}", TOKENS, re.S)
        assert match, selector
        found.update(re.findall(r"--(\w+): (#[0-9a-f]{6});", match[1]))
    return found


def luminance(colour: str) -> float:
    """Relative luminance as WCAG defines it."""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(left: str, right: str) -> float:
    """Contrast ratio, 1 to 21."""
    bright, dark = sorted((luminance(left), luminance(right)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


THEMES = {
    "dark": (":root",),
    "light": (":root", ':root[data-theme="light"]'),
    "dark, blue and orange": (":root", ':root[data-palette="blue-orange"]'),
    "light, blue and orange": (
        ":root",
        ':root[data-theme="light"]',
        ':root[data-theme="light"][data-palette="blue-orange"]',
    ),
}


@pytest.mark.parametrize("theme", THEMES)
def test_text_and_marks_stand_out(theme: str) -> None:
    colours = tokens(*THEMES[theme])
    for ground, names in TEXT.items():
        for name in names:
            assert contrast(colours[name], colours[ground]) >= TEXT_CONTRAST, (name, ground)
        for name in ("focus", "accent", "faint"):
            assert contrast(colours[name], colours[ground]) >= MARK_CONTRAST, (name, ground)


def test_the_theme_of_the_system_has_the_same_colours_as_the_chosen_one() -> None:
    match = re.search(r':root:not\(\[data-theme="dark"\]\) {\n(.*?)\n  }', TOKENS, re.S)
    assert match
    system = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", match[1]))
    assert system == tokens(':root[data-theme="light"]')


def test_templates_hold_no_inline_code_or_style() -> None:
    for path in (PAGES / "templates").rglob("*.html"):
        text = path.read_text("utf-8")
        assert not re.search(r"\son\w+=|\sstyle=|javascript:", text), path.name
        assert not re.search(r"<script(?![^>]*\ssrc=)", text), path.name
