"""The commands of ``l2e``, one module each; the contract stands in ``l2e_min/lab/cli.py``."""
