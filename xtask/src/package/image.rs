//! A module as an OCI image that Istio and Envoy Gateway load.
//!
//! They want one layer of the media type [`LAYER`] with a file [`PLUGIN`], and look at nothing else.
//! It is one image and no index of platforms: they compare the digest that a user pins with the
//! image's, and would compare it with that of an image inside an index.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::archive::{self, Entry};

/// The media type of an image's manifest.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The media type of a list of manifests.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The media type of an image's configuration.
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// The media type of the layer.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The one file of the layer.
pub const PLUGIN: &str = "plugin.wasm";

/// The annotation that gives an image in a layout its tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What is said about an image.
pub type Annotations = BTreeMap<&'static str, String>;

/// An image as an archive of an OCI layout.
pub struct Image {
    /// The archive.
    pub archive: Vec<u8>,
    /// The digest to pin the image by: `sha256:…`.
    pub digest: String,
}

/// The image with that module; `time` in seconds since 1970.
///
/// The structures below are written field by field in their order, and maps by their keys', so the
/// bytes do not depend on how a crate that is shared with others was compiled.
pub fn image(module: &[u8], tag: &str, annotations: &Annotations, time: u64) -> Result<Image> {
    let files = archive::tar(&[file(PLUGIN, module)], time)?;
    let config = json(&Config {
        created: timestamp(time)?,
        // What `docker build` makes of `FROM scratch`; docker loads nothing but linux. The module
        // runs on every architecture.
        architecture: "amd64",
        os: "linux",
        config: Labels {
            labels: annotations,
        },
        rootfs: RootFs {
            kind: "layers",
            diff_ids: [digest(&files)],
        },
    })?;
    let layer = archive::gzip(&files)?;
    let manifest = json(&Manifest {
        schema_version: 2,
        media_type: MANIFEST,
        config: Descriptor::of(CONFIG, &config)?,
        layers: [Descriptor::of(LAYER, &layer)?],
        annotations,
    })?;
    let named = Descriptor {
        annotations: [(REF_NAME, tag.to_owned())].into(),
        ..Descriptor::of(MANIFEST, &manifest)?
    };
    let digest = named.digest.clone();
    let index = json(&Index {
        schema_version: 2,
        media_type: INDEX,
        manifests: [named],
    })?;
    let blobs = [manifest, config, layer].map(|blob| (blob_path(&blob), blob));
    let mut entries = vec![
        file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
        file("index.json", &index),
    ];
    entries.extend(blobs.iter().map(|(path, blob)| file(path, blob)));
    let archive = archive::tar(&entries, time)?;
    Ok(Image { archive, digest })
}

/// Seconds since 1970 as a date and a time.
pub fn timestamp(time: u64) -> Result<String> {
    Ok(jiff::Timestamp::from_second(time.try_into()?)?.to_string())
}

/// The SHA-256 as hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest as OCI writes it.
fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}

/// Where a layout keeps the bytes.
fn blob_path(bytes: &[u8]) -> String {
    format!("blobs/sha256/{}", sha256(bytes))
}

/// A file that everybody may read.
fn file<'a>(path: &'a str, content: &'a [u8]) -> Entry<'a> {
    Entry {
        path,
        mode: 0o644,
        content,
    }
}

/// As JSON without spaces.
fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(value)?)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u8,
    media_type: &'static str,
    manifests: [Descriptor; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u8,
    media_type: &'static str,
    config: Descriptor,
    layers: [Descriptor; 1],
    annotations: &'a Annotations,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: &'static str,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: Annotations,
}

impl Descriptor {
    fn of(media_type: &'static str, bytes: &[u8]) -> Result<Self> {
        Ok(Self {
            media_type,
            digest: digest(bytes),
            size: bytes.len().try_into()?,
            annotations: Annotations::new(),
        })
    }
}

#[derive(Serialize)]
struct Config<'a> {
    created: String,
    architecture: &'static str,
    os: &'static str,
    config: Labels<'a>,
    rootfs: RootFs,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Labels<'a> {
    labels: &'a Annotations,
}

#[derive(Serialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: [String; 1],
}
