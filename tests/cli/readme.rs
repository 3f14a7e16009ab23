//! What the README tells people to write and to type.

use crate::{root, run, run_with};

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).expect("README.md")
}

/// The README's blocks of a language.
fn blocks(language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    readme()
        .split(&opening)
        .skip(1)
        .filter_map(|rest| rest.split_once("\n```"))
        .map(|(block, _)| block.to_owned())
        .collect()
}

#[test]
fn the_whole_configuration_is_right() {
    // The other block is a filter, which the real Envoy is asked about.
    let blocks = blocks("yaml");
    assert_eq!(blocks.len(), 2);
    let ran = run_with(&["check", "-"], &blocks[1]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[test]
fn every_event_is_one_that_explain_reads() {
    let blocks = blocks("json");
    assert_eq!(blocks.len(), 1);
    for block in blocks {
        let ran = run_with(&["explain", "-"], &block);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(ran.out.contains("127.0.0.2"), "{}", ran.out);
    }
}

#[test]
fn every_command_of_the_companion_exists() {
    let readme = readme();
    let mentioned: Vec<&str> = readme
        .split("--bin tidegatectl -- ")
        .skip(1)
        .filter_map(|rest| rest.split_whitespace().next())
        .collect();
    assert!(mentioned.len() >= 2);
    for name in mentioned {
        assert_eq!(run(&[name, "--help"]).code, 0, "{name}");
    }
}

#[test]
fn every_file_that_is_linked_is_there() {
    let readme = readme();
    for link in readme.split("](").skip(1) {
        let target = link.split([')', '#']).next().unwrap_or_default();
        assert!(
            target.is_empty() || root().join(target).exists(),
            "{target}"
        );
    }
}
