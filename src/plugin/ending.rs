//! How a stream ended, as far as the host knows when it is deleted.

use core::time::Duration;

use super::{host, matching::Kind};
use crate::engine::Answers;

/// A connection to the upstream that took longer than this was slow.
const SLOW_CONNECT: Duration = Duration::from_secs(1);
/// A TCP upstream that said nothing for so long said nothing.
const SILENT: Duration = Duration::from_secs(1);

/// Bits of Envoy's response flags: no healthy upstream, the connect failed, a circuit breaker.
const FAILED: u64 = 0x2 | 0x20 | 0x80;
/// The upstream did not answer in time.
const TIMED_OUT: u64 = 0x4;

/// How the stream of the effective context ended, that was open for `lasted`. About 1 µs a fact.
pub fn ending(kind: Kind, lasted: Duration) -> Answers {
    let flags = number("response\0flags").unwrap_or(0);
    let mut ending = Answers::default();
    let refused = || kind == Kind::Http && matches!(number("response\0code"), Some(503 | 429));
    let silent = || {
        flags & TIMED_OUT != 0
            || kind == Kind::Tcp && lasted >= SILENT && number("response\0total_size") == Some(0)
    };
    let slow = || {
        kind == Kind::Tcp
            && number("upstream\0cx_pool_ready_duration")
                .is_some_and(|nanos| Duration::from_nanos(nanos) >= SLOW_CONNECT)
    };
    if flags & FAILED != 0 {
        ending.failed = 1;
    } else if refused() {
        ending.refused = 1;
    } else if silent() {
        ending.silent = 1;
    } else if slow() {
        ending.slow = 1;
    } else {
        ending.good = 1;
    }
    ending
}

/// A property that is a whole number.
fn number(path: &str) -> Option<u64> {
    let bytes = host::property(path)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}
