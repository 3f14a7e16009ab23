//! Formatting, lints for both targets, documentation, dependencies.

use anyhow::Result;

use crate::{
    checkout::Context,
    deny,
    module::Kind,
    process::{cargo, logged},
    setup::{self, Part},
    toolchain::{self, Need, Toolchain},
};

/// Runs every check; stops at the first that fails.
pub fn run(ctx: &Context) -> Result<()> {
    setup::ensure(ctx, &[Part::WasmLints])?;
    let toolchain = toolchain::ensure(ctx, Need::Lints)?;

    let mut fmt = cargo(ctx);
    fmt.args(["fmt", "--all", "--check"]);
    logged(ctx, "formatting", fmt)?;

    let mut lints = cargo(ctx);
    lints.args(["clippy", "--workspace", "--all-targets"]);
    lints.args(["--", "-D", "warnings"]);
    logged(ctx, "lints", lints)?;

    for kind in Kind::ALL {
        let mut lints = toolchain.cargo(ctx, "clippy", &["--lib"]);
        lints.args(kind.features()).args(["--", "-D", "warnings"]);
        logged(ctx, &format!("lints for {}", kind.file_name()), lints)?;
    }

    // A newcomer has rustup's compiler, and one may crash where the other does not.
    if toolchain != Toolchain::Current && toolchain::current_has_target() {
        for kind in Kind::ALL {
            let mut check = Toolchain::Current.cargo(ctx, "check", &["--lib"]);
            check.args(kind.features());
            logged(
                ctx,
                &format!("{} by rustup's compiler", kind.file_name()),
                check,
            )?;
        }
    }

    // The companion's files in it are linted above.
    let mut fmt = cargo(ctx);
    fmt.args(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]);
    logged(ctx, "formatting of the fuzz targets", fmt)?;

    let mut docs = cargo(ctx);
    docs.args(["doc", "--workspace", "--no-deps"]);
    docs.env("RUSTDOCFLAGS", "-Dwarnings");
    logged(ctx, "documentation", docs)?;

    deny::run(ctx)?;

    eprintln!("cargo xtask check: everything passed");
    Ok(())
}
