"""The demo: a made-up company in an SQLite file, and a runner that serves it with the real processes."""
