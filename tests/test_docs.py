"""The site builds without a network and fetches nothing; its code blocks run, or at least name what there is."""

import ast
import importlib
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import typer

from torch_radar.checkpoints import CHECKPOINTS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ROOMS = (
    "torch_radar",
    "pyterrier_radar",
    "mteb_radar",
    "pyserini_radar",
    "radar_answers",
    "radar_bm25",
    "radar_llm",
    "synthesis",
    "training",
)
# decisions sketch interfaces: they are no code
PAGES = [*sorted(path for path in DOCS.rglob("*.md") if "decisions" not in path.parts), ROOT / "README.md"]
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_DECIMAL = re.compile(r"\d+\.\d+")
_DEAD_PROXY = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path, *languages: str) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(page, text.count("\n", 0, found.start()) + 2, found[2], inspect.cleandoc("\n" + found[3]) + "\n")
        for found in _FENCE.finditer(text)
        if not languages or found[2] in languages
    ]


ALL = [block for page in PAGES for block in blocks(page)]
PYTHON = [block for block in ALL if block.language == "python"]
SHELL = [block for block in ALL if block.language in ("sh", "bash")]


# The site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="needs the extra docs: pip install 'pyterrier-radar[docs]'")
    folder = tmp_path_factory.mktemp("site")
    environment = os.environ | _DEAD_PROXY | {"NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    fetched = re.compile(
        r"""(?:<(?:script|img|iframe|source)\b[^>]*?\ssrc|<link\b[^>]*?\shref)=["']?(?:https?:)?//[^"'\s>]+"""
    )
    imported = re.compile(r"""@import[^;]*//|url\(["']?(?:https?:)?//""")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    assert {page.name: found for page in pages if (found := fetched.findall(page.read_text("utf-8")))} == {}
    assert [sheet.name for sheet in site.rglob("*.css") if imported.search(sheet.read_text("utf-8"))] == []


def test_every_released_checkpoint_is_on_its_page(site: Path) -> None:
    page = (site / "checkpoints.html").read_text("utf-8")
    assert [name for name in CHECKPOINTS if name.removeprefix("Raderspace/") not in page] == []


def test_what_the_pages_ask_the_hooks_for_is_there(site: Path) -> None:
    left = [
        page.name for page in site.rglob("*.html") if re.search(r"<!-- (table|commands|api):", page.read_text("utf-8"))
    ]
    assert left == []
    for package in ("pyterrier_radar", "torch_radar", "radar_llm"):
        page = (site / "api" / f"{package}.html").read_text("utf-8")
        public = importlib.import_module(package).__all__
        assert [name for name in public if f'id="{name.lower()}"' not in page] == []
    assert "radar synthesize samples" in (site / "commands.html").read_text("utf-8")


def test_the_search_works_from_files(site: Path) -> None:
    index = (site / "search" / "search_index.js").read_text("utf-8").removeprefix("var __index = ")
    found = [entry["location"] for entry in json.loads(index)["docs"] if "mean pooling" in entry["text"]]
    assert any(location.startswith("faq.html") for location in found)
    assert "iframe-worker" in (site / "index.html").read_text("utf-8")


def test_the_sizes_on_the_scaling_page_are_the_models_own() -> None:
    pytest.importorskip("mteb", reason="needs the extra mteb: pip install 'pyterrier-radar[mteb]'")
    from mteb_radar.models import _SIZES

    page = (DOCS / "scaling.md").read_text("utf-8")
    for base, (parameters, embeddings, dimension, _) in _SIZES.items():
        row = next(line for line in page.splitlines() if line.startswith("|") and base.rpartition("/")[2][:10] in line)
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        work = 2 * (parameters - embeddings) * 1000 / 1e12
        assert cells[1:4] == [f"{2 * parameters / 1e9:.1f} GB", f"{dimension:,}", f"{2 * dimension / 1e3:.1f} GB"]
        assert float(cells[4].split()[0]) == round(2 * dimension * 8_841_823 / 1e9)
        assert float(cells[5].split()[0]) == pytest.approx(work, rel=0.02)


# The quickstart


def test_every_block_of_the_quickstart_runs_and_prints_what_it_says(tmp_path: Path) -> None:
    steps = blocks(DOCS / "quickstart.md")
    assert {step.language for step in steps} == {"python", "sh", "text"}
    lines = ["import subprocess"]
    for step in steps:
        if step.language == "python":
            lines.append(f"exec(compile({step.text!r}, {str(step)!r}, 'exec'), globals())")
        elif step.language == "sh":
            lines.append(f"subprocess.run(['bash', '-euo', 'pipefail', '-c', {step.text!r}], check=True)")
    (tmp_path / "steps.py").write_text("\n".join(lines), "utf-8")
    (tmp_path / "home").mkdir()
    environment = (
        os.environ
        | _DEAD_PROXY
        | {"HF_HUB_OFFLINE": "1", "HOME": str(tmp_path / "home"), "PYTERRIER_HOME": str(tmp_path / "home")}
        | {"RADAR_CACHE": str(tmp_path / "home"), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        | {"PYTHONUNBUFFERED": "1", "COLUMNS": "120"}
    )
    ran = subprocess.run(
        [sys.executable, "steps.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    for said in (step for step in steps if step.language == "text"):
        assert _shows(ran.stdout, said.text), f"{said} is not what it prints:\n{ran.stdout}"


def _shows(output: str, said: str) -> bool:
    """Whether the lines occur one below the other, figures equal to 0.01, whatever the spacing."""
    printed, wanted = ([_read(line) for line in text.splitlines() if line.strip()] for text in (output, said))
    starts = range(len(printed) - len(wanted) + 1)
    return any(all(_alike(p, w) for p, w in zip(printed[i:], wanted, strict=False)) for i in starts)


def _read(line: str) -> tuple[str, list[float]]:
    return " ".join(_DECIMAL.sub("#", line).split()), [float(figure) for figure in _DECIMAL.findall(line)]


def _alike(one: tuple[str, list[float]], other: tuple[str, list[float]]) -> bool:
    return one[0] == other[0] and one[1] == pytest.approx(other[1], abs=0.01)


# All other blocks


def test_there_are_blocks_on_every_kind_of_page() -> None:
    assert len(PYTHON) > 30 and len(SHELL) > 15


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_the_python_block_compiles_and_names_what_there_is(block: Block) -> None:
    tree = compile(block.text, str(block), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    earlier = [other for other in PYTHON if other.page == block.page and other.line < block.line]
    known: dict[str, Any] = {}
    for other in earlier:
        known |= imported(ast.parse(other.text))
    known |= imported(tree)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        assert isinstance(call.func, ast.Name)
        if call.func.id in known:
            require_keywords(known[call.func.id], call)


def imported(tree: ast.AST) -> dict[str, Any]:
    """What a block imports of this project, by the name that it has there; each must exist."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ROOMS:
            assert node.module is not None
            module = importlib.import_module(node.module)
            for alias in node.names:
                try:
                    found[alias.asname or alias.name] = getattr(module, alias.name)
                except ImportError:  # of an extra that isn't installed
                    assert alias.name in module.__all__
    return found


def require_keywords(called: Any, call: ast.Call) -> None:
    """Checks a call's keywords, and how many arguments there are, by the signature of what is called."""
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):
        return
    if any(isinstance(argument, ast.Starred) or argument is ... for argument in call.args):
        return
    signature.bind(*call.args, **{k.arg: k.value for k in call.keywords if k.arg is not None})


@pytest.fixture(scope="module")
def radar() -> Any:
    """The command as this working tree declares it, whatever was installed."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]["radar.commands"]
    app = typer.Typer()
    for place in declared.values():
        module, _, name = place.partition(":")
        app.add_typer(getattr(importlib.import_module(module), name))
    return typer.main.get_command(app)


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_the_shell_block_calls_commands_that_there_are(block: Block, radar: Any) -> None:
    for words in radar_calls(block.text):
        require_command(radar, words)
    for module in re.findall(r"python3? -m ([\w.]+)", block.text):
        if module.partition(".")[0] in (*ROOMS, "bench"):
            assert importlib.util.find_spec(module), f"there is no module {module}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_text_are_commands_that_there_are(page: Path, radar: Any) -> None:
    text = _FENCE.sub("", page.read_text("utf-8"))
    for spelled in re.findall(r"`(radar [a-z][^`]*)`", text.replace("\n", " ")):
        words = [word for word in shlex.split(spelled)[1:] if word != "…"]
        require_command(radar, words, whole=False)


def test_a_wrong_command_is_noticed(radar: Any) -> None:
    for wrong in ("evaluat x", "evaluate x --sistems bm25", "mteb run --modell x", "evaluate x --bm25 lucenne"):
        with pytest.raises(AssertionError):
            require_command(radar, wrong.split())


def radar_calls(script: str) -> Iterator[list[str]]:
    """The arguments of each call of ``radar`` in a shell script."""
    for line in script.replace("\\\n", " ").splitlines():
        line = line.replace("…", "x")
        words = shlex.split(line, comments=True) if line.count("'") % 2 == 0 and "radar" in line else []
        for place, word in enumerate(words):
            if word.rpartition("/")[2] == "radar" and place + 1 < len(words) and "pip" not in words:
                yield [argument for argument in words[place + 1 :] if argument != "&"]
                break


def require_command(command: Any, words: list[str], *, whole: bool = True) -> None:
    """Checks subcommands and options, and the values of those that are a choice."""
    while commands := getattr(command, "commands", None):
        if not words and not whole:
            return
        assert words and words[0] in commands, f"radar has no command {' '.join(words)!r}"
        command, words = commands[words[0]], words[1:]
    options = {opt: p for p in command.params for opt in (*p.opts, *p.secondary_opts) if opt.startswith("-")}
    place = 0
    while place < len(words):
        word, equals, value = words[place].partition("=")
        place += 1
        if not word.startswith("-") or word == "--help":
            continue
        assert word in options, f"{command.name} has no option {word}"
        if not options[word].is_flag and not equals:
            value, place = (words[place] if place < len(words) else ""), place + 1
        choices = _choices(command, options[word].name)
        assert not value or value == "…" or not choices or value in choices, f"{word} has no value {value}"
    if whole:
        needed = [p for p in command.params if p.required and p.param_type_name == "option"]
        missing = [p.opts for p in needed if not {*p.opts} & {word.partition("=")[0] for word in words}]
        assert not missing, f"{command.name} needs {missing}"


def _choices(command: Any, name: str) -> tuple[str, ...]:
    annotation = get_type_hints(command.callback)[name]
    return get_args(annotation) if get_origin(annotation) is Literal else ()
