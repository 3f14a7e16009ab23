//! What a release consists of: the modules, images of them, the companion, the schema, checksums.
//!
//! The same commit, built by the same tools, gives the same bytes, wherever the checkout is.

mod archive;
mod image;
mod source;
#[cfg(test)]
mod tests;

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use self::{
    archive::Entry,
    image::{Annotations, Image, image, sha256},
    source::{Source, holds},
};
use crate::{
    checkout::{Context, write_whole},
    module::Kind,
    process::{NotReady, asked, cargo, logged, tool},
    setup::{self, Part, WASM_OPT},
    toolchain::{self, Toolchain},
    wasm,
};

/// The file with the checksums of the others.
const SUMS: &str = "SHA256SUMS";

/// The published schema of the configuration.
const SCHEMA: &str = "docs/tidegate.schema.json";

/// How to package.
#[derive(clap::Args)]
#[command(after_long_help = FILES)]
pub struct Options {
    /// Fail unless this is the version's tag, as v0.1.0, and nothing differs from a commit
    #[arg(long)]
    tag: Option<String>,
    /// Where the source is, for the images; else what Cargo.toml says about it
    #[arg(long, value_name = "URL")]
    source: Option<String>,
    /// Package the commit in a second folder as well, and fail unless it gives the same bytes
    #[arg(long)]
    twice: bool,
}

/// What lies in target/package, for `--help`.
const FILES: &str = "\
Written to target/package:
  tidegate-VERSION.wasm              the module for HTTP and TCP
  tidegate-inspect-VERSION.wasm      the module that refuses in the words of a database
  tidegate-VERSION.oci.tar           each as an OCI image for Istio and Envoy Gateway, which
  tidegate-inspect-VERSION.oci.tar   skopeo and oras copy to a registry
  tidegate-VERSION.schema.json       the JSON Schema of the configuration
  tidegatectl-VERSION-TARGET.tar.gz  the companion, for this machine's kind
  SHA256SUMS                         for sha256sum -c

The time of everything is that of SOURCE_DATE_EPOCH, else of the commit.";

/// A file of the release.
struct Asset {
    name: String,
    content: Vec<u8>,
}

/// What is packaged, and the digests of the images by their names.
struct Release {
    assets: Vec<Asset>,
    images: Vec<(String, String)>,
}

/// Builds everything and writes it to `target/package`.
pub fn run(ctx: &Context, options: &Options) -> Result<()> {
    let mut source = Source::read(ctx)?;
    if let Some(url) = &options.source {
        source.url = Some(url.clone());
    }
    if let Some(tag) = &options.tag {
        source.must_be_released_as(tag)?;
    } else if source.changed {
        ctx.ui
            .warn("files differ from the commit's that the package names");
    }
    setup::ensure(ctx, &[Part::Wasm, Part::WasmOpt])?;
    if !WASM_OPT.is_there() {
        return Err(NotReady::new(WASM_OPT.loss()));
    }
    let places = places(ctx);
    let artifacts = wasm::build(ctx)?;
    let mut modules = Vec::new();
    for kind in Kind::ALL {
        let path = artifacts.join(kind.file_name());
        modules.push((kind, built(&path, &source, &places)?));
    }
    let target = host()?;
    let program = built(&compile_companion(ctx, &target)?, &source, &places)?;
    let licence = read(&ctx.checkout.root.join("LICENSE"))?;
    let companion = companion(&source, &target, &program, &licence)?;
    let schema = read(&ctx.checkout.root.join(SCHEMA))?;
    let release = release(&source, &modules, schema, companion)?;
    let folder = ctx.checkout.root.join("target/package");
    write(&folder, &release.assets)?;
    eprintln!("{}", table(&release));
    if options.twice {
        again(ctx, options, &source, &folder)?;
    }
    Ok(())
}

/// The assets, by their names.
fn release(
    source: &Source,
    modules: &[(Kind, Vec<u8>)],
    schema: Vec<u8>,
    companion: Asset,
) -> Result<Release> {
    let version = &source.version;
    let mut release = Release {
        assets: vec![
            companion,
            Asset {
                name: format!("tidegate-{version}.schema.json"),
                content: schema,
            },
        ],
        images: Vec::new(),
    };
    for (kind, module) in modules {
        let title = title(*kind);
        let annotations = annotations(source, title)?;
        let Image { archive, digest } = image(module, version, &annotations, source.time)?;
        release.images.push((format!("{title}:{version}"), digest));
        release.assets.push(Asset {
            name: format!("{title}-{version}.oci.tar"),
            content: archive,
        });
        release.assets.push(Asset {
            name: format!("{title}-{version}.wasm"),
            content: module.clone(),
        });
    }
    release.assets.sort_by(|a, b| a.name.cmp(&b.name));
    release.assets.push(Asset {
        name: SUMS.to_owned(),
        content: sums(&release.assets).into_bytes(),
    });
    Ok(release)
}

/// The name of a module without its ending.
fn title(kind: Kind) -> &'static str {
    let name = kind.file_name();
    name.strip_suffix(".wasm").unwrap_or(name)
}

/// What is said about the image of that title.
fn annotations(source: &Source, title: &str) -> Result<Annotations> {
    let mut annotations: Annotations = [
        (
            "org.opencontainers.image.created",
            image::timestamp(source.time)?,
        ),
        (
            "org.opencontainers.image.description",
            source.description.clone(),
        ),
        ("org.opencontainers.image.licenses", source.license.clone()),
        ("org.opencontainers.image.title", title.to_owned()),
        ("org.opencontainers.image.version", source.version.clone()),
    ]
    .into();
    let known = [
        ("org.opencontainers.image.revision", &source.revision),
        ("org.opencontainers.image.source", &source.url),
    ];
    let known = known.into_iter();
    annotations.extend(known.filter_map(|(key, value)| Some((key, value.clone()?))));
    Ok(annotations)
}

/// A line for `sha256sum -c` for each asset.
fn sums(assets: &[Asset]) -> String {
    assets.iter().fold(String::new(), |mut text, asset| {
        writeln!(text, "{}  {}", sha256(&asset.content), asset.name).ok();
        text
    })
}

/// Writes the folder anew, so that nothing of another version stays in it.
fn write(folder: &Path, assets: &[Asset]) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    for asset in assets {
        write_whole(&folder.join(&asset.name), &asset.content)?;
    }
    Ok(())
}

/// What was written, and the digests that one pins an image by.
fn table(release: &Release) -> String {
    let mut lines = vec![format!("{:<48}{:>10}", "target/package/", "bytes")];
    let assets = release.assets.iter();
    lines.extend(assets.map(|asset| format!("{:<48}{:>10}", asset.name, asset.content.len())));
    let images = release.images.iter();
    lines.extend(images.map(|(name, digest)| format!("{name} is {digest}")));
    lines.join("\n")
}

/// The content of a file.
fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// What was built, when it is of the commit and names no folder of this machine.
fn built(path: &Path, source: &Source, places: &[PathBuf]) -> Result<Vec<u8>> {
    let content = read(path)?;
    let faults = source
        .must_be_in(&content)
        .and_then(|()| must_name_none(&content, places));
    faults.with_context(|| format!("{} can't be packaged", path.display()))?;
    Ok(content)
}

/// Compiles the companion for this machine's kind; its path.
fn compile_companion(ctx: &Context, target: &str) -> Result<PathBuf> {
    let mut build = cargo(ctx);
    build.args(["build", "--release", "--locked", "--bin", "tidegatectl"]);
    // With a target, the flags are not for what runs while it is built.
    build.args(["--target", target]);
    let remaps = Toolchain::Current.remaps(&ctx.checkout);
    build.env("CARGO_ENCODED_RUSTFLAGS", remaps);
    logged(ctx, "compile tidegatectl", build)?;
    Ok(ctx.checkout.target.join(target).join("release/tidegatectl"))
}

/// The companion as an archive, with the licence.
fn companion(source: &Source, target: &str, program: &[u8], licence: &[u8]) -> Result<Asset> {
    let name = format!("tidegatectl-{}-{target}", source.version);
    let paths = ["LICENSE", "tidegatectl"].map(|file| format!("{name}/{file}"));
    let [first, second] = &paths;
    let entries = [(first, 0o644, licence), (second, 0o755, program)];
    let entries = entries.map(|(path, mode, content)| Entry {
        path,
        mode,
        content,
    });
    Ok(Asset {
        content: archive::gzip(&archive::tar(&entries, source.time)?)?,
        name: format!("{name}.tar.gz"),
    })
}

/// The target of the compiler that cargo runs.
fn host() -> Result<String> {
    let mut rustc = toolchain::current_rustc();
    rustc.arg("-vV");
    let text = asked(rustc).context("rustc does not tell its version")?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not tell its host")?.to_owned())
}

/// The folders of this machine that a build knows.
fn places(ctx: &Context) -> Vec<PathBuf> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let checkout = &ctx.checkout;
    let known = [Some(checkout.root.clone()), Some(checkout.target.clone())];
    let mut places: Vec<PathBuf> = known
        .into_iter()
        .chain([home, toolchain::cargo_home()])
        .flatten()
        .collect();
    let real: Vec<PathBuf> = places
        .iter()
        .flat_map(|place| place.canonicalize())
        .collect();
    places.extend(real);
    // What the builds write instead.
    let neutral = ["/", "/tidegate", "/cargo"].map(Path::new);
    places.retain(|place| !neutral.contains(&place.as_path()));
    places
}

/// Fails when what was built names a folder of this machine.
fn must_name_none(built: &[u8], places: &[PathBuf]) -> Result<()> {
    for place in places {
        let place = format!("{}/", place.display());
        if holds(built, &place) {
            bail!("it names {place}, a folder of this machine");
        }
    }
    Ok(())
}

/// Packages the commit at another path, and compares the checksums.
fn again(ctx: &Context, options: &Options, source: &Source, folder: &Path) -> Result<()> {
    if source.changed {
        bail!("only what is in a commit can be packaged twice; `git status` names the rest");
    }
    let second = env::temp_dir().join(format!("tidegate-package-{}", std::process::id()));
    // Not a clone: git reads nothing from a repository of another user's, as it is in a container.
    let worktree = |args: &[&str]| {
        let mut git = tool("git");
        git.current_dir(&ctx.checkout.root).arg("worktree");
        git.args(args).arg(&second);
        git
    };
    let add = worktree(&["add", "--quiet", "--detach"]);
    let compared = logged(ctx, "check the commit out at another path", add)
        .and_then(|()| package_at(ctx, options, &second))
        .and_then(|()| {
            let sums = |folder: &Path| fs::read_to_string(folder.join(SUMS));
            let (first, second) = (sums(folder)?, sums(&second.join("target/package"))?);
            let differ = |line: &&str| !first.contains(line);
            let differing: Vec<&str> = second.lines().filter(differ).collect();
            if first != second {
                bail!("another path gives other bytes:\n{}", differing.join("\n"));
            }
            Ok(())
        });
    asked(worktree(&["remove", "--force"]));
    compared?;
    eprintln!("another path gives the same bytes");
    Ok(())
}

/// Packages another checkout as this one was packaged.
fn package_at(ctx: &Context, options: &Options, root: &Path) -> Result<()> {
    let mut xtask = cargo(ctx);
    xtask.current_dir(root).env_remove("CARGO_TARGET_DIR");
    xtask.args(["xtask", "package"]);
    let said = [("--tag", &options.tag), ("--source", &options.source)];
    for (name, value) in said {
        if let Some(value) = value {
            xtask.args([name, value]);
        }
    }
    logged(ctx, "package it there (takes minutes)", xtask)
}
