"""The Capsule over HTTP."""
