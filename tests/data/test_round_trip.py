"""Whatever a text holds, it comes back as it was written."""

from __future__ import annotations

import csv
import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elbert.data import load_data, read_texts

characters = st.characters(exclude_categories=("Cs",), exclude_characters="\0")
awkward = st.sampled_from(
    ['"', '""', ",", "\n", "\r\n", "\r", "\t", ";", "\u2028", "\x85", "\x1c", "\ufeff", "'", "\\"]
)
texts = st.lists(st.lists(awkward | st.text(characters, max_size=8), max_size=6).map("".join), min_size=1, max_size=8)


def write_csv(rows):
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["text", "label"])
    writer.writerows(zip(rows, range(len(rows)), strict=True))
    return out.getvalue().encode("utf-8")


def write_jsonl(rows):
    lines = [json.dumps({"text": text, "label": row}, ensure_ascii=row % 2 == 0) for row, text in enumerate(rows)]
    return "\n".join(lines).encode("utf-8")


def write_parquet(rows):
    out = io.BytesIO()
    pq.write_table(pa.table({"text": rows, "label": list(range(len(rows)))}), out)
    return out.getvalue()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("extension", "pack"), [("csv", write_csv), ("jsonl", write_jsonl), ("parquet", write_parquet)]
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=texts)
def test_texts_survive_the_file(tmp_path, extension, pack, packed, rows):
    path = tmp_path / f"data.{extension}{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(pack(rows)) if packed else pack(rows))
    data = load_data(path)
    assert data.texts == rows
    assert data.labels == list(range(len(rows)))
    assert list(read_texts(path)) == list(enumerate(rows, start=1))
