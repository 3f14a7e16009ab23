//! The built plugin in the real Envoy, between real clients and real upstreams.
//!
//! Run by `cargo xtask test`, which says where the programs and the modules are.

mod abuse;
mod adaptive;
mod arrivals;
mod callers;
mod calm;
mod connecting;
mod dashboard;
mod delivery;
mod encrypted;
mod fair;
mod faults;
mod grpc;
mod harness;
mod hold;
mod hostile;
mod http;
mod loading;
mod memory;
mod mesh;
mod migration;
mod modes;
mod mysql;
mod observed;
#[path = "../pages.rs"]
mod pages;
mod postgres;
mod prometheus;
mod promql;
mod readme;
mod refusing;
mod shedding;
mod slow;
mod status;
mod storm;
mod surge;
mod tcp;
mod updates;
