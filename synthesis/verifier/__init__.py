"""Is a final answer right? The cheapest judge first: the letters, the choices, mathematics, a language model.

``forms`` compares texts and choices, ``processes`` runs math-verify where it can be killed, ``verifier`` asks one after
the other, ``consensus`` stands in for a gold answer where there is none.
"""

from synthesis.verifier.consensus import Consensus, consensus
from synthesis.verifier.verifier import Judge, Verdict, Verifier

__all__ = ["Consensus", "Judge", "Verdict", "Verifier", "consensus"]
