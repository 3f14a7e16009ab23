//! The package, as its users' tools read it.

use std::{collections::BTreeMap, io::Read as _};

use clap::CommandFactory as _;
use flate2::read::GzDecoder;
use serde_json::Value;

use super::*;
use crate::testing::{Folder, can_publish, repository, said, skip};

/// The modules that were built for the tests; made-up ones when only these tests are run.
fn modules() -> Vec<(Kind, Vec<u8>)> {
    let built = env::var_os("TIDEGATE_WASM_DIR").map(PathBuf::from);
    let module = |kind: Kind| match &built {
        Some(folder) => read(&folder.join(kind.file_name())).unwrap(),
        None => kind.file_name().repeat(1_000).into_bytes(),
    };
    Kind::ALL.map(|kind| (kind, module(kind))).into()
}

fn source() -> Source {
    Source {
        url: Some("https://git.example/tidegate".into()),
        time: 1_000_000_000,
        ..source::tests::source()
    }
}

fn packaged(source: &Source) -> Release {
    let schema = read(&repository(SCHEMA)).unwrap();
    let companion = companion(source, "some-target", b"program", b"licence").unwrap();
    release(source, &modules(), schema, companion).unwrap()
}

fn written(source: &Source) -> (Release, Folder) {
    let (release, folder) = (packaged(source), Folder::new());
    write(folder.path(), &release.assets).unwrap();
    (release, folder)
}

/// The files of a tar archive with their headers.
fn files(archive: &[u8]) -> BTreeMap<String, (tar::Header, Vec<u8>)> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        (path, (entry.header().clone(), content))
    });
    entries.collect()
}

fn unzipped(content: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(content).read_to_end(&mut plain).unwrap();
    plain
}

/// The blob that a descriptor of this media type tells; its size and digest must fit.
fn blob(
    layout: &BTreeMap<String, (tar::Header, Vec<u8>)>,
    descriptor: &Value,
    kind: &str,
) -> Vec<u8> {
    assert_eq!(descriptor["mediaType"], kind);
    let digest = descriptor["digest"].as_str().unwrap();
    let hex = digest.strip_prefix("sha256:").unwrap();
    let (_, content) = &layout[&format!("blobs/sha256/{hex}")];
    assert_eq!(descriptor["size"], content.len());
    assert_eq!(sha256(content), hex);
    content.clone()
}

#[test]
fn an_image_is_one_compressed_layer_with_the_module_and_nothing_else() {
    let (source, tag) = (source(), "1.2.3");
    for (kind, module) in modules() {
        let annotations = annotations(&source, title(kind)).unwrap();
        let image = image(&module, tag, &annotations, source.time).unwrap();
        let layout = files(&image.archive);
        assert_eq!(layout.len(), 5, "{:?}", layout.keys());
        let version: Value = serde_json::from_slice(&layout["oci-layout"].1).unwrap();
        assert_eq!(version["imageLayoutVersion"], "1.0.0");

        let index: Value = serde_json::from_slice(&layout["index.json"].1).unwrap();
        let named = &index["manifests"][0];
        assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
        assert_eq!(
            named["annotations"]["org.opencontainers.image.ref.name"],
            tag
        );
        assert_eq!(named["digest"], image.digest);
        let manifest = "application/vnd.oci.image.manifest.v1+json";
        let manifest: Value = serde_json::from_slice(&blob(&layout, named, manifest)).unwrap();
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
        let said = &manifest["annotations"];
        let revision = source.revision.as_deref().unwrap();
        for (key, value) in [
            ("title", title(kind)),
            ("version", "1.2.3"),
            ("revision", revision),
            ("source", "https://git.example/tidegate"),
            ("licenses", "Apache-2.0"),
            ("created", "2001-09-09T01:46:40Z"),
        ] {
            assert_eq!(
                said[format!("org.opencontainers.image.{key}")],
                value,
                "{key}"
            );
        }

        let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
        let layer = unzipped(&blob(&layout, &manifest["layers"][0], layer));
        let config = "application/vnd.oci.image.config.v1+json";
        let config: Value =
            serde_json::from_slice(&blob(&layout, &manifest["config"], config)).unwrap();
        let diff = format!("sha256:{}", sha256(&layer));
        assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!([diff]));
        assert_eq!(&config["config"]["Labels"], said);

        let files = files(&layer);
        assert_eq!(files.keys().collect::<Vec<_>>(), ["plugin.wasm"]);
        let (header, content) = &files["plugin.wasm"];
        assert_eq!(content, &module);
        let owner = (header.uid().unwrap(), header.gid().unwrap());
        assert_eq!((owner, header.mode().unwrap()), ((0, 0), 0o644));
        assert_eq!(header.mtime().unwrap(), source.time);
    }
}

/// Fails when another version of a crate packs in another way: then an old commit gives new bytes.
#[test]
fn a_known_module_gives_a_known_image() {
    let annotations = annotations(&source(), "tidegate").unwrap();
    let module = "module".repeat(1_000);
    let image = image(module.as_bytes(), "1.2.3", &annotations, 1_000_000_000).unwrap();
    let known = "314bcd3edcf443b7ee5839b91a6824e56f21ec5315c2c08e5e53409ea3c34fb8";
    assert_eq!(image.digest, format!("sha256:{known}"));
}

#[test]
fn the_same_source_gives_the_same_bytes_and_another_commit_another_image() {
    let (first, second) = (packaged(&source()), packaged(&source()));
    for (first, second) in first.assets.iter().zip(&second.assets) {
        assert!(first.content == second.content, "{}", first.name);
    }
    let other = packaged(&Source {
        revision: None,
        ..source()
    });
    assert_ne!(first.images, other.images);
}

#[test]
fn the_checksums_are_those_of_all_other_files() {
    let (release, folder) = written(&source());
    let checked = said("sha256sum", &["--check", "--strict", SUMS], folder.path());
    let mut checked: Vec<&str> = checked.lines().collect();
    checked.push(SUMS);
    let names: Vec<String> = release.assets.iter().map(|one| one.name.clone()).collect();
    let checked: Vec<&str> = checked
        .iter()
        .map(|line| line.strip_suffix(": OK").unwrap_or(line))
        .collect();
    assert_eq!(checked, names);
    let mut there: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    let mut names = names;
    names.sort();
    assert_eq!(there, names);
}

#[test]
fn nothing_of_an_older_package_stays() {
    let folder = Folder::new();
    fs::write(folder.path().join("tidegate-0.0.1.wasm"), "old").unwrap();
    write(folder.path(), &[]).unwrap();
    assert!(!folder.path().exists());
}

#[test]
fn the_companion_is_packed_to_be_run() {
    let source = source();
    let asset = companion(&source, "some-target", b"program", b"licence").unwrap();
    assert_eq!(asset.name, "tidegatectl-1.2.3-some-target.tar.gz");
    let files = files(&unzipped(&asset.content));
    let (header, content) = &files["tidegatectl-1.2.3-some-target/tidegatectl"];
    assert_eq!(
        (header.mode().unwrap(), content.as_slice()),
        (0o755, &b"program"[..])
    );
    assert_eq!(files.len(), 2);
}

#[test]
fn skopeo_and_umoci_find_the_module_in_the_images() {
    if !can_publish("skopeo_and_umoci_find_the_module_in_the_images") {
        return;
    }
    let source = source();
    let (release, folder) = written(&source);
    for ((kind, module), (name, digest)) in modules().iter().zip(&release.images) {
        let title = title(*kind);
        assert_eq!(name, &format!("{title}:1.2.3"));
        let image = format!("oci-archive:{title}-1.2.3.oci.tar:1.2.3");
        let seen: Value =
            serde_json::from_str(&said("skopeo", &["inspect", &image], folder.path())).unwrap();
        assert_eq!(&seen["Digest"], digest);
        assert_eq!(
            (&seen["Os"], &seen["Architecture"]),
            (&"linux".into(), &"amd64".into())
        );
        assert_eq!(seen["Created"], "2001-09-09T01:46:40Z");
        assert_eq!(seen["Layers"].as_array().unwrap().len(), 1);
        assert_eq!(seen["Labels"]["org.opencontainers.image.title"], title);

        // A copy to a folder is what a push to a registry is: it must not change the digest.
        let copy = format!("oci:{title}:1.2.3");
        let arguments = [
            "--insecure-policy",
            "copy",
            "--preserve-digests",
            &image,
            &copy,
        ];
        said("skopeo", &arguments, folder.path());
        let seen: Value =
            serde_json::from_str(&said("skopeo", &["inspect", &copy], folder.path())).unwrap();
        assert_eq!(&seen["Digest"], digest);

        let bundle = format!("{title}-bundle");
        let tagged = format!("{title}:1.2.3");
        let arguments = ["unpack", "--rootless", "--image", &tagged, &bundle];
        said("umoci", &arguments, folder.path());
        let root = folder.path().join(bundle).join("rootfs");
        let there: Vec<_> = fs::read_dir(&root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(there, ["plugin.wasm"]);
        assert!(
            read(&root.join("plugin.wasm")).unwrap() == *module,
            "{title}"
        );
    }
}

#[test]
fn the_built_modules_name_no_folder_of_this_machine() {
    if env::var_os("TIDEGATE_WASM_DIR").is_none() {
        let why = "no module is built; run it by cargo xtask test";
        return skip("the_built_modules_name_no_folder_of_this_machine", why);
    }
    let places = places(&Context::from_env().unwrap());
    assert!(!places.is_empty());
    for (kind, module) in modules() {
        if let Err(error) = must_name_none(&module, &places) {
            panic!("{}: {error}", kind.file_name());
        }
        // All crates look alike, wherever they come from.
        assert!(!holds(&module, "registry/src"), "{kind:?}");
    }
}

#[test]
fn a_folder_of_the_machine_is_found_in_what_was_built() {
    let places = [PathBuf::from("/home/somebody")];
    must_name_none(b"../home/somebody-else/x..", &places).unwrap();
    let error = must_name_none(b"../home/somebody/x..", &places).unwrap_err();
    assert!(error.to_string().contains("/home/somebody/"), "{error}");
}

#[test]
fn the_help_names_every_file() {
    let release = packaged(&source());
    let mut cli = crate::Cli::command();
    let package = cli.find_subcommand_mut("package").unwrap();
    let help = package.render_long_help().to_string();
    for asset in release.assets {
        let name = asset.name.replace("1.2.3", "VERSION");
        let name = name.replace("some-target", "TARGET");
        assert!(help.contains(&name), "{name} is missing in:\n{help}");
    }
    assert!(help.lines().all(|line| line.len() <= 100), "{help}");
}

#[test]
fn the_readme_pushes_the_image_that_is_packaged() {
    let readme = fs::read_to_string(repository("README.md")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let release = packaged(&Source {
        version: version.into(),
        ..source()
    });
    let (name, _) = &release.images[0];
    let archive = format!("tidegate-{version}.oci.tar");
    assert!(release.assets.iter().any(|asset| asset.name == archive));
    let push = format!(
        "`skopeo copy oci-archive:target/package/{archive} docker://registry.example/{name}`"
    );
    assert!(readme.contains(&push), "{push}");
    assert!(readme.contains(&format!("`url: oci://registry.example/{name}`")));
}
