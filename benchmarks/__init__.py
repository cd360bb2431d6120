"""zfsync beside its peers. `benchmarks/run` is the way in; docs/performance.md has the results."""
