//! RFC 3875 in the middle.
