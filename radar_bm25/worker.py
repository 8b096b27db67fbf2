"""Builds a PISA index from JSON lines on stdin; a process of its own because PISA's errors end the process.

``python -P worker.py FOLDER STEMMER K1 B``, started by :mod:`radar_bm25.index`. It prints the number of documents it
indexed.
"""

import json
import sys

import pandas as pd
from pyterrier_pisa import PisaIndex


def main(folder: str, stemmer: str, k1: str, b: str) -> None:
    """Indexes stdin, then makes the structures of BM25 retrieval, so that a search writes nothing any more."""
    documents = map(json.loads, sys.stdin.buffer)
    index = PisaIndex(folder, text_field="text", stemmer=stemmer).index(documents)
    index.bm25(k1=float(k1), b=float(b))(pd.DataFrame({"qid": ["1"], "query": ["probe"]}))
    print(f"\nindexed {len(index)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
