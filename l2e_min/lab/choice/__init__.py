"""Multiple choice on held-out text: what a mini Pythia can be asked, with and without solved examples before it.

W25 scores its models on ARC, PIQA, SciQ and MMLU, where a model of a million parameters guesses. Here are seven tasks
that such a model can do a little of, made from files it has not been trained on, and scored in the same way.
"""
