"""radar-mini: the small retriever and reranker that ship with the package, and how they are made."""
