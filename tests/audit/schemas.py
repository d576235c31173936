"""Holds a report against the schema that ships with the package."""

import json
import re
from pathlib import Path
from typing import Any

import arcinvert

SCHEMA = json.loads((Path(arcinvert.__file__).parent / "audit" / "schema.json").read_text())


def wrong(value: Any, schema: dict[str, Any], where: str = "$") -> list[str]:
    """Where a value does not fit a schema; of JSON Schema only what ours uses."""
    if "$ref" in schema:
        return wrong(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], where)
    kinds: dict[str, Any] = {
        "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
        "integer": int, "number": (int, float),
    }  # fmt: skip
    wanted = schema.get("type", [])
    wanted = [wanted] if isinstance(wanted, str) else wanted
    truth = isinstance(value, bool)
    found = []
    if wanted and not any(isinstance(value, kinds[k]) and (not truth or k == "boolean") for k in wanted):
        return [f"{where}: expected {wanted}, got {value!r}"]
    if "const" in schema and value != schema["const"]:
        found.append(f"{where}: {value!r} is not {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: {value!r} is none of {schema['enum']}")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        found.append(f"{where}: {value!r} does not match")
    if isinstance(value, int | float) and not truth:
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        found += [] if low <= value <= high else [f"{where}: {value} is not in {low} to {high}"]
    if isinstance(value, dict):
        properties, rest = schema.get("properties", {}), schema.get("additionalProperties", {})
        found += [f"{where}: {name} is missing" for name in schema.get("required", []) if name not in value]
        for name, part in value.items():
            if name in properties:
                found += wrong(part, properties[name], f"{where}.{name}")
            elif rest is False:
                found.append(f"{where}: {name} is not known")
            else:
                found += wrong(part, rest, f"{where}.{name}")
    if isinstance(value, list) and "items" in schema:
        found += [line for i, part in enumerate(value) for line in wrong(part, schema["items"], f"{where}[{i}]")]
    return found
