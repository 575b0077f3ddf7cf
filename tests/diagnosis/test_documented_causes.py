"""docs/causes.md has every cause, in the words of the rules. Regenerate with NESTOBS_WRITE_GOLDEN=1."""

from __future__ import annotations

from pathlib import Path

from nestobs.diagnosis import RULES
from nestobs.diagnosis.causes import Rule
from worlds.command_line import WRITE_GOLDEN

PAGE = Path(__file__).parents[2] / "docs" / "causes.md"
HEAD = """\
# Causes

What `nestobs diagnose` names, and every page and command that says why a nest could not be joined. Of each cause:
what is the matter, which evidence tells it, and what refutes it. *Standing*: waiting does not heal it. *Fault*:
something is broken or wrongly set up, as against the race between the parts of a nest, an ordinary end, or a limit. A
confidence of .9 or more is given only where the deciding evidence was observed; where two causes fit, both are named,
with what to ask next.

| cause | what is the matter | |
|---|---|---|
"""


def line(rule: Rule) -> str:
    kind = ", ".join(word for word, holds in (("standing", rule.standing), ("fault", rule.fault)) if holds)
    return f"| [`{rule.cause}`](#{rule.cause}) | {rule.theory} | {kind} |\n"


def section(rule: Rule) -> str:
    told = {"Evidence": rule.needs, "Refuted by": rule.refuted_by}
    told |= {
        f"What a {who} can do" if who != "operator" else "What an operator can do": words
        for who, words in rule.advice().items()
    }
    told |= {"To ask next": rule.next, "To ask next, where LiveKit's list has told": rule.listed}
    lines = "".join(f"- **{what}:** {words}\n" for what, words in told.items() if words)
    return f"\n## `{rule.cause}`\n\n{rule.theory}\n\n{lines}"


def test_the_page_is_made_of_the_rules():
    page = HEAD + "".join(map(line, RULES.values())) + "".join(map(section, RULES.values()))
    if WRITE_GOLDEN:
        PAGE.write_text(page, "utf-8")
    assert PAGE.read_text("utf-8") == page


def test_no_word_breaks_the_table():
    assert not any("|" in rule.theory for rule in RULES.values())
