"""MkDocs hook: public names with their signatures and docstrings, read from the source without importing it.

A page asks for a package's by ``<!-- api: torch_radar -->`` on a line of its own: every name in its ``__all__``. The
docstrings are PyTerrier's kind, Google sections with reStructuredText inside, so what of that they use is turned into
Markdown here.
"""

import ast
import re
import textwrap
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

ROOT = Path(__file__).parents[2]
_ASKED = re.compile(r"^<!-- api: ([a-z_.]+) -->$", re.MULTILINE)
_SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Attributes):$")
_PYTERRIERS_OWN = ("compile", "fuse_rank_cutoff", "schematic", "subtransformers")
_ENTRY = re.compile(r"^(\*{0,2}[\w.]+)(?: \(.*?\))?: ?(.*)$")

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts the names of the packages where the page asks for them."""
    return _ASKED.sub(lambda asked: package(asked[1]), markdown)


def package(name: str) -> str:
    """All public names of a package, in the order of ``__all__``."""
    tree = _parsed(name)
    homes = {
        alias.asname or alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    return "\n\n".join(part for public in public_names(tree) if (part := _described(name, public, homes)))


def public_names(tree: ast.Module) -> list[str]:
    """What a module lists in ``__all__``."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["__all__"]:
            return list(ast.literal_eval(node.value))
    return []


def _parsed(module: str) -> ast.Module:
    path = ROOT / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text("utf-8"))


def _described(package_name: str, public: str, homes: dict[str, str]) -> str:
    """A heading, the signature and the docstring of a name.

    Raises:
        PluginError: nothing defines it.
    """
    module = homes.get(public, package_name)
    while True:
        tree = _parsed(module)
        found = _find(tree, public)
        if found is not None:
            break
        further = [
            node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module and public in [alias.name for alias in node.names]
        ]
        if not further or further[0] == module:
            raise PluginError(f"docs/_hooks/api.py: nothing in {module} defines {public}")
        module = further[0]
    node, doc = found
    if isinstance(node, ast.ClassDef):
        return _class(node, public)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return f"## {public}\n\n{_signature(public, node)}\n\n{markdown_of(ast.get_docstring(node) or '')}"
    text = doc or (ast.get_docstring(tree) or "").partition("\n\n")[0]  # else what its module is about
    return f"## {public}\n\n{markdown_of(text)}"


def _find(tree: ast.Module, name: str) -> tuple[Definition | ast.stmt, str] | None:
    """The definition of a name at the top of a module; of a value also the string under it."""
    for place, node in enumerate(tree.body):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
            return node, ""
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            after = tree.body[place + 1] if place + 1 < len(tree.body) else None
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            return node, str(after.value.value) if is_text else ""  # type: ignore[union-attr]
    return None


def _class(node: ast.ClassDef, public: str) -> str:
    functions = [child for child in node.body if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))]
    makes = next((f for f in functions if f.name == "__init__"), None)
    parts = [f"## {public}", _signature(public, makes, skip=1) if makes else _fields(node, public)]
    parts.append(markdown_of(ast.get_docstring(node) or ""))
    if makes and (text := ast.get_docstring(makes)):
        parts.append(markdown_of(text.partition("\n")[2]))  # what __init__ does is said by the signature
    for function in functions:
        text = ast.get_docstring(function)
        if text and not function.name.startswith("_") and function.name not in _PYTERRIERS_OWN:
            is_property = any("property" in ast.unparse(d) for d in function.decorator_list)
            call = "" if is_property else f"({_arguments(function, skip=1)})"
            parts.append(f"`.{function.name}{call}`\n:   {_inline(' '.join(text.partition(chr(10) * 2)[0].split()))}")
    return "\n\n".join(part for part in parts if part)


def _fields(node: ast.ClassDef, public: str) -> str:
    """The signature of a dataclass."""
    lines = [ast.unparse(child) for child in node.body if isinstance(child, ast.AnnAssign)]
    inner = "".join(f"    {line},\n" for line in lines)
    return f"```python\n{public}(\n{inner})\n```" if lines else ""


def _signature(name: str, function: ast.FunctionDef | ast.AsyncFunctionDef, skip: int = 0) -> str:
    result = f" -> {_unquoted(function.returns)}" if function.returns and not skip else ""
    inner = _arguments(function, skip)
    if len(name) + len(inner) + len(result) > 80:
        pieces = _argument_list(function, skip)
        inner = "\n" + "".join(f"    {piece},\n" for piece in pieces)
    return f"```python\n{name}({inner}){result}\n```"


def _arguments(function: ast.FunctionDef | ast.AsyncFunctionDef, skip: int) -> str:
    return ", ".join(_argument_list(function, skip))


def _argument_list(function: ast.FunctionDef | ast.AsyncFunctionDef, skip: int) -> list[str]:
    given = function.args
    decorators = [ast.unparse(d) for d in function.decorator_list]
    plain = [*given.posonlyargs, *given.args]
    defaults: list[ast.expr | None] = [*[None] * (len(plain) - len(given.defaults)), *given.defaults]
    pieces = [_argument(a, d) for a, d in zip(plain, defaults, strict=True)]
    pieces = pieces if "staticmethod" in decorators else pieces[skip:]
    if given.vararg:
        pieces.append("*" + _argument(given.vararg, None))
    elif given.kwonlyargs:
        pieces.append("*")
    pieces += [_argument(a, d) for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return pieces + (["**" + given.kwarg.arg] if given.kwarg else [])


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    text = argument.arg + (f": {_unquoted(argument.annotation)}" if argument.annotation else "")
    if default is None:
        return text
    return f"{text} = {ast.unparse(default)}" if argument.annotation else f"{text}={ast.unparse(default)}"


def _unquoted(annotation: ast.expr | None) -> str:
    is_text = isinstance(annotation, ast.Constant) and isinstance(annotation.value, str)
    return str(annotation.value) if is_text else ast.unparse(annotation) if annotation else ""  # type: ignore[union-attr]


def markdown_of(docstring: str) -> str:
    """Turns a docstring into Markdown: sections into lists, literal blocks into code, roles into names."""
    lines, out, place = docstring.splitlines(), [], 0
    while place < len(lines):
        line = lines[place]
        place += 1
        if line.startswith(".. "):  # PyTerrier's directives, such as cite.dblp
            continue
        if section := _SECTION.match(line):
            body, place = _block(lines, place)
            out += ["", f"**{section[1]}**", "", *_entries(body), ""]
        elif line.rstrip().endswith("::"):
            body, place = _block(lines, place)
            text = line.rstrip()[:-2].rstrip()
            out += ([_inline(text + ":")] if text else []) + ["", "```python", *body, "```", ""]
        else:
            out.append(_inline(line))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip()


def _block(lines: list[str], place: int) -> tuple[list[str], int]:
    """The indented lines from a place on, without their indent, and where they end."""
    end = place
    while end < len(lines) and (not lines[end].strip() or lines[end].startswith(" ")):
        end += 1
    return textwrap.dedent("\n".join(lines[place:end])).strip("\n").splitlines(), end


def _entries(body: list[str]) -> list[str]:
    """A list item for each entry of a section; a continuation belongs to the entry before it."""
    items: list[str] = []
    for line in body:
        entry = _ENTRY.match(line)
        if entry:
            items.append(f"- `{entry[1]}`: {_inline(entry[2])}")
        elif line.startswith(" ") and items:
            items[-1] += " " + _inline(line.strip())
        else:
            items.append(_inline(line))
    return items


def _inline(text: str) -> str:
    text = re.sub(r":\w+:`~?([\w.]+)`", lambda role: f"`{role[1].rpartition('.')[2]}`", text)
    text = re.sub(r"``(.+?)``", r"`\1`", text)
    return text.replace("<", "&lt;") if "`" not in text else text
