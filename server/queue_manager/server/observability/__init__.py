"""What the server tells of itself: logs and metrics. Nothing here changes what it does."""
