"""What becomes of secrets over time: new passphrases, deletion, backups, and what a restored Capsule must not do."""
