//! Seeing it: the status listener, the metrics, the control socket and the commands that use it, process titles.

mod commands;
mod metrics;
pub mod pages;
mod titles;
