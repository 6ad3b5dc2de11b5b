"""Notifications: will tell people and systems what happened; for now it is only present, with its database."""
