"""What the scale study measures on a language model, a file each."""
