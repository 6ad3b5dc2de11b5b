"""How a command says that it could not do its work."""


class CommandFailed(Exception):
    """Written for the person at the keyboard: what was wrong, where, and what to do about it."""
