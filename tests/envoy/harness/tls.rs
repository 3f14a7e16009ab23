//! TLS: certificates, real greetings and clients, all made by the `openssl` command.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use super::{
    PATIENCE,
    places::{self, Folder},
    process::{clean, run},
};

fn openssl() -> Command {
    let program = places::which("openssl");
    clean(&program.expect("openssl is missing; type: sudo apt-get install openssl"))
}

/// An authority, a server of its own, and whoever else it vouches for.
pub struct Authority(Folder);

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    certificate: PathBuf,
    key: PathBuf,
}

impl Identity {
    /// A program of OpenSSL's comes as this one.
    fn shown_by(&self, command: &mut Command) {
        command.arg("-cert").arg(&self.certificate);
        command.arg("-key").arg(&self.key);
    }
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let authority = Self(Folder::new());
        // What the system's configuration would add is of no use here.
        let config = "[req]\ndistinguished_name = dn\nprompt = no\n[dn]\nCN = tidegate test\n";
        std::fs::write(authority.path("config"), config).expect("written");
        authority.issue("authority", "basicConstraints=critical,CA:TRUE", false);
        authority
    }

    /// Vouches for somebody with this alternative name, such as `URI:spiffe://test/orders`.
    pub fn vouch(&self, file: &str, name: &str) -> Identity {
        self.issue(file, &format!("subjectAltName={name}"), true)
    }

    fn issue(&self, file: &str, extension: &str, signed: bool) -> Identity {
        let identity = Identity {
            certificate: self.path(&format!("{file}.crt")),
            key: self.path(&format!("{file}.key")),
        };
        let mut command = openssl();
        command.args(["req", "-x509", "-days", "2", "-noenc", "-newkey", "ec"]);
        command.args(["-pkeyopt", "ec_paramgen_curve:P-256"]);
        command.arg("-config").arg(self.path("config"));
        command.args(["-addext", extension]);
        if signed {
            command.arg("-CA").arg(self.path("authority.crt"));
            command.arg("-CAkey").arg(self.path("authority.key"));
        }
        command.arg("-keyout").arg(&identity.key);
        command.arg("-out").arg(&identity.certificate);
        run(command);
        identity
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// What a listener of Envoy's needs to speak TLS as `server`; with `mutual` only to those whom
    /// this authority vouches for.
    pub fn listener(&self, server: &Identity, mutual: bool) -> String {
        let validation = if mutual {
            let authority = self.path("authority.crt");
            format!(
                ", validation_context: {{trusted_ca: {{filename: {}}}}}",
                authority.display()
            )
        } else {
            String::new()
        };
        format!(
            "{{name: tls, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.\
             transport_sockets.tls.v3.DownstreamTlsContext, \
             require_client_certificate: {mutual}, common_tls_context: {{tls_certificates: \
             [{{certificate_chain: {{filename: {}}}, private_key: {{filename: {}}}}}]\
             {validation}}}}}}}",
            server.certificate.display(),
            server.key.display()
        )
    }
}

/// What `openssl s_client` says first when it wants to talk to this host.
pub fn greeting(host: &str) -> Vec<u8> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a listener");
    let address = listener.local_addr().expect("its address");
    let mut client = s_client(address, Some(host), None);
    client.stdout(Stdio::null());
    let mut client = client.spawn().expect("openssl runs");
    let (mut stream, _) = listener.accept().expect("it comes");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut record = vec![0; 5];
    stream.read_exact(&mut record).expect("the head");
    let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
    record.resize(5 + length, 0);
    stream.read_exact(&mut record[5..]).expect("a ClientHello");
    client.kill().ok();
    client.wait().expect("its end");
    record
}

fn s_client(to: SocketAddr, host: Option<&str>, identity: Option<&Identity>) -> Command {
    let mut command = openssl();
    command.args(["s_client", "-quiet", "-connect", &to.to_string()]);
    match host {
        Some(host) => command.args(["-servername", host]),
        None => command.arg("-noservername"),
    };
    if let Some(identity) = identity {
        identity.shown_by(&mut command);
    }
    command.stdin(Stdio::piped()).stderr(Stdio::null());
    command
}

/// Shakes hands again and again for a second, as somebody, and leaves each time; or less when a
/// connection fails.
pub fn shake_hands(to: SocketAddr, identity: &Identity) {
    let mut command = openssl();
    command.args(["s_time", "-new", "-time", "1"]);
    command.args(["-connect", &to.to_string()]);
    identity.shown_by(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null()).status().expect("it runs");
}

/// A client that speaks TLS.
pub struct TlsClient {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
}

impl TlsClient {
    /// Connects as somebody.
    pub fn connect(to: SocketAddr, identity: &Identity) -> Self {
        let mut command = s_client(to, None, Some(identity));
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
        Self {
            input: child.stdin.take(),
            output: child.stdout.take().expect("its output"),
            child,
        }
    }

    /// Says something.
    pub fn say(&mut self, words: &[u8]) {
        let input = self.input.as_mut().expect("an open input");
        input.write_all(words).expect("written");
        input.flush().expect("sent");
    }
}

impl Read for &mut TlsClient {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.output.read(bytes)
    }
}

impl Drop for TlsClient {
    fn drop(&mut self) {
        drop(self.input.take());
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
