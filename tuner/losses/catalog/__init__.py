"""Declarations of the losses and their options."""
