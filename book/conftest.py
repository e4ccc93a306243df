"""Lets ``pytest --nbval book`` compare chapters in the same kernel that wrote them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_tools"))

from kernel import quiet_kernels

quiet_kernels()
