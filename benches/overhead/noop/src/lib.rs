//! A filter that does nothing, in the usual way: with the SDK, and all of its callbacks.

use proxy_wasm::{
    traits::{Context, HttpContext, RootContext, StreamContext},
    types::ContextType,
};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> {
        Box::new(Root { http: false })
    });
}}

struct Root {
    http: bool,
}

impl Context for Root {}

impl RootContext for Root {
    /// What it is for, in one word.
    fn on_configure(&mut self, _: usize) -> bool {
        self.http = self.get_plugin_configuration().as_deref() == Some(b"http");
        true
    }

    /// The SDK asks at every stream.
    fn get_type(&self) -> Option<ContextType> {
        Some(if self.http {
            ContextType::HttpContext
        } else {
            ContextType::StreamContext
        })
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Nothing))
    }

    fn create_stream_context(&self, _: u32) -> Option<Box<dyn StreamContext>> {
        Some(Box::new(Nothing))
    }
}

struct Nothing;

impl Context for Nothing {}
impl HttpContext for Nothing {}
impl StreamContext for Nothing {}
