//! The bootstraps that are shipped, as they are, with other ports and paths.

use std::{fs, net::SocketAddr};

use super::places::{self, Folder};

/// A bootstrap in `envoy/`, and the ports in it.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    pub file: &'static str,
    /// The first of them, if there are several.
    pub listener: &'static str,
    ports: &'static [u16],
    upstream: u16,
}

const ADMIN: u16 = 9901;

pub const HTTP: Shipped = Shipped::new("http.yaml", "api", &[10000], 8080);
pub const TCP: Shipped = Shipped::new("tcp.yaml", "service", &[10001], 8081);
pub const POSTGRES: Shipped = Shipped::new("postgres.yaml", "postgres", &[10002], 5432);
pub const MYSQL: Shipped = Shipped::new("mysql.yaml", "mysql", &[10003], 3306);
pub const MIGRATION: Shipped = Shipped::new("migration.yaml", "old", &[10004, 10005], 5432);
pub const ALL: [Shipped; 5] = [HTTP, TCP, POSTGRES, MYSQL, MIGRATION];

impl Shipped {
    const fn new(
        file: &'static str,
        listener: &'static str,
        ports: &'static [u16],
        upstream: u16,
    ) -> Self {
        Self {
            file,
            listener,
            ports,
            upstream,
        }
    }

    /// As it lies in the repository.
    pub fn text(&self) -> String {
        let path = places::repository("envoy").join(self.file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// For a test: Envoy chooses its own ports, and finds the upstream and the modules. There is no
    /// backstop, so that it is the plugin that is tested; see [`Bootstrap::backed`].
    pub fn before(&self, upstream: SocketAddr) -> Bootstrap {
        let port = |port: u16| format!("port_value: {port}}}");
        let wasm = places::given("TIDEGATE_WASM_DIR");
        let wasm = wasm.to_str().expect("a path in UTF-8");
        let shipped = Bootstrap { text: self.text() };
        let mine = self.ports.iter().chain([&ADMIN]);
        mine.fold(shipped, |all, mine| all.set(&port(*mine), &port(0)))
            .set(&port(self.upstream), &port(upstream.port()))
            .set("filename: target/tidegate", &format!("filename: {wasm}"))
            .ceilings(10_000)
    }
}

/// A bootstrap for a test.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    pub text: String,
}

impl Bootstrap {
    /// Writes something else in one place; the place must be there, and only once.
    pub fn set(self, old: &str, new: &str) -> Self {
        assert_eq!(
            self.text.matches(old).count(),
            1,
            "{old:?} is to be replaced in:\n{}",
            self.text
        );
        Self {
            text: self.text.replace(old, new),
        }
    }

    /// With another `limits`.
    pub fn limits(self, limits: &str) -> Self {
        self.field("\"limits\": ", limits)
    }

    /// With another `hold`.
    pub fn hold(self, hold: &str) -> Self {
        self.field("\"hold\": ", hold)
    }

    /// With the backstop as shipped, at this limit.
    pub fn backed(self, limit: usize) -> Self {
        self.ceilings(limit)
    }

    /// With these ceilings in the first cluster, which is the upstream's. Connections of an HTTP
    /// upstream have none worth the name.
    fn ceilings(self, ceiling: usize) -> Self {
        let (before, rest) = self
            .text
            .split_once("  - {max_connections: ")
            .expect("a ceiling");
        let (old, after) = rest.split_once("}\n").expect("its end");
        let new = if old.contains("max_requests") {
            format!("10000, max_pending_requests: {ceiling}, max_requests: {ceiling}")
        } else {
            format!("{ceiling}, max_pending_requests: {ceiling}")
        };
        Self {
            text: format!("{before}  - {{max_connections: {new}}}\n{after}"),
        }
    }

    /// Without a hold: whoever does not fit is refused at once.
    pub fn hold_off(self) -> Self {
        self.hold("\"off\"")
    }

    /// With another `mode`.
    pub fn mode(self, mode: &str) -> Self {
        self.set("\"mode\": \"enforce\"", &format!("\"mode\": \"{mode}\""))
    }

    /// With more fields in its rule.
    pub fn with(self, fields: &str) -> Self {
        self.set("\"limits\": {", &format!("{fields}, \"limits\": {{"))
    }

    /// With these rules.
    pub fn rules(self, rules: &str) -> Self {
        let (_, rest) = self.text.split_once("\"rules\": ").expect("the rules");
        let (old, _) = rest.split_once("}]").expect("their end");
        let old = format!("\"rules\": {old}}}]");
        let new = format!("\"rules\": {}", rules.replace('\n', " "));
        self.set(&old, &new)
    }

    /// Writes another object after a key.
    fn field(self, key: &str, value: &str) -> Self {
        let (_, rest) = self.text.split_once(key).expect("the field");
        let (old, _) = rest.split_once('}').expect("an object");
        let old = format!("{key}{old}}}");
        self.set(&old, &format!("{key}{value}"))
    }

    /// With the module that reads the first bytes.
    pub fn inspecting(self) -> Self {
        self.set("/tidegate.wasm", "/tidegate-inspect.wasm")
    }

    /// The block that begins with this line, as far as it is indented more, is its list, or a comment.
    pub fn block(&self, first: &str) -> String {
        let indent = |line: &str| line.len() - line.trim_start().len();
        let item = |line: &str| line.trim_start().starts_with("- ");
        let start = self.text.find(first).expect("the block");
        let start = self.text[..start].rfind('\n').map_or(0, |end| end + 1);
        let mut lines = self.text[start..].split_inclusive('\n');
        let head = lines.next().expect("its first line");
        let inside = |line: &&str| {
            line.trim().is_empty()
                || line.trim_start().starts_with('#')
                || indent(line) > indent(head)
                || indent(line) == indent(head) && item(line) && !item(head)
        };
        let body = lines.take_while(inside);
        body.fold(head.to_owned(), |block, line| block + line)
    }

    /// With another plugin configuration: the whole block, or nothing.
    pub fn configuration(self, block: &str) -> Self {
        let old = self.block("configuration:");
        self.set(&old, block)
    }

    /// With the listeners and the clusters of another one, too.
    pub fn beside(self, other: &Self) -> Self {
        ["  listeners:\n", "  clusters:\n"]
            .into_iter()
            .fold(self, |all, list| {
                let theirs = other.block(list);
                let ours = all.block(list);
                let theirs = theirs.strip_prefix(list).expect("a list");
                let both = format!("{}\n{theirs}", ours.trim_end());
                all.set(&ours, &both)
            })
    }

    /// Takes the listeners out, to be delivered from a folder: the rest, and the listeners.
    pub fn split(self, folder: &Folder) -> (Self, String) {
        const TYPE: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
        let all = self.block("  listeners:");
        let (_, listener) = all.split_once("listeners:").expect("a listener");
        let typed = format!("\n  - \"@type\": {TYPE}\n    name:");
        let listener = listener.replace("\n  - name:", &typed);
        let folder = folder.path().display();
        let from_folder = [
            "node: {id: test, cluster: test}",
            "dynamic_resources:",
            "  lds_config:",
            "    path_config_source:",
            &format!("      path: {folder}/lds.yaml"),
            &format!("      watched_directory: {{path: {folder}}}"),
            "static_resources:",
        ];
        let from_folder = from_folder.join("\n");
        let rest = self.set(&all, "").set("static_resources:", &from_folder);
        (rest, format!("resources:{listener}"))
    }
}
