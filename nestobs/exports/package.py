"""A policy as a package for npm: the decision, a driver of whole joins, a React hook, the page's words, types, vectors.

The folder npm/ holds it as it is written, but for what `.in` files leave open. The decision is the ES module of
javascript.py, byte for byte. The same policy file gives the same bytes. As there, what the file holds may come from a
stranger: it is JSON in ASCII, in which `<` and the backtick are escaped, wherever it stands.
"""

from __future__ import annotations

import json
import re
from importlib.resources import files

from nestobs.exports import javascript
from nestobs.join.decision import LABELS, MESSAGES, OF_A_PROBER, TOAST
from nestobs.tuning.policy_file import PolicyFile

MARK = "nestobs"
"""The key by which a package.json is known to be one of these."""


def package(file: PolicyFile) -> dict[str, str]:
    """The files of the package by name, all ASCII, package.json the last."""
    vectors = javascript.vectors(file)
    made = file.provenance
    policy = {"policy": file.policy.name, "made_at": made.made_at, "nests": made.n, "store": made.store_digest}
    parts = {
        "LABELS": _literal({_camel(name): label for name, label in LABELS.items()}),
        "TOAST": _literal(TOAST),
        "MESSAGES": _literal({kind: text for kind, text in MESSAGES.items() if kind not in OF_A_PROBER}),
        "PROVENANCE": _literal(policy),
        "ABOUT": _literal({**policy, "asks": file.policy.words}),
        "COUNT": str(len(json.loads(vectors)["vectors"])),
    }
    found = {"policy.js": javascript.module(file), "vectors.json": vectors}
    for source in sorted((files("nestobs.exports") / "npm").iterdir(), key=lambda source: source.name):
        text = source.read_text("ascii")
        if source.name.endswith(".in"):
            text = re.sub("@([A-Z_]+)@", lambda gap: parts[gap[1]], text)
        found[source.name.removesuffix(".in")] = text
    found["package.json"] = found.pop("package.json")
    return found


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)


def _literal(value: object) -> str:
    """JSON that ends no string, no line, no element and no code of Markdown."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c").replace("`", "\\u0060")
