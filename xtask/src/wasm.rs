//! Builds the two plugin modules.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    checkout::{Context, write_whole},
    module::{self, Kind, Summary},
    process::{asked, logged, tool, which},
    setup::{self, Part, WASM_OPT},
    toolchain::{self, Need, TARGET, Toolchain},
};

/// What `rustc` may use in a module, and so the optimizer must be told.
const WASM_FEATURES: [&str; 6] = [
    "--enable-bulk-memory",
    "--enable-sign-ext",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-multivalue",
];

/// A finished module.
pub struct Built {
    kind: Kind,
    raw: usize,
    finished: usize,
    summary: Summary,
}

/// Builds both modules into `target/tidegate`, checks them, and prints what they are.
pub fn build(ctx: &Context) -> Result<PathBuf> {
    setup::ensure(ctx, &[Part::Wasm, Part::WasmOpt])?;
    let _guard = setup::lock(ctx)?;
    let toolchain = toolchain::ensure(ctx, Need::Build)?;
    let optimizer = Optimizer::find(ctx);
    let fetch = toolchain.cargo(ctx, "fetch", &["--locked"]);
    logged(ctx, "fetch the crates", fetch)?;
    let built = Kind::ALL
        .into_iter()
        .map(|kind| build_one(ctx, toolchain, optimizer.as_ref(), kind))
        .collect::<Result<Vec<Built>>>()?;
    eprintln!("{}", table(&built));
    Ok(ctx.checkout.artifacts.clone())
}

/// Builds the filter that does nothing, which the benchmark of the overhead compares with, by the
/// same tools as the modules; its path.
pub fn build_noop(ctx: &Context) -> Result<PathBuf> {
    setup::ensure(ctx, &[Part::Wasm, Part::WasmOpt])?;
    let _guard = setup::lock(ctx)?;
    let toolchain = toolchain::ensure(ctx, Need::Build)?;
    let manifest = "benches/overhead/noop/Cargo.toml";
    let mut cargo = toolchain.cargo(
        ctx,
        "build",
        &["--release", "--locked", "--manifest-path", manifest],
    );
    cargo.env(
        "CARGO_ENCODED_RUSTFLAGS",
        toolchain.module_flags(&ctx.checkout),
    );
    logged(ctx, "compile noop.wasm", cargo)?;
    let wasm = ctx.checkout.wasm_target().join(TARGET);
    let raw = read(&wasm.join("release/noop.wasm"))?;
    let path = wasm.join("noop.wasm");
    match Optimizer::find(ctx) {
        Some(optimizer) => drop(optimizer.run(ctx, &raw, &path)?),
        None => write_whole(&path, &raw)?,
    }
    Ok(path)
}

/// Compiles, optimizes and checks one module.
fn build_one(
    ctx: &Context,
    toolchain: Toolchain,
    optimizer: Option<&Optimizer>,
    kind: Kind,
) -> Result<Built> {
    let name = kind.file_name();
    let mut cargo = toolchain.cargo(ctx, "build", &["--profile", "plugin", "--lib"]);
    cargo.args(kind.features());
    cargo.env(
        "CARGO_ENCODED_RUSTFLAGS",
        toolchain.module_flags(&ctx.checkout),
    );
    logged(ctx, &format!("compile {name}"), cargo)?;
    let linked = ctx
        .checkout
        .wasm_target()
        .join(TARGET)
        .join("plugin/tidegate.wasm");
    let raw = read(&linked)?;
    let path = ctx.checkout.artifacts.join(name);
    let finished = match optimizer {
        Some(optimizer) => optimizer.run(ctx, &raw, &path)?,
        None => raw.clone(),
    };
    // A module that fails the checks must not lie where a proxy would load it.
    let summary = module::verify(&finished, kind).inspect_err(|_| {
        fs::remove_file(&path).ok();
    })?;
    if fs::read(&path).ok().as_deref() != Some(&finished) {
        write_whole(&path, &finished)?;
    }
    Ok(Built {
        kind,
        raw: raw.len(),
        finished: finished.len(),
        summary,
    })
}

/// What became of each module, one a line.
fn table(built: &[Built]) -> String {
    let mut lines = vec![format!(
        "{:<24}{:>10}{:>10}{:>9}{:>9}",
        "target/tidegate/", "linked", "finished", "imports", "exports"
    )];
    lines.extend(built.iter().map(|one| {
        format!(
            "{:<24}{:>10}{:>10}{:>9}{:>9}",
            one.kind.file_name(),
            one.raw,
            one.finished,
            one.summary.imports.len(),
            one.summary.exports.len()
        )
    }));
    lines.join("\n")
}

/// `wasm-opt` and its version.
struct Optimizer {
    program: PathBuf,
    version: String,
}

impl Optimizer {
    /// The one in `PATH`; without it the modules stay as they are linked.
    fn find(ctx: &Context) -> Option<Self> {
        let found = which("wasm-opt").and_then(|program| {
            let mut command = tool(&program);
            command.arg("--version");
            let version = asked(command)?;
            Some(Self { program, version })
        });
        if found.is_none() {
            ctx.ui.note(&WASM_OPT.loss());
        }
        found
    }

    /// The optimized module; the module itself, with a note, when the optimizer cannot read it.
    ///
    /// The result of an earlier run counts when neither its input nor its output has changed.
    fn run(&self, ctx: &Context, input: &[u8], path: &Path) -> Result<Vec<u8>> {
        let name = path
            .file_name()
            .context("a module has a name")?
            .to_string_lossy();
        let work = ctx.checkout.wasm_target();
        let stamp = work.join(format!("{name}.stamp"));
        let earlier = fs::read(path).unwrap_or_default();
        if fs::read_to_string(&stamp).is_ok_and(|text| text == self.stamp(input, &earlier)) {
            return Ok(earlier);
        }
        let (before, after) = (
            work.join(format!("{name}.linked")),
            work.join(format!("{name}.optimized")),
        );
        write_whole(&before, input)?;
        let mut command = tool(&self.program);
        command.arg("-O3").args(WASM_FEATURES);
        command.arg(&before).arg("-o").arg(&after);
        let output = match logged(ctx, &format!("optimize {name}"), command) {
            Ok(()) => read(&after)?,
            Err(error) => {
                ctx.ui
                    .note(&format!("{name} stays as it was linked: {error:#}"));
                input.to_vec()
            }
        };
        fs::remove_file(&before).ok();
        fs::remove_file(&after).ok();
        write_whole(path, &output)?;
        write_whole(&stamp, self.stamp(input, &output).as_bytes())?;
        Ok(output)
    }

    /// Says that this optimizer made that output of that input.
    fn stamp(&self, input: &[u8], output: &[u8]) -> String {
        let mut hasher = DefaultHasher::new();
        (&self.version, WASM_FEATURES, input, output).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

/// The bytes of a module.
fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.is_empty() {
        bail!("{} is empty", path.display());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_module() {
        let summary = || Summary {
            imports: ["proxy_log".to_owned()].into(),
            exports: ["malloc".to_owned(), "memory".to_owned()].into(),
        };
        let built: Vec<Built> = Kind::ALL
            .into_iter()
            .map(|kind| Built {
                kind,
                raw: 300_000,
                finished: 200_000,
                summary: summary(),
            })
            .collect();
        let text = table(&built);
        let last = text.lines().last().unwrap();
        assert_eq!(text.lines().count(), 3);
        assert_eq!(
            last.split_whitespace().collect::<Vec<_>>(),
            ["tidegate-inspect.wasm", "300000", "200000", "1", "2"]
        );
    }

    #[test]
    fn a_stamp_changes_with_input_output_and_version() {
        let optimizer = |version: &str| Optimizer {
            program: "wasm-opt".into(),
            version: version.into(),
        };
        let base = optimizer("1").stamp(b"in", b"out");
        assert_ne!(base, optimizer("2").stamp(b"in", b"out"));
        assert_ne!(base, optimizer("1").stamp(b"i", b"nout"));
        assert_ne!(base, optimizer("1").stamp(b"in", b"other"));
        assert_eq!(base, optimizer("1").stamp(b"in", b"out"));
    }
}
