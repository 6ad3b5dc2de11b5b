"""Downloads: every signed link to a stored file is served here."""
