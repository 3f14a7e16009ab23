//! The manifests against the schemas that Kubernetes holds them to: the folder with the
//! CustomResourceDefinitions is given by `TIDEGATE_CRDS`.
//!
//! Kubernetes drops a field that the schema does not know, so a misspelled one is lost in silence.
//! Here it is refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::Write as _,
    path::Path,
};

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use super::{backstop::commented, files, root};

/// What an object is: its `apiVersion` and `kind`.
type Type<S = String> = (S, S);

/// Kinds whose definition may be missing, and their fields as they were looked up there.
const WITHOUT_SCHEMA: [(Type<&str>, &[&str]); 3] = [
    (
        ("gateway.envoyproxy.io/v1alpha1", "BackendTrafficPolicy"),
        &[
            "/spec/circuitBreaker",
            "/spec/circuitBreaker/maxConnections",
            "/spec/circuitBreaker/maxParallelRequests",
            "/spec/circuitBreaker/maxPendingRequests",
            "/spec/targetRefs",
            "/spec/targetRefs/0/group",
            "/spec/targetRefs/0/kind",
            "/spec/targetRefs/0/name",
        ],
    ),
    (
        ("gateway.envoyproxy.io/v1alpha1", "EnvoyProxy"),
        // What they hold is tried by the real Envoy.
        &[
            "/spec/bootstrap",
            "/spec/bootstrap/type",
            "/spec/bootstrap/value",
            "/spec/provider",
            "/spec/provider/kubernetes",
            "/spec/provider/kubernetes/envoyDeployment",
            "/spec/provider/kubernetes/envoyDeployment/container",
            "/spec/provider/kubernetes/envoyDeployment/container/volumeMounts",
            "/spec/provider/kubernetes/envoyDeployment/container/volumeMounts/0/mountPath",
            "/spec/provider/kubernetes/envoyDeployment/container/volumeMounts/0/name",
            "/spec/provider/kubernetes/envoyDeployment/container/volumeMounts/0/readOnly",
            "/spec/provider/kubernetes/envoyDeployment/pod",
            "/spec/provider/kubernetes/envoyDeployment/pod/volumes",
            "/spec/provider/kubernetes/envoyDeployment/pod/volumes/0/image",
            "/spec/provider/kubernetes/envoyDeployment/pod/volumes/0/image/pullPolicy",
            "/spec/provider/kubernetes/envoyDeployment/pod/volumes/0/image/reference",
            "/spec/provider/kubernetes/envoyDeployment/pod/volumes/0/name",
            "/spec/provider/type",
        ],
    ),
    (
        ("networking.istio.io/v1", "DestinationRule"),
        &[
            "/spec/host",
            "/spec/trafficPolicy",
            "/spec/trafficPolicy/connectionPool",
            "/spec/trafficPolicy/connectionPool/http",
            "/spec/trafficPolicy/connectionPool/http/http2MaxRequests",
            "/spec/trafficPolicy/connectionPool/tcp",
            "/spec/trafficPolicy/connectionPool/tcp/maxConnections",
            "/spec/workloadSelector",
            "/spec/workloadSelector/matchLabels",
        ],
    ),
];

/// A schema for each kind, or a loud word about what is not tested.
fn schemas(test: &str) -> Option<BTreeMap<Type, Validator>> {
    let Some(folder) = env::var_os("TIDEGATE_CRDS").filter(|folder| !folder.is_empty()) else {
        let notice = format!(
            "\nSKIPPED: {test}: TIDEGATE_CRDS is not set; give the folder that holds the \
             CustomResourceDefinitions of Istio and Envoy Gateway\n"
        );
        // Past the capture of the tests' output.
        std::io::stderr().write_all(notice.as_bytes()).ok();
        return None;
    };
    let mut schemas = BTreeMap::new();
    let folder = Path::new(&folder);
    let entries = std::fs::read_dir(folder).expect("TIDEGATE_CRDS is a folder");
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        for definition in documents(&path) {
            if definition["kind"] != "CustomResourceDefinition" {
                continue;
            }
            let spec = &definition["spec"];
            for version in spec["versions"].as_array().expect("versions") {
                let group = spec["group"].as_str().expect("a group");
                let name = version["name"].as_str().expect("a version");
                let kind = spec["names"]["kind"].as_str().expect("a kind");
                let schema = root_schema(&version["schema"]["openAPIV3Schema"]);
                let schema = jsonschema::draft4::new(&schema).expect(kind);
                schemas.insert((format!("{group}/{name}"), kind.to_owned()), schema);
            }
        }
    }
    assert!(!schemas.is_empty(), "{} defines nothing", folder.display());
    Some(schemas)
}

fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("a file");
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The schema of a whole object, with the fields that every object has.
fn root_schema(open: &Value) -> Value {
    let mut schema = strict(open);
    let text = json!({"type": "string"});
    let name = json!({"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"});
    let texts = json!({"type": "object", "additionalProperties": text});
    schema["properties"]["apiVersion"] = text.clone();
    schema["properties"]["kind"] = text;
    schema["properties"]["metadata"] = json!({
        "type": "object",
        "required": ["name"],
        "properties": {"name": name, "namespace": name, "labels": texts, "annotations": texts},
        "additionalProperties": false,
    });
    schema["required"] = json!(["apiVersion", "kind", "metadata", "spec"]);
    schema
}

/// A structural schema that refuses what Kubernetes would drop.
///
/// Fields are named by `properties` alone; what stands in `oneOf` and its kin only restricts them.
fn strict(open: &Value) -> Value {
    let mut schema = open.as_object().expect("a schema").clone();
    let keeps = |schema: &Map<String, Value>| {
        schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true))
    };
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(name).filter(|inner| inner.is_object()) {
            *inner = strict(inner);
        }
    }
    let fields = schema.get_mut("properties").and_then(Value::as_object_mut);
    for inner in fields.into_iter().flat_map(Map::values_mut) {
        *inner = strict(inner);
    }
    if schema.get("type") == Some(&json!("object"))
        && !keeps(&schema)
        && !schema.contains_key("additionalProperties")
    {
        schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    if schema.get("nullable") == Some(&Value::Bool(true)) {
        schema["type"] = json!([schema["type"], "null"]);
    }
    Value::Object(schema)
}

/// The manifests to copy, with what is commented out in them, and their files' names.
fn manifests() -> Vec<(String, Value)> {
    let paths = [files("envoy/istio", "yaml"), files("envoy/gateway", "yaml")].concat();
    let of = |path: &Path| {
        let name = path
            .strip_prefix(root())
            .expect("a part")
            .display()
            .to_string();
        let text = std::fs::read_to_string(path).expect("a file");
        let objects = [documents(path), commented(&text)].concat().into_iter();
        objects
            .filter(|one| one.get("kind").is_some())
            .map(move |object| (name.clone(), object))
            .collect::<Vec<_>>()
    };
    paths.iter().flat_map(|path| of(path)).collect()
}

fn type_of(object: &Value) -> Type {
    let text = |name: &str| object[name].as_str().expect(name).to_owned();
    (text("apiVersion"), text("kind"))
}

/// What is wrong with an object.
fn objections(schema: &Validator, object: &Value) -> Vec<String> {
    let errors = schema.iter_errors(object);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[test]
fn every_manifest_to_copy_has_the_schema_of_its_definition() {
    let test = "every_manifest_to_copy_has_the_schema_of_its_definition";
    let Some(schemas) = schemas(test) else {
        return;
    };
    let mut seen = Vec::new();
    for (file, object) in manifests() {
        let kind = type_of(&object);
        let Some(schema) = schemas.get(&kind) else {
            assert!(looked_up(&kind).is_some(), "{file}: no schema of {kind:?}");
            continue;
        };
        let wrong = objections(schema, &object);
        assert!(wrong.is_empty(), "{file}: {}\n{}", kind.1, wrong.join("\n"));
        if looked_up(&kind).is_none() {
            seen.push(kind.1);
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(
        seen,
        [
            "EnvoyExtensionPolicy",
            "EnvoyFilter",
            "EnvoyPatchPolicy",
            "TrafficExtension",
            "WasmPlugin"
        ]
    );
}

#[test]
fn a_field_is_refused_when_its_name_has_a_typo() {
    let Some(schemas) = schemas("a_field_is_refused_when_its_name_has_a_typo") else {
        return;
    };
    let mut tried = 0;
    for (file, object) in manifests() {
        let Some(schema) = schemas.get(&type_of(&object)) else {
            continue;
        };
        for path in names(&object, "") {
            let misspelled = misspell(&object, &path);
            let wrong = objections(schema, &misspelled);
            assert!(!wrong.is_empty(), "{file}: {path} may be misspelled");
            tried += 1;
        }
    }
    assert!(tried > 150, "{tried} names");
}

/// The pointers of all fields whose names Kubernetes knows.
fn names(value: &Value, at: &str) -> Vec<String> {
    // What the user names, what goes to the plugin, and what goes to Envoy.
    const OPEN: [&str; 5] = ["matchLabels", "labels", "pluginConfig", "config", "value"];
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, inner)| {
                let path = format!("{at}/{name}");
                let inside = (!OPEN.contains(&name.as_str())).then(|| names(inner, &path));
                [path]
                    .into_iter()
                    .chain(inside.into_iter().flatten())
                    .collect::<Vec<_>>()
            })
            .collect(),
        Value::Array(list) => {
            let each = list.iter().enumerate();
            each.flat_map(|(index, inner)| names(inner, &format!("{at}/{index}")))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// The object with one letter less in the name of a field.
fn misspell(object: &Value, path: &str) -> Value {
    let mut object = object.clone();
    let (parent, name) = path.rsplit_once('/').expect("a pointer");
    let fields = object
        .pointer_mut(parent)
        .and_then(Value::as_object_mut)
        .expect("an object");
    let value = fields.remove(name).expect("a field");
    fields.insert(name[..name.len() - 1].to_owned(), value);
    object
}

#[test]
fn a_value_of_the_wrong_kind_is_refused() {
    let Some(schemas) = schemas("a_value_of_the_wrong_kind_is_refused") else {
        return;
    };
    let kinds = [
        ("WasmPlugin", "/spec/failStrategy", json!("FAIL_RELAOD")),
        ("WasmPlugin", "/spec/match/0/ports/0/number", json!("5432")),
        ("WasmPlugin", "/spec/match/0/ports/0/number", json!(0)),
        ("WasmPlugin", "/spec/url", json!("")),
        ("TrafficExtension", "/spec/phase", json!("STAT")),
        (
            "EnvoyFilter",
            "/spec/configPatches/0/applyTo",
            json!("LISTNER"),
        ),
        (
            "EnvoyFilter",
            "/spec/configPatches/0/patch/operation",
            json!("add"),
        ),
        (
            "EnvoyExtensionPolicy",
            "/spec/wasm/0/code/type",
            json!("OCI"),
        ),
        ("EnvoyExtensionPolicy", "/spec/targetRefs/0/name", json!("")),
        (
            "EnvoyPatchPolicy",
            "/spec/jsonPatches/0/operation/op",
            json!("insert"),
        ),
    ];
    for (kind, path, bad) in kinds {
        let fits = |object: &Value| object["kind"] == kind && object.pointer(path).is_some();
        let objects = manifests().into_iter().map(|(_, object)| object);
        let mut object = objects.into_iter().find(fits).expect(path);
        let schema = &schemas[&type_of(&object)];
        assert!(objections(schema, &object).is_empty());
        *object.pointer_mut(path).expect("it is there") = bad;
        assert!(!objections(schema, &object).is_empty(), "{kind} {path}");
    }
}

/// The fields of a kind whose definition may be missing.
fn looked_up(kind: &Type) -> Option<&'static [&'static str]> {
    let (version, name) = (kind.0.as_str(), kind.1.as_str());
    let mut all = WITHOUT_SCHEMA.iter();
    all.find(|(known, _)| *known == (version, name))
        .map(|(_, fields)| *fields)
}

#[test]
fn a_manifest_without_a_definition_has_the_fields_that_were_looked_up() {
    let mut found: BTreeMap<Type, BTreeSet<String>> = BTreeMap::new();
    for (_, object) in manifests() {
        let kind = type_of(&object);
        if looked_up(&kind).is_some() {
            let fields = names(&object["spec"], "/spec");
            found.entry(kind).or_default().extend(fields);
        }
    }
    assert_eq!(found.len(), WITHOUT_SCHEMA.len());
    for (kind, fields) in found {
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        assert_eq!(Some(fields.as_slice()), looked_up(&kind), "{kind:?}");
    }
}
