"""Pretraining a Pythia so that it can be stopped, killed and resumed; exporting what it made."""
