//! Parses the command line, runs, reports. The only place that exits the process.

fn main() {}
