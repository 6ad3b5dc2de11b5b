"""One module per command: `configure` adds its arguments and sets `run`, which prints and returns the exit status."""
