"""Reading records and training apart: in processes without keys, network or any file but the records'.

What reads a stranger's model or a million images is the likeliest part of a mine to be taken over, and it needs least:
records, a spec and an encrypted model go in, sums and an encrypted gradient come out. So each such job has a process of
its own, which is gone after it. It has no keystore, no passphrase and no ledger, may open the records' files and those
of the program and write none, and makes no connection but to the owner's own database, where the records are in one.

    workroom   what the mine asks, and what it believes of the answers      jobs     what a process does
    places     which files a source and the program are in                  values   how sums are written
    __main__   the process

This module is empty, since a process restricts itself before it loads anything that starts threads.
"""
