"""The vocabulary every other package shares: standard library and msgspec only."""
