"""Recipes: everything that decides what a training run makes, as one checked value and one YAML file.

A recipe is read before a model or a text is; a typo, a wrong type or settings that contradict each other are errors
that name file, line and key. docs/recipes.md lists every key; the recipes of the paper ship in ``training/recipes``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import yaml

from torch_radar.templates import PAIR_TEMPLATES, TEXT_TEMPLATES, PairTemplate, TextTemplate
from training.recipe_file import read_recipe
from training.settings import NonEmpty, Range, RecipeError, Settings, below, build, nearest

__all__ = ["BaseModel", "DataSource", "Evaluation", "Lora", "Recipe", "RecipeError", "Teacher", "shipped_recipes"]

RECIPES = Path(__file__).parent / "recipes"

Count = Annotated[int, Range(low=1)]
Positive = Annotated[float, Range(above=0)]
NotNegative = Annotated[float, Range(low=0)]
Text = Annotated[str, NonEmpty()]
Precision = Literal["float32", "bfloat16"]

# What the authors' trainer adapts: every projection of attention and feed-forward.
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class BaseModel(Settings):
    """The model a run starts from.

    Attributes:
        name: A hub id, a folder, or ``"all-MiniLM-L6-v2"``.
        template: Name of the text form: of TEXT_TEMPLATES for a retriever, of PAIR_TEMPLATES for a reranker.
        pooling: Which hidden state is read.
        revision: The hub revision; ``None`` is the default branch.
        attention: The attention implementation of transformers; ``None`` is its choice.
        licence: Licence of the base, for the model card.
        dtype: Precision the frozen base is kept in; adapters are always float32.
        dropout: Dropout inside the base; ``None`` is what its own configuration says.
        reads_latex: Whether its tokenizer is to leave out LaTeX markup; see :mod:`training.latex`.
    """

    name: Text
    template: Text
    pooling: Literal["last_token", "mean", "cls"]
    revision: Text | None = None
    attention: Text | None = None
    licence: str = ""
    dtype: Precision = "float32"
    dropout: Annotated[float, Range(low=0, below=1)] | None = None
    reads_latex: bool = False


@dataclass(frozen=True)
class Lora(Settings):
    """Low-rank adapters.

    Attributes:
        rank: Rank of every adapter.
        alpha: Their scale is ``alpha / rank``.
        dropout: Dropout on their input.
        targets: Last names of the linear layers that are adapted.
        last_layers: How many transformer layers, counted from the last, are adapted; ``None`` is all of them.
    """

    rank: Count = 16
    alpha: Count = 64
    dropout: Annotated[float, Range(low=0, below=1)] = 0.1
    targets: Annotated[tuple[Text, ...], NonEmpty()] = _PROJECTIONS
    last_layers: Count | None = None


@dataclass(frozen=True)
class DataSource(Settings):
    """A file of examples.

    Attributes:
        path: The file.
        documents: Files of the documents it names; none where their texts are in the file itself.
        format: This project's own, or the one the authors published in.
        weight: How often an epoch sees each example; 0.5 is a random half.
        query_types: A further weight per query type; a type that is not named keeps 1.
    """

    path: Text
    documents: tuple[Text, ...] = ()
    format: Literal["radar", "tevatron"] = "radar"
    weight: NotNegative = 1.0
    query_types: dict[Text, NotNegative] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation(Settings):
    """A collection that is searched or reranked while training.

    Attributes:
        documents: Files of its documents.
        queries: File of its queries.
        qrels: File of its judgements.
        exclude_self: Whether a query's own docno leaves its ranking.
        candidates: TREC run that a reranker reorders.
        every_steps: Steps between evaluations.
        patience: Evaluations without a better nDCG@10 before stopping; ``None`` never stops early.
    """

    documents: Annotated[tuple[Text, ...], NonEmpty()]
    queries: Text
    qrels: Text
    exclude_self: bool = False
    candidates: Text | None = None
    every_steps: Count = 200
    patience: Count | None = None


@dataclass(frozen=True)
class Teacher(Settings):
    """A retriever whose opinion of a group a reranker is to share, besides the labels.

    Attributes:
        name: A checkpoint: a released name or a folder.
        weight: How much of the target is its opinion; the rest is the label.
        temperature: What its cosines are divided by before the softmax: the smaller, the surer it is.
    """

    name: Text
    weight: Annotated[float, Range(above=0, high=1)] = 0.5
    temperature: Positive = 0.05


@dataclass(frozen=True)
class Recipe(Settings):
    """All settings of one training run; the defaults are the paper's where it states them.

    Attributes:
        kind: What is trained.
        base: The model it starts from.
        data: The examples.
        lora: The adapters; ``None`` trains all weights.
        evaluation: What is measured on the way; ``None`` is nothing.
        seed: Of the order of examples, the choice of negatives, new weights and dropout.
        epochs: Passes over the weighted examples.
        max_steps: The most updates; ``None`` leaves it to ``epochs``.
        batch_queries: Queries of one update, over all devices.
        batch_by_source: Whether all queries of an update come from one source, so that its documents are told from each
            other and not from another subject's.
        group_size: Documents per query: one positive and ``group_size - 1`` negatives.
        temperature: What similarities are divided by (retriever).
        in_batch_negatives: Whether the documents of other queries are negatives too (retriever).
        teacher: A retriever to learn from besides the labels (reranker); ``None`` is the labels alone, as in the paper.
        caching: GradCache: memory of one mini-batch for a second forward pass.
        mini_batch_tokens: Padded tokens that go through the model at once.
        learning_rate: At its highest.
        schedule: How it falls after the warm-up.
        warmup_steps: Updates until it is reached.
        weight_decay: Of AdamW.
        max_grad_norm: The norm gradients are clipped to.
        max_query_tokens: Where a query is cut (retriever).
        max_document_tokens: Where a document is cut (retriever).
        max_pair_tokens: Where a pair is cut, at the end of its document (reranker).
        precision: Of the computation.
        activation_checkpointing: Whether activations are computed again instead of kept.
        save_every: Updates between checkpoints; with an evaluation its ``every_steps`` counts.
        checkpoints_kept: How many of the newest stay.
        contamination: What of evaluation sets the data has seen, for the model card.
    """

    kind: Literal["retriever", "reranker"]
    base: BaseModel
    data: Annotated[tuple[DataSource, ...], NonEmpty()]
    lora: Lora | None = field(default_factory=Lora)
    evaluation: Evaluation | None = None
    seed: Annotated[int, Range(low=0, high=2**32 - 1)] = 0  # what NumPy takes
    epochs: Positive = 1.0
    max_steps: Count | None = None
    batch_queries: Count = 64
    batch_by_source: bool = False
    group_size: Count = 12
    temperature: Positive = 0.01
    in_batch_negatives: bool = True
    teacher: Teacher | None = None
    caching: bool = True
    mini_batch_tokens: Count = 8192
    learning_rate: Positive = 1e-4
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_steps: Annotated[int, Range(low=0)] = 28
    weight_decay: NotNegative = 0.0
    max_grad_norm: Positive = 1.0
    max_query_tokens: Count = 512
    max_document_tokens: Count = 3900
    max_pair_tokens: Count = 4096
    precision: Precision = "bfloat16"
    activation_checkpointing: bool = False
    save_every: Count = 100
    checkpoints_kept: Count = 2
    contamination: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_base()
        self._check_contrast()
        if all(source.weight == 0 for source in self.data):
            raise RecipeError("every weight is 0, so nothing would be trained on", "data")
        if self.kind == "retriever" and self.teacher is not None:
            raise RecipeError("is for rerankers: leave it out of a retriever's recipe", "teacher")
        if self.kind == "reranker" and self.evaluation is not None and self.evaluation.candidates is None:
            raise RecipeError("is missing: a reranker reorders a run, so name one", "evaluation.candidates")

    @property
    def template(self) -> TextTemplate | PairTemplate:
        """The text form ``base.template`` names."""
        return self._templates()[self.base.template]

    @classmethod
    def load(cls, path_or_name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """Reads a recipe.

        Relative paths in the file are relative to its folder, those in an override to the working folder, and those
        in a shipped recipe, whose folder is no place for data, to the working folder as well.

        Args:
            path_or_name: A YAML file, or the name of a shipped recipe (``"paper-7b"``).
            overrides: ``"key=value"`` strings, applied in order; values are YAML, list items go by their number:
                ``"lora.rank=8"``, ``"data.0.weight=2"``, ``"evaluation=null"``.

        Raises:
            RecipeError: If there is no such recipe, or something in it is unknown, missing, of the wrong type, out of
                range or in contradiction.
        """
        path = _locate(path_or_name)
        folder = Path.cwd() if path.parent == RECIPES else path.parent
        values, origin_of = read_recipe(path, folder, overrides)
        try:
            return build(cls, values)
        except RecipeError as error:
            raise RecipeError(error.problem, error.key, origin_of(error.key)) from None

    def to_yaml(self) -> str:
        """Returns the recipe as YAML, every key written out; loading it gives an equal recipe."""
        # ASCII with escapes: PyYAML reads some line breaks of Unicode otherwise than it writes them.
        return yaml.safe_dump(asdict(self), sort_keys=False, width=120)

    def _templates(self) -> dict[str, TextTemplate] | dict[str, PairTemplate]:
        return TEXT_TEMPLATES if self.kind == "retriever" else PAIR_TEMPLATES

    def _check_base(self) -> None:
        with below("base"):
            known = self._templates()
            if self.base.template not in known:
                others = PAIR_TEMPLATES if self.kind == "retriever" else TEXT_TEMPLATES
                problem = (
                    f"{self.base.template!r} is a text form, but not of a {self.kind}; known: {', '.join(known)}"
                    if self.base.template in others
                    else f"no text form is named {self.base.template!r}{nearest(self.base.template, list(known))}"
                )
                raise RecipeError(problem, "template")
            ending = [name for name, template in known.items() if _ends_with_eos(template)]
            if self.base.pooling == "last_token" and self.base.template not in ending:
                raise RecipeError(
                    f"last_token reads the state at EOS, and template {self.base.template!r} does not end with one; "
                    f"those that do: {', '.join(ending)}",
                    "pooling",
                )
            if self.lora is None and self.base.dtype != "float32":
                raise RecipeError(
                    "without lora the base itself is updated, and steps as small as these are lost in bfloat16: "
                    "use float32 (precision: bfloat16 still computes in it)",
                    "dtype",
                )

    def _check_contrast(self) -> None:
        if self.group_size > 1:
            return
        if self.kind == "reranker":
            raise RecipeError("must be at least 2 for a reranker: one positive and a negative", "group_size")
        if not self.in_batch_negatives or self.batch_queries == 1:
            raise RecipeError("1 leaves no negatives at all: raise it, or use in_batch_negatives", "group_size")


def shipped_recipes() -> list[str]:
    """Returns the names of the recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def _ends_with_eos(template: TextTemplate | PairTemplate) -> bool:
    return getattr(template, "ends_with_eos", True)  # a pair form that does not say so always does


def _locate(path_or_name: str | Path) -> Path:
    path = Path(path_or_name).expanduser()
    if path.is_file():
        return path.absolute()
    names = shipped_recipes()
    if str(path_or_name) in names:
        return RECIPES / f"{path_or_name}.yaml"
    raise RecipeError(f"{path_or_name} is neither a file nor a shipped recipe{nearest(path.stem, names)}")
