"""The outside, one folder a technology: each implements ports of the core, and keeps its library's exceptions in."""
