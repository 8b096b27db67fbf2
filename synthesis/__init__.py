"""Synthesis: problems with answers, a theorem corpus and a language model in; training triples out (paper §4)."""

from synthesis.engine import RunReport
from synthesis.problems import Problem
from synthesis.run import synthesize
from synthesis.settings import Settings
from synthesis.store import Store

__all__ = ["Problem", "RunReport", "Settings", "Store", "synthesize"]
