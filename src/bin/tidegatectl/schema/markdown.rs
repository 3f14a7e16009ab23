//! The fields as Markdown: a section with a table for each object.

use serde_json::Value;

use crate::explain::words;

/// What comes before the fields.
const HEAD: &str = include_str!("head.md");

/// The page about the configuration.
pub fn write(schema: &Value) -> String {
    let mut page = HEAD.to_owned();
    section(schema, "", &mut page);
    page
}

/// The fields of an object, and then those of the objects in it.
fn section(schema: &Value, path: &str, page: &mut String) {
    if !path.is_empty() {
        *page += &format!("\n### `{path}`\n\n");
        if let Some(text) = schema.get("description").and_then(Value::as_str) {
            *page += &format!("{text}\n\n");
        }
    }
    *page += "| field | type and bounds | default | meaning |\n|---|---|---|---|\n";
    let required = schema.get("required").and_then(Value::as_array);
    let fields = schema.get("properties").and_then(Value::as_object);
    let fields = fields.into_iter().flatten().map(|(name, field)| {
        let path = match path {
            "" => name.clone(),
            _ => format!("{path}.{name}"),
        };
        (name, path, field)
    });
    let fields: Vec<_> = fields.collect();
    for (name, path, field) in &fields {
        let needed = required.is_some_and(|all| all.iter().any(|one| one == name.as_str()));
        let default = match field.get("default") {
            Some(default) => word(default),
            None if needed => "required".to_owned(),
            None if has_defaults(field) => "those of its fields".to_owned(),
            None => "none".to_owned(),
        };
        let meaning = field.get("description").and_then(Value::as_str);
        let cells = [
            format!("`{path}`"),
            form(field, path),
            default,
            meaning.unwrap_or_default().to_owned(),
        ];
        *page += &format!(
            "| {} |\n",
            cells.map(|cell| cell.replace('|', "\\|")).join(" | ")
        );
    }
    for (_, path, field) in &fields {
        if let Some((object, path)) = object(field, path) {
            section(object, &path, page);
        }
    }
}

/// The object that a field is, or a list of which it is, and its path.
fn object<'s>(field: &'s Value, path: &str) -> Option<(&'s Value, String)> {
    if let Some(items) = field.get("items") {
        return object(items, &format!("{path}[]"));
    }
    if field.get("properties").is_some() {
        return Some((field, path.to_owned()));
    }
    variants(field).find_map(|variant| object(variant, path))
}

/// Whether a field is an object that is there with its defaults when it is left out.
fn has_defaults(field: &Value) -> bool {
    let fields = object(field, "").filter(|_| field.get("items").is_none());
    let fields = fields.and_then(|(object, _)| object.get("properties")?.as_object());
    fields.is_some_and(|fields| fields.values().any(|one| one.get("default").is_some()))
}

/// What may be written instead of one another.
fn variants(field: &Value) -> impl Iterator<Item = &Value> {
    let variants = field.get("anyOf").and_then(Value::as_array);
    variants.into_iter().flatten()
}

/// What a field is written as, and within which bounds.
fn form(field: &Value, path: &str) -> String {
    let forms: Vec<_> = variants(field)
        .filter(|variant| !is(variant, "null"))
        .map(|variant| form(variant, path))
        .collect();
    if !forms.is_empty() {
        return forms.join(" or ");
    }
    if let Some(choices) = field.get("enum").and_then(Value::as_array) {
        return choice(choices);
    }
    let between = |least: &str, most: &str| match (field.get(least), field.get(most)) {
        (Some(least), Some(most)) => format!("{} to {}", number(least), number(most)),
        (None, Some(most)) => format!("at most {}", number(most)),
        _ => String::new(),
    };
    if let Some(items) = field.get("items") {
        let count = between("minItems", "maxItems");
        return match object(items, "") {
            Some(_) => format!(
                "list of {count} [objects](#{})",
                anchor(&format!("{path}[]"))
            ),
            None => format!("list of {count}: {}", form(items, path)),
        };
    }
    if is(field, "object") {
        return format!("[object](#{})", anchor(path));
    }
    for (kind, called) in [("integer", "whole number"), ("number", "number")] {
        if is(field, kind) {
            return format!("{called}, {}", between("minimum", "maximum"));
        }
    }
    let mut text = "text".to_owned();
    let examples = field.get("examples").and_then(Value::as_array);
    if let Some(example) = examples.and_then(|examples| examples.first()) {
        text += &format!(" such as {}", word(example));
    }
    if let Some(most) = field.get("maxLength") {
        text += &format!(", at most {} bytes", number(most));
    }
    text
}

/// Whether a field is of that type, or may be.
fn is(field: &Value, kind: &str) -> bool {
    match field.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|one| one == kind),
        one => one.is_some_and(|one| one == kind),
    }
}

/// One of some words. `false` is another way to write `off`, and the other way round.
fn choice(choices: &[Value]) -> String {
    let truth = choices.contains(&Value::Bool(true));
    let twin = if truth {
        Value::from("off")
    } else {
        Value::Bool(false)
    };
    let words = choices.iter().filter(|one| !one.is_null() && **one != twin);
    let mut words: Vec<_> = words.map(word).collect();
    let last = words.pop().unwrap_or_default();
    match words.as_slice() {
        [] => last,
        _ => format!("{} or {last}", words.join(", ")),
    }
}

/// A value as it is written.
fn word(value: &Value) -> String {
    match value.as_str() {
        Some(text) if !text.is_empty() && !text.contains(char::is_whitespace) => {
            format!("`{text}`")
        }
        _ => format!("`{value}`"),
    }
}

/// A bound.
fn number(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if number.fract() == 0.0 => words::whole(number),
        _ => value.to_string(),
    }
}

/// The name by which a heading is linked to, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = |char: &char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
    heading
        .chars()
        .filter(kept)
        .collect::<String>()
        .to_lowercase()
}
