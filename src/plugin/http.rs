//! Requests: held by pausing them, refused by a response.

use alloc::string::ToString;

use super::{
    host::{self, LocalResponse, Paused},
    matching::Kind,
    vm::{self, Guarded, Verdict},
    watch,
};
use crate::{
    engine::{Fault, Reason},
    protocol::http,
};

/// Whether the host goes on with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Action {
    Continue = 0,
    Pause = 1,
}

/// A request's headers have come.
pub fn on_request_headers(id: u32) -> Action {
    match vm::with(|vm| vm.on_arrival(id, Kind::Http)) {
        None | Some(Verdict::Pass) => Action::Continue,
        Some(Verdict::Hold | Verdict::Keep) => Action::Pause,
        Some(Verdict::Refuse(reason, guarded)) => {
            refuse(id, reason, &guarded);
            Action::Pause
        }
        Some(Verdict::Redirect(guarded)) => {
            redirect(id, &guarded);
            Action::Continue
        }
        Some(Verdict::Tell) => tell(),
    }
}

/// Answers with the last surge of the rule that the path ends with. The effective context is the
/// request's.
fn tell() -> Action {
    let path = host::request_header(":path").unwrap_or_default();
    let rule = path.rsplit(|&byte| byte == b'/').next();
    let rule = rule.and_then(|rule| core::str::from_utf8(rule).ok());
    let headers = [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ]
    .map(|(name, value)| (name, value.to_string()));
    let answered = host::send_local_response(&LocalResponse {
        status: 200,
        details: "tidegate_status",
        headers: &headers,
        body: &watch::told(rule.unwrap_or_default()),
        grpc_status: None,
    });
    match answered {
        Ok(()) => Action::Pause,
        Err(_) => Action::Continue,
    }
}

/// Leads a request to another upstream. The effective context is the request's.
pub fn redirect(id: u32, guarded: &Guarded) {
    let header = guarded
        .guard()
        .and_then(|guard| guard.rule.redirect.as_ref()?.header.as_ref());
    let Some(header) = header else { return };
    if host::set_request_header(&header.name, &header.value).is_err() {
        // It goes on where it would have gone: better one too many than a request that is lost.
        vm::with(|vm| vm.fault(id, Fault::HostCallFailed));
    }
}

/// Whether the request of the effective context has a connection to itself. Over HTTP/2 and HTTP/3
/// it shares one, and stands in the way of the others there while it is open.
pub fn has_its_own_connection() -> bool {
    host::property("request\0protocol").is_some_and(|protocol| protocol.starts_with(b"HTTP/1"))
}

/// Lets a held request go on. The effective context is the request's.
pub fn resume(id: u32) {
    if host::resume(Paused::Request).is_err() {
        vm::with(|vm| vm.fault(id, Fault::HostCallFailed));
    }
}

/// Refuses a request with the reason, and when to come back. The effective context is the
/// request's.
pub fn refuse(id: u32, reason: Reason, guarded: &Guarded) {
    let Some(guard) = guarded.guard() else { return };
    let reject = &guard.rule.reject;
    let grpc = host::request_header("content-type").is_some_and(|value| http::is_grpc(&value));
    let random = vm::with(vm::Vm::random).unwrap_or_default();
    let headers = http::refusal(reason.label(), reject.retry_after, grpc, random);
    let answered = host::send_local_response(&LocalResponse {
        status: reject.http_status,
        details: details(reason),
        headers: &headers,
        body: &reject.body,
        grpc_status: grpc.then(|| http::grpc_status(reject.http_status)),
    });
    if answered.is_err() {
        // It would wait until Envoy's own time-outs: let it go on instead.
        vm::with(|vm| vm.fault(id, Fault::HostCallFailed));
        let _ = host::resume(Paused::Request);
    }
}

/// The refusal in `%RESPONSE_CODE_DETAILS%`.
const fn details(reason: Reason) -> &'static str {
    match reason {
        Reason::InflightLimit => "tidegate_inflight_limit",
        Reason::ArrivalLimit => "tidegate_arrival_limit",
        Reason::ConnectingLimit => "tidegate_connecting_limit",
        Reason::HotCaller => "tidegate_hot_caller",
        Reason::SurgePressure => "tidegate_surge_pressure",
        Reason::HoldFull => "tidegate_hold_full",
        Reason::HoldTimeout => "tidegate_hold_timeout",
        Reason::AdaptiveLimit => "tidegate_adaptive_limit",
    }
}
