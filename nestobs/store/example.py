"""The small store that comes with nestobs: a real run of the lab (`benchmarks/make_example.py`). It is only read.

39 nests watched from two vantages, most of them of the race itself, and a few of an API whose joins fail for ever.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nestobs.store.shipments.place import plain_path

EXAMPLE: Final = "example"
"""What it is called wherever the folder of a store is named."""

SHIPPED: Final = Path(__file__).with_name("example_store")


def folder(named: Path | str) -> Path:
    """The absolute folder of the store that is named so. A folder `example` that is there goes before the example."""
    path = plain_path(named) or Path(named)
    return SHIPPED if path == Path(EXAMPLE) and not path.exists() else path.absolute()
