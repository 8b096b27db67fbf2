"""BRIGHT's rewritten queries: the column that BRIGHT reads, which ir_datasets doesn't."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyterrier_radar._bright import bright_rewrite, rewrite_field

_SCRIPT = """
import json
import pyterrier as pt
from pyterrier_radar.commands._collection import open_collection
collection = open_collection("bright/pony")
theirs = pt.get_dataset("irds:bright/pony").get_topics("gpt4_reason")
print(json.dumps({
    "theirs": theirs["query"].tolist(),
    "original": collection.topics()["query"].tolist(),
    "ours": [collection.topics(v).to_dict("list") for v in ("gpt4_reason", "Gemini-1.0_reason", "gemini_1_0_reason")],
    "long": open_collection("bright/pony-long").topics("gpt4_reason")["query"].tolist(),
}))
"""


def _write(folder: Path, name: str, rows: list[dict[str, object]]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="ir_datasets keeps BRIGHT as Parquet")
    import pyarrow

    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / name)


def test_a_rewrite_is_the_column_query_of_its_configuration(tmp_path: Path) -> None:
    """The files are where ir_datasets would have put BRIGHT's own, made of a few rows of ours."""
    import ir_datasets
    from ir_datasets.datasets import bright

    downloads = json.loads((Path(ir_datasets.__file__).parent / "etc" / "downloads.json").read_text())["bright"]
    folder = tmp_path / "bright"
    folder.mkdir()
    rest = {"reasoning": "what an annotator noted", "gold_answer": "", "gold_ids": ["d"], "gold_ids_long": ["d"]}
    ids = ("1", "0")
    _write(folder, downloads["pony/queries"]["cache_path"], [{"id": i, "query": f"own words {i}", **rest} for i in ids])
    for source in bright.REASONING_FIELDS:
        rows = [{"id": i, "query": f"{source} of {i}", **rest} for i in reversed(ids)]
        _write(folder, downloads[f"pony/{source}/queries"]["cache_path"], rows)
    environment = os.environ | {"IR_DATASETS_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", _SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1500:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["original"] == ["own words 1", "own words 0"]
    expected = {"qid": ["1", "0"], "query": ["gpt4_reason of 1", "gpt4_reason of 0"]}
    assert found["ours"][0] == expected and found["long"] == expected["query"]
    assert found["ours"][1] == found["ours"][2]
    assert found["ours"][1]["query"] == ["Gemini-1.0_reason of 1", "Gemini-1.0_reason of 0"]
    # where this fails ir_datasets has been mended, and _bright.py may go
    assert found["theirs"] == ["what an annotator noted"] * 2


def test_a_rewrite_goes_by_brights_name_and_by_ir_datasets() -> None:
    assert bright_rewrite("bright/pony", "claude_3_opus_reason") == "claude-3-opus_reason"
    assert bright_rewrite("bright/pony", "claude-3-opus_reason") == "claude-3-opus_reason"
    assert bright_rewrite("bright/pony", "text") is bright_rewrite("msmarco-passage", "gpt4_reason") is None
    from ir_datasets.datasets.bright import REASONING_FIELDS

    assert {name: rewrite_field(name) for name in REASONING_FIELDS} == REASONING_FIELDS
