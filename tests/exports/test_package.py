"""The npm package of a policy: what is in it, installed in a fresh folder, in strict TypeScript, and its own test."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from nestobs.exports import javascript
from nestobs.exports.package import package
from nestobs.join.decision import LABELS, MESSAGES, OF_A_PROBER, TOAST, Kind
from nestobs.join.policy import GUIDE, Policy, Schedule, standard_policies
from nestobs.tuning.policy_file import PolicyFile, Provenance, dumps
from worlds.client_package import Project, installed

pytestmark = pytest.mark.slow

TUNED = Policy(
    name="tuned",
    schedule=Schedule("table", table=((0.0, 0.3), (7.25, 1.1))),
    fault_after_s=33.3,
    fallback_age_s=12.3,
    fallback_tries=3,
    upgrades=7,
)
HOSTILE = PolicyFile(
    policy=replace(GUIDE, name="</script>*/ ```` `${alert(1)}` @COUNT@"),
    provenance=Provenance(store_digest='"}, "scripts": {"install": "curl'),
    notes=("\n# a title", "\u2028"),
)
POLICIES = {**standard_policies(), "tuned": TUNED, "hostile": HOSTILE.policy}
CLIENT = Path(__file__).parent / "client"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("client")
    (folder / "policy.json").write_text(dumps(PolicyFile(policy=TUNED)), "utf-8")
    return installed(folder / "project", str(folder / "policy.json"))


class TestWhatIsInIt:
    @pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
    def test_the_same_policy_gives_the_same_bytes(self, policy):
        files = package(PolicyFile(policy=policy))
        assert files == package(PolicyFile(policy=policy))
        assert list(files)[-1] == "package.json"
        assert {name: text for name, text in files.items() if not text.isascii()} == {}
        assert set(re.findall("@[A-Z_]+@", "".join(files.values()))) == set(re.findall("@[A-Z_]+@", policy.name))

    def test_the_decision_and_its_vectors_are_those_of_the_single_files(self):
        file = PolicyFile(policy=TUNED)
        files = package(file)
        assert files["policy.js"] == javascript.module(file)
        assert files["vectors.json"] == javascript.vectors(file)

    def test_a_hostile_file_says_nothing_in_it(self):
        files = package(HOSTILE)
        assert json.loads(files["package.json"])["nestobs"]["policy"] == HOSTILE.policy.name
        assert json.loads(files["package.json"])["scripts"] == {"test": "node vectors.js"}
        plain = package(PolicyFile(policy=GUIDE))["README.md"].splitlines()
        told = files["README.md"].splitlines()
        assert len(told) == len(plain)
        assert [line for line, other in zip(told, plain, strict=True) if line != other and "`" in line] == []
        pages = [text for name, text in files.items() if name != "vectors.json"]  # which is read, and never shown
        assert not re.search("</script|<!--", "".join(pages), re.IGNORECASE)

    def test_it_needs_nothing_and_looks_nowhere(self):
        """No dependency, no script that runs at an install, no host."""
        files = package(PolicyFile(policy=TUNED))
        said = json.loads(files["package.json"])
        assert {"dependencies", "optionalDependencies", "bin"} & set(said) == set()
        assert set(said["scripts"]) == {"test"}
        code = "".join(text for name, text in files.items() if name.endswith(".js") and name != "vectors.js")
        assert set(re.findall(r'from "([^"]+)"', code)) == {"./policy.js", "./wording.js", "./join.js", "react"}
        assert set(re.findall(r"https?://[^\s\"]+", code)) == {"https://HOST/api/v1/nests"}
        assert re.findall(r"\beval\b|\bFunction\(|innerHTML|localStorage|document\.|setInterval", code) == []

    def test_its_licence_is_ours(self):
        ours = (Path(__file__).parents[2] / "LICENSE").read_text("utf-8")
        assert package(PolicyFile(policy=GUIDE))["LICENSE"] == ours


class TestInstalled:
    def test_it_exports_the_decision_the_driver_and_the_words(self, project):
        said = project.script(
            """
            import * as all from "nest-join";
            import * as alone from "nest-join/join";
            import vectors from "nest-join/vectors.json" with { type: "json" };
            console.log(JSON.stringify({ ...all, names: [Object.keys(all), Object.keys(alone)] }));
            console.log(vectors.vectors.length > 1000);
            """
        ).splitlines()
        found = json.loads(said[0])
        assert found["names"] == [
            ["join", "labels", "messages", "nextAction", "nip98", "policy", "toast"],
            ["join", "nip98"],
        ]
        assert found["policy"] == json.loads(json.dumps(TUNED.as_dict()))
        assert sorted(found["labels"].values()) == sorted(LABELS.values())
        assert found["toast"] == TOAST
        assert found["messages"] == {kind: text for kind, text in MESSAGES.items() if kind not in OF_A_PROBER}
        assert said[1] == "true"

    def test_nothing_of_it_can_be_changed_by_a_page(self, project):
        project.script(
            """
            import assert from "node:assert/strict";
            import { labels, messages, policy, toast } from "nest-join";
            for (const found of [labels, messages, policy, policy.schedule, toast]) assert(Object.isFrozen(found));
            """
        )

    def test_its_own_test_passes_and_can_fail(self, project, tmp_path):
        said = project.run("npm", "test", "--silent", "--prefix", "nest-join")
        assert re.fullmatch(r"\d{4} vectors, 0 of them failed", said.strip())
        other = tmp_path / "other"
        for name, text in package(PolicyFile(policy=GUIDE)).items():
            other.mkdir(exist_ok=True)
            (other / name).write_text(text, "ascii")
        (other / "vectors.json").write_text((project.package / "vectors.json").read_text())
        assert ", 0 of them" not in project.run("node", str(other / "vectors.js"), code=1)


RESOLUTIONS = {
    "bundler": ("esnext", "bundler"),
    "nodenext": ("nodenext", "nodenext"),
    "node10": ("esnext", "node10"),
}
WORLDS = {
    "page": {"lib": ["es2022", "dom", "dom.iterable"], "types": []},
    "server": {"lib": ["es2022"], "types": ["node"]},
}


class TestStrictTypeScript:
    @pytest.mark.parametrize(
        ("compiler", "resolution", "world"),
        [
            ("typescript", "bundler", "page"),
            ("typescript", "nodenext", "server"),
            ("typescript-5", "bundler", "server"),
            ("typescript-5", "nodenext", "page"),
            ("typescript-5", "node10", "page"),  # of old projects, which read no `exports`
        ],
    )
    def test_accepts_a_client_of_all_of_it(self, compiler, resolution, world, project):
        tools = project.link_tools()
        compile_strictly(project, tools / compiler / "bin" / "tsc", resolution, world)

    def test_refuses_what_the_package_does_not_say(self, project):
        """So the checks above can fail: a kind that is forgotten, a field of the policy that is unknown."""
        tools = project.link_tools()
        said = compile_strictly(
            project, tools / "typescript" / "bin" / "tsc", "bundler", "page", more="kinds.gone = 1;", code=1
        )
        assert "TS2322" in said


def compile_strictly(project, tsc, resolution, world, *, more="", code=0):
    """Compile the client, beside it the single module with its comments as types, all kinds and some policies."""
    module, how = RESOLUTIONS[resolution]
    (project.folder / "use.tsx").write_text((CLIENT / "use.tsx").read_text("utf-8"), "utf-8")
    (project.folder / "single.js").write_text(javascript.module(PolicyFile(policy=TUNED)), "ascii")
    kinds = {kind: True for kind in Kind if kind not in OF_A_PROBER}
    policies = [policy.as_dict() for policy in POLICIES.values()]
    (project.folder / "data.ts").write_text(
        'import type { Kind, Policy } from "nest-join";\n'
        f"const kinds: {{ [kind in Kind]: true }} = {json.dumps(kinds)};\n{more}\n"
        f"const policies: Policy[] = {json.dumps(policies)};\nexport {{ kinds, policies }};\n",
        "utf-8",
    )
    options = {
        "strict": True,
        "noUncheckedIndexedAccess": True,
        "exactOptionalPropertyTypes": True,
        "noPropertyAccessFromIndexSignature": True,
        "noUnusedLocals": True,
        "verbatimModuleSyntax": True,
        "isolatedModules": True,
        "skipLibCheck": False,
        "noEmit": True,
        "target": "es2022",
        "jsx": "react-jsx",
        "allowJs": True,
        "module": module,
        "moduleResolution": how,
        **WORLDS[world],
    }
    config = {"compilerOptions": options, "files": ["use.tsx", "data.ts"]}
    (project.folder / "tsconfig.json").write_text(json.dumps(config), "utf-8")
    return project.run(tsc, "-p", ".", code=code)
