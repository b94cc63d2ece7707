"""The rules, pure: no I/O, no clock, no randomness. Everything here can be tested by calling it."""
