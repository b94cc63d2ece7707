"""Workers as Kubernetes Jobs: one Job for each worker, named after it, launched once."""
