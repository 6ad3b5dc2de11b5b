"""`darkroom demo`: see tools/demo.py."""

from tools.demo import configure, run

__all__ = ["configure", "run"]
