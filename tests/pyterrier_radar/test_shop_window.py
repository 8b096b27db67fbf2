"""What ``import pyterrier_radar`` offers, and what it must not cost."""

import subprocess
import sys

import pytest

import pyterrier_radar

_PROBE = """
import sys
import pyterrier
import pyterrier_radar
print(sorted({"torch", "transformers", "peft", "pyterrier_dr", "sentence_transformers"} & set(sys.modules)))
"""


def test_importing_loads_no_model_library():
    out = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=True).stdout
    assert out.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", pyterrier_radar.__all__)
def test_every_public_name_can_be_imported_and_is_listed(name):
    thing = getattr(pyterrier_radar, name)
    assert getattr(thing, "__name__", name) == name
    assert name in dir(pyterrier_radar)


def test_an_unknown_name_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="RadarBiencoder"):
        pyterrier_radar.RadarBiencoder  # noqa: B018
