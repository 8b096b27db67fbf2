"""Equality of transformers by their settings.

``pt.Experiment(plan="tree")`` runs equal stages once and uses the result for every pipeline that holds
one. Two transformers may therefore be equal only if every setting that changes their output is equal.
"""

from collections.abc import Hashable


class EqualBySettings:
    """A transformer that equals those of its own class with equal :meth:`_settings_key`."""

    def _settings_key(self) -> Hashable:
        """All that changes the output of this transformer, and nothing else."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._settings_key() == other._settings_key()

    def __hash__(self) -> int:
        return hash((type(self), self._settings_key()))
