//! One virtual machine: the callbacks of a module, what each costs, and what the host knows of the
//! contexts in it.

use std::collections::BTreeMap;

use wasmi::{
    Instance, Memory, Store, StoreLimits, StoreLimitsBuilder, TypedFunc, WasmParams, WasmResults,
};

use crate::{
    abi,
    dice::Dice,
    envoy::Shared,
    module::Build,
    seen::{self, MOST_FUEL, MOST_MEMORY, Seen},
    weather::Weather,
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Root,
    Http,
    Tcp,
}

/// A context, and what the host has to say of its stream.
#[derive(Clone, Debug, Default)]
pub struct Context {
    pub sort: Sort,
    /// None for a root context.
    pub root: u32,
    pub headers: Vec<(String, Vec<u8>)>,
    pub properties: Vec<(&'static str, Vec<u8>)>,
    /// What the client sent, and what the upstream did.
    pub buffers: [Option<Vec<u8>>; 2],
    /// The arrival has been told.
    pub began: bool,
    pub paused: bool,
    /// By the plugin.
    pub closed: bool,
    /// With this HTTP status, by the plugin.
    pub answered: Option<u32>,
    /// Where the plugin led it to, and whether it is too late for that.
    pub cluster: Option<String>,
    pub chosen: bool,
}

impl Context {
    pub fn property(&self, path: &str) -> Option<Vec<u8>> {
        let found = self.properties.iter().find(|(known, _)| *known == path);
        found.map(|(_, value)| value.clone())
    }

    pub fn set_property(&mut self, path: &'static str, value: impl Into<Vec<u8>>) {
        self.properties.retain(|(known, _)| *known != path);
        self.properties.push((path, value.into()));
    }

    /// It is not paused any more, and tcp_proxy connects.
    pub fn go_on(&mut self) {
        self.paused = false;
        self.chosen = true;
    }

    /// Whether it is at its own upstream.
    pub fn is_open(&self) -> bool {
        self.began
            && !self.paused
            && !self.closed
            && self.answered.is_none()
            && self.cluster.as_deref() != Some("tidegate-refuse")
    }
}

#[derive(Clone, Copy)]
pub struct Exports {
    pub memory: Memory,
    pub malloc: TypedFunc<u32, u32>,
}

/// What the host knows of a machine.
pub struct State {
    pub envoy: Shared,
    pub weather: Weather,
    pub dice: Dice,
    pub seen: Seen,
    pub contexts: BTreeMap<u32, Context>,
    pub effective: u32,
    /// While it is being told.
    pub configuration: Option<Vec<u8>>,
    /// The tick periods of root contexts in ms, and when the next tick is due.
    pub ticks: BTreeMap<u32, (u32, u64)>,
    pub metrics: Vec<(crate::envoy::Metric, String)>,
    /// What the module did that no module may. Nothing unwinds through the interpreter.
    pub broken: Option<String>,
    exports: Option<Exports>,
    limits: StoreLimits,
}

impl State {
    pub fn exports(&self) -> Exports {
        self.exports.expect("nothing is called while it is made")
    }

    pub fn context(&self) -> Option<&Context> {
        self.contexts.get(&self.effective)
    }

    pub fn context_mut(&mut self) -> Option<&mut Context> {
        self.contexts.get_mut(&self.effective)
    }

    /// Sets the tick period of the root context of the effective context, and restarts its timer.
    pub fn set_period(&mut self, period: u32) {
        let root = match self.context() {
            Some(context) if context.sort != Sort::Root => context.root,
            _ => self.effective,
        };
        if period == 0 {
            self.ticks.remove(&root);
        } else {
            let now = self.envoy.borrow().now;
            let due = now.saturating_add(u64::from(period) * 1_000_000);
            self.ticks.insert(root, (period, due));
        }
    }
}

/// The answer of a callback that may pause.
pub const CONTINUE: u32 = 0;

pub struct Machine {
    store: Store<State>,
    instance: Instance,
}

impl Machine {
    pub fn start(build: Build, envoy: &Shared) -> Self {
        let module = build.module();
        let state = State {
            envoy: envoy.clone(),
            weather: Weather::Fine,
            dice: Dice::new(7),
            seen: Seen::new(),
            contexts: BTreeMap::new(),
            effective: 0,
            configuration: None,
            ticks: BTreeMap::new(),
            metrics: Vec::new(),
            broken: None,
            exports: None,
            // A module that asks for more finds out, and would trap; so this does.
            limits: StoreLimitsBuilder::new()
                .memory_size(MOST_MEMORY)
                .trap_on_grow_failure(true)
                .build(),
        };
        let mut store = Store::new(module.engine(), state);
        store.limiter(|state| &mut state.limits);
        store.set_fuel(MOST_FUEL).expect("fuel is counted");
        let linker = abi::linker(module);
        let instance = linker
            .instantiate_and_start(&mut store, module)
            .expect("the module starts");
        let memory = instance.get_memory(&store, "memory").expect("its memory");
        let malloc = instance
            .get_typed_func(&store, "malloc")
            .expect("its allocator");
        store.data_mut().exports = Some(Exports { memory, malloc });
        store.data_mut().seen.machines = 1;
        Self { store, instance }
    }

    pub fn state(&mut self) -> &mut State {
        self.store.data_mut()
    }

    pub fn see(&self) -> &State {
        self.store.data()
    }

    pub fn memory(&self) -> usize {
        self.see().exports().memory.data_size(&self.store)
    }

    /// Calls back. None when the module has no such callback; fails when it traps or costs too much.
    fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        name: &'static str,
        about: u32,
        given: P,
    ) -> Option<R> {
        let callback: TypedFunc<P, R> = self.instance.get_typed_func(&self.store, name).ok()?;
        self.store.set_fuel(MOST_FUEL).expect("fuel is counted");
        self.store.data_mut().effective = about;
        let answer = callback
            .call(&mut self.store, given)
            .unwrap_or_else(|error| panic!("{name}({about}) ended badly: {error}"));
        if let Some(broken) = self.see().broken.as_ref() {
            panic!("{name}({about}): {broken}");
        }
        let spent = MOST_FUEL - self.store.get_fuel().expect("fuel is counted");
        let memory = self.memory();
        let seen = &mut self.store.data_mut().seen;
        seen.callbacks += 1;
        seen.spent(name, spent);
        seen.most_memory = seen.most_memory.max(memory);
        Some(answer)
    }

    pub fn create(&mut self, id: u32, root: u32) {
        self.call::<_, ()>("proxy_on_context_create", id, (id, root));
    }

    pub fn delete(&mut self, id: u32) {
        self.call::<_, ()>("proxy_on_delete", id, id);
    }

    /// Tells a configuration, and a length that may be another.
    pub fn configure(&mut self, root: u32, configuration: &[u8], length: u32) -> bool {
        self.state().configuration = Some(configuration.to_vec());
        let taken = self.call::<_, u32>("proxy_on_configure", root, (root, length));
        self.state().configuration = None;
        taken.expect("it is exported") != 0
    }

    pub fn tick(&mut self, root: u32) {
        self.call::<_, ()>("proxy_on_tick", root, root);
    }

    pub fn request(&mut self, id: u32) -> u32 {
        let answer = self.call("proxy_on_request_headers", id, (id, 3_u32, 1_u32));
        answer.expect("it is exported")
    }

    pub fn connection(&mut self, id: u32) -> u32 {
        let answer = self.call("proxy_on_new_connection", id, id);
        answer.expect("it is exported")
    }

    /// Bytes of the client's (0) or the upstream's (1). None where the module does not want them.
    pub fn data(&mut self, side: usize, id: u32, length: u32, end: bool) -> Option<u32> {
        let name = ["proxy_on_downstream_data", "proxy_on_upstream_data"][side];
        self.call(name, id, (id, length, u32::from(end)))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        seen::add(&self.see().seen);
    }
}
