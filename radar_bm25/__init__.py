"""BM25, made safe: what ``pyterrier_radar`` and ``synthesis`` both rank words with.

:mod:`radar_bm25.index` builds, opens and searches an index of PISA's; it loads PyTerrier. :mod:`radar_bm25.lucene` does
so with one of Lucene's, by the extra ``pyserini``. This package alone loads nothing.
"""
