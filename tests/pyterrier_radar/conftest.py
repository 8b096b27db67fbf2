import os

import pyterrier as pt
import pytest

os.environ["PT_TEST_TRANSFORMER_REPORTS"] = "0"


@pytest.fixture(autouse=True)
def offline_schematics(monkeypatch):
    """Drawing a schematic would otherwise fetch the documentation's inventory from the network."""
    monkeypatch.setattr(pt.documentation, "_cached_objects_inv", {})
