//! The shipped modules with a fuse: they trap when a client tells them to.
//!
//! The fuse is put around what Envoy calls in a module that is finished. So everything else are the
//! shipped bytes, and no source and no build of the plugin has anything that makes it trap.

use std::fs;

use super::{Bootstrap, places::Folder};

/// When a machine traps. A client says so by how much it sends: headers, or bytes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fuse {
    /// At once, after the plugin has decided.
    AtOnce = 2,
    /// In the next tick, before it.
    Tick = 3,
    /// When the next stream is deleted, before that is counted.
    Delete = 4,
}

impl Fuse {
    /// So many headers of its own a request has; Envoy adds some.
    pub fn headers(self) -> usize {
        self as usize * 16 + 1
    }

    /// So many bytes a client sends at once.
    pub fn bytes(self) -> Vec<u8> {
        vec![b'x'; self as usize * 16 + 1]
    }
}

/// A configuration of so many bytes makes a machine trap when it is configured.
pub const CONFIGURATION: usize = 20_000;

/// What lies between Envoy and the module; `$plugin` is the module's own function.
const AROUND: [(&str, &str); 5] = [
    (
        "proxy_on_request_headers",
        "(param i32 i32 i32) (result i32)
         (call $plugin (local.get 0) (local.get 1) (local.get 2)) (call $light (local.get 1))",
    ),
    (
        "proxy_on_downstream_data",
        "(param i32 i32 i32) (result i32)
         (call $plugin (local.get 0) (local.get 1) (local.get 2)) (call $light (local.get 1))",
    ),
    (
        "proxy_on_tick",
        "(param i32) (call $burn (i32.const 3)) (call $plugin (local.get 0))",
    ),
    (
        "proxy_on_delete",
        "(param i32) (call $burn (i32.const 4)) (call $plugin (local.get 0))",
    ),
    (
        "proxy_on_configure",
        "(param i32 i32) (result i32)
         (if (i32.ge_u (local.get 1) (i32.const $configuration)) (then unreachable))
         (call $plugin (local.get 0) (local.get 1))",
    ),
];

const FUSE: &str = "
  (global $lit (mut i32) (i32.const 0))
  (func $light (param $size i32)
    (local $says i32)
    (local.set $says (i32.shr_u (local.get $size) (i32.const 4)))
    (if (i32.eq (local.get $says) (i32.const 2)) (then unreachable))
    (if (i32.or (i32.eq (local.get $says) (i32.const 3)) (i32.eq (local.get $says) (i32.const 4)))
      (then (global.set $lit (local.get $says)))))
  (func $burn (param $here i32)
    (if (i32.eq (global.get $lit) (local.get $here)) (then unreachable)))
";

/// The module with a fuse.
fn with_fuse(module: &[u8]) -> Vec<u8> {
    let mut text = wasmprinter::print_bytes(module).expect("a module");
    let mut more = FUSE.to_owned();
    for (name, around) in AROUND {
        let export = format!("(export \"{name}\" (func ");
        // Only one of the modules has a callback for data.
        let Some((before, rest)) = text.split_once(&export) else {
            continue;
        };
        let (plugin, after) = rest.split_once("))").expect("an export's end");
        let around = around
            .replace("$plugin", plugin)
            .replace("$configuration", &CONFIGURATION.to_string());
        more += &format!("  (func (export \"{name}\") {around})\n");
        text = format!("{before}{after}");
    }
    let (head, _) = text.rsplit_once(')').expect("a module's end");
    wat::parse_str(format!("{head}{more})")).expect("a module")
}

/// A bootstrap whose module has a fuse, and where that lies.
pub fn fused(bootstrap: Bootstrap) -> (Bootstrap, Folder) {
    let (_, rest) = bootstrap.text.split_once("filename: ").expect("a module");
    let file = rest.split('}').next().expect("its path").to_owned();
    let module = fs::read(&file).expect("it is built");
    let folder = Folder::new();
    let fused = folder.path().join("fused.wasm");
    fs::write(&fused, with_fuse(&module)).expect("written");
    let fused = fused.to_str().expect("a path in UTF-8");
    let text = bootstrap.text.replace(&file, fused);
    (Bootstrap { text }, folder)
}
