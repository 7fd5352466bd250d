//! What a gateway sees, topic by topic. Every test starts its own sidecar.

mod abuse;
mod access;
mod audit;
mod batch;
mod codes;
mod concurrency;
mod degraded;
mod exchange;
mod groups;
mod input;
mod keys;
mod lifecycle;
mod money;
mod outage;
mod own_key;
mod policy;
mod pricing;
mod reconcile;
mod recovery;
mod regressions;
mod restart;
mod startup;
mod tariffs;
mod trust;
mod trust_bound;
mod windows;
