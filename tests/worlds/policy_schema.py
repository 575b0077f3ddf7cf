"""The JSON Schema of policy files, as it is shipped."""

import json
from importlib.resources import files

SCHEMA = json.loads((files("nestobs.tuning") / "policy.schema.json").read_text("utf-8"))
