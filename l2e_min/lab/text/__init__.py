"""Text: the installed corpus, text of one's own, and the feature datasets cut from them."""
