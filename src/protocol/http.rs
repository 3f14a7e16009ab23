//! HTTP and gRPC: the headers of a refusal.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;

/// gRPC's `UNAVAILABLE`: try again later. What Envoy, too, makes of a 503.
pub const GRPC_UNAVAILABLE: i32 = 14;
/// gRPC's `RESOURCE_EXHAUSTED`, for rules that refuse with 429.
pub const GRPC_RESOURCE_EXHAUSTED: i32 = 8;

/// A pair of header name and value.
pub type Header = (&'static str, String);

/// Whether a request with this content type expects its refusal as a gRPC status.
pub fn is_grpc(content_type: &[u8]) -> bool {
    let grpc = b"application/grpc";
    content_type.get(..grpc.len()).is_some_and(|head| head.eq_ignore_ascii_case(grpc))
        // Not "application/grpcfoo", and gRPC-Web has its own framing of the body.
        && matches!(content_type.get(grpc.len()), None | Some(b'+' | b';' | b' '))
}

/// The gRPC status that says the same as an HTTP status of a refusal.
pub const fn grpc_status(http_status: u16) -> i32 {
    if http_status == 429 {
        GRPC_RESOURCE_EXHAUSTED
    } else {
        GRPC_UNAVAILABLE
    }
}

/// The value of a cookie in a `cookie` header; of two of that name, the first.
pub fn cookie<'a>(header: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    header.split(|&byte| byte == b';').find_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"=")?;
        Some(value)
    })
}

/// `retry_after`, lengthened by up to a half, so that those refused at once don't all come back
/// at once. `random` is any number.
pub fn jittered(retry_after: Duration, random: u32) -> Duration {
    // Up to 2^32 ÷ 2^33 of it; the product of 96 and 32 bits fits.
    let extra = (retry_after.as_nanos() * u128::from(random)) >> 33;
    let extra = u64::try_from(extra).unwrap_or(u64::MAX);
    retry_after.saturating_add(Duration::from_nanos(extra))
}

/// The headers of a refusal: why, and when to come back.
///
/// `retry-after` counts whole seconds, so a part of a second becomes the next second with the
/// probability that keeps the mean: 1.25 s is 1 for three out of four and 2 for the fourth; it is
/// never 0, and left out when `retry_after` is zero.
pub fn refusal(
    reason: &'static str,
    retry_after: Duration,
    grpc: bool,
    random: u32,
) -> Vec<Header> {
    let mut headers = Vec::with_capacity(3);
    headers.push(("x-tidegate-reason", reason.to_string()));
    if retry_after.is_zero() {
        return headers;
    }
    let wait = jittered(retry_after, random);
    // The lower bits are as good as the upper ones, and independent of them.
    let threshold = ((random & 0xffff) * 1000) >> 16;
    let seconds = wait
        .as_secs()
        .saturating_add(u64::from(wait.subsec_millis() > threshold));
    headers.push(("retry-after", seconds.max(1).to_string()));
    if grpc {
        headers.push(("grpc-retry-pushback-ms", wait.as_millis().to_string()));
    }
    headers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn value<'a>(headers: &'a [Header], name: &str) -> Option<&'a str> {
        headers
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.as_str())
    }

    #[test]
    fn grpc_is_known_by_its_content_type() {
        for yes in [
            "application/grpc",
            "application/grpc+proto",
            "Application/gRPC;x",
        ] {
            assert!(is_grpc(yes.as_bytes()), "{yes}");
        }
        for no in [
            "application/json",
            "application/grpc-web",
            "application/grpcish",
            "",
        ] {
            assert!(!is_grpc(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let header = b"xuid=1; uid=two=2 ;uid=3; empty=";
        assert_eq!(cookie(header, b"uid"), Some(&b"two=2"[..]));
        assert_eq!(cookie(header, b"empty"), Some(&b""[..]));
        for name in ["id", "UID", "u", "uid=two"] {
            let found = cookie(header, name.as_bytes());
            assert_eq!(found.is_some(), name == "uid=two", "{name}");
        }
        assert_eq!(cookie(b"uid", b"uid"), None);
    }

    #[test]
    fn nothing_is_promised_when_no_time_is_configured() {
        let headers = refusal("hold_full", Duration::ZERO, true, 7);
        assert_eq!(headers, [("x-tidegate-reason", "hold_full".to_owned())]);
    }

    proptest! {
        #[test]
        fn the_client_is_told_to_wait_as_long_as_configured_and_half_as_long_again_at_most(
            millis in 1_u64..3_600_000,
            random in any::<u32>(),
        ) {
            let wait = Duration::from_millis(millis);
            let jittered = jittered(wait, random);
            prop_assert!(wait <= jittered && jittered <= wait * 3 / 2);
            let headers = refusal("inflight_limit", wait, true, random);
            let seconds: u64 = value(&headers, "retry-after").expect("there").parse().expect("number");
            prop_assert!(seconds >= 1 && seconds <= jittered.as_secs() + 1);
            let millis: u128 = value(&headers, "grpc-retry-pushback-ms")
                .expect("there").parse().expect("number");
            prop_assert_eq!(millis, jittered.as_millis());
        }
    }

    #[test]
    fn those_refused_at_once_are_told_different_times() {
        let seconds: std::collections::BTreeSet<_> = (0..64_u32)
            .map(|n| refusal("inflight_limit", Duration::from_secs(10), false, n << 26))
            .filter_map(|headers| value(&headers, "retry-after").map(str::to_owned))
            .collect();
        assert!(seconds.len() >= 4, "{seconds:?}");
    }
}
