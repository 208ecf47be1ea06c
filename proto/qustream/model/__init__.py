"""The shared nouns. Imports nothing else of ours: every room may import this one."""
