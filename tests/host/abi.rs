//! The functions that a host has for a plugin, Proxy-Wasm ABI 0.2.1: as Envoy answers, and with what
//! goes wrong.

use wasmi::{Caller, Linker};

use crate::{
    envoy::Metric,
    machine::{Sort, State},
    weather::{Import, Instead, Mishap, Status},
};

type Env<'a> = Caller<'a, State>;
type Answer = Result<Value, Status>;

/// Where a function puts what it hands over.
#[derive(Clone, Copy)]
enum Out {
    Nothing,
    /// A pointer to memory of the module, and a length.
    Bytes(u32, u32),
    /// The same, and a version.
    Versioned(u32, u32, u32),
    U32(u32),
    U64(u32),
}

/// What a function hands over.
enum Value {
    Nothing,
    Bytes(Vec<u8>),
    Versioned(Vec<u8>, u32),
    Number(u64),
}

/// All of them.
pub fn linker(module: &wasmi::Module) -> Linker<State> {
    let mut linker = Linker::new(module.engine());
    for import in Import::ALL {
        let name = import.name();
        let linker = &mut linker;
        // What they are given is what the ABI says, and the linker compares it.
        let linked = match import {
            Import::Log => linker.func_wrap(import.home(), name, log),
            Import::GetCurrentTime => linker.func_wrap(import.home(), name, get_current_time),
            Import::GetRandom => linker.func_wrap(import.home(), name, get_random),
            Import::SetTickPeriod => linker.func_wrap(import.home(), name, set_tick_period),
            Import::SetEffectiveContext => {
                linker.func_wrap(import.home(), name, set_effective_context)
            }
            Import::GetProperty => linker.func_wrap(import.home(), name, get_property),
            Import::GetHeader => linker.func_wrap(import.home(), name, get_header),
            Import::GetBuffer => linker.func_wrap(import.home(), name, get_buffer),
            Import::SetBuffer => linker.func_wrap(import.home(), name, set_buffer),
            Import::GetSharedData => linker.func_wrap(import.home(), name, get_shared_data),
            Import::SetSharedData => linker.func_wrap(import.home(), name, set_shared_data),
            Import::ContinueStream => linker.func_wrap(import.home(), name, continue_stream),
            Import::CloseStream => linker.func_wrap(import.home(), name, close_stream),
            Import::SendLocalResponse => linker.func_wrap(import.home(), name, send_local_response),
            Import::ReplaceHeader => linker.func_wrap(import.home(), name, replace_header),
            Import::CallForeignFunction => {
                linker.func_wrap(import.home(), name, call_foreign_function)
            }
            Import::DefineMetric => linker.func_wrap(import.home(), name, define_metric),
            Import::IncrementMetric => linker.func_wrap(import.home(), name, increment_metric),
            Import::RecordMetric => linker.func_wrap(import.home(), name, record_metric),
        };
        linked.expect("each is there once");
    }
    linker
}

/// Answers a call as it is meant to be answered, unless something goes wrong with it.
fn serve(
    mut env: Env<'_>,
    import: Import,
    out: Out,
    work: impl FnOnce(&mut Env<'_>) -> Answer,
) -> u32 {
    let env = &mut env;
    let status = match env.data_mut().weather.next(import) {
        None => match work(env).and_then(|value| hand_over(env, out, value)) {
            Ok(()) => Status::OK,
            Err(status) => status,
        },
        Some(Mishap::Refused(status)) => status,
        Some(Mishap::DoneBut(status)) => {
            let _ = work(env);
            status
        }
        Some(Mishap::Garbled(instead)) => {
            let value = work(env);
            env.data_mut().seen.garbled += 1;
            match garble(env, out, value, instead) {
                Ok(()) => Status::OK,
                Err(status) => status,
            }
        }
    };
    env.data_mut().seen.answered(import, status.0);
    status.0
}

fn hand_over(env: &mut Env<'_>, out: Out, value: Value) -> Result<(), Status> {
    match (out, value) {
        (Out::Bytes(data, size), Value::Bytes(bytes)) => hand_over_bytes(env, data, size, &bytes),
        (Out::Versioned(data, size, cas), Value::Versioned(bytes, version)) => {
            hand_over_bytes(env, data, size, &bytes)?;
            put(env, cas, &version.to_le_bytes())
        }
        // A pointer and a length for results that there are none of.
        (Out::Bytes(data, size), Value::Nothing) => hand_over_bytes(env, data, size, &[]),
        (Out::U32(at), Value::Number(number)) => put(env, at, &(number as u32).to_le_bytes()),
        (Out::U64(at), Value::Number(number)) => put(env, at, &number.to_le_bytes()),
        _ => Ok(()),
    }
}

/// As Envoy does: into memory that the module's `malloc` gives.
fn hand_over_bytes(env: &mut Env<'_>, data: u32, size: u32, bytes: &[u8]) -> Result<(), Status> {
    let at = if bytes.is_empty() {
        0
    } else {
        let at = malloc(env, bytes.len() as u32);
        if at == 0 {
            return Err(Status::INVALID_MEMORY_ACCESS);
        }
        put(env, at, bytes)?;
        at
    };
    put(env, data, &at.to_le_bytes())?;
    put(env, size, &(bytes.len() as u32).to_le_bytes())
}

/// Hands over something else.
fn garble(env: &mut Env<'_>, out: Out, value: Answer, instead: Instead) -> Result<(), Status> {
    let (data, size, cas) = match out {
        Out::Bytes(data, size) => (data, size, None),
        Out::Versioned(data, size, cas) => (data, size, Some(cas)),
        Out::U32(_) | Out::U64(_) => {
            let dice = &mut env.data_mut().dice;
            // Often near the ends, where sums overflow.
            let number = match dice.below(4) {
                0 => dice.below(3),
                1 => u64::MAX - dice.below(3),
                _ => dice.roll(),
            };
            return hand_over(env, out, Value::Number(number));
        }
        Out::Nothing => {
            // Memory that the host keeps, or does not get.
            let wanted = env.data_mut().dice.below(64) as u32;
            malloc(env, wanted);
            malloc(env, u32::MAX - wanted);
            return value.map(|_| ());
        }
    };
    let (mut bytes, mut version) = match value {
        Ok(Value::Bytes(bytes)) => (bytes, 0),
        Ok(Value::Versioned(bytes, version)) => (bytes, version),
        _ => (Vec::new(), 1),
    };
    let dice = &mut env.data_mut().dice;
    if dice.one_in(4) {
        version = dice.below(3) as u32;
    }
    if let Some(cas) = cas {
        put(env, cas, &version.to_le_bytes())?;
    }
    let dice = &mut env.data_mut().dice;
    match instead {
        Instead::Nothing => bytes.clear(),
        Instead::Noise(length) => bytes = dice.bytes(length),
        Instead::TooMuch => bytes = vec![b'x'; 5 << 20],
        Instead::OneBitOff => {
            let at = dice.below(bytes.len() as u64) as usize;
            let bit = dice.below(8);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
        Instead::Half => bytes.truncate(bytes.len() / 2),
        Instead::NullOf(length) => {
            put(env, data, &[0; 4])?;
            return put(env, size, &length.to_le_bytes());
        }
        Instead::LengthOfNone => {
            let at = malloc(env, 16);
            put(env, data, &at.to_le_bytes())?;
            return put(env, size, &[0; 4]);
        }
    }
    hand_over_bytes(env, data, size, &bytes)
}

fn malloc(env: &mut Env<'_>, size: u32) -> u32 {
    let malloc = env.data().exports().malloc;
    match malloc.call(&mut *env, size) {
        Ok(at) => at,
        Err(error) => {
            broken(env, format!("malloc({size}): {error}"));
            0
        }
    }
}

fn broken(env: &mut Env<'_>, what: String) {
    env.data_mut().broken.get_or_insert(what);
}

fn take(env: &Env<'_>, at: u32, size: u32) -> Result<Vec<u8>, Status> {
    let memory = env.data().exports().memory.data(env);
    let end = (at as usize).checked_add(size as usize);
    let bytes = end.and_then(|end| memory.get(at as usize..end));
    bytes
        .map(<[u8]>::to_vec)
        .ok_or(Status::INVALID_MEMORY_ACCESS)
}

fn take_text(env: &mut Env<'_>, at: u32, size: u32) -> Result<String, Status> {
    let text = String::from_utf8(take(env, at, size)?);
    text.map_err(|error| {
        broken(env, format!("no text: {error}"));
        Status::BAD_ARGUMENT
    })
}

fn put(env: &mut Env<'_>, at: u32, bytes: &[u8]) -> Result<(), Status> {
    let memory = env.data().exports().memory;
    let memory = memory.data_mut(env);
    let end = (at as usize).checked_add(bytes.len());
    let place = end.and_then(|end| memory.get_mut(at as usize..end));
    place
        .ok_or(Status::INVALID_MEMORY_ACCESS)?
        .copy_from_slice(bytes);
    Ok(())
}

fn log(env: Env<'_>, level: u32, message: u32, size: u32) -> u32 {
    serve(env, Import::Log, Out::Nothing, |env| {
        let text = take_text(env, message, size)?;
        if level > 5 {
            return Err(Status::BAD_ARGUMENT);
        }
        if text.contains('\n') {
            broken(env, format!("more than a line: {text}"));
        }
        env.data().envoy.borrow_mut().log.push(text);
        Ok(Value::Nothing)
    })
}

fn get_current_time(env: Env<'_>, time: u32) -> u32 {
    serve(env, Import::GetCurrentTime, Out::U64(time), |env| {
        Ok(Value::Number(env.data().envoy.borrow().now))
    })
}

fn get_random(env: Env<'_>, data: u32, size: u32) -> u32 {
    serve(env, Import::GetRandom, Out::Nothing, |env| {
        for at in 0..size.min(256) {
            let byte = env.data_mut().dice.below(256) as u8;
            put(env, data + at, &[byte])?;
        }
        Ok(Value::Nothing)
    })
}

fn set_tick_period(env: Env<'_>, period: u32) -> u32 {
    serve(env, Import::SetTickPeriod, Out::Nothing, |env| {
        env.data_mut().set_period(period);
        Ok(Value::Nothing)
    })
}

fn set_effective_context(env: Env<'_>, id: u32) -> u32 {
    serve(env, Import::SetEffectiveContext, Out::Nothing, |env| {
        let state = env.data_mut();
        if !state.contexts.contains_key(&id) {
            return Err(Status::BAD_ARGUMENT);
        }
        state.effective = id;
        Ok(Value::Nothing)
    })
}

fn get_property(env: Env<'_>, path: u32, path_size: u32, data: u32, size: u32) -> u32 {
    serve(env, Import::GetProperty, Out::Bytes(data, size), |env| {
        let path = take_text(env, path, path_size)?;
        let found = env
            .data()
            .context()
            .and_then(|context| context.property(&path));
        found.map(Value::Bytes).ok_or(Status::NOT_FOUND)
    })
}

fn get_header(env: Env<'_>, map: u32, key: u32, key_size: u32, data: u32, size: u32) -> u32 {
    serve(env, Import::GetHeader, Out::Bytes(data, size), |env| {
        let name = take_text(env, key, key_size)?;
        let context = env.data().context();
        let context = context.filter(|context| map == 0 && context.sort == Sort::Http);
        let headers = &context.ok_or(Status::BAD_ARGUMENT)?.headers;
        let found = headers.iter().find(|(known, _)| *known == name);
        let value = found.map(|(_, value)| Value::Bytes(value.clone()));
        value.ok_or(Status::NOT_FOUND)
    })
}

/// The buffers of the client's bytes and of the upstream's, and the configuration.
fn buffer<'a>(env: &'a mut Env<'_>, buffer: u32) -> Option<&'a mut Vec<u8>> {
    let state = env.data_mut();
    if buffer == 7 {
        return state.configuration.as_mut();
    }
    let context = state.contexts.get_mut(&state.effective)?;
    match buffer {
        2 => context.buffers[0].as_mut(),
        3 => context.buffers[1].as_mut(),
        _ => None,
    }
}

fn get_buffer(env: Env<'_>, which: u32, start: u32, max: u32, data: u32, size: u32) -> u32 {
    serve(env, Import::GetBuffer, Out::Bytes(data, size), |env| {
        let bytes = buffer(env, which).ok_or(Status::NOT_FOUND)?;
        if start.checked_add(max).is_none() {
            return Err(Status::BAD_ARGUMENT);
        }
        let rest = bytes.get(start as usize..).unwrap_or_default();
        let length = rest.len().min(max as usize);
        Ok(Value::Bytes(rest[..length].to_vec()))
    })
}

fn set_buffer(env: Env<'_>, which: u32, start: u32, size: u32, data: u32, data_size: u32) -> u32 {
    serve(env, Import::SetBuffer, Out::Nothing, |env| {
        let new = take(env, data, data_size)?;
        let bytes = buffer(env, which).ok_or(Status::NOT_FOUND)?;
        let start = (start as usize).min(bytes.len());
        let end = start.saturating_add(size as usize).min(bytes.len());
        bytes.splice(start..end, new);
        Ok(Value::Nothing)
    })
}

fn get_shared_data(env: Env<'_>, key: u32, key_size: u32, data: u32, size: u32, cas: u32) -> u32 {
    let out = Out::Versioned(data, size, cas);
    serve(env, Import::GetSharedData, out, |env| {
        let key = take(env, key, key_size)?;
        let envoy = env.data().envoy.borrow();
        let found = envoy.shared.get(&key).cloned();
        let (value, version) = found.ok_or(Status::NOT_FOUND)?;
        Ok(Value::Versioned(value, version))
    })
}

fn set_shared_data(env: Env<'_>, key: u32, key_size: u32, data: u32, size: u32, cas: u32) -> u32 {
    serve(env, Import::SetSharedData, Out::Nothing, |env| {
        let (key, value) = (take(env, key, key_size)?, take(env, data, size)?);
        let set = env.data().envoy.borrow_mut().set_shared(key, value, cas);
        set.then_some(Value::Nothing).ok_or(Status::CAS_MISMATCH)
    })
}

fn continue_stream(env: Env<'_>, stream: u32) -> u32 {
    serve(env, Import::ContinueStream, Out::Nothing, |env| {
        let context = env.data_mut().context_mut().ok_or(Status::BAD_ARGUMENT)?;
        match (stream, context.sort) {
            (0, Sort::Http) | (2, Sort::Tcp) => context.go_on(),
            (0 | 1, _) => {}
            (3, _) => return Err(Status::UNIMPLEMENTED),
            _ => return Err(Status::BAD_ARGUMENT),
        }
        Ok(Value::Nothing)
    })
}

fn close_stream(env: Env<'_>, stream: u32) -> u32 {
    serve(env, Import::CloseStream, Out::Nothing, |env| {
        let context = env.data_mut().context_mut().ok_or(Status::BAD_ARGUMENT)?;
        if stream > 3 {
            return Err(Status::BAD_ARGUMENT);
        }
        context.closed |= stream == 2 && context.sort == Sort::Tcp;
        Ok(Value::Nothing)
    })
}

#[allow(clippy::too_many_arguments, reason = "the ABI's")]
fn send_local_response(
    env: Env<'_>,
    status: u32,
    details: u32,
    details_size: u32,
    body: u32,
    body_size: u32,
    headers: u32,
    headers_size: u32,
    _grpc_status: i32,
) -> u32 {
    serve(env, Import::SendLocalResponse, Out::Nothing, |env| {
        take_text(env, details, details_size)?;
        take_text(env, body, body_size)?;
        let headers = take(env, headers, headers_size)?;
        if !are_pairs(&headers) {
            broken(env, format!("no pairs: {headers:?}"));
        }
        let context = env.data_mut().context_mut().ok_or(Status::BAD_ARGUMENT)?;
        if context.sort == Sort::Http && context.answered.is_none() {
            context.answered = Some(status);
        }
        Ok(Value::Nothing)
    })
}

/// Whether Envoy can read it: their number, all lengths, then all texts, each with a NUL.
fn are_pairs(bytes: &[u8]) -> bool {
    let (numbers, _) = bytes.as_chunks::<4>();
    let mut numbers = numbers
        .iter()
        .map(|bytes| u32::from_le_bytes(*bytes) as usize);
    let pairs = numbers.next().unwrap_or(usize::MAX >> 8);
    let texts: usize = numbers.take(2 * pairs).map(|length| length + 1).sum();
    bytes.len() == 4 + 8 * pairs + texts
}

fn replace_header(env: Env<'_>, map: u32, key: u32, key_size: u32, data: u32, size: u32) -> u32 {
    serve(env, Import::ReplaceHeader, Out::Nothing, |env| {
        let (name, value) = (take_text(env, key, key_size)?, take(env, data, size)?);
        let context = env.data_mut().context_mut();
        let context = context.filter(|context| map == 0 && context.sort == Sort::Http);
        let headers = &mut context.ok_or(Status::BAD_ARGUMENT)?.headers;
        headers.retain(|(known, _)| *known != name);
        headers.push((name, value));
        Ok(Value::Nothing)
    })
}

fn call_foreign_function(
    env: Env<'_>,
    name: u32,
    name_size: u32,
    arguments: u32,
    arguments_size: u32,
    data: u32,
    size: u32,
) -> u32 {
    let out = Out::Bytes(data, size);
    serve(env, Import::CallForeignFunction, out, |env| {
        if take_text(env, name, name_size)? != "set_envoy_filter_state" {
            return Err(Status::NOT_FOUND);
        }
        let arguments = take(env, arguments, arguments_size)?;
        // A protobuf message: field 1 is the key, field 2 the value.
        let state = strings(&arguments).ok_or(Status::BAD_ARGUMENT)?;
        let context = env.data_mut().context_mut().ok_or(Status::BAD_ARGUMENT)?;
        if let [(1, "envoy.tcp_proxy.cluster"), (2, cluster)] = state[..]
            && !context.chosen
        {
            context.cluster = Some(cluster.to_owned());
        }
        Ok(Value::Nothing)
    })
}

/// The strings of a protobuf message, with their fields' numbers.
fn strings(mut bytes: &[u8]) -> Option<Vec<(u8, &str)>> {
    let mut found = Vec::new();
    while let Some((&tag, rest)) = bytes.split_first() {
        let (mut length, mut shift, mut rest) = (0_usize, 0, rest);
        loop {
            let (&byte, more) = rest.split_first()?;
            (length, rest) = (length | usize::from(byte & 0x7f) << shift, more);
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        let (text, more) = rest.split_at_checked(length)?;
        found.push((tag >> 3, core::str::from_utf8(text).ok()?));
        bytes = more;
    }
    Some(found)
}

fn define_metric(env: Env<'_>, kind: u32, name: u32, name_size: u32, id: u32) -> u32 {
    serve(env, Import::DefineMetric, Out::U32(id), |env| {
        let name = take_text(env, name, name_size)?;
        let kind = match kind {
            0 => Metric::Counter,
            1 => Metric::Gauge,
            2 => Metric::Histogram,
            _ => return Err(Status::BAD_ARGUMENT),
        };
        let state = env.data_mut();
        state
            .envoy
            .borrow_mut()
            .metrics
            .entry(name.clone())
            .or_default();
        state.metrics.push((kind, name));
        Ok(Value::Number(state.metrics.len() as u64))
    })
}

/// Changes a metric by its number.
fn metric(
    env: &mut Env<'_>,
    id: u32,
    change: impl FnOnce(Metric, u64) -> Result<u64, Status>,
) -> Answer {
    let state = env.data_mut();
    let known = (id as usize)
        .checked_sub(1)
        .and_then(|index| state.metrics.get(index));
    let (kind, name) = known.ok_or(Status::NOT_FOUND)?;
    let metrics = &mut state.envoy.borrow_mut().metrics;
    let value = metrics.entry(name.clone()).or_default();
    *value = change(*kind, *value)?;
    Ok(Value::Nothing)
}

fn increment_metric(env: Env<'_>, id: u32, offset: i64) -> u32 {
    serve(env, Import::IncrementMetric, Out::Nothing, |env| {
        metric(env, id, |kind, old| match kind {
            Metric::Counter if offset <= 0 => Err(Status::BAD_ARGUMENT),
            Metric::Histogram => Err(Status::BAD_ARGUMENT),
            Metric::Counter | Metric::Gauge => Ok(old.wrapping_add_signed(offset)),
        })
    })
}

fn record_metric(env: Env<'_>, id: u32, value: u64) -> u32 {
    serve(env, Import::RecordMetric, Out::Nothing, |env| {
        metric(env, id, |kind, old| match kind {
            Metric::Counter => Ok(old.wrapping_add(value)),
            Metric::Gauge => Ok(value),
            Metric::Histogram => Ok(old.wrapping_add(1)),
        })
    })
}
