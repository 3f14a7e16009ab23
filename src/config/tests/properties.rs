use alloc::{
    collections::BTreeSet,
    string::{String, ToString},
    vec::Vec,
};

use proptest::{collection::vec, option, prelude::*};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::{super::duration, *};

/// Any tree that JSON text and a Struct can both hold.
fn any_object() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i32>().prop_map(|number| Value::Number(f64::from(number) / 4.0)),
        ".{0,8}".prop_map(Value::Text),
    ];
    let tree = leaf.prop_recursive(4, 64, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::List),
            fields(".{0,4}", inner),
        ]
    });
    fields("[a-z]{0,6}", tree)
}

fn fields(name: &'static str, value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    proptest::collection::btree_map(name, value, 0..6)
        .prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(list) => list.iter().map(to_json).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), to_json(value)))
            .collect(),
    }
}

/// One of some pieces of JSON, the last ones often wrong.
fn piece(pieces: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
    option::of(proptest::sample::select(pieces).prop_map(str::to_string))
}

/// `{"name": piece, …}` of what is there.
fn join(fields: Vec<(&str, Option<String>)>) -> String {
    let fields = fields
        .into_iter()
        .filter_map(|(name, piece)| Some(format!("\"{name}\": {}", piece?)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
}

prop_compose! {
    fn some_match()(
        cluster in piece(&["\"c\"", "null", "\"\""]),
        path_prefix in piece(&["\"/\"", "\"/v1\"", "\"v1\""]),
        method in piece(&["[\"GET\"]", "[\"GET\", \"PUT\"]", "[]"]),
        listener_port in piece(&["80", "5432.0", "65535", "0"]),
        source in piece(&["[\"10.0.0.0/8\"]", "[\"::1\", \"10.1.1.1\"]", "[\"10.0.0.1/8\"]"]),
        http in any::<bool>(),
    ) -> String {
        let only_http = |piece: Option<String>| piece.filter(|_| http);
        join(Vec::from([
            ("cluster", only_http(cluster)),
            ("path_prefix", only_http(path_prefix)),
            ("method", only_http(method)),
            ("listener_port", listener_port),
            ("source", source),
        ]))
    }
}

prop_compose! {
    fn some_rule()(
        mode in piece(&["\"off\"", "\"shadow\"", "\"enforce\"", "false"]),
        matcher in some_match(),
        protocol in piece(&["\"tcp\"", "\"postgres\"", "\"mysql\""]),
        inflight in piece(&["1", "100", "1000000", "0"]),
        connecting in piece(&["1", "20.0"]),
        max_wait in piece(&["\"1ms\"", "\"60s\"", "\"0.5s\"", "5"]),
        max_waiting in piece(&["1", "65536", "65537"]),
        held in any::<bool>(),
        http_status in piece(&["400", "503", "599", "600"]),
        retry_after in piece(&["\"0s\"", "\"1h\"", "\"1ms\"", "\"1us\""]),
        tcp in piece(&["\"close\"", "\"protocol\""]),
        more in some_more(),
    ) -> Fields {
        let hold = join(Vec::from([("max_wait", max_wait), ("max_waiting", max_waiting)]));
        let (mut reject, more) = more;
        reject.extend([("http_status", http_status), ("retry_after", retry_after), ("tcp", tcp)]);
        let mut fields = Vec::from([
            ("mode", mode),
            ("match", Some(matcher)),
            ("protocol", protocol),
            ("limits", Some(join(Vec::from([("inflight", inflight), ("connecting", connecting)])))),
            ("hold", Some(if held { hold } else { "false".to_string() })),
            ("reject", Some(join(reject))),
        ]);
        fields.extend(more);
        fields
    }
}

type Fields = Vec<(&'static str, Option<String>)>;

prop_compose! {
    /// Fields of `reject`, and those of the rule that say who goes first and where the others go.
    /// Each is there in one of a few rules, or hardly any would be right.
    fn some_more()(
        key in piece(&["\"none\"", "\"source_ip\"", "\"sni\""]),
        sticky in piece(&["\"key\"", "\"cookie:a\"", "\"header:A\"", "\"header:\""]),
        classes in piece(&[
            "[]",
            "[{\"name\": \"a\"}]",
            "[{\"name\": \"a\", \"match\": {\"source\": [\"::1\"]}, \"reserved\": 1}, {\"name\": \"b\"}]",
            "[{\"name\": \"a\", \"match\": {\"header\": {\"name\": \"X\", \"value\": \"y\"}}}]",
            "[{\"name\": \"a\", \"priority\": 255.0, \"reserved\": 99}]",
            "[{\"name\": \"a\"}, {\"name\": \"a\"}]",
        ]),
        redirect in piece(&[
            "{\"cluster\": \"b\"}",
            "{\"cluster\": \"tidegate-refuse\"}",
            "{\"header\": {\"name\": \":authority\", \"value\": \"b\"}}",
            "{}",
        ]),
        adaptive in piece(&["false", "true", "\"off\""]),
        slow in piece(&["\"100ms\"", "false", "\"1m\"", "\"off\"", "\"61s\""]),
        max_slow in piece(&["1", "65536.0", "0"]),
        given in vec(proptest::bool::weighted(0.15), 7),
    ) -> (Fields, Fields) {
        let mut given = given.into_iter();
        let mut maybe = |piece: Option<String>| piece.filter(|_| given.next() == Some(true));
        let reject = Vec::from([("slow", maybe(slow)), ("max_slow", maybe(max_slow))]);
        let rule = Vec::from([
            ("key", maybe(key)),
            ("sticky", maybe(sticky)),
            ("classes", maybe(classes)),
            ("redirect", maybe(redirect)),
            ("adaptive", maybe(adaptive)),
        ]);
        (reject, rule)
    }
}

/// Configurations an operator might write: about one in ten is right.
pub(super) fn some_configuration() -> impl Strategy<Value = String> {
    vec((some_rule(), "[a-c]{1,2}"), 1..4).prop_map(|rules| {
        let rules = rules.into_iter().map(|(mut fields, name)| {
            fields.push(("name", Some(format!("\"{name}\""))));
            join(fields)
        });
        format!("{{\"rules\": [{}]}}", rules.collect::<Vec<_>>().join(", "))
    })
}

/// What the types of a policy promise in words.
fn assert_holds(policy: &Policy, build: Build) {
    let rules = policy.rules();
    assert!((1..=bounds::RULES).contains(&rules.len()));
    let names: BTreeSet<_> = rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names.len(), rules.len());
    for (index, rule) in rules.iter().enumerate() {
        let http = rule.matcher.is_http_only();
        assert!(index + 1 == rules.len() || !rule.matcher.is_everything());
        assert!(!http || rule.protocol == Protocol::Tcp);
        assert!(!http || rule.limits.connecting.is_none());
        for limit in [
            rule.limits.inflight,
            rule.limits.arrivals_per_s,
            rule.limits.connecting,
        ] {
            assert!(limit.is_none_or(|limit| bounds::LIMIT.contains(&limit.get())));
        }
        if let Some(hold) = rule.hold {
            assert!(bounds::MAX_WAIT.contains(&hold.max_wait));
            assert!(bounds::MAX_WAITING.contains(&hold.max_waiting.get()));
        }
        assert!(bounds::HTTP_STATUS.contains(&u32::from(rule.reject.http_status)));
        assert!(bounds::RETRY_AFTER.contains(&rule.reject.retry_after));
        let retry_after = duration::text(rule.reject.retry_after);
        assert!(!retry_after.ends_with("us"), "{retry_after}");
        if let TcpReject::Protocol { cluster } = &rule.reject.tcp {
            assert!(build.inspect && rule.protocol != Protocol::Tcp && !cluster.is_empty());
        }
        let slow = rule.reject.slow;
        assert!(slow.is_none_or(|slow| bounds::SLOW.contains(&slow)));
        assert!(bounds::MAX_SLOW.contains(&rule.reject.max_slow));
        assert_who_goes_first(rule);
    }
}

/// Of users, classes and redirects.
fn assert_who_goes_first(rule: &Rule) {
    let only_tcp = rule.protocol != Protocol::Tcp;
    let is_known = |header: &Option<Header>| match header {
        Some(Header { name, value }) => {
            let lower = !name.contains(|char: char| char.is_ascii_uppercase());
            !only_tcp && lower && !name.is_empty() && !value.is_empty()
        }
        None => true,
    };
    match &rule.sticky {
        Sticky::SourceIp => {}
        Sticky::Key => assert!(rule.key != Key::None),
        Sticky::Header(name) | Sticky::Cookie(name) => assert!(!only_tcp && !name.is_empty()),
    }
    let inflight = rule.limits.inflight.map_or(0, NonZeroU32::get);
    let classes = &rule.classes;
    assert!(classes.len() <= bounds::CLASSES);
    let names: BTreeSet<_> = classes.iter().map(|class| &class.name).collect();
    assert_eq!(names.len(), classes.len());
    for (index, class) in classes.iter().enumerate() {
        assert!(RuleName::new(&class.name).is_some());
        assert!(index + 1 == classes.len() || !class.matcher.is_everything());
        assert!(is_known(&class.matcher.header));
    }
    let reserved = classes.iter().map(|class| class.reserved).sum::<u32>();
    assert!(reserved == 0 || reserved < inflight);
    assert!(!rule.adaptive || inflight > 0);
    if let Some(Redirect { cluster, header }) = &rule.redirect {
        assert!(cluster.is_some() || header.is_some());
        assert!(cluster.is_none() || !rule.matcher.is_http_only());
        assert!(is_known(header));
        if let TcpReject::Protocol { cluster: refusing } = &rule.reject.tcp {
            assert!(cluster.as_ref() != Some(refusing));
        }
    }
}

/// A class, a header and a redirect as they are written, from what they mean.
fn written(rule: &Rule) -> String {
    let header = |header: &Option<Header>| match header {
        Some(Header { name, value }) => serde_json::json!({"name": name, "value": value}),
        None => serde_json::Value::Null,
    };
    let classes = rule.classes.iter().map(|class| {
        let mut matcher = serde_json::json!({"header": header(&class.matcher.header)});
        let sources = class.matcher.sources.iter().map(ToString::to_string);
        if !class.matcher.sources.is_empty() {
            matcher["source"] = sources.collect();
        }
        serde_json::json!({"name": class.name, "match": matcher, "priority": class.priority,
            "reserved": class.reserved})
    });
    let sticky = match &rule.sticky {
        Sticky::SourceIp => "source_ip".to_string(),
        Sticky::Key => "key".to_string(),
        Sticky::Header(name) => format!("header:{name}"),
        Sticky::Cookie(name) => format!("cookie:{name}"),
    };
    let redirect = rule.redirect.as_ref().map(|redirect| {
        serde_json::json!({"cluster": redirect.cluster, "header": header(&redirect.header)})
    });
    let slow = rule.reject.slow.map(duration::text);
    let rule = serde_json::json!({
        "name": rule.name.as_str(),
        "limits": {"inflight": rule.limits.inflight},
        "sticky": sticky,
        "classes": classes.collect::<Vec<_>>(),
        "redirect": redirect,
        "reject": {"slow": slow.as_deref().unwrap_or("off"), "max_slow": rule.reject.max_slow},
        "adaptive": rule.adaptive,
    });
    serde_json::json!({"rules": [rule]}).to_string()
}

prop_compose! {
    fn some_header()(name in ":authority|[!#$%&'*+.^_`|~0-9a-z-]{1,20}", value in "[ -~é]{1,20}") -> Header {
        Header { name, value }
    }
}

prop_compose! {
    fn some_class()(
        sources in vec("10\\.[1-9]\\.0\\.0/16|2001:db8::/32", 0..3),
        header in option::of(some_header()),
        priority: u8,
        reserved in 0..100u32,
    ) -> Class {
        let sources = sources.iter().map(|range| Cidr::parse(range).unwrap()).collect();
        let name = String::new();
        Class { name, matcher: ClassMatch { sources, header }, priority, reserved }
    }
}

prop_compose! {
    /// A valid rule of HTTP and TCP.
    fn some_valid_rule()(
        inflight in 801..=1_000_000u32,
        sticky in prop_oneof![
            Just(Sticky::SourceIp),
            Just(Sticky::Key),
            "[0-9a-z_-]{1,9}".prop_map(Sticky::Header),
            "[0-9A-Za-z_-]{1,9}".prop_map(Sticky::Cookie),
        ],
        classes in vec(some_class(), 0..=bounds::CLASSES),
        redirect in option::of((option::of("[a-z]{1,9}"), option::of(some_header()))),
        slow in option::of(100..=60_000u64),
        max_slow in bounds::MAX_SLOW,
        adaptive: bool,
    ) -> Rule {
        let mut rule = Rule::default_in(Mode::Shadow);
        rule.limits.inflight = NonZeroU32::new(inflight);
        rule.sticky = sticky;
        rule.classes = classes;
        // Only the last may match everything.
        let last = rule.classes.pop();
        rule.classes.retain(|class| !class.matcher.is_everything());
        rule.classes.extend(last);
        for (index, class) in rule.classes.iter_mut().enumerate() {
            class.name = format!("class-{index}");
        }
        rule.redirect = redirect
            .map(|(cluster, header)| Redirect { cluster, header })
            .filter(|redirect| redirect.cluster.is_some() || redirect.header.is_some());
        rule.reject.slow = slow.map(Duration::from_millis);
        rule.reject.max_slow = max_slow;
        rule.adaptive = adaptive;
        rule
    }
}

/// Parses in both builds, and holds each result to its promises.
fn assert_sound(bytes: &[u8]) {
    for build in [PLAIN, INSPECTS] {
        match parse(bytes, build) {
            Ok(policy) => assert_holds(&policy, build),
            Err(error) => {
                assert!(!error.findings().is_empty());
                for Finding { path, what } in error.findings() {
                    assert!(path.len() < 100 && what.len() < 500, "{path}: {what}");
                    assert!(!what.contains(char::is_control), "{what}");
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
        assert_sound(&bytes);
    }

    #[test]
    fn any_bytes_that_begin_like_a_struct_or_json_are_parsed_without_panic(
        bytes: Vec<u8>,
        start in proptest::sample::select(&["\n", "{", "\u{FEFF}", "\n\x0E\n\x04mode\x12"][..]),
    ) {
        assert_sound(&[start.as_bytes(), &bytes].concat());
    }

    #[test]
    fn any_object_is_parsed_without_panic(value in any_object()) {
        assert_sound(to_json(&value).to_string().as_bytes());
        assert_sound(&encode(&value));
    }

    #[test]
    fn a_struct_is_the_same_value_as_its_json_text(value in any_object()) {
        let text = to_json(&value).to_string();
        prop_assert_eq!(&Value::from_json(&text).unwrap(), &value);
        prop_assert_eq!(&pbstruct::decode(&encode(&value)).unwrap(), &value);
    }

    #[test]
    fn an_accepted_configuration_holds_what_its_policy_promises(text in some_configuration()) {
        assert_sound(text.as_bytes());
    }

    #[test]
    fn a_valid_configuration_means_what_was_written(rule in some_valid_rule()) {
        let text = written(&rule);
        let policy = accepted(&text);
        assert_holds(&policy, PLAIN);
        prop_assert_eq!(policy.rules(), &[rule][..]);
        let bytes = encode(&Value::from_json(&text).unwrap());
        prop_assert_eq!(parse(&bytes, PLAIN), Ok(policy));
    }

    #[test]
    fn a_struct_makes_the_same_policy_as_its_json_text(text in some_configuration()) {
        let bytes = encode(&Value::from_json(&text).unwrap());
        prop_assert_eq!(parse(&bytes, INSPECTS), parse(text.as_bytes(), INSPECTS));
    }

    #[test]
    fn a_damaged_configuration_is_parsed_without_panic(
        text in some_configuration(),
        damage in vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let bytes = encode(&Value::from_json(&text).unwrap());
        for mut bytes in [text.into_bytes(), bytes] {
            for (place, byte) in &damage {
                let place = place.index(bytes.len());
                bytes[place] = *byte;
            }
            assert_sound(&bytes);
        }
    }
}

#[test]
fn the_configurations_of_the_properties_are_often_right() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};

    let mut runner = TestRunner::deterministic();
    let right = (0..500)
        .filter(|_| {
            let text = some_configuration()
                .new_tree(&mut runner)
                .unwrap()
                .current();
            parse(text.as_bytes(), INSPECTS).is_ok()
        })
        .count();
    assert!(right >= 25, "{right} of 500");
}
