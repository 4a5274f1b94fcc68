//! FastCGI 1.0, both sides.
