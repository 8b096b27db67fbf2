"""``radar evaluate theoremqa-qa``: question answering with and without retrieval."""

from pathlib import Path

from pyterrier_radar import RadarBiEncoder, RadarReranker
from pyterrier_radar.commands._experiment import finish, labels
from pyterrier_radar.commands._options import Correction, SignificanceTest
from pyterrier_radar.commands._systems import Settings, parse_systems
from pyterrier_radar.experiments import THEOREMQA_QA, LanguageModelServer
from pyterrier_radar.experiments._answering import ALONE, run_questions
from pyterrier_radar.experiments._questions import HUB_NAME
from pyterrier_radar.experiments._runner import describe


def answering_systems(names: str | None, *, reranker: str | None, llm: str | None) -> list[str]:
    """Turns ``"none,bm25"`` into names of systems that retrieve; answering without retrieval needs no name.

    Raises:
        ValueError: for an unknown name, or what a system needs and isn't there.
    """
    if names is None:
        names = "bm25,dense" + (",reranked" if reranker else "")
    wanted = [name for name in names.split(",") if name.strip() != ALONE]
    return parse_systems(",".join(wanted), reranker=reranker, llm=llm) if wanted else []


def evaluate_questions(
    systems: list[str],
    encoder: RadarBiEncoder,
    reranker: RadarReranker | None,
    llm: LanguageModelServer | None,
    output: Path,
    *,
    documents: int,
    data: Path | None,
    instruction: str,
    alpha: float | None,
    settings: Settings,
    baseline: str | None,
    test: SignificanceTest,
    correction: Correction,
    as_json: bool,
) -> str:
    """Answers the questions, writes the experiment's files, and returns what the command prints."""
    if llm is None:
        raise ValueError(f"{THEOREMQA_QA.name} needs a language model that answers: name one (--llm-model, --llm-url)")
    baseline = baseline or ALONE
    if baseline not in (ALONE, *systems):
        raise ValueError(f"--baseline {baseline} is none of the systems: add it to --systems")
    cells = run_questions(
        THEOREMQA_QA,
        systems,
        encoder,
        output,
        llm,
        documents=documents,
        reranker=reranker,
        data=data,
        instruction=instruction,
        alpha=alpha,
        settings=settings,
    )
    facts = describe(encoder, reranker, llm) | {
        "instruction": instruction,
        "alpha": alpha,
        "answer_documents": documents,
        "data": str(data) if data else f"{HUB_NAME}, {THEOREMQA_QA.splits[0].dataset}",
        "is_whole": True,
    }
    named = labels(encoder, settings, alpha) | {ALONE: "no retrieval"}
    return finish(THEOREMQA_QA, cells, named, facts, output, baseline, test, correction, as_json=as_json)
