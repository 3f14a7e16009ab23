//! What the README and the documentation tell people to write into Envoy.

use crate::{
    harness::{
        Bootstrap, Conduct, Envoy, HTTP, Upstream,
        bootstrap::{ALL, Shipped},
        connect,
        envoy::validate,
        http, places,
    },
    pages::{Block, Page},
};

/// The fragments of a page, with the shipped bootstraps that they are parts of.
fn fragments(page: &Page) -> Vec<(Shipped, Block)> {
    let blocks = page.blocks().into_iter();
    let fragments = blocks.filter(|block| block.language == "yaml" && !block.about.is_empty());
    fragments
        .map(|block| {
            let file = block.about.strip_prefix("envoy/");
            let shipped = ALL.into_iter().find(|one| Some(one.file) == file);
            let shipped = shipped.unwrap_or_else(|| panic!("{}: {}", block.place, block.about));
            (shipped, block)
        })
        .collect()
}

/// With a fragment of a page instead of what begins with the same line.
fn with(bootstrap: Bootstrap, block: &Block) -> Bootstrap {
    let first = block.text.lines().next().expect("a line");
    let lines = bootstrap.text.lines().filter(|line| line.trim() == first);
    let [line] = lines.collect::<Vec<_>>()[..] else {
        panic!(
            "{}: {first:?} is not one line of {}",
            block.place, block.about
        );
    };
    let indent = &line[..line.len() - line.trim_start().len()];
    let old = bootstrap.block(&format!("{line}\n"));
    let wasm = places::given("TIDEGATE_WASM_DIR");
    let wasm = wasm.to_str().expect("a path in UTF-8");
    let text = block
        .text
        .replace("filename: target/tidegate", &format!("filename: {wasm}"));
    let new: String = text
        .lines()
        .map(|line| format!("{indent}{line}\n"))
        .collect();
    bootstrap.set(&old, &new)
}

#[test]
fn envoy_takes_the_five_lines_of_the_readme() {
    let fragments = fragments(&Page::read("README.md"));
    let [(shipped, five)] = &fragments[..] else {
        panic!("there is another");
    };
    assert_eq!((shipped.file, five.text.lines().count()), (HTTP.file, 5));
}

#[test]
fn envoy_takes_every_fragment() {
    let nowhere = ([127, 0, 0, 1], 9).into();
    for page in Page::all() {
        let mut fragments = fragments(&page).into_iter().peekable();
        while let Some((shipped, first)) = fragments.next() {
            let mut bootstrap = with(shipped.before(nowhere), &first);
            // What one section says about one file belongs together, if it is about several places.
            while let Some((_, next)) = fragments.next_if(|(_, next)| {
                let start = |block: &Block| block.text.lines().next().map(str::to_owned);
                next.heading == first.heading
                    && next.about == first.about
                    && start(next) != start(&first)
            }) {
                bootstrap = with(bootstrap, &next);
            }
            let (accepted, said) = validate(&bootstrap);
            assert!(accepted, "{}: {said}", first.place);
        }
    }
}

/// Requests that come from an address that none has.
const RULES: &str = r#"[{"name": "forged", "match": {"source": ["203.0.113.7"]}},
    {"name": "seen", "match": {"source": ["198.51.100.9"]}}, {"name": "real"}]"#;

/// Which rule took a request with this `x-forwarded-for`.
fn taken(bootstrap: &Bootstrap, forwarded: &[u8]) -> String {
    let envoy = Envoy::start(bootstrap, 1);
    let client = connect(envoy.listener(HTTP.listener));
    http::ask_with(&client, "/", "x-forwarded-for", forwarded);
    assert_eq!(http::try_answer(&client).expect("an answer").status, 200);
    let arrivals = "tidegate_arrivals_total";
    let names = ["forged", "seen", "real"];
    let counted = |name: &&str, metrics: &crate::harness::metrics::Metrics| {
        metrics.rule(name, arrivals) == 1.0
    };
    let metrics = envoy.until("it should be counted", |metrics| {
        names.iter().any(|name| counted(name, metrics))
    });
    let taken = names.into_iter().find(|name| counted(name, &metrics));
    taken.expect("one of them").to_owned()
}

#[test]
fn an_address_can_be_forged_unless_envoy_is_told_whom_to_believe() {
    let upstream = Upstream::start(Conduct::Http);
    upstream.release();
    let shipped = HTTP.before(upstream.address).rules(RULES);
    assert_eq!(taken(&shipped, b"203.0.113.7"), "real");

    let believes = "use_remote_address: false";
    let credulous = shipped.clone().set("use_remote_address: true", believes);
    assert_eq!(taken(&credulous, b"203.0.113.7"), "forged");

    let behind = with(shipped, &advice("Whose address"));
    assert_eq!(taken(&behind, b"203.0.113.7, 198.51.100.9"), "seen");
}

/// What the page about security says under a heading.
fn advice(heading: &str) -> Block {
    let fragments = fragments(&Page::read("docs/security.md")).into_iter();
    let mut blocks = fragments.map(|(_, block)| block);
    let found = blocks.find(|block| block.heading == heading);
    found.expect("the advice")
}

#[test]
fn a_client_chooses_the_redirects_route_unless_its_header_is_taken_away() {
    let [api, overflow] = [(); 2].map(|()| {
        let upstream = Upstream::start(Conduct::Http);
        upstream.release();
        upstream
    });
    let port = |port: u16| format!("port_value: {port}}}");
    let bootstrap = fragments(&Page::read("docs/recipes.md"))
        .iter()
        .fold(HTTP.before(api.address), |bootstrap, (_, block)| {
            with(bootstrap, block)
        })
        .set(&port(8080), &port(api.address.port()))
        .set(&port(8082), &port(overflow.address.port()));
    let guarded = with(bootstrap.clone(), &advice("Headers"));
    for (bootstrap, seen) in [(bootstrap, [0, 1]), (guarded, [1, 1])] {
        let envoy = Envoy::start(&bootstrap, 1);
        let client = connect(envoy.listener(HTTP.listener));
        http::ask_with(&client, "/", "x-tidegate-route", b"overflow");
        assert_eq!(http::try_answer(&client).expect("an answer").status, 200);
        assert_eq!([&api, &overflow].map(|one| one.seen().total), seen);
    }
}
