//! Arguments, colours, completions, the schema.

use super::{command, ran, root, run};

#[test]
fn the_version_names_the_commit() {
    let version = run(&["--version"]);
    assert_eq!(version.code, 0);
    let start = format!("tidegatectl {} (", tidegate::build_info::VERSION);
    assert!(version.out.starts_with(&start), "{}", version.out);
    assert!(version.out.contains(tidegate::build_info::COMMIT));
}

#[test]
fn wrong_arguments_end_with_2_and_say_so_on_stderr() {
    for arguments in [
        &["tide"][..],
        &["check"],
        &["explain"],
        &["explain", "--format", "pdf", "x"],
        &["completions", "sh"],
        &[],
    ] {
        let wrong = run(arguments);
        assert_eq!((wrong.code, wrong.out.as_str()), (2, ""), "{arguments:?}");
        assert!(wrong.err.contains("help"), "{}", wrong.err);
    }
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]);
        assert_eq!((script.code, script.err.as_str()), (0, ""), "{shell}");
        assert!(script.out.contains("explain"), "{shell}");
    }
}

#[test]
fn the_published_schema_is_the_one_that_is_printed() {
    let schema = run(&["schema"]);
    assert_eq!((schema.code, schema.err.as_str()), (0, ""));
    let path = root().join("docs/tidegate.schema.json");
    let published = std::fs::read_to_string(path).expect("the schema");
    assert!(
        schema.out == published,
        "docs/tidegate.schema.json is old; write it anew: \
         cargo run --bin tidegatectl schema > docs/tidegate.schema.json"
    );
}

#[test]
fn the_page_of_the_configuration_is_the_one_that_is_printed() {
    let page = run(&["schema", "--format", "markdown"]);
    assert_eq!((page.code, page.err.as_str()), (0, ""));
    let path = root().join("docs/configuration.md");
    let published = std::fs::read_to_string(path).expect("the page");
    assert!(
        page.out == published,
        "docs/configuration.md is old; write it anew: \
         cargo run --bin tidegatectl -- schema --format markdown > docs/configuration.md"
    );
}

#[test]
fn colours_are_for_who_wants_them() {
    let arguments = ["check", "envoy/tcp.yaml", "tests/cli/data/bad.yaml"];
    let escape = |text: &str| text.contains('\u{1b}');

    let plain = run(&arguments);
    assert!(!escape(&plain.out) && !escape(&plain.err));

    let mut forced = command(&arguments);
    forced.env("CLICOLOR_FORCE", "1");
    let forced = ran(forced, b"");
    assert!(escape(&forced.out) && escape(&forced.err));

    let mut refused = command(&arguments);
    refused.env("NO_COLOR", "1");
    let refused = ran(refused, b"");
    assert!(!escape(&refused.out) && !escape(&refused.err));
    assert_eq!(refused.err, plain.err);
}
