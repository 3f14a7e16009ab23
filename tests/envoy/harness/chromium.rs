//! The real Chromium without a window, where it is installed.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{ChildStdin, Command},
    sync::mpsc::{self, Receiver},
    thread,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{
    PATIENCE,
    places::{self, Folder},
    process::Program,
};

/// One page, and what was noticed about it.
pub struct Browser {
    // Ends before the folder goes.
    program: Program,
    to: ChildStdin,
    from: Receiver<Value>,
    session: Value,
    calls: u64,
    /// Every address that was asked for.
    pub asked: Vec<String>,
    /// Every error and warning of the console.
    pub complaints: Vec<String>,
    _folder: Folder,
}

/// How large the window is, and how bright the user likes it.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
}

impl Browser {
    /// Starts it with an empty page, or says loudly what is not tested.
    pub fn start(test: &str) -> Option<Self> {
        let Some(chromium) = places::which("chromium") else {
            let advice = "Chromium is missing; type: sudo apt-get install chromium";
            places::skip(test, advice);
            return None;
        };
        let folder = Folder::new();
        // It is told what to do by the file descriptor 3, and answers by 4.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >&2"#]);
        command.arg(chromium).env("HOME", folder.path());
        // A sandbox needs rights that a container may not have.
        command.args(["--headless", "--no-sandbox", "--disable-gpu"]);
        command.args(["--disable-dev-shm-usage", "--remote-debugging-pipe"]);
        // Nothing but the page is to be asked for.
        command.args(["--disable-background-networking", "--no-first-run"]);
        command.args(["--disable-component-update", "--no-proxy-server"]);
        let profile = folder.path().join("profile");
        command.arg(format!("--user-data-dir={}", profile.display()));
        let (program, to, answers) = Program::start_talking(command, &folder.path().join("log"));
        let (sender, from) = mpsc::channel();
        thread::spawn(move || {
            for message in BufReader::new(answers).split(0) {
                let Ok(message) = message else { return };
                let message = serde_json::from_slice(&message).expect("JSON");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            program,
            to,
            from,
            session: Value::Null,
            calls: 0,
            asked: Vec::new(),
            complaints: Vec::new(),
            _folder: folder,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        browser.session = browser.call("Target.attachToTarget", target)["sessionId"].clone();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Goes to an address.
    pub fn open(&mut self, url: &str) {
        let gone = self.call("Page.navigate", json!({ "url": url }));
        assert_eq!(gone["errorText"], Value::Null, "{url}");
    }

    /// Resizes and repaints.
    pub fn view(&mut self, view: View) {
        let View { width, height, .. } = view;
        let mobile = width < 600;
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 2, "mobile": mobile});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = if view.dark { "dark" } else { "light" };
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        let features = json!({ "features": [feature] });
        self.call("Emulation.setEmulatedMedia", features);
    }

    /// What an expression is worth in the page.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let what = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", what);
        assert_eq!(answer["exceptionDetails"], Value::Null, "{expression}");
        answer["result"]["value"].clone()
    }

    /// The text of the element that a selector finds; none where there is no such element.
    pub fn text(&mut self, selector: &str) -> Option<String> {
        let selector = Value::from(selector);
        let text = self.evaluate(&format!("document.querySelector({selector})?.textContent"));
        text.as_str().map(str::to_owned)
    }

    /// Paints the whole page into a file.
    pub fn paint(&mut self, file: &Path) {
        let size = self.call("Page.getLayoutMetrics", json!({}));
        let size = &size["cssContentSize"];
        let clip = json!({
            "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1
        });
        let how = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let picture = self.call("Page.captureScreenshot", how);
        let bytes = BASE64_STANDARD.decode(picture["data"].as_str().expect("a picture"));
        fs::create_dir_all(file.parent().expect("its folder")).expect("the folder");
        fs::write(file, bytes.expect("base64")).expect("the file");
    }

    /// Calls a method of the DevTools protocol, and notes the events that come before its answer.
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut message = json!({"id": self.calls, "method": method, "params": parameters});
        if self.session != Value::Null {
            message["sessionId"] = self.session.clone();
        }
        let text = format!("{message}\0");
        self.to.write_all(text.as_bytes()).expect("it listens");
        loop {
            let answer = self.from.recv_timeout(PATIENCE);
            let answer = answer.unwrap_or_else(|error| {
                panic!("{method}: {error}\n{}", self.program.log());
            });
            if answer["id"] == self.calls {
                assert_eq!(answer["error"], Value::Null, "{method}");
                return answer["result"].clone();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let what = &event["params"];
        match event["method"].as_str() {
            Some("Network.requestWillBeSent") => {
                let url = what["request"]["url"].as_str().expect("an address");
                self.asked.push(url.to_owned());
            }
            Some("Runtime.exceptionThrown") => self.complaints.push(what.to_string()),
            Some("Runtime.consoleAPICalled") if what["type"] != "log" => {
                self.complaints.push(what.to_string());
            }
            Some("Log.entryAdded") => self.complaints.push(what["entry"].to_string()),
            _ => {}
        }
    }
}
