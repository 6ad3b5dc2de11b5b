"""The operators' command line: `bin/darkroom` or `python -m tools`. It may know every service; none knows it."""
