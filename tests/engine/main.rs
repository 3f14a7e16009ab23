//! The engine over a shared store, as several workers use it.

mod gate;
mod workers;
mod world;
