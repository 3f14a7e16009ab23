//! The ways to load a module, as the README writes them.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
};

use crate::harness::{Bootstrap, Conduct, Envoy, HTTP, Upstream, envoy::validate, http, places};

/// What the README writes between backticks after these words.
fn inline(start: &str) -> String {
    let readme = fs::read_to_string(places::repository("README.md")).expect("it is there");
    let found = readme.split('`').find(|text| text.starts_with(start));
    found.expect("the README has it").to_owned()
}

/// The first word of what `sha256sum` says.
fn sum_of(file: &Path) -> String {
    let output = Command::new("sha256sum")
        .arg(file)
        .output()
        .expect("it runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.split_whitespace().next().expect("a sum").to_owned()
}

/// Gives the bytes to whoever asks for the path.
fn serve(path: &'static str, content: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a listener");
    let address = listener.local_addr().expect("its address");
    let give = move |mut stream: TcpStream| -> std::io::Result<()> {
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            asked.push(byte[0]);
        }
        let found = asked.starts_with(format!("GET {path} ").as_bytes());
        let (status, content) = if found {
            (200, &content[..])
        } else {
            (404, &[][..])
        };
        let length = content.len();
        write!(
            stream,
            "HTTP/1.1 {status} said\r\ncontent-length: {length}\r\n"
        )?;
        stream.write_all(b"connection: close\r\n\r\n")?;
        stream.write_all(content)
    };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            give(stream).ok();
        }
    });
    address
}

/// With the module loaded as the README says.
fn loaded(upstream: SocketAddr, code: &str) -> Bootstrap {
    let shipped = HTTP.before(upstream);
    let line = shipped
        .text
        .lines()
        .find(|line| line.contains("code: {local"));
    let line = line
        .expect("the shipped bootstrap loads a file")
        .trim()
        .to_owned();
    shipped.set(&line, code)
}

#[test]
fn envoy_loads_a_file_as_the_readme_says() {
    let module = places::given("TIDEGATE_WASM_DIR").join("tidegate.wasm");
    let file = format!("/etc/envoy/tidegate-{}.wasm", tidegate::build_info::VERSION);
    let code = inline("code: {local:");
    assert!(code.contains(&file), "{code}");
    let code = code.replace(&file, module.to_str().expect("a path in UTF-8"));
    let (accepted, said) = validate(&loaded(([127, 0, 0, 1], 9).into(), &code));
    assert!(accepted, "{said}");
}

#[test]
fn envoy_loads_the_module_over_http_as_the_readme_says() {
    const FILE: &str = concat!("/tidegate-", env!("CARGO_PKG_VERSION"), ".wasm");
    let module = places::given("TIDEGATE_WASM_DIR").join("tidegate.wasm");
    let files = serve(FILE, fs::read(&module).expect("it is built"));
    let code = inline("code: {remote:");
    let (uri, sum) = (format!("https://files.example{FILE}"), "sha256: SUM");
    assert!(code.contains(&uri) && code.contains(sum), "{code}");
    let code = code
        .replace("https://files.example", &format!("http://{files}"))
        .replace(sum, &format!("sha256: {}", sum_of(&module)));
    let cluster = format!(
        "\n  clusters:\n  - name: files\n    load_assignment:\n      cluster_name: files\n      \
         endpoints:\n      - lb_endpoints:\n        - endpoint:\n            address: \
         {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}\n",
        files.port()
    );
    let upstream = Upstream::start(Conduct::Http);
    upstream.release();
    let bootstrap = loaded(upstream.address, &code).set("\n  clusters:\n", &cluster);
    let envoy = Envoy::start(&bootstrap, 1);
    assert_eq!(http::get(envoy.listener(HTTP.listener), "/").status, 200);
    envoy.until_quiet("api", 1);
}
