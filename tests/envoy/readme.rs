//! What the README tells people to write.

use std::fs;

use crate::harness::{Bootstrap, HTTP, envoy::validate, places};

/// The README's blocks of a language.
fn blocks(language: &str) -> Vec<String> {
    let readme = fs::read_to_string(places::repository("README.md")).expect("it is there");
    let opening = format!("```{language}\n");
    readme
        .split(&opening)
        .skip(1)
        .filter_map(|rest| rest.split_once("\n```"))
        .map(|(block, _)| block.to_owned())
        .collect()
}

#[test]
fn envoy_takes_the_five_lines_of_the_readme() {
    let five = &blocks("yaml")[0];
    assert_eq!(five.lines().count(), 5);
    let shipped = HTTP.before(([127, 0, 0, 1], 9).into());
    let lines: Vec<&str> = shipped.text.lines().collect();
    let filter = |name: &str| {
        let wanted = format!("          - name: {name}");
        lines
            .iter()
            .position(|line| *line == wanted)
            .expect("the shipped bootstrap has it")
    };
    let (ours, router) = (filter("tidegate"), filter("envoy.filters.http.router"));
    let indented: Vec<String> = five
        .lines()
        .map(|line| format!("          {line}"))
        .collect();
    let module = places::given("TIDEGATE_WASM_DIR").join("tidegate.wasm");
    let text = [
        &lines[..ours].join("\n"),
        &indented.join("\n"),
        &lines[router..].join("\n"),
    ]
    .map(String::as_str)
    .join("\n")
    .replace(
        "target/tidegate/tidegate.wasm",
        module.to_str().expect("a path in UTF-8"),
    );
    let (accepted, said) = validate(&Bootstrap { text });
    assert!(accepted, "{said}");
}
