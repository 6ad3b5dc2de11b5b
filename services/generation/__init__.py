"""The engine: jobs, their generations and operations, the AI providers, and the images that come of it."""
