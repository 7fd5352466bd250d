//! Black-box tests: the real binary over HTTP, against protocol v1. One test binary, because every
//! further one would be linked for minutes.

mod harness;
mod scenarios;
