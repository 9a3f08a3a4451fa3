"""Hostile bytes for every decoder of bytes from outside: one table of decoders, and mutations of what they read."""
