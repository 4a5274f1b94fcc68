"""forkhorn's benchmark. scripts/bench installs what it needs and starts it; benches/README.md explains it."""
