"""Synthesis: problems with answers, a theorem corpus and a language model in; training triples out (paper §4)."""

__all__: list[str] = []
