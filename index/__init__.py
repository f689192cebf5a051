"""Search for the nearest vectors: exact and FAISS behind one protocol."""
