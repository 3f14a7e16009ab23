//! What a configuration may hold at most. Every number is inclusive.

use core::{ops::RangeInclusive, time::Duration};

/// Bytes of a configuration.
pub const CONFIGURATION_BYTES: usize = 1 << 20;
/// Rules of a configuration; there is at least one.
pub const RULES: usize = LIST;
/// Elements of any list but `classes`: `rules`, `match.method` and `match.source`.
pub const LIST: usize = 64;
/// Elements of `classes`.
pub const CLASSES: usize = 8;
/// `limits.inflight`, `limits.arrivals_per_s` and `limits.connecting`.
pub const LIMIT: RangeInclusive<u32> = 1..=1_000_000;
/// `hold.max_waiting`.
pub const MAX_WAITING: RangeInclusive<u32> = 1..=65_536;
/// `hold.max_wait`.
pub const MAX_WAIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
/// `surge.sensitivity`.
pub const SENSITIVITY: RangeInclusive<f64> = 1.05..=1000.0;
/// `surge.min_excess`.
pub const MIN_EXCESS: RangeInclusive<u32> = 0..=1_000_000;
/// `surge.warm_up`.
pub const WARM_UP: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
/// `surge.baseline_per_s`.
pub const BASELINE_PER_S: RangeInclusive<f64> = 0.1..=1e6;
/// `reject.retry_after`, in whole milliseconds.
pub const RETRY_AFTER: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
/// `reject.http_status`.
pub const HTTP_STATUS: RangeInclusive<u32> = 400..=599;
/// `reject.slow`.
pub const SLOW: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
/// `reject.max_slow`.
pub const MAX_SLOW: RangeInclusive<u32> = 1..=65_536;
/// `priority` of a class.
pub const PRIORITY: RangeInclusive<u32> = 0..=255;
/// `reserved` of a class.
pub const RESERVED: RangeInclusive<u32> = 0..=1_000_000;
/// `match.listener_port`.
pub const PORT: RangeInclusive<u32> = 1..=65_535;
/// Bytes of `reject.body`.
pub const BODY_BYTES: usize = 4096;
/// Bytes of a cluster's name, of `match.authority` and of a header's name.
pub const NAME_BYTES: usize = 255;
/// Bytes of `match.path_prefix` and of a header's value.
pub const TEXT_BYTES: usize = 1024;
/// Bytes of a rule's name.
pub const RULE_NAME_BYTES: usize = 63;
/// Bytes of a method.
pub const METHOD_BYTES: usize = 32;

/// Values in the whole configuration, counting objects and lists as one each.
pub(super) const VALUES: usize = 32_768;
/// Fields of one object.
pub(super) const FIELDS: usize = 64;
/// Levels of a `google.protobuf.Struct`; JSON text has serde_json's bound of 128.
pub(super) const STRUCT_LEVELS: usize = 32;
