"""The catalog: what organizations upload, and how long it is kept."""
