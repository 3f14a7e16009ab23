//! The engine over a shared store, as several workers use it.

mod alarm;
mod callers;
mod detector;
mod distress;
mod exhaustive;
mod fair;
mod gate;
mod leases;
mod sampler;
mod tide;
mod workers;
mod world;
