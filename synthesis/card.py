"""The data card of a dataset: what is in it, how it was made, what to beware of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthesis.files import write_text
from synthesis.markdown import table
from synthesis.report import decontamination_markdown, samples_markdown

_FRONT = """---
task_categories:
- text-retrieval
tags:
- reasoning
- mathematics
- synthetic
configs:
- config_name: default
  data_files: train.jsonl
---"""

_WHAT = """# Training triples for reasoning-aware retrieval

Queries, theorems that answer them, and theorems that do not. A language model solved problems by tree search and
retrieved theorems on the way. Where a theorem lies on a path to a rewarded answer, it is the positive of queries that
were made of that place in the solution; what the same retrieval returned and the model rejected is negative.

This card was written with the data; the same figures are in `samples.json`."""

_FIELDS = """## Fields of `train.jsonl`

One JSON object a line: `query_id`, `query`, `query_type`, `positive` (`docno`, `text`), `negatives` (`docno`, `text`,
`origin`), `also_relevant` (docnos of other theorems that were accepted for the same problem) and `provenance`: problem,
configuration, rollout, the numbers of the query node and the theorem node, what the rollout's answer was judged by
(`reward`: `gold`, the gold answer, or `consensus`, the answer that several solutions agreed on), and the keys of the
language model's calls that wrote the query and judged the theorems.

| `query_type` | The query is |
|---|---|
| `question` | the problem |
| `cot` | the problem, and the steps before the retrieval |
| `llmq` | one sentence, written by the model from problem, steps and theorem, which must not name the theorem |
| `lexical` | a question, written by the model from the theorem alone, for which BM25 finds the theorem again |

| `origin` | The negative was |
|---|---|
| `rejected` | retrieved at the same node, and judged irrelevant by the model |
| `bm25-n`, `dense-n` | at rank n of BM25 or of the encoder for this query; nobody judged it |"""

_LIMITS = """## What to beware of

- Relevance was judged by a language model, and a theorem on the way to an answer need not be why it is right.
- Mined negatives are unjudged. No theorem that was accepted for the problem is among them; others may be relevant.
- The theorem corpus is training data too: where an evaluation searches the same corpus, its documents have been seen.
- Licences of the problems and of the theorem corpus apply to the texts."""


def write_card(samples: Mapping[str, Any], path: Path) -> None:
    """Writes the card.

    Args:
        samples: What ``samples.json`` holds.
        path: The card's file, beside the dataset.
    """
    sources = table(("Made with", ""), samples["about"].items()) if samples["about"] else ""
    settings = [(name, json.dumps(value)) for name, value in samples["settings"].items()]
    parts = [
        f"{_FRONT}\n{_WHAT}",
        sources,
        "## Contents",
        samples_markdown(samples),
        _FIELDS,
        "## Decontamination",
        decontamination_markdown(samples["decontamination"]),
        _LIMITS,
        "## Settings",
        table(("Setting", "Value"), settings),
    ]
    write_text(path, "\n\n".join(part for part in parts if part) + "\n")
