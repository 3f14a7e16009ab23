//! A configuration as a `google.protobuf.Struct`: it says the same as its JSON text.

use serde_json::{Map, Value};
use tidegate::config::{self, Build};

use crate::config::{assert_bounded, assert_told};

/// What is JSON is written as a Struct, too; what begins as a Struct is read as it is.
pub fn run(data: &[u8]) {
    let build = Build { inspect: true };
    let Ok(Value::Object(fields)) = serde_json::from_slice(data) else {
        match config::parse(&[b"\n", data].concat(), build) {
            Ok(policy) => assert_bounded(&policy),
            Err(error) => assert_told(&error),
        }
        return;
    };
    let mut bytes = Vec::new();
    put_struct(&fields, &mut bytes);
    let text = Value::Object(fields).to_string();
    let (as_json, as_struct) = (
        config::parse(text.as_bytes(), build),
        config::parse(&bytes, build),
    );
    match (as_json, as_struct) {
        (Ok(as_json), Ok(as_struct)) => assert_eq!(as_json, as_struct),
        (Err(_), Err(error)) => assert_told(&error),
        (as_json, as_struct) => panic!("JSON: {as_json:?}\nStruct: {as_struct:?}"),
    }
}

fn put_struct(fields: &Map<String, Value>, out: &mut Vec<u8>) {
    for (name, value) in fields {
        let mut entry = Vec::new();
        put(1, name.as_bytes(), &mut entry);
        put(2, &encoded(value), &mut entry);
        put(1, &entry, out);
    }
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Value::Null => out.extend([1 << 3, 0]),
        Value::Bool(value) => out.extend([4 << 3, u8::from(*value)]),
        Value::Number(number) => {
            out.push(2 << 3 | 1);
            out.extend(number.as_f64().unwrap_or(f64::NAN).to_le_bytes());
        }
        Value::String(text) => put(3, text.as_bytes(), &mut out),
        Value::Object(fields) => {
            let mut inner = Vec::new();
            put_struct(fields, &mut inner);
            put(5, &inner, &mut out);
        }
        Value::Array(list) => {
            let mut inner = Vec::new();
            for value in list {
                put(1, &encoded(value), &mut inner);
            }
            put(6, &inner, &mut out);
        }
    }
    out
}

/// A field that has a length.
fn put(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(bytes);
}
