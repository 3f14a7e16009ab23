//! `envoy/compose.yaml`: what is written there, and all of it but Grafana for real on a Docker engine.

mod engine;
mod file;
mod run;

#[allow(
    dead_code,
    unused_imports,
    reason = "the tests with Envoy use the rest of it"
)]
#[path = "../envoy/harness/mod.rs"]
mod harness;
