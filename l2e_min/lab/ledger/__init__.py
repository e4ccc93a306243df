"""The claims ledger: claims and rules, measurements, verdicts."""
