"""The operators' command line: `bin/darkroom` or `python -m tools`. It may know every service; none knows it.

The published client comes from this checkout: it is no package of the lock, whose hashes could not cover it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients" / "python" / "src"))
