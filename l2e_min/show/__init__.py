"""Figures, explorers and tables of the book."""
