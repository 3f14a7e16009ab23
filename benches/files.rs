//! How many files a benchmark may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Hundreds of clients have two ends each here, and more that are about to close.
pub fn allow_many() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // It may do without.
    setrlimit(Resource::Nofile, most).ok();
}
