//! Real programs on free ports, each of which ends with the value that stands for it.

pub mod bootstrap;
pub mod chromium;
pub mod client;
pub mod delivered;
pub mod envoy;
pub mod events;
pub mod fuse;
pub mod http;
pub mod load;
pub mod mariadb;
pub mod metrics;
pub mod places;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod relay;
pub mod storm;
pub mod tls;
pub mod upstream;
pub mod visits;

use std::{
    thread,
    time::{Duration, Instant},
};

pub use bootstrap::{Bootstrap, HTTP, MIGRATION, MYSQL, POSTGRES, TCP};
pub use client::{Fate, connect, fate, fates, knock, knocks};
pub use delivered::Delivered;
pub use envoy::Envoy;
pub use events::Event;
pub use fuse::{Fuse, fused};
pub use http::ask_as;
pub use load::{Load, Pace};
pub use storm::Storm;
pub use upstream::{Conduct, Upstream};
pub use visits::{Visit, Visits};

/// How long anything is waited for. Nothing takes so long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until there is an answer; panics with the last objection when patience ends.
pub fn until<T>(mut probe: impl FnMut() -> Result<T, String>) -> T {
    let since = Instant::now();
    loop {
        match probe() {
            Ok(answer) => return answer,
            Err(why) if since.elapsed() > PATIENCE => panic!("waited {PATIENCE:?} in vain: {why}"),
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Runs asynchronous clients on this thread.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async { tokio::time::timeout(PATIENCE * 2, work).await })
        .expect("done in time")
}
