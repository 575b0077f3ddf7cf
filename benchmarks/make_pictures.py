"""Make the pictures of the README anew: how the pages of the example open, in Chromium at 1280 px.

    PYTHONPATH=tests python -m benchmarks.make_pictures

Some twenty seconds. Look at them before they are committed. Exit code 1 where there is no Chromium.
"""

import base64
import sys
import tempfile
from pathlib import Path
from typing import Final

import nestobs
from nestobs.reports.publishing.execute import notebook, run
from worlds.browser import Browser, find_chromium

PICTURES: Final = ("incident", "tuning")
DOCS: Final = Path(nestobs.__file__).parents[1] / "docs"
SHOWN: Final = """(() => {
  const main = document.querySelector("main").getBoundingClientRect();
  const top = document.querySelector("h1").getBoundingClientRect().top;
  const bottom = document.querySelector(".nestobs-figure [role=img]").getBoundingClientRect().bottom;
  return {x: main.left - 8, y: top - 16, width: main.width + 16, height: bottom - top + 32, scale: 1};
})()"""
"""From the title to the end of the first figure."""


def main() -> int:
    if find_chromium() is None:
        print("there is no Chromium on PATH: run `make browser`", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder, Browser() as browser:
        for name in PICTURES:
            made = run(notebook(name), Path(folder, f"{name}.html"), {"store": "example"})
            page = browser.open(made)
            page.settle()
            shot = page.call(
                "Page.captureScreenshot", format="png", clip=page.evaluate(SHOWN), captureBeyondViewport=True
            )
            (DOCS / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))
            print(DOCS / f"{name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
