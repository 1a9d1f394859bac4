"""docs/email-event.schema.json against the one table of good and bad events.

tests/unit/test_event.c holds the decoder against the same table, so that schema and decoder agree on every row. A bad
event that no schema can refuse says so: `"schema": "accepts"`. These need no server.
"""

import base64
import json
import pathlib
import re

import pytest
from jsonschema import Draft202012Validator

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs" / "email-event.schema.json").read_text(encoding="utf-8"))
ROWS = [
    json.loads(line)
    for line in (ROOT / "tests" / "data" / "events.jsonl").read_text(encoding="utf-8").split("\n")
    if line
]
VALIDATOR = Draft202012Validator(SCHEMA)


def row_value(row):
    """The bytes of the record's value; None is a tombstone. test_event.c reads rows the same way."""
    if row.get("tombstone"):
        return None
    if "base64" in row:
        value = base64.b64decode(row["base64"])
    elif "raw" in row:
        value = row["raw"].encode() * row.get("repeat", 1)
    else:
        value = json.dumps(row["event"], ensure_ascii=False).encode()
    return value.ljust(row.get("pad", 0), b" ")


def refuse_constant(name):
    raise ValueError(f"{name} is no JSON")


def schema_accepts(value):
    if value is None:
        return False
    try:
        event = json.loads(value.decode("utf-8"), parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        return False
    return VALIDATOR.is_valid(event)


def test_schema_is_valid():
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_schema_agrees_with_the_table(row):
    expected = row["verdict"] == "good" or row.get("schema") == "accepts"
    assert schema_accepts(row_value(row)) == expected


def test_table_is_well_formed():
    names = [row["name"] for row in ROWS]
    assert len(names) == len(set(names))
    assert {row["verdict"] for row in ROWS} == {"good", "bad"}
    assert sum(row["verdict"] == "bad" for row in ROWS) >= 40
    for row in ROWS:
        sources = [key for key in ("event", "raw", "base64", "tombstone") if key in row]
        assert len(sources) == 1, row["name"]
        assert ("error" in row) == (row["verdict"] == "bad"), row["name"]
        assert row["verdict"] == "bad" or "schema" not in row, row["name"]


def schema_fields(schema):
    """Names of all properties in the schema, at any depth."""
    if isinstance(schema, list):
        return set().union(*map(schema_fields, schema))
    if not isinstance(schema, dict):
        return set()
    names = set(schema.get("properties", {}))
    return names.union(*map(schema_fields, schema.values()))


def test_every_field_is_documented_and_used_in_the_table():
    page = (ROOT / "docs" / "event.md").read_text(encoding="utf-8")
    good = "\n".join(json.dumps(row["event"]) for row in ROWS if row["verdict"] == "good" and "event" in row)
    fields = schema_fields(SCHEMA)
    assert {"messageID", "to", "contentID", "email"} <= fields
    for field in sorted(fields):
        assert f"`{field}`" in page, field
        assert f'"{field}":' in good, field


def test_examples_in_the_page_are_valid():
    page = (ROOT / "docs" / "event.md").read_text(encoding="utf-8")
    examples = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert examples
    for example in examples:
        assert schema_accepts(example.encode()), example
