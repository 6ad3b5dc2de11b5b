"""Credits: the ledger of what organizations may spend, hold and have spent."""
