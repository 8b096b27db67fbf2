"""What ``import pyterrier_radar`` offers, and what it must not cost."""

import subprocess
import sys

import pytest

import pyterrier_radar

_PROBE = """
import sys, time
import pyterrier
before, start = set(sys.modules), time.perf_counter()
import pyterrier_radar
seconds = time.perf_counter() - start
heavy = {"torch", "transformers", "pyterrier_dr", "sentence_transformers"} & set(sys.modules)
print(seconds, sorted(heavy))
"""


def test_importing_adds_under_half_a_second_to_pyterrier_and_loads_no_model_library():
    out = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=True).stdout
    seconds, heavy = out.strip().splitlines()[-1].split(" ", 1)
    assert heavy == "[]"
    assert float(seconds) < 0.5


@pytest.mark.parametrize("name", pyterrier_radar.__all__)
def test_every_public_name_can_be_imported_and_is_listed(name):
    assert getattr(pyterrier_radar, name).__name__ == name
    assert name in dir(pyterrier_radar)


def test_an_unknown_name_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="RadarBiencoder"):
        pyterrier_radar.RadarBiencoder  # noqa: B018
