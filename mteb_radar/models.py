"""RaDeR: retrievers and rerankers for reasoning-intensive retrieval (arXiv 2505.18405), for mteb's model registry.

This file imports mteb alone (torch, transformers and peft when a model is loaded), so that it can be copied into
``mteb/models/model_implementations/`` as it is. Its loaders are the plain ones: one padded batch after the other.

The repositories ship no sentence-transformers configuration, and the generic loader falls back to mean pooling: one
user measured nDCG@10 0.41 where 0.49 was right. So the text form is spelled out here: ``query: `` or ``document: ``,
the text, and one EOS of the tokenizer, whose hidden state is the vector. EOS goes behind whatever was truncated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction
from mteb.types import OutputDType, PromptType

if TYPE_CHECKING:
    import torch
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import Array, BatchedInput
    from torch.utils.data import DataLoader

QUERY_PREFIX, DOCUMENT_PREFIX = "query: ", "document: "
"""The form of the authors' evaluation code, for which the published figures hold."""

AUTHORS_PAIR = ("query: ", " document: ", "")
RECOVERED_PAIR = ("query: Query: ", " document:  ", " ")
"""Before the query, before the document, after it. The second is the form the LoRA reranker was trained in, as an
independent user recovered it; it measured +0.0223 nDCG@10 over the authors' code form."""

_POST = "Instruct: Given a {name} post, retrieve relevant {unit} that help answer the post\nQuery: "
_QUESTION = "Instruct: Given a {name} question, retrieve relevant {unit} that help answer the question\nQuery: "
_CODING = "Instruct: Given a coding problem, retrieve relevant examples that help answer the problem\nQuery: "
_MATH = "Instruct: Given a Math problem, retrieve relevant {unit} that help answer the problem\nQuery: "

_DOMAINS = {
    "Biology": ("biology", _POST),
    "EarthScience": ("earth_science", _POST),
    "Economics": ("economics", _POST),
    "Psychology": ("psychology", _POST),
    "Robotics": ("robotics", _POST),
    "Stackoverflow": ("stackoverflow", _POST),
    "SustainableLiving": ("sustainable_living", _POST),
    "Pony": ("pony", _QUESTION),
}

PROMPTS: dict[str, str] = {
    # BRIGHT's own evaluation code, with its raw split ids; RaDeR was evaluated with it (paper §5). Not the prompts of
    # the BRIGHT(v1.1) tasks, which are another model's wording.
    **{f"Bright{task}Retrieval": form.format(name=name, unit="passages") for task, (name, form) in _DOMAINS.items()},
    **{
        f"Bright{task}LongRetrieval": form.format(name=name, unit="documents")
        for task, (name, form) in _DOMAINS.items()
    },
    "BrightLeetcodeRetrieval": _CODING,
    "BrightAopsRetrieval": _MATH.format(unit="examples"),
    "BrightTheoremQAQuestionsRetrieval": _MATH.format(unit="examples"),
    "BrightTheoremQATheoremsRetrieval": _MATH.format(unit="theorems"),
    # RAR-b, MS MARCO and TREC DL: no wording is published, so they run in the form of the training data, without one.
    # So does every task that is not named here: mteb's own prompts were never shown to these models.
}

MAX_TOKENS = 8192
"""Tokens read of a query or document: BRIGHT's evaluation code for models of this family."""
MAX_PAIR_TOKENS = 4096
"""Passages were cut at 3,900 tokens in training (paper §5); the rest is room for the query."""


class RaDeRRetriever(AbsEncoder):
    """A RaDeR retriever: texts to float32 unit vectors, the hidden state of one EOS behind each text.

    Args:
        model_name: Hub id or folder of the weights.
        revision: Hub revision of the weights.
        device: Where it runs; the best one here if None.
        dtype: float32, bfloat16 or float16; bfloat16 on CUDA and float32 elsewhere if None.
        base: For a LoRA adapter, the model that it is merged into (in float32: bfloat16 would round the change away).
        prompts_dict: Instruction of each task, put behind the query prefix; tasks that it lacks have none.
        max_tokens: The most tokens of a text, prefix and EOS included.
        batch_tokens: The most padded tokens of a batch.
    """

    def __init__(
        self,
        model_name: str,
        revision: str | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        base: str | None = None,
        prompts_dict: dict[str, str] | None = None,
        max_tokens: int = MAX_TOKENS,
        batch_tokens: int = 16384,
    ) -> None:
        from transformers import AutoModel

        self.model, self.tokenizer = _load(AutoModel, model_name, revision, device=device, dtype=dtype, base=base)
        self.prompts_dict = PROMPTS if prompts_dict is None else prompts_dict
        self.max_tokens = max_tokens
        self.batch_tokens = batch_tokens

    def encode(
        self,
        inputs: DataLoader[BatchedInput],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Any,
    ) -> Array:
        """Encodes texts: documents in the document form, everything else in the query form.

        Returns:
            float32 (n, dimension), unit rows.
        """
        import torch
        from torch.nn.functional import normalize

        prefix = DOCUMENT_PREFIX
        if prompt_type != PromptType.document:
            prefix = QUERY_PREFIX + (self.prompts_dict or {}).get(task_metadata.name, "")
        texts = [prefix + text for batch in inputs for text in batch["text"]]
        eos = self.tokenizer.eos_token_id
        ids = [ids[: self.max_tokens - 1] + [eos] for ids in _token_ids(self.tokenizer, texts)]
        vectors = np.empty((len(ids), self.model.config.hidden_size), dtype=np.float32)
        with torch.inference_mode():
            for rows in _batches(ids, self.batch_tokens):
                tokens, mask = _padded([ids[row] for row in rows], self.model.device)
                states = self.model(input_ids=tokens, attention_mask=mask).last_hidden_state
                last = states[torch.arange(len(rows)), mask.sum(dim=1) - 1]
                vectors[rows] = normalize(last.float(), dim=-1).cpu().numpy()
        return vectors


class RaDeRReranker:
    """A pointwise RaDeR reranker: pairs of query and document to logits, read at the EOS behind each pair.

    Args:
        model_name: Hub id or folder of the weights.
        revision: Hub revision of the weights.
        device: Where it runs; the best one here if None.
        dtype: float32, bfloat16 or float16; bfloat16 on CUDA and float32 elsewhere if None.
        base: For a LoRA adapter, the model that it is merged into.
        template: What is put before the query, before the document and after it.
        max_tokens: The most tokens of a pair; a longer one loses the end of its document, never query or tail.
        batch_tokens: The most padded tokens of a batch.
    """

    def __init__(
        self,
        model_name: str,
        revision: str | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        base: str | None = None,
        template: tuple[str, str, str] = AUTHORS_PAIR,
        max_tokens: int = MAX_PAIR_TOKENS,
        batch_tokens: int = 16384,
    ) -> None:
        from transformers import AutoModelForSequenceClassification as Classifier

        self.model, self.tokenizer = _load(
            Classifier, model_name, revision, device=device, dtype=dtype, base=base, num_labels=1
        )
        self.model.config.pad_token_id = self.tokenizer.pad_token_id
        self.template = template
        self.max_tokens = max_tokens
        self.batch_tokens = batch_tokens

    def predict(
        self,
        inputs1: DataLoader[BatchedInput],
        inputs2: DataLoader[BatchedInput],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Any,
    ) -> Array:
        """Scores pairs.

        Args:
            inputs1: Queries, one for each pair.
            inputs2: Documents, one for each pair.
            task_metadata: Unused: the pair form has no instruction.
            hf_split: Unused.
            hf_subset: Unused.
            prompt_type: Unused.
            **kwargs: Unused.

        Returns:
            float32 (n,) logits.
        """
        import torch

        queries = [text for batch in inputs1 for text in batch["text"]]
        documents = [text for batch in inputs2 for text in batch["text"]]
        ids = [self._pair_ids(query, document) for query, document in zip(queries, documents, strict=True)]
        logits = np.empty(len(ids), dtype=np.float32)
        backbone = getattr(self.model, self.model.base_model_prefix)
        with torch.inference_mode():
            for rows in _batches(ids, self.batch_tokens):
                tokens, mask = _padded([ids[row] for row in rows], self.model.device)
                states = backbone(input_ids=tokens, attention_mask=mask).last_hidden_state
                # not the model's own logits: it looks for the last token that is no padding, and padding may be EOS
                last = states[torch.arange(len(rows)), mask.sum(dim=1) - 1]
                logits[rows] = self.model.score(last).float()[:, 0].cpu().numpy()
        return logits

    def _pair_ids(self, query: str, document: str) -> list[int]:
        before, between, after = self.template
        head = before + query + between
        room = self.max_tokens - 1
        (ids,) = _token_ids(self.tokenizer, [head + document + after])
        if len(ids) > room:
            tail = _token_ids(self.tokenizer, [after])[0] if after else []
            (ids,) = _token_ids(self.tokenizer, [head + document])
            ids = ids[: room - len(tail)] + tail
        return [*ids, self.tokenizer.eos_token_id]


def _load(
    auto_class: Any,
    name: str,
    revision: str | None,
    *,
    device: str | None,
    dtype: str | None,
    base: str | None,
    **options: Any,
) -> tuple[Any, Any]:
    """The model, in evaluation mode, and its tokenizer; safetensors only, no remote code, no random weights."""
    import torch
    from transformers import AutoTokenizer

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if dtype is None:
        dtype = "bfloat16" if str(device).startswith("cuda") else "float32"
    # A revision is one of the adapter's repository, never of its base's.
    weights, weights_revision = (name, revision) if base is None else (base, None)
    options |= {"use_safetensors": True, "trust_remote_code": False, "output_loading_info": True}
    loaded_as = getattr(torch, dtype) if base is None else torch.float32
    model, report = auto_class.from_pretrained(weights, revision=weights_revision, dtype=loaded_as, **options)
    missing = {key for key in report["missing_keys"] if base is None or not key.startswith("score")}
    if missing:
        raise ValueError(f"{weights} lacks weights of {type(model).__name__}, such as {sorted(missing)[:3]}")
    if base is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, name, revision=revision, use_safetensors=True).merge_and_unload()
    for parameter in model.parameters():
        parameter.data = parameter.data.to(getattr(torch, dtype))
    # Buffers keep their precision: rotary frequencies rounded to bfloat16 turn every vector past a few hundred tokens.
    model = model.to(device).eval()
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
    except (OSError, ValueError):
        if base is None:
            raise
        tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)  # the adapter ships none
    return model, tokenizer


def _token_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []


def _batches(ids: list[list[int]], batch_tokens: int) -> Iterator[list[int]]:
    """Row numbers in batches of similar length, the longest first."""
    order = sorted(range(len(ids)), key=lambda row: -len(ids[row]))
    start = 0
    while start < len(order):
        rows = max(1, batch_tokens // len(ids[order[start]]))
        yield order[start : start + rows]
        start += rows


def _padded(ids: list[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (n, longest), padded on the right, and their mask."""
    import torch

    tokens = torch.zeros(len(ids), max(map(len, ids)), dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, sequence in enumerate(ids):
        tokens[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    return tokens.to(device), mask.to(device)


CITATION = r"""@inproceedings{das2025rader,
  author = {Das, Debrup and O'Nuallain, Sam and Rahimi, Razieh},
  booktitle = {Proceedings of the 2025 Conference on Empirical Methods in Natural Language Processing},
  title = {{RaDeR}: Reasoning-aware Dense Retrieval Models},
  url = {https://arxiv.org/abs/2505.18405},
  year = {2025},
}"""

TRAINING_DATASETS = {
    # The theorems that the models were trained to find are this task's corpus.
    "BrightTheoremQATheoremsRetrieval",
    # 39 of its 111 queries are problems of MATH's training part, which the models were trained on.
    "BrightAopsRetrieval",
    # BRIGHT in one task, the two above included.
    "BrightRetrieval",
    # Pooled from MATH and others; MATH's training part was trained on.
    "RARbMath",
}

_MATH_DATA = "https://huggingface.co/datasets/Raderspace/MATH_qCoT_LLMquery_lexicalquery"
_ALL_DATA = "https://huggingface.co/datasets/Raderspace/MATH_NuminaMath_allquerytypes"

_QWEN_3B, _QWEN_7B = "Qwen/Qwen2.5-3B-Instruct", "Qwen/Qwen2.5-7B-Instruct"
_QWEN_14B, _GTE_7B = "Qwen/Qwen2.5-14B-Instruct", "Alibaba-NLP/gte-Qwen2-7B-instruct"

# Of the loaded model: parameters without a language-model head, of these embeddings; hidden size; positions.
_SIZES = {
    _QWEN_3B: (3_085_938_688, 311_164_928, 2048, 32_768),
    _QWEN_7B: (7_070_619_136, 544_997_376, 3584, 32_768),
    _QWEN_14B: (13_991_465_984, 778_567_680, 5120, 32_768),
    _GTE_7B: (7_069_121_024, 543_499_264, 3584, 131_072),
}
# The bases' own; a repository's card has the last word on what was made of them.
_LICENCES = {_QWEN_3B: "https://huggingface.co/Qwen/Qwen2.5-3B-Instruct/blob/main/LICENSE"}
_BYTES = 2  # a parameter in bfloat16


def _meta(name: str, base: str, data: str, **fields: Any) -> ModelMeta:
    parameters, embeddings, dimension, positions = _SIZES[base]
    common: dict[str, Any] = {
        "loader": RaDeRRetriever,
        "name": f"Raderspace/{name}",
        "model_type": ["dense"],
        "languages": ["eng-Latn"],
        "open_weights": True,
        "revision": None,
        "release_date": None,
        "n_parameters": parameters,
        "n_embedding_parameters": embeddings,
        "memory_usage_mb": round(_BYTES * parameters / 2**20),
        "embed_dim": dimension,
        "license": _LICENCES.get(base, "apache-2.0"),
        "max_tokens": positions,
        "reference": f"https://huggingface.co/Raderspace/{name}",
        "similarity_fn_name": ScoringFunction.COSINE,
        "framework": ["PyTorch", "Transformers", "safetensors"],
        "use_instructions": True,
        "adapted_from": base,
        "training_datasets": TRAINING_DATASETS,
        "public_training_code": "https://github.com/Debrup-61/RaDeR",
        "public_training_data": data,
        "citation": CITATION,
        "output_dtypes": OutputDType.BF16,
    }
    return ModelMeta(**(common | fields))


rader_qwen25_7b_math = _meta(
    "RaDeR_Qwen_25_7B_instruct_MATH_LLMq_CoT_lexical",
    _QWEN_7B,
    _MATH_DATA,
    revision="f3f15af7632da5d5e52f6089debf12c54160b147",
)
rader_gte_qwen2_7b_math = _meta("RaDeR_gte_Qwen2-7B_MATH_LLMq_CoT_lexical", _GTE_7B, _MATH_DATA)
# the underscore before 3B is the real name, and so are the hyphens below
rader_qwen25_3b_all = _meta("RaDeR_Qwen25_3B_NuminaMath_MATH_allquerytypes", _QWEN_3B, _ALL_DATA)
rader_qwen25_7b_all = _meta("RaDeR_Qwen25-7B_NuminaMath_MATH_allquerytypes", _QWEN_7B, _ALL_DATA)
rader_qwen25_14b_all = _meta("RaDeR_Qwen25-14B_NuminaMath_MATH_allquerytypes", _QWEN_14B, _ALL_DATA)
rader_gte_qwen2_7b_math_lora = _meta(
    "lora_RaDeR_gte_Qwen2-7B_MATH_LLMq_CoT_lexical", _GTE_7B, _MATH_DATA, loader_kwargs={"base": _GTE_7B}
)
rader_qwen25_7b_math_lora = _meta(
    "lora_RaDeR_Qwen25-7B_instruct_MATH_LLMq_CoT_lexical", _QWEN_7B, _MATH_DATA, loader_kwargs={"base": _QWEN_7B}
)

_RERANKER: dict[str, Any] = {
    "loader": RaDeRReranker,
    "model_type": ["cross-encoder"],
    "embed_dim": None,
    "similarity_fn_name": None,
    "use_instructions": True,  # a fixed pair form
}
rader_reranker_qwen25_7b_all = _meta(
    "reranker_Qwen25_7B_NuminaMath_MATH_allquerytypes",
    _QWEN_7B,
    _ALL_DATA,
    **_RERANKER,
    n_parameters=_SIZES[_QWEN_7B][0] + 3584,  # the score head
    loader_kwargs={"base": _QWEN_7B, "template": RECOVERED_PAIR},
)
rader_reranker_qwen2_7b_math = _meta(
    "RaDeR_reranker_Qwen2-7B-instruct_MATH_qCoT_LLMquery_lexicalquery",
    _GTE_7B,
    "https://huggingface.co/datasets/Raderspace/MATH_qCoT_LLMquery_questionasquery_lexicalquery",
    **_RERANKER,
    # gte-Qwen2-7B or Qwen2-7B-Instruct: its own config.json says which, and so how many embeddings there are
    n_parameters=None,
    n_embedding_parameters=None,
    memory_usage_mb=None,
    loader_kwargs={"template": AUTHORS_PAIR},
)
