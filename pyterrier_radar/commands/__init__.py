"""The subcommands of ``radar`` that index, search, rerank and evaluate.

Each is one file; what a command needs beyond its options is imported when it runs, so that ``radar --help``
answers at once.
"""

import typer

from pyterrier_radar.commands.demo import demo
from pyterrier_radar.commands.doctor import doctor
from pyterrier_radar.commands.evaluate import evaluate
from pyterrier_radar.commands.index import index
from pyterrier_radar.commands.rerank import rerank
from pyterrier_radar.commands.search import search

app = typer.Typer()
for command in (demo, index, search, rerank, evaluate, doctor):
    app.command()(command)
