"""Migrations of our own tables; a shipped one is never edited."""
