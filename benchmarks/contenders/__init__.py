"""The contenders, each a program of its own that is started by a benchmark and talks with it over a pipe."""
