"""`python -m mine` is the `mine` command."""

from mine.cli import main

if __name__ == "__main__":
    main()
