"""Messages of others, as far as they are read; generated, do not edit."""
