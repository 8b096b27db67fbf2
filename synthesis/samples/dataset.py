"""The samples of a dataset: a survey of all records first, then draft after draft, freed of duplicates and leaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from hashlib import blake2b
from typing import Any

from synthesis.decontaminate import Decontamination, EvaluationQueries, Overlap
from synthesis.samples.drafts import Draft, Drafted
from synthesis.samples.settings import SampleSettings
from synthesis.similarity import NearDuplicates
from synthesis.store import Record, is_solved
from synthesis.uses import Judgements, judgements, uses

SCHEMA = 1


class Survey:
    """What the first pass over all records tells: judgements by problem, and problems that are evaluation queries."""

    def __init__(self, records: Iterable[Record], against: EvaluationQueries | None):
        self.counts: Counter[str] = Counter()
        self.configurations: set[str] = set()
        self.problem_ids: set[str] = set()
        overlaps: list[Overlap] = []
        self._judgements: dict[bytes, Judgements] = {}
        for record in records:
            found = uses(record)
            self.counts["records"] += 1
            self.counts["rewarded"] += is_solved(record)
            self.counts["with_uses"] += bool(found)
            self.counts["uses"] += len(found)
            self.problem_ids.add(record["problem_id"])
            self.configurations.add(record["configuration"])
            # Collections repeat problems under other ids; what is accepted for one is accepted for all.
            key = _digest(record["problem"])
            self._judgements[key] = self._judgements.get(key, Judgements()) | judgements(record)
            overlap = against.find(record["problem_id"], record["problem"]) if against else None
            if overlap is not None:
                overlaps.append(overlap)
        self.overlaps = sorted(overlaps, key=lambda overlap: overlap.id)
        self.contaminated = frozenset(overlap.id for overlap in self.overlaps)

    def figures(self) -> dict[str, int]:
        """Returns the numbers of problems, as plain JSON."""
        names = ("records", "rewarded", "with_uses", "uses")
        return {name: self.counts[name] for name in names} | {"contaminated": len(self.contaminated)}

    def judgements(self, record: Record) -> Judgements:
        """Returns what was said of theorems for a record's problem, by all records that have it."""
        return self._judgements[_digest(record["problem"])]


class Dataset:
    """Drafts in, samples out: drops duplicates and evaluation queries, and counts."""

    def __init__(
        self,
        survey: Survey,
        settings: SampleSettings,
        against: EvaluationQueries | None,
        text: Callable[[str], str],
    ):
        self._survey, self._settings, self._against, self._text = survey, settings, against, text
        self._exact: set[bytes] = set()
        self._near = NearDuplicates(settings.near_duplicate)
        self._overlaps: list[Overlap] = []
        self._kept: Counter[str] = Counter()
        self._dropped: Counter[tuple[str, str]] = Counter()
        self._refused: Counter[str] = Counter()
        self._origins: Counter[tuple[str, str]] = Counter()
        self._short: Counter[str] = Counter()
        self._said: dict[str, list[float]] = {}
        self._of_agreement = 0
        self._theorems: set[str] = set()
        self._checked = 0

    def take(self, drafted: Drafted) -> list[dict[str, Any]]:
        """Returns the samples, in the training format, of what is new and clean among a problem's drafts."""
        self._dropped += drafted.dropped
        self._refused += drafted.refused
        samples = []
        for draft in drafted.drafts:
            reason = self._objection(draft)
            if reason is not None:
                self._dropped[draft.type, reason] += 1
                continue
            self._count(draft)
            samples.append(_sample(draft, self._text))
        return samples

    def _objection(self, draft: Draft) -> str | None:
        query, docno = draft.query.text, draft.use.docno
        if not query.strip():
            return "blank"
        if self._against is not None:
            self._checked += 1
            overlap = self._against.find(draft.query.id, query)
            if overlap is not None:
                self._overlaps.append(overlap)
                return "contaminated"
        exact = _digest(f"{docno}\0{query}")
        if exact in self._exact:
            return "duplicate"
        group = f"{draft.type}\0{docno}"
        if self._near.find(query, group) is not None:
            return "near_duplicate"
        self._exact.add(exact)
        self._near.add(exact.hex(), query, group)
        return None

    def _count(self, draft: Draft) -> None:
        self._kept[draft.type] += 1
        self._of_agreement += draft.use.reward == "consensus"
        self._theorems.add(draft.use.docno)
        self._short[draft.type] += len(draft.negatives) < self._settings.negatives
        for negative in draft.negatives:
            self._origins[draft.type, negative.origin.partition("-")[0]] += 1
        if "overlap" in draft.query.details:
            self._said.setdefault(draft.type, []).append(draft.query.details["overlap"])

    def report(self, about: Mapping[str, str], calls: Mapping[str, int]) -> dict[str, Any]:
        """Returns what was made, asked, dropped and removed, as plain JSON."""
        return {
            "schema": SCHEMA,
            "about": dict(about),
            "configurations": sorted(self._survey.configurations),
            "settings": asdict(self._settings),
            "problems": self._survey.figures(),
            "samples": self._kept.total(),
            "consensus_samples": self._of_agreement,
            "calls": dict(calls),
            "theorems": len(self._theorems),
            "types": {kind: self._type(kind) for kind in self._settings.types},
            "refused_as_negatives": dict(sorted(self._refused.items())),
            "decontamination": self._decontamination(),
        }

    def _type(self, kind: str) -> dict[str, Any]:
        said = self._said.get(kind)
        return {
            "samples": self._kept[kind],
            "dropped": {reason: count for (of, reason), count in sorted(self._dropped.items()) if of == kind},
            "negatives": {origin: count for (of, origin), count in sorted(self._origins.items()) if of == kind},
            "short_of_negatives": self._short[kind],
            "mean_overlap": round(sum(said) / len(said), 4) if said else None,
        }

    def _decontamination(self) -> dict[str, Any] | None:
        if self._against is None:
            return None
        checked = self._survey.counts["records"] + self._checked
        overlaps = (*self._survey.overlaps, *self._overlaps)
        return Decontamination(self._against.sources, self._against.threshold, checked, overlaps).as_json()


def _sample(draft: Draft, text: Callable[[str], str]) -> dict[str, Any]:
    use, query = draft.use, draft.query
    return {
        "query_id": query.id,
        "query": query.text,
        "query_type": draft.type,
        "positive": {"docno": use.docno, "text": text(use.docno)},
        "negatives": [asdict(negative) | {"text": text(negative.docno)} for negative in draft.negatives],
        "also_relevant": list(draft.also_relevant),
        "provenance": {
            "problem": use.problem_id,
            "configuration": use.configuration,
            "rollout": use.rollout,
            "reward": use.reward,
            "query_node": use.query_node,
            "node": use.node,
            "calls": {"query": list(query.calls), "label": list(use.label_calls)},
        }
        | query.details,
    }


def _digest(text: str) -> bytes:
    """Equal for texts that differ in case and spacing alone."""
    return blake2b(" ".join(text.casefold().split()).encode("utf-8", "surrogatepass"), digest_size=16).digest()
