//! Time on a processor: what else the machine does is left out.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long this thread has worked.
pub fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a time since the thread began")
}

/// How long this thread works at something.
pub fn timed(work: impl FnOnce()) -> Duration {
    let began = worked();
    work();
    worked() - began
}
