"""The page in a real browser: nothing scrolls sideways, on a desktop and on a phone."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MEASURE = """
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map((frame) => {
    const page = frame.contentDocument, images = [...page.images];
    const visible = [...page.querySelectorAll("p, dd, dt, li, td, th, figcaption, pre, a")];
    return {
      width: frame.clientWidth,
      scroll: page.documentElement.scrollWidth,
      broken: images.filter((i) => i.naturalWidth === 0).length,
      natural: images.map((i) => i.naturalWidth),
      beyond: images.filter((i) => i.getBoundingClientRect().right > frame.clientWidth).length,
      smallest: Math.min(...visible.map((e) => parseFloat(frame.contentWindow.getComputedStyle(e).fontSize))),
      tables: [...page.querySelectorAll(".scroll")].map((e) => e.scrollWidth > e.clientWidth),
    };
  });
  document.body.textContent = `[${JSON.stringify(found)}]`;
});
"""


def measure(pages: list[tuple[str, int]], folder: Path) -> list[dict]:
    """Sizes of each page in a frame of the given width (headless windows have a least width, frames do not)."""
    frames = "".join(f'<iframe width="{w}" height="800" srcdoc="{html.escape(p)}"></iframe>' for p, w in pages)
    wrapper = folder / "wrapper.html"
    wrapper.write_text(
        f"<!DOCTYPE html><meta charset=utf-8><style>iframe{{border:0}}</style><script>{MEASURE}</script><body>{frames}",
        encoding="utf-8",
    )
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder / 'profile'}", "--window-size=1400,900", "--dump-dom"]
    done = subprocess.run([*command, wrapper.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r"<body>\[(.*)\]</body>", done.stdout)
    assert found, done.stdout[-500:]
    return json.loads(html.unescape(found[1]))


@pytest.mark.skipif(CHROMIUM is None, reason="install chromium (apt-get install chromium)")
def test_fits_desktop_and_phone(page, tmp_path):
    too_wide = page.replace("<main>", '<main><div style="width: 2000px">wide</div>')
    desktop, phone, control = measure([(page, 1280), (page, 390), (too_wide, 390)], tmp_path)
    assert (desktop["width"], phone["width"]) == (1280, 390)
    assert control["scroll"] > 390, "the measurement would miss a page that is too wide"
    for view in (desktop, phone):
        assert view["scroll"] <= view["width"]
        assert view["broken"] == 0
        assert view["beyond"] == 0
        assert view["smallest"] >= 14
    assert not any(desktop["tables"])
    assert any(phone["tables"]), "wide tables scroll within their own box"
    assert max(phone["natural"]) < min(desktop["natural"]), "a phone gets the figures drawn for it"
