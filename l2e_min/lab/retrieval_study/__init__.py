"""Retrieval under study: what each way of choosing pairs costs, and how the moving threshold behaves (W25 4.2)."""
