"""One module a revision; each runs inside the transaction that opened the database."""
