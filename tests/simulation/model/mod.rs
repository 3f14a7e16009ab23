//! A model of clients, a guard and an upstream, in virtual time: the same seed gives the same run.
//!
//! The guard is the real engine, driven as the plugin drives it; the rest is made up. The tests
//! assert what must hold, `cargo xtask bench surge` shows the numbers.

mod agenda;
mod clients;
mod guard;
mod ideal;
mod record;
pub mod shapes;
mod tidegate;
mod upstream;
mod world;

pub use guard::Policy;
pub use record::Numbers;
pub use shapes::Shape;
pub use world::play;
