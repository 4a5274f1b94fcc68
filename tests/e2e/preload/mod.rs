//! Workers as copies of a template: what they share, what they must not share, and what is loaded before they are made.

mod copies;
mod obstacles;
mod warm_up;
