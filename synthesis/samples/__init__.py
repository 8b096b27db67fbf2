"""Trajectories to training triples of four query types (paper §4, Appendix E); ``docs/synthesis.md`` describes them."""

from synthesis.samples.make import make_samples
from synthesis.samples.settings import TYPES, SampleSettings

__all__ = ["TYPES", "SampleSettings", "make_samples"]
