"""A reference solver: a server of the OpenAI protocol that really solves problems of a small world, with known truth.

``world`` holds problems, theorems and truth; ``mind`` answers the prompts of synthesis; ``server`` serves it with
slots, latency and faults. ``python -m tests.synthesis.solver --port 0`` starts one; in a test, ``async with Solver()``.
"""

from tests.synthesis.solver.mind import Mind
from tests.synthesis.solver.server import Faults, Load, Solver
from tests.synthesis.solver.world import Truth, problems, theorems, truth

__all__ = ["Faults", "Load", "Mind", "Solver", "Truth", "problems", "theorems", "truth"]
