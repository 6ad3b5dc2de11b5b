"""The fault matrix: a real stack under load, something dies, and afterwards the books must add up."""
