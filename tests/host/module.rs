//! The two built modules, translated once.
//!
//! By wasmi: an interpreter that counts what each callback costs (fuel), bounds its memory, and is
//! built in a minute. wasmtime runs the module faster, and brings a compiler of a hundred crates, one
//! of which takes longer to build than all of wasmi; callbacks of some microseconds gain little by it.

use std::{fs, sync::OnceLock};

use wasmi::{CompilationMode, Config, Engine, Module};

use crate::places;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    Plain,
    Inspect,
}

impl Build {
    pub const ALL: [Self; 2] = [Self::Plain, Self::Inspect];

    pub fn module(self) -> &'static Module {
        static MODULES: OnceLock<[Module; 2]> = OnceLock::new();
        let modules = MODULES.get_or_init(|| {
            let mut config = Config::default();
            // Eager, for what is translated within a callback is charged to it.
            config
                .consume_fuel(true)
                .compilation_mode(CompilationMode::Eager);
            let engine = Engine::new(&config);
            let folder = places::given("TIDEGATE_WASM_DIR");
            ["tidegate.wasm", "tidegate-inspect.wasm"].map(|name| {
                let path = folder.join(name);
                let bytes =
                    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                Module::new(&engine, bytes)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            })
        });
        &modules[self as usize]
    }
}
