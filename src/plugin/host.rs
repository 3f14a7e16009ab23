//! What Envoy offers a plugin, as safe functions: Proxy-Wasm ABI 0.2.1.
//!
//! Every status is a value; nothing here can trap.

#![allow(unsafe_code)] // Each call hands over pointers into slices that outlive it.

use alloc::{string::String, vec::Vec};
use core::{num::NonZeroU32, ptr};
use std::alloc::{Layout, alloc};

use crate::{
    engine::{StreamId, Timestamp},
    store::{Cas, SharedStore, StoreError},
};

/// The longest value that is taken from the host; it is refused what is longer.
const MAX_ALLOCATION: usize = 4 << 20;

/// What the host answered instead of `Ok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    NotFound,
    CasMismatch,
    /// Any other: bad argument, internal failure, or one that no version of the ABI knows.
    Failed,
}

/// The answer of a host function.
pub type Result<T> = core::result::Result<T, Status>;

fn checked(status: u32) -> Result<()> {
    match status {
        0 => Ok(()),
        1 => Err(Status::NotFound),
        8 => Err(Status::CasMismatch),
        _ => Err(Status::Failed),
    }
}

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_set_effective_context(context_id: u32) -> u32;
    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;
    #[cfg(feature = "inspect")]
    fn proxy_set_buffer_bytes(
        buffer: u32,
        start: usize,
        size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
        cas: u32,
    ) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_close_stream(stream: u32) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        arguments: *const u8,
        arguments_size: usize,
        results: *mut *mut u8,
        results_size: *mut usize,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn random_get(bytes: *mut u8, size: usize) -> u32;
}

/// Bytes that nobody can foresee; none when the host gives none.
pub fn random() -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    // SAFETY: the host writes as many bytes as there are.
    let status = unsafe { random_get(bytes.as_mut_ptr(), bytes.len()) };
    (status == 0).then_some(bytes)
}

/// The host takes memory for the values that it returns from here.
///
/// Null, which the host understands, when there is none or when it asks for too much.
#[unsafe(no_mangle)]
extern "C" fn malloc(size: usize) -> *mut u8 {
    if size == 0 || size > MAX_ALLOCATION {
        return ptr::null_mut();
    }
    match Layout::array::<u8>(size) {
        // SAFETY: the size is not zero.
        Ok(layout) => unsafe { alloc(layout) },
        Err(_) => ptr::null_mut(),
    }
}

/// Lets the host fill in the place and the length of a value that it puts into our memory.
///
/// `Ok(None)` is a value without bytes, for which the host takes no memory.
fn returned(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Option<Vec<u8>>> {
    let (mut data, mut size) = (ptr::null_mut(), 0);
    checked(call(&raw mut data, &raw mut size))?;
    if data.is_null() || size == 0 {
        return Ok(None);
    }
    // SAFETY: the host has `data` from `malloc(size)` above, which allocated exactly `size` bytes
    // with the alignment of u8, and wrote all of them; it gives up the memory with this call.
    Ok(Some(unsafe { Vec::from_raw_parts(data, size, size) }))
}

/// How important a log line is.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum Level {
    Info = 2,
    Warn = 3,
    Error = 4,
}

/// Writes a line to Envoy's log.
pub fn log(level: Level, message: &str) {
    // A line that the host can't take can't be reported either.
    // SAFETY: pointer and length are those of a slice.
    let _ = unsafe { proxy_log(level as u32, message.as_ptr(), message.len()) };
}

/// The host's wall clock. The epoch when it has none.
pub fn now() -> Timestamp {
    let mut nanos = 0;
    // SAFETY: the host writes 8 bytes to a live u64.
    let status = unsafe { proxy_get_current_time_nanoseconds(&raw mut nanos) };
    Timestamp::from_nanos(if status == 0 { nanos } else { 0 })
}

/// How often the root context of the effective context is called back. Restarts its timer.
pub fn set_tick_period(millis: u32) -> Result<()> {
    // SAFETY: no pointers.
    checked(unsafe { proxy_set_tick_period_milliseconds(millis) })
}

/// Makes the following calls be about another context.
pub fn set_effective_context(id: u32) -> Result<()> {
    // SAFETY: no pointers.
    checked(unsafe { proxy_set_effective_context(id) })
}

/// A property of the effective context. The parts of `path` are separated by NUL.
pub fn property(path: &str) -> Option<Vec<u8>> {
    returned(|data, size| {
        // SAFETY: pointer and length are those of a slice; the host writes to live locals.
        unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) }
    })
    .ok()
    .flatten()
}

const REQUEST_HEADERS: u32 = 0;

/// Sets a request header of the effective context, which makes the host choose its route anew.
pub fn set_request_header(name: &str, value: &str) -> Result<()> {
    // SAFETY: pointers and lengths are those of slices.
    checked(unsafe {
        proxy_replace_header_map_value(
            REQUEST_HEADERS,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    })
}

/// A request header of the effective context; the first one of that name.
pub fn request_header(name: &str) -> Option<Vec<u8>> {
    returned(|data, size| {
        // SAFETY: as in `property`.
        unsafe {
            proxy_get_header_map_value(REQUEST_HEADERS, name.as_ptr(), name.len(), data, size)
        }
    })
    .ok()
    .map(Option::unwrap_or_default)
}

/// The buffers that a plugin can read.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum Buffer {
    #[cfg(feature = "inspect")]
    Downstream = 2,
    #[cfg(feature = "inspect")]
    Upstream = 3,
    Configuration = 7,
}

/// The first `max` bytes of a buffer; none when it is empty or not there.
pub fn buffer(buffer: Buffer, max: usize) -> Vec<u8> {
    returned(|data, size| {
        // SAFETY: as in `property`.
        unsafe { proxy_get_buffer_bytes(buffer as u32, 0, max, data, size) }
    })
    .ok()
    .flatten()
    .unwrap_or_default()
}

/// Replaces everything in a buffer.
#[cfg(feature = "inspect")]
pub fn replace_buffer(buffer: Buffer, value: &[u8]) -> Result<()> {
    // SAFETY: pointer and length are those of a slice.
    checked(unsafe {
        proxy_set_buffer_bytes(buffer as u32, 0, usize::MAX, value.as_ptr(), value.len())
    })
}

/// What can be paused and resumed.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum Paused {
    Request = 0,
    Downstream = 2,
}

/// Lets the effective context's stream go on.
pub fn resume(stream: Paused) -> Result<()> {
    // SAFETY: no pointers.
    checked(unsafe { proxy_continue_stream(stream as u32) })
}

/// Closes the effective context's downstream connection, after what is written to it already.
pub fn close_downstream() -> Result<()> {
    const DOWNSTREAM: u32 = 2;
    // SAFETY: no pointers.
    checked(unsafe { proxy_close_stream(DOWNSTREAM) })
}

/// A response that the plugin gives itself.
#[derive(Debug)]
pub struct LocalResponse<'a> {
    pub status: u16,
    /// For `%RESPONSE_CODE_DETAILS%` in access logs.
    pub details: &'a str,
    pub headers: &'a [(&'static str, String)],
    pub body: &'a str,
    /// For gRPC requests.
    pub grpc_status: Option<i32>,
}

/// Answers the effective context's request.
pub fn send_local_response(response: &LocalResponse<'_>) -> Result<()> {
    let headers = serialized(response.headers);
    // SAFETY: pointers and lengths are those of slices.
    checked(unsafe {
        proxy_send_local_response(
            u32::from(response.status),
            response.details.as_ptr(),
            response.details.len(),
            response.body.as_ptr(),
            response.body.len(),
            headers.as_ptr(),
            headers.len(),
            response.grpc_status.unwrap_or(-1),
        )
    })
}

/// Pairs as the ABI wants them: their number, all lengths, then all texts, each with a NUL.
fn serialized(pairs: &[(&'static str, String)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    // A handful of pairs of short texts: nothing is cut off here.
    out.extend_from_slice(&(pairs.len() as u32).to_le_bytes());
    for (name, value) in pairs {
        out.extend_from_slice(&(name.len() as u32).to_le_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    }
    for text in pairs
        .iter()
        .flat_map(|(name, value)| [*name, value.as_str()])
    {
        out.extend_from_slice(text.as_bytes());
        out.push(0);
    }
    out
}

/// Makes `tcp_proxy` choose this cluster; no effect once it has chosen.
pub fn choose_cluster(cluster: &str) -> Result<()> {
    const NAME: &str = "set_envoy_filter_state";
    const KEY: &str = "envoy.tcp_proxy.cluster";
    // A protobuf message of two strings; a cluster's name is at most 255 bytes by configuration.
    let mut arguments = Vec::with_capacity(KEY.len() + cluster.len() + 6);
    for (tag, text) in [(0x0a, KEY), (0x12, cluster)] {
        arguments.push(tag);
        let mut length = text.len();
        while length > 0x7f {
            arguments.push(length as u8 | 0x80);
            length >>= 7;
        }
        arguments.push(length as u8);
        arguments.extend_from_slice(text.as_bytes());
    }
    returned(|data, size| {
        // SAFETY: as in `property`.
        unsafe {
            proxy_call_foreign_function(
                NAME.as_ptr(),
                NAME.len(),
                arguments.as_ptr(),
                arguments.len(),
                data,
                size,
            )
        }
    })
    .map(|_| ())
}

/// The kinds of metrics.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum MetricKind {
    Counter = 0,
    Gauge = 1,
    Histogram = 2,
}

/// A metric of the host's; one value for all workers. One that could not be defined is silent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Metric(Option<u32>);

impl Metric {
    /// Defines it, or finds the one that another worker defined.
    pub fn define(kind: MetricKind, name: &str) -> Self {
        let mut id = 0;
        // SAFETY: pointer and length are those of a slice; the host writes to a live u32.
        let status =
            unsafe { proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &raw mut id) };
        Self((status == 0).then_some(id))
    }

    /// Counts events.
    pub fn add(self, events: u32) {
        if let Some(id) = self.0
            && events > 0
        {
            // SAFETY: no pointers.
            let _ = unsafe { proxy_increment_metric(id, i64::from(events)) };
        }
    }

    /// Sets a gauge, or adds a value to a histogram.
    pub fn record(self, value: u64) {
        if let Some(id) = self.0 {
            // SAFETY: no pointers.
            let _ = unsafe { proxy_record_metric(id, value) };
        }
    }
}

/// The host's shared data.
#[derive(Clone, Copy, Debug)]
pub struct SharedData;

impl SharedStore for SharedData {
    fn load(&mut self, key: &str) -> core::result::Result<Option<(Vec<u8>, Cas)>, StoreError> {
        let mut cas = 0;
        let answer = returned(|data, size| {
            // SAFETY: as in `property`; the host writes to a live u32.
            unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &raw mut cas) }
        });
        match (answer, NonZeroU32::new(cas)) {
            (Ok(value), Some(cas)) => Ok(Some((value.unwrap_or_default(), Cas(cas)))),
            // A value without a version could never be replaced: as good as none.
            (Ok(_), None) | (Err(Status::NotFound), _) => Ok(None),
            (Err(_), _) => Err(StoreError::Host),
        }
    }

    fn compare_and_set(
        &mut self,
        key: &str,
        value: &[u8],
        cas: Option<Cas>,
    ) -> core::result::Result<(), StoreError> {
        // SAFETY: pointers and lengths are those of slices.
        let status = unsafe {
            proxy_set_shared_data(
                key.as_ptr(),
                key.len(),
                value.as_ptr(),
                value.len(),
                cas.map_or(0, |cas| cas.0.get()),
            )
        };
        checked(status).map_err(|status| match status {
            Status::CasMismatch => StoreError::Mismatch,
            _ => StoreError::Host,
        })
    }
}

/// A stream's id, as the host writes it.
pub const fn context(id: StreamId) -> u32 {
    id.0
}
