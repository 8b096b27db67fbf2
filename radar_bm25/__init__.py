"""BM25 by PISA, made safe: what ``pyterrier_radar`` and ``synthesis`` both rank words with.

:mod:`radar_bm25.index` builds, opens and searches an index. It loads PyTerrier; this package alone loads nothing.
"""
