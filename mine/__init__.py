"""The mine: trains campaigns on local data that never leaves, and is paid for the improvement."""
