//! What Envoy calls: Proxy-Wasm ABI 0.2.1, as far as it is needed.
//!
//! A callback that is not exported costs nothing; those for data are in `tidegate-inspect` alone.

#![allow(unsafe_code)] // `no_mangle`: the names are the ABI's.

use super::{
    host, http,
    http::Action,
    matching::Kind,
    tcp,
    vm::{self, Act},
};
use crate::engine::{Fault, StreamId};

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(id: u32, parent: u32) {
    vm::with(|vm| vm.on_create(id, parent));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(id: u32) {
    vm::with(|vm| vm.on_delete(id));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(root: u32, size: usize) -> bool {
    vm::with(|vm| vm.on_configure(root, size)).unwrap_or(false)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(root: u32) {
    let Some(acts) = vm::with(|vm| vm.on_tick(root)) else {
        return;
    };
    if acts.is_empty() {
        return;
    }
    for act in acts {
        carry_out(act);
    }
    let _ = host::set_effective_context(root);
}

/// Does what a tick decided. One act may end another stream, which is then left alone: the host
/// would still take calls about it.
fn carry_out(act: Act) {
    let id = match &act {
        Act::Resume(id, _) | Act::Refuse(id, ..) | Act::Redirect(id, _) => *id,
        Act::Close(id) => *id,
    };
    let lives = vm::with(|vm| vm.stream(id.0).is_some()).unwrap_or(false);
    if !lives {
        return;
    }
    if host::set_effective_context(host::context(id)).is_err() {
        vm::with(|vm| vm.fault(id.0, Fault::HostCallFailed));
        return;
    }
    match act {
        Act::Resume(StreamId(id), Kind::Http) => http::resume(id),
        Act::Resume(StreamId(id), Kind::Tcp) => tcp::resume(id),
        Act::Refuse(StreamId(id), reason, guarded) => match guarded.kind() {
            Kind::Http => http::refuse(id, reason, &guarded),
            Kind::Tcp => tcp::refuse_held(id, reason, &guarded),
        },
        Act::Redirect(StreamId(id), guarded) => match guarded.kind() {
            Kind::Http => {
                http::redirect(id, &guarded);
                http::resume(id);
            }
            Kind::Tcp => tcp::redirect_held(id, &guarded),
        },
        Act::Close(StreamId(id)) => tcp::close(id),
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(id: u32, _headers: usize, _end_of_stream: bool) -> Action {
    http::on_request_headers(id)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_new_connection(id: u32) -> Action {
    tcp::on_new_connection(id)
}

#[cfg(feature = "inspect")]
#[unsafe(no_mangle)]
extern "C" fn proxy_on_downstream_data(id: u32, size: usize, end_of_stream: bool) -> Action {
    tcp::on_downstream_data(id, size, end_of_stream)
}

#[cfg(feature = "inspect")]
#[unsafe(no_mangle)]
extern "C" fn proxy_on_upstream_data(id: u32, size: usize, end_of_stream: bool) -> Action {
    tcp::on_upstream_data(id, size, end_of_stream)
}
