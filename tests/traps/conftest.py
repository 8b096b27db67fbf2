"""The traps of training use the bases and data of its other tests."""

from tests.training.conftest import base, data

__all__ = ["base", "data"]
