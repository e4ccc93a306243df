"""Notebooks of the chapters for a workshop: without the solutions for students, with them for the teacher."""
