"""The bus of the embedded default: everything in this process or in files beside it, nothing to install.

Nothing is imported here: simulated workers use `topics` alone, and are to start at once.
"""
