//! The bridge to Python: the application side of a worker.
