"""The gateway beside a bare aiohttp handler, and what a thousand watchers cost it."""
