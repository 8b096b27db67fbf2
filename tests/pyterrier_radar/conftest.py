import pyterrier as pt
import pytest


@pytest.fixture(autouse=True)
def offline_schematics(monkeypatch):
    """Drawing a schematic would otherwise fetch the documentation's inventory from the network."""
    monkeypatch.setattr(pt.documentation, "_cached_objects_inv", {})
