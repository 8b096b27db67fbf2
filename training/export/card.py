"""The model card: what a checkpoint is, what it reads, how to use it, what it was trained on and what it has seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from torch_radar.checkpoints import Checkpoint
from torch_radar.templates import PairTemplate, TextTemplate
from training.recipe import DataSource, Recipe

Results = Mapping[str, float]
"""One row of the results table: a measure's name to its value."""

# Identifiers of the hub; any other licence is "other" with its name.
_LICENCES = frozenset({"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "llama3.1"})
_PAPER = "https://arxiv.org/abs/2505.18405"


def model_card(
    checkpoint: Checkpoint,
    recipe: Recipe | None = None,
    *,
    name: str = "path/to/checkpoint",
    results: Mapping[str, Results] | None = None,
) -> str:
    """Returns the README.md of a checkpoint.

    Args:
        checkpoint: The checkpoint, exported or an adapter.
        recipe: What it was trained by; ``None`` if that is not known.
        name: What a reader loads it by.
        results: Measurements by evaluation set and then by measure; ``None`` leaves the table out.

    Returns:
        Markdown with YAML front matter.
    """
    sections = {
        "Text form": _text_form(checkpoint),
        "Use": _use(checkpoint, name),
        "Training": _training(recipe),
        "Contamination": _contamination(recipe),
        "Results": _results(results),
        "Licence": _licence(checkpoint),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    front = yaml.safe_dump(_front_matter(checkpoint), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n# {Path(name).name}\n\n{_what(checkpoint)}\n\n{body}\n"


def _front_matter(checkpoint: Checkpoint) -> dict[str, Any]:
    is_retriever = checkpoint.kind == "retriever"
    matter: dict[str, Any] = {}
    licence = checkpoint.licence.strip()
    if licence.lower() in _LICENCES:
        matter["license"] = licence.lower()
    else:
        matter |= {"license": "other", "license_name": licence or "unknown"}
    if checkpoint.base is not None and _is_public(checkpoint.base):
        matter["base_model"] = checkpoint.base
        matter["base_model_relation"] = "adapter" if checkpoint.is_adapter else "finetune"
    matter["pipeline_tag"] = "sentence-similarity" if is_retriever else "text-ranking"
    whole = "sentence-transformers" if is_retriever else "transformers"
    matter["library_name"] = "peft" if checkpoint.is_adapter else whole
    matter["tags"] = ["radar", "reasoning", "information-retrieval", checkpoint.kind]
    if is_retriever and not checkpoint.is_adapter:
        matter["tags"] += ["sentence-transformers", "feature-extraction", "text-embeddings-inference"]
    return matter


def _is_public(name: str) -> bool:
    """Whether a name can be a hub id, and not a path of somebody's machine."""
    return name.count("/") <= 1 and not name.startswith((".", "/", "~")) and not Path(name).exists()


def _shown(name: str) -> str:
    return name if _is_public(name) else Path(name).name


def _what(checkpoint: Checkpoint) -> str:
    if checkpoint.kind == "retriever":
        what = "A dense retriever: it maps queries and documents to unit vectors whose dot product is their relevance."
    else:
        what = "A pointwise reranker: it reads a query and a document together and gives one relevance logit."
    base = f" It was trained from `{_shown(checkpoint.base)}`" if checkpoint.base else " It was trained"
    adapter = ", and this is the LoRA adapter alone: load it over that base." if checkpoint.is_adapter else "."
    return (
        f"{what}{base} in the way of RaDeR, reasoning-aware dense retrieval ([paper]({_PAPER})), for queries that take "
        f"reasoning to answer{adapter}"
    )


def _text_form(checkpoint: Checkpoint) -> str:
    template, limit = checkpoint.template, checkpoint.max_tokens
    if isinstance(template, TextTemplate):
        ending = "one EOS token, added after truncation" if template.ends_with_eos else "the tokenizer's special tokens"
        pooled = "hidden state of the last token" if checkpoint.pooling == "last_token" else "mean of the hidden states"
        return (
            f"| | |\n|---|---|\n| query | {_code(template.query_prefix + '{query}')} |\n"
            f"| document | {_code(template.document_prefix + '{document}')} |\n"
            f"| end | {ending} |\n| limit | {limit} tokens, end included |\n"
            f"| vector | {pooled}, normalised to length 1 |\n\n"
            "Another form gives other vectors and, without an error, worse rankings."
        )
    form = _code(template.head("{query}") + "{document}" + template.after_document)
    return (
        f"| | |\n|---|---|\n| pair | {form} |\n| limit | {limit} tokens; the document is cut at its end |\n"
        "| score | the logit itself, without a sigmoid |\n\n"
        "White space counts: another form gives other scores and, without an error, worse rankings."
    )


def _code(text: str) -> str:
    return f"`{text!r}`"


def _use(checkpoint: Checkpoint, name: str) -> str:
    template = checkpoint.template
    if isinstance(template, PairTemplate):
        return _use_reranker(checkpoint, template, name)
    radar = f"""With torch_radar and PyTerrier, which know the text form from `radar.json`:

```python
from torch_radar import Encoder

encoder = Encoder("{name}")
scores = encoder.encode_queries(["…"]) @ encoder.encode_documents(["…", "…"]).T

from pyterrier_radar import RadarBiEncoder, RadarIndex

index = RadarIndex("my.radar", RadarBiEncoder("{name}"))
index.index([{{"docno": "d1", "text": "…"}}])
retriever = index.retriever(num_results=100)
```"""
    if checkpoint.is_adapter:
        return radar
    return f"""{radar}

With Sentence Transformers, whose `encode_query` and `encode_document` add the prefixes (`encode` alone does not):

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{name}")
scores = model.similarity(model.encode_query(["…"]), model.encode_document(["…", "…"]))
```

Servers such as vLLM (`vllm serve {name} --runner pooling`) and Text Embeddings Inference read pooling and EOS from the
files, but not the prefixes: put them before each text."""


def _use_reranker(checkpoint: Checkpoint, template: PairTemplate, name: str) -> str:
    radar = f"""With torch_radar and PyTerrier, which know the text form from `radar.json`:

```python
from torch_radar import Reranker

scores = Reranker("{name}").score([("query", "document"), ("query", "another document")])

from pyterrier_radar import RadarReranker

pipeline = first_stage % 100 >> RadarReranker("{name}")  # first_stage gives query and text
```"""
    if checkpoint.is_adapter:
        return radar
    form = template.head("{query}") + "{document}" + template.after_document
    head = template.before_document.rstrip()
    space = template.before_document[len(head) :]
    first, second = template.before_query + "{query}" + head, space + "{document}" + template.after_document
    tail = ""
    if template.after_document:
        tail = (
            f" Where a pair is longer than the limit this also cuts what follows the document, "
            f"{_code(template.after_document)}, which torch_radar keeps: shorten the document first."
        )
    return f"""{radar}

With transformers, pairs as whole strings; the tokenizer adds the end:

```python
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForSequenceClassification.from_pretrained("{name}")

form = {form!r}
texts = [form.format(query=query, document=document) for query, document in pairs]
inputs = tokenizer(texts, padding=True, truncation=True, max_length={checkpoint.max_tokens}, return_tensors="pt")
with torch.inference_mode():
    scores = model(**inputs).logits[:, 0]
```

{tail.strip()}

Tools that take two texts (`/score` of vLLM, `CrossEncoder` of Sentence Transformers) get the same tokens from these
two, with the white space on the side of the document; the end comes once, after both:

```python
first, second = {first!r}, {second!r}
```""".replace("\n\n\n\n", "\n\n")


def _training(recipe: Recipe | None) -> str:
    if recipe is None:
        return "The recipe of this checkpoint was not kept."
    lines = [f"Trained by this project's `training` package, seed {recipe.seed}.", "", "| data | weight | format |"]
    lines += ["|---|---|---|"] + [_source(source) for source in recipe.data]
    if recipe.lora is None:
        weights = "all"
    else:
        adapted = ", ".join(recipe.lora.targets)
        weights = f"LoRA, rank {recipe.lora.rank}, alpha {recipe.lora.alpha}, dropout {recipe.lora.dropout}: {adapted}"
    settings: dict[str, Any] = {
        "trained weights": weights,
        "epochs": recipe.epochs if recipe.max_steps is None else f"{recipe.epochs}, {recipe.max_steps} updates at most",
        "queries per update": recipe.batch_queries,
        "documents per query": f"{recipe.group_size}, one of them positive",
        "learning rate": f"{recipe.learning_rate:g}, {recipe.schedule}, {recipe.warmup_steps} updates of warm-up",
        "precision": f"{recipe.precision}, base in {recipe.base.dtype}",
    }
    if recipe.kind == "retriever":
        others = "and those of the other queries" if recipe.in_batch_negatives else "alone"
        settings["loss"] = f"InfoNCE at temperature {recipe.temperature:g} over a query's own documents {others}"
        settings["limits"] = f"queries {recipe.max_query_tokens} tokens, documents {recipe.max_document_tokens}"
    else:
        settings["loss"] = "cross-entropy over a query's own documents"
        if (teacher := recipe.teacher) is not None:
            target = f"{teacher.weight:g} of the target: softmax of the cosines of {_shown(teacher.name)}"
            settings["teacher"] = f"{target}, divided by {teacher.temperature:g}"
        settings["limits"] = f"pairs {recipe.max_pair_tokens} tokens"
    lines += ["", "| setting | value |", "|---|---|"] + [f"| {key} | {value} |" for key, value in settings.items()]
    return "\n".join(lines)


def _source(source: DataSource) -> str:
    weight = f"{source.weight:g}"
    if source.query_types:
        weight += " × " + ", ".join(f"{kind} {factor:g}" for kind, factor in source.query_types.items())
    return f"| {_shown(source.path)} | {weight} | {source.format} |"


def _contamination(recipe: Recipe | None) -> str:
    stated = recipe.contamination.strip() if recipe is not None else ""
    return stated or (
        "Nobody has stated what of any evaluation set the training data holds. Until then take results on sets that "
        "share its sources as contaminated."
    )


def _results(results: Mapping[str, Results] | None) -> str:
    if not results:
        return "Not measured."
    measures = list(dict.fromkeys(measure for row in results.values() for measure in row))
    lines = [f"| | {' | '.join(measures)} |", "|---|" + "---:|" * len(measures)]
    for row, values in results.items():
        shown = (f"{values[measure]:.4f}" if measure in values else "–" for measure in measures)
        lines.append(f"| {row} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _licence(checkpoint: Checkpoint) -> str:
    if not checkpoint.licence:
        return "Not stated. The licence of the base model and the terms of the training data apply."
    return f"{checkpoint.licence}, as that of the base model; the terms of the training data apply as well."
