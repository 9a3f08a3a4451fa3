"""The `mine` commands, a module a group; each parses, calls one function and prints."""
