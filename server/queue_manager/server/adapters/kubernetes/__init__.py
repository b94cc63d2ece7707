"""Workers as Kubernetes Jobs. Nothing is imported here: `options` is read without the library that `api` needs."""
