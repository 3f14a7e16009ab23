//! How a stream ended, as far as the host knows when it is deleted.

use core::time::Duration;

use super::{host, matching::Kind};
use crate::engine::{Answers, Patience};

/// Bits of Envoy's response flags: no healthy upstream, the connect failed.
const FAILED: u64 = 0x2 | 0x20;
/// Envoy's own circuit breaker kept the stream, or one more try of it, from the upstream.
const OVERFLOW: u64 = 0x80;
/// The upstream did not answer in time.
const TIMED_OUT: u64 = 0x4;

/// How the stream of the effective context ended, that was open for `lasted`. About 1 µs a fact,
/// of which there are three at most.
pub fn ending(kind: Kind, lasted: Duration, patience: Patience) -> Answers {
    let flags = number("response\0flags").unwrap_or(0);
    let mut ending = Answers::default();
    if flags & FAILED != 0 {
        ending.failed = 1;
    } else if flags & OVERFLOW != 0 && !is_answered_to_the_end() {
        // The upstream was not asked: it did neither well nor badly.
    } else if kind == Kind::Tcp && flags & TIMED_OUT == 0 {
        ending = Answers::of_connection(silence(lasted), connect, patience);
    } else {
        match number("response\0code") {
            Some(503 | 429) => ending.refused = 1,
            _ if flags & TIMED_OUT != 0 => ending.silent = 1,
            // Its client left before there was an answer.
            None | Some(0) => ending = Answers::of_connection(lasted, || None, patience),
            Some(_) => ending = Answers::of_connection(Duration::ZERO, || None, patience),
        }
    }
    ending
}

/// Whether the upstream has sent the last byte of its answer to the request of the effective context,
/// and so is done with it.
fn is_answered_to_the_end() -> bool {
    host::property("response\0backend_latency").is_some()
}

/// How long the upstream of a connection said nothing; zero when it said something, or had no time.
fn silence(lasted: Duration) -> Duration {
    if lasted >= Patience::LEAST_SILENCE && number("response\0total_size") == Some(0) {
        lasted
    } else {
        Duration::ZERO
    }
}

/// How long it took until the upstream of a connection was connected.
fn connect() -> Option<Duration> {
    number("upstream\0cx_pool_ready_duration").map(Duration::from_nanos)
}

/// A property that is a whole number.
fn number(path: &str) -> Option<u64> {
    let bytes = host::property(path)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}
