"""``radar doctor``: what is installed, which device there is, which extras are missing."""

import json
import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

import typer

from radar_cli import Debug, Json, framed, render

DISTRIBUTION = "pyterrier-radar"
_EXTRAS_LEFT_OUT = {"dev"}


@framed
def doctor(json_: Json = False, debug: Debug = False) -> str:
    """Check the installation: versions, devices, extras, and whether the core works."""
    report = examine()
    text = json.dumps(report, indent=2) if json_ else _as_text(report)
    if report["core"] != "works":
        typer.echo(text)
        raise typer.Exit(1)
    return text


def examine() -> dict[str, Any]:
    """Gathers the report: versions, devices, extras, Java, and the state of the core."""
    required, extras = _requirements()
    return {
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in (DISTRIBUTION, *required)},
        "devices": _devices(),
        "extras": {
            extra: {
                "missing": missing,
                "install": f"pip install '{DISTRIBUTION}[{extra}]'" if missing else None,
            }
            for extra, missing in extras.items()
        },
        "java": _java(),
        "core": _try_core(),
    }


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
    """Names of the required packages, and for each extra those of its packages that are not installed."""
    from packaging.requirements import Requirement

    required: list[str] = []
    extras: dict[str, list[str]] = {}
    for line in requires(DISTRIBUTION) or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            required.append(requirement.name)
            continue
        extra = str(requirement.marker).rpartition("extra == ")[2].strip("\"' ")
        if extra in _EXTRAS_LEFT_OUT:
            continue
        missing = extras.setdefault(extra, [])
        installed = _version(requirement.name)
        if installed is None or not requirement.specifier.contains(installed, prereleases=True):
            missing.append(str(requirement).partition(";")[0].strip())
    return required, extras


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _devices() -> list[dict[str, Any]]:
    try:
        import torch
    except Exception as error:  # a broken torch build raises OSError, ImportError or RuntimeError
        return [{"device": "none", "name": f"torch cannot be imported: {error}", "bf16": False}]
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    threads = torch.get_num_threads()
    devices = [
        {
            "device": "cpu",
            "name": f"{capabilities.get('cpu_name', platform.machine())}, {threads} threads",
            "bf16": bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")),
        }
    ]
    for number in range(torch.cuda.device_count()):
        with torch.cuda.device(number):
            gibibytes = torch.cuda.get_device_properties(number).total_memory / 2**30
            name = f"{torch.cuda.get_device_name(number)}, {gibibytes:.0f} GiB"
            devices.append({"device": f"cuda:{number}", "name": name, "bf16": torch.cuda.is_bf16_supported()})
    if torch.backends.mps.is_available():
        devices.append({"device": "mps", "name": "Apple GPU", "bf16": False})
    return devices


def _java() -> str | None:
    """First line of ``java -version``; Terrier needs it, nothing else here does."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=os.path.join(home, "bin")) if home else shutil.which("java")
    if java is None:
        return None
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return (done.stderr or done.stdout).partition("\n")[0].strip()


def _try_core() -> str:
    """Encodes a sentence with the small default and loads what BM25 needs; "works", or what is wrong."""
    try:
        import numpy as np
        import pyterrier_pisa  # noqa: F401

        from torch_radar.checkpoints import SMALL_DEFAULT
        from torch_radar.encoder import Encoder

        vectors = Encoder(SMALL_DEFAULT, device="cpu").encode_queries(["a continuous function is bounded"])
        norm = float(np.linalg.norm(vectors))
        return "works" if abs(norm - 1) < 1e-3 else f"a vector of the small default has length {norm:.3f}, not 1"
    except Exception as error:  # whatever is broken is the finding
        return f"{type(error).__name__}: {error}"


def _as_text(report: dict[str, Any]) -> str:
    from rich.table import Table

    table = Table(title="radar doctor", show_header=False, box=None, padding=(0, 2, 0, 0), title_justify="left")
    table.add_column(style="bold")
    table.add_row("core", report["core"])
    table.add_row("python", report["python"])
    for name, installed in report["versions"].items():
        table.add_row(name, installed or "missing")
    for device in report["devices"]:
        bf16 = "with" if device["bf16"] else "without"
        table.add_row(device["device"], f"{device['name']}, {bf16} bf16 arithmetic")
    for extra, state in report["extras"].items():
        text = f"missing {', '.join(state['missing'])}: {state['install']}" if state["missing"] else "installed"
        table.add_row(f"extra {extra}", text)
    table.add_row("java", report["java"] or "not found (optional: only Terrier and Pyserini need it)")
    return render(table)
