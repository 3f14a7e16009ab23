//! Where the seed of all hashes comes from.

use std::fs;

use crate::harness::{HTTP, envoy::validate, places::Folder};

/// Takes a configuration only if the host gives it bytes twice, which differ.
const ASKS_TWICE: &str = r#"(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "malloc") (param i32) (result i32) i32.const 1024)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (i32.or (call $random (i32.const 16) (i32.const 16)) (call $random (i32.const 32) (i32.const 16)))
    i32.eqz
    (i64.ne (i64.load (i32.const 16)) (i64.load (i32.const 32)))
    (i64.ne (i64.load (i32.const 24)) (i64.load (i32.const 40)))
    i32.and
    i32.and))"#;

#[test]
fn envoy_gives_a_plugin_random_bytes() {
    let folder = Folder::new();
    let with = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, wat::parse_str(text).expect("a module")).expect("written");
        let nowhere = ([127, 0, 0, 1], 9).into();
        let shipped = HTTP.before(nowhere);
        let line = shipped.block("code: {local:");
        validate(&shipped.set(
            line.trim(),
            &format!("code: {{local: {{filename: {}}}}}", path.display()),
        ))
    };
    let (accepted, said) = with("asks.wasm", ASKS_TWICE);
    assert!(accepted, "{said}");
    // It does depend on what is given.
    let never = ASKS_TWICE.replace("i32.eqz", "drop i32.const 0");
    let (accepted, _) = with("never.wasm", &never);
    assert!(!accepted);
}
