//! The JSON Schema of the configuration, from the types that read it.
//!
//! Types, names and descriptions come from [`raw`](super::raw) by derivation; ranges, defaults and
//! what is required from the tables here, by path. Whatever [`parse`](super::parse) accepts is valid;
//! what no schema can say, such as two rules of one name, is left to the parser.

use alloc::{
    borrow::Cow,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{ops::RangeInclusive, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::{Value, json};

use super::{
    bounds,
    cidr::Cidr,
    duration,
    field::{Field, List, Of, OrOff, Scalar},
    policy::{Class, Key, Protocol, Reject, Sticky, TcpReject, default_hold},
    raw::{RawConfig, WrittenTcp},
};
use crate::engine::{DetectorConfig, Mode, Order};

/// The characters of a token (RFC 9110, section 5.6.2), for a class of a pattern.
const TOKEN: &str = "!#$%&'*+.^_`|~0-9A-Za-z-";
/// Anything in one line.
const ONE_LINE: &str = "[^\\u0000-\\u001f\\u007f-\\u009f]*";

/// The JSON Schema (draft 2020-12) of a plugin configuration.
pub fn json_schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
    });
    let generator = settings.into_generator();
    let mut schema = generator.into_root_schema_for::<RawConfig>().to_value();
    if let Value::Object(fields) = &mut schema {
        // What the reader wants to know first, and not the name of a type.
        fields.remove("title");
        let title = ("title".to_string(), json!("tidegate configuration"));
        let first = fields.remove_entry("$schema").into_iter().chain([title]);
        *fields = first.chain(core::mem::take(fields)).collect();
    }
    for (path, name, value) in constraints() {
        set(&mut schema, path, name, value);
    }
    for (path, default) in defaults() {
        set(&mut schema, path, "default", default);
    }
    for (path, range) in spans() {
        describe(&mut schema, path, &range);
    }
    unwrap_lines(&mut schema);
    schema
}

/// What a field must hold, beyond its type: path, keyword, value.
fn constraints() -> Vec<(&'static str, &'static str, Value)> {
    let mut all = Vec::from([
        ("rules", "minItems", json!(1)),
        ("rules", "maxItems", json!(bounds::RULES)),
        ("rules[].classes", "maxItems", json!(bounds::CLASSES)),
        ("rules[].match.method", "minItems", json!(1)),
        ("rules[].match.source", "minItems", json!(1)),
        ("rules[].classes[].match.source", "minItems", json!(1)),
        (
            "rules[].reject.body",
            "maxLength",
            json!(bounds::BODY_BYTES),
        ),
    ]);
    for (path, range) in [
        ("rules[].surge.sensitivity", bounds::SENSITIVITY),
        ("rules[].surge.baseline_per_s", bounds::BASELINE_PER_S),
    ] {
        all.push((path, "minimum", json!(range.start())));
        all.push((path, "maximum", json!(range.end())));
    }
    let whole: [(&str, RangeInclusive<u32>); 10] = [
        ("rules[].match.listener_port", bounds::PORT),
        ("rules[].limits.inflight", bounds::LIMIT),
        ("rules[].limits.arrivals_per_s", bounds::LIMIT),
        ("rules[].limits.connecting", bounds::LIMIT),
        ("rules[].hold.max_waiting", bounds::MAX_WAITING),
        ("rules[].reject.http_status", bounds::HTTP_STATUS),
        ("rules[].reject.max_slow", bounds::MAX_SLOW),
        ("rules[].surge.min_excess", bounds::MIN_EXCESS),
        ("rules[].classes[].priority", bounds::PRIORITY),
        ("rules[].classes[].reserved", bounds::RESERVED),
    ];
    for (path, range) in whole {
        all.push((path, "type", json!(["integer", "null"])));
        all.push((path, "minimum", json!(range.start())));
        all.push((path, "maximum", json!(range.end())));
    }
    let text = [
        ("rules[].match.cluster", bounds::NAME_BYTES, ONE_LINE),
        ("rules[].match.authority", bounds::NAME_BYTES, ONE_LINE),
        ("rules[].reject.cluster", bounds::NAME_BYTES, ONE_LINE),
        ("rules[].redirect.cluster", bounds::NAME_BYTES, ONE_LINE),
    ];
    for (path, most, pattern) in text {
        all.push((path, "minLength", json!(1)));
        all.push((path, "maxLength", json!(most)));
        all.push((path, "pattern", json!(format!("^{pattern}$"))));
    }
    let prefix = "rules[].match.path_prefix";
    all.push((prefix, "maxLength", json!(bounds::TEXT_BYTES)));
    all.push((prefix, "pattern", json!(format!("^/{ONE_LINE}$"))));
    let method = TOKEN.replace("A-Za-z", "A-Z");
    let method = format!("^[{method}]{{1,{}}}$", bounds::METHOD_BYTES);
    all.push(("rules[].match.method[]", "pattern", json!(method)));
    // What can't be left out can't be null either.
    for path in ["rules[]", "rules[].classes[]"] {
        all.push((path, "required", json!(["name"])));
    }
    for path in ["rules[].name", "rules[].classes[].name"] {
        let pattern = format!("^[a-z0-9][a-z0-9_-]{{0,{}}}$", bounds::RULE_NAME_BYTES - 1);
        all.push((path, "type", json!("string")));
        all.push((path, "pattern", json!(pattern)));
    }
    for path in ["rules[].redirect.header", "rules[].classes[].match.header"] {
        all.push((path, "required", json!(["name", "value"])));
    }
    for path in [
        "rules[].redirect.header.name",
        "rules[].classes[].match.header.name",
    ] {
        let pattern = format!("^(:authority|[{TOKEN}]{{1,{}}})$", bounds::NAME_BYTES);
        all.push((path, "type", json!("string")));
        all.push((path, "pattern", json!(pattern)));
    }
    for path in [
        "rules[].redirect.header.value",
        "rules[].classes[].match.header.value",
    ] {
        all.push((path, "type", json!("string")));
        all.push((path, "minLength", json!(1)));
        all.push((path, "maxLength", json!(bounds::TEXT_BYTES)));
        all.push((path, "pattern", json!(format!("^{ONE_LINE}$"))));
    }
    all
}

/// What a field is when it is left out.
fn defaults() -> Vec<(&'static str, Value)> {
    let (hold, reject) = (default_hold(), Reject::default());
    let surge = DetectorConfig::default();
    Vec::from([
        ("mode", json!("shadow")),
        ("status", json!(false)),
        ("rules[].protocol", json!("tcp")),
        ("rules[].key", json!("source_ip")),
        ("rules[].sticky", json!("source_ip")),
        ("rules[].classes[].priority", json!(Class::PRIORITY)),
        ("rules[].classes[].reserved", json!(0)),
        ("rules[].surge.sensitivity", json!(surge.sensitivity)),
        ("rules[].surge.min_excess", json!(surge.min_excess as u32)),
        (
            "rules[].surge.warm_up",
            json!(duration::text(surge.warm_up)),
        ),
        (
            "rules[].hold.max_wait",
            json!(duration::text(hold.max_wait)),
        ),
        ("rules[].hold.max_waiting", json!(hold.max_waiting)),
        ("rules[].hold.order", json!("newest_first")),
        ("rules[].reject.http_status", json!(reject.http_status)),
        (
            "rules[].reject.retry_after",
            json!(duration::text(reject.retry_after)),
        ),
        ("rules[].reject.body", json!(reject.body)),
        ("rules[].reject.tcp", json!("close")),
        ("rules[].reject.cluster", json!(TcpReject::CLUSTER)),
        (
            "rules[].reject.slow",
            reject
                .slow
                .map_or(json!("off"), |slow| json!(duration::text(slow))),
        ),
        ("rules[].reject.max_slow", json!(reject.max_slow)),
        ("rules[].adaptive", json!(false)),
    ])
}

/// The ranges of durations, for which a schema has no keyword.
fn spans() -> [(&'static str, RangeInclusive<Duration>); 4] {
    [
        ("rules[].surge.warm_up", bounds::WARM_UP),
        ("rules[].hold.max_wait", bounds::MAX_WAIT),
        ("rules[].reject.retry_after", bounds::RETRY_AFTER),
        ("rules[].reject.slow", bounds::SLOW),
    ]
}

/// Says the range of a duration in its description.
fn describe(schema: &mut Value, path: &str, range: &RangeInclusive<Duration>) {
    let [least, most] = [range.start(), range.end()].map(|span| duration::text(*span));
    if let Some(Value::String(text)) = at(schema, path).and_then(|s| s.get_mut("description")) {
        *text += &format!(" From {least} to {most}.");
    }
}

/// Sets a keyword of the schema at a path. A path that leads nowhere changes nothing; a test looks
/// for such.
fn set(schema: &mut Value, path: &str, keyword: &str, value: Value) {
    if let Some(Value::Object(schema)) = at(schema, path) {
        schema.insert(keyword.to_string(), value);
    }
}

/// The schema of a field such as `rules[].limits.inflight`.
fn at<'s>(schema: &'s mut Value, path: &str) -> Option<&'s mut Value> {
    let steps = path.split('.').filter(|step| !step.is_empty());
    steps.into_iter().try_fold(schema, |schema, step| {
        let (name, element) = match step.strip_suffix("[]") {
            Some(name) => (name, true),
            None => (step, false),
        };
        let field = object(schema)?.get_mut("properties")?.get_mut(name)?;
        if element {
            field.get_mut("items")
        } else {
            Some(field)
        }
    })
}

/// The form of a section that is an object, when it may be `off` as well.
fn object(schema: &mut Value) -> Option<&mut Value> {
    if schema.get("anyOf").is_none() {
        return Some(schema);
    }
    schema.get_mut("anyOf")?.get_mut(0)
}

/// Joins the lines of descriptions, which are broken for the source's sake.
fn unwrap_lines(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "description" => {
                        *text = text.replace('\n', " ");
                    }
                    other => unwrap_lines(other),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(unwrap_lines),
        _ => {}
    }
}

/// Lets a schema take null as well.
fn nullable(mut schema: Schema) -> Schema {
    if let Some(Value::String(one)) = schema.get("type").cloned() {
        schema.insert("type".to_string(), json!([one, "null"]));
    }
    for keyword in ["enum", "anyOf"] {
        let null = match keyword {
            "enum" => Value::Null,
            _ => json!({"type": "null"}),
        };
        if let Some(Value::Array(choices)) = schema.get_mut(keyword) {
            choices.push(null);
        }
    }
    schema
}

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        nullable(generator.subschema_for::<T>())
    }
}

impl<T: JsonSchema> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Cow::Owned(format!("List of {}", T::schema_name()))
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "maxItems": bounds::LIST,
            "items": generator.subschema_for::<T>(),
        })
    }
}

impl<T: JsonSchema> JsonSchema for OrOff<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Cow::Owned(format!("{} or off", T::schema_name()))
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [generator.subschema_for::<T>(), {"enum": ["off", false]}],
        })
    }
}

impl<T: Shaped> JsonSchema for Of<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed(T::TO_WRITE)
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        T::shape()
    }
}

/// What text, number or truth value a [`Scalar`] is read from.
trait Shaped: Scalar {
    fn shape() -> Schema;
}

fn pattern(pattern: &str) -> Schema {
    json_schema!({"type": "string", "pattern": pattern})
}

/// With an example, where the pattern is no help to a reader.
fn such_as(example: &str, mut schema: Schema) -> Schema {
    schema.insert("examples".to_string(), json!([example]));
    schema
}

impl Shaped for String {
    fn shape() -> Schema {
        json_schema!({"type": "string"})
    }
}

impl Shaped for f64 {
    fn shape() -> Schema {
        json_schema!({"type": "number"})
    }
}

impl Shaped for bool {
    fn shape() -> Schema {
        json_schema!({"enum": [true, false, "off"]})
    }
}

impl Shaped for Duration {
    fn shape() -> Schema {
        such_as("500ms", pattern("^[0-9]+(\\.[0-9]+)?(us|ms|s|m|h)$"))
    }
}

impl Shaped for Cidr {
    fn shape() -> Schema {
        such_as("10.0.0.0/8", pattern("^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$"))
    }
}

impl Shaped for Mode {
    fn shape() -> Schema {
        json_schema!({"enum": ["off", "shadow", "enforce", false]})
    }
}

impl Shaped for Order {
    fn shape() -> Schema {
        json_schema!({"enum": ["newest_first", "oldest_first"]})
    }
}

impl Shaped for Protocol {
    fn shape() -> Schema {
        json_schema!({"enum": ["tcp", "postgres", "mysql"]})
    }
}

impl Shaped for WrittenTcp {
    fn shape() -> Schema {
        json_schema!({"enum": ["close", "protocol"]})
    }
}

impl Shaped for Key {
    fn shape() -> Schema {
        pattern(&format!(
            "^(none|source_ip|peer|sni|authority|postgres\\.(user|database|application_name)\
             |header:[{TOKEN}]{{1,{}}})$",
            bounds::NAME_BYTES
        ))
    }
}

impl Shaped for Sticky {
    fn shape() -> Schema {
        pattern(&format!(
            "^(source_ip|key|(header|cookie):[{TOKEN}]{{1,{}}})$",
            bounds::NAME_BYTES
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_the_tables_leads_to_a_field() {
        let mut schema = super::json_schema();
        let constraints = constraints().into_iter().map(|(path, ..)| path);
        let defaults = defaults().into_iter().map(|(path, _)| path);
        let spans = spans().into_iter().map(|(path, _)| path);
        for path in constraints.chain(defaults).chain(spans) {
            assert!(at(&mut schema, path).is_some(), "{path}");
        }
    }

    #[test]
    fn every_field_is_described() {
        fn look(schema: &Value, path: &str) {
            let variants = schema.get("anyOf").and_then(Value::as_array);
            for variant in variants.into_iter().flatten() {
                look(variant, path);
            }
            if let Some(items) = schema.get("items") {
                look(items, path);
            }
            let fields = schema.get("properties").and_then(Value::as_object);
            for (name, field) in fields.into_iter().flatten() {
                let path = format!("{path}.{name}");
                assert!(field["description"].is_string(), "{path}");
                look(field, &path);
            }
        }
        look(&super::json_schema(), "");
    }
}
