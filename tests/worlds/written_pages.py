"""The README and the site's pages as they are written: their blocks, and the commands in blocks and in running text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@dataclass(frozen=True)
class Written:
    """A page of Markdown; `str()` is its path from the top of the repository."""

    path: Path

    def __str__(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    def blocks(self, language: str) -> list[str]:
        return re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.M | re.S)

    def commands(self, first: str) -> list[str]:
        """Lines of sh blocks that begin with this word."""
        lines = [line for block in self.blocks("sh") for line in block.splitlines()]
        return [line for line in lines if line.split()[:1] == [first]]

    def inline(self, first: str) -> list[str]:
        """Commands in running text."""
        found = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", self.text, flags=re.M | re.S))
        return [words for words in found if words.split()[:1] == [first] and len(words.split()) > 1]

    def links(self) -> list[str]:
        """Links to files, without the place in them."""
        found = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", self.text)]
        return [link for link in found if link and not link.startswith(("http://", "https://"))]


README = Written(ROOT / "README.md")
SITE = [Written(path) for path in sorted(DOCS.rglob("*.md"))]
