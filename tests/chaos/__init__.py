"""Chaos: three brokers over etcd and S3, real clients, and faults from a seed; a checker compares what the clients were
told with what is there."""
