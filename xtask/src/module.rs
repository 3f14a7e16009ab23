//! What a plugin module may import and export.

use std::{collections::BTreeSet, fmt};

use anyhow::{Context as _, Result, bail};
use wasmparser::{Parser, Payload, Validator};

/// The two builds of the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Without callbacks for every piece of data, so that Envoy moves it on its own.
    Plain,
    /// Reads the first bytes of database protocols.
    Inspect,
}

impl Kind {
    /// Both builds.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Inspect];

    /// The name of the finished file.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Plain => "tidegate.wasm",
            Self::Inspect => "tidegate-inspect.wasm",
        }
    }

    /// The cargo features of the build.
    pub fn features(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &[],
            Self::Inspect => &["--features", "inspect"],
        }
    }
}

/// What Envoy needs of every plugin.
const REQUIRED: [&str; 3] = ["proxy_abi_version_0_2_1", "malloc", "memory"];

/// What the plugin uses of WASI, of which Envoy has a part.
const OF_WASI: (&str, &str) = ("wasi_snapshot_preview1", "random_get");

/// Called for every piece of TCP data; only the inspecting module has them.
const TCP_DATA: [&str; 2] = ["proxy_on_downstream_data", "proxy_on_upstream_data"];

/// Called for bodies and trailers, which no module of ours looks at.
const HTTP_DATA: [&str; 4] = [
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
];

/// What a module imports and exports.
#[derive(Debug, PartialEq, Eq)]
pub struct Summary {
    /// Names of the host's functions, in order.
    pub imports: BTreeSet<String>,
    /// Names of what the host may use, in order.
    pub exports: BTreeSet<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (imports, exports) = (self.imports.len(), self.exports.len());
        write!(f, "{imports} imports, {exports} exports")
    }
}

/// Checks that Envoy can load the module, and that it has the callbacks of its kind alone.
pub fn verify(bytes: &[u8], kind: Kind) -> Result<Summary> {
    Validator::new()
        .validate_all(bytes)
        .context("not a valid module")?;
    let (summary, foreign) = read(bytes)?;
    let mut faults: Vec<String> = foreign
        .iter()
        .map(|name| format!("imports {name}, which Envoy does not have"))
        .collect();
    let mut required = REQUIRED.to_vec();
    let mut forbidden = HTTP_DATA.to_vec();
    match kind {
        Kind::Plain => forbidden.extend(TCP_DATA),
        Kind::Inspect => required.extend(TCP_DATA),
    }
    let exported = |name: &&str| summary.exports.contains(*name);
    faults.extend(
        required
            .iter()
            .filter(|name| !exported(name))
            .map(|name| format!("does not export {name}")),
    );
    faults.extend(
        forbidden
            .iter()
            .filter(|name| exported(name))
            .map(|name| format!("exports {name}, which costs a call for every piece of data")),
    );
    if !faults.is_empty() {
        bail!("{} {}", kind.file_name(), faults.join("; it "));
    }
    Ok(summary)
}

/// The imports and exports, and the imports that are no functions of the host.
fn read(bytes: &[u8]) -> Result<(Summary, Vec<String>)> {
    let mut summary = Summary {
        imports: BTreeSet::new(),
        exports: BTreeSet::new(),
    };
    let mut foreign = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.context("not a module")? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    let of_the_abi = import.module == "env" && import.name.starts_with("proxy_");
                    if !of_the_abi && (import.module, import.name) != OF_WASI {
                        foreign.push(format!("{}.{}", import.module, import.name));
                    }
                    summary.imports.insert(import.name.to_owned());
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    summary.exports.insert(export?.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok((summary, foreign))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with those imports and exported functions.
    fn module(imports: &[(&str, &str)], exports: &[&str]) -> Vec<u8> {
        let mut text = String::from("(module (type (func))");
        for (from, name) in imports {
            text += &format!("(import \"{from}\" \"{name}\" (func (type 0)))");
        }
        text += "(memory (export \"memory\") 1)(func $f)";
        for name in exports {
            text += &format!("(export \"{name}\" (func $f))");
        }
        wat::parse_str(text + "(@custom \"kept\" \"x\"))").unwrap()
    }

    const LOG: (&str, &str) = ("env", "proxy_log");
    const BASE: [&str; 2] = ["proxy_abi_version_0_2_1", "malloc"];

    fn with(more: &[&'static str]) -> Vec<&'static str> {
        [&BASE, more].concat()
    }

    #[test]
    fn a_plugin_of_either_kind_passes() {
        let plain = verify(&module(&[LOG], &BASE), Kind::Plain).unwrap();
        assert_eq!(plain.to_string(), "1 imports, 3 exports");
        assert!(verify(&module(&[LOG, OF_WASI], &BASE), Kind::Plain).is_ok());
        let inspect = module(&[LOG], &with(&TCP_DATA));
        assert!(verify(&inspect, Kind::Inspect).is_ok());
    }

    #[test]
    fn a_callback_of_the_other_kind_fails() {
        let error = verify(&module(&[], &with(&TCP_DATA)), Kind::Plain).unwrap_err();
        assert!(error.to_string().contains("exports proxy_on_upstream_data"));
        let error = verify(&module(&[], &BASE), Kind::Inspect).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("does not export proxy_on_downstream_data")
        );
    }

    #[test]
    fn a_body_callback_fails_in_both_kinds() {
        let exports = with(&[TCP_DATA[0], TCP_DATA[1], "proxy_on_response_body"]);
        let error = verify(&module(&[], &exports), Kind::Inspect).unwrap_err();
        assert!(error.to_string().contains("proxy_on_response_body"));
    }

    #[test]
    fn an_import_that_envoy_does_not_have_fails() {
        for import in [
            ("wbg", "proxy_log"),
            ("env", "memcpy"),
            (OF_WASI.0, "fd_write"),
        ] {
            let error = verify(&module(&[import], &BASE), Kind::Plain).unwrap_err();
            let name = format!("{}.{}", import.0, import.1);
            assert!(error.to_string().contains(&name), "{error}");
        }
    }

    #[test]
    fn a_module_without_what_envoy_needs_fails_with_all_of_it() {
        let error = verify(b"\0asm\x01\0\0\0", Kind::Plain).unwrap_err();
        for name in REQUIRED {
            assert!(error.to_string().contains(name), "{error}");
        }
        assert!(verify(b"no module", Kind::Plain).is_err());
    }
}
