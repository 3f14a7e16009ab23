//! Connections: held by pausing them, refused by a close or in the database's own protocol.

use super::{
    host::{self, Paused},
    http::Action,
    matching::Kind,
    vm::{self, Guarded, Verdict},
};
use crate::engine::{Fault, Reason};

#[cfg(feature = "inspect")]
pub use inspect::{Refusal, Refusals, on_downstream_data, on_upstream_data};

/// A connection was accepted.
pub fn on_new_connection(id: u32) -> Action {
    match vm::with(|vm| vm.on_arrival(id, Kind::Tcp)) {
        None | Some(Verdict::Pass | Verdict::Tell) => Action::Continue,
        Some(Verdict::Hold | Verdict::Keep) => Action::Pause,
        Some(Verdict::Redirect(guarded)) if redirect(id, &guarded) => Action::Continue,
        Some(Verdict::Redirect(guarded)) => refuse(id, Reason::InflightLimit, &guarded),
        Some(Verdict::Refuse(reason, guarded)) => refuse(id, reason, &guarded),
    }
}

/// Leads a connection to another upstream; whether that was possible. The effective context is the
/// connection's.
fn redirect(id: u32, guarded: &Guarded) -> bool {
    let cluster = guarded
        .guard()
        .and_then(|guard| guard.rule.redirect.as_ref()?.cluster.as_deref());
    let chosen = cluster.is_some_and(|cluster| host::choose_cluster(cluster).is_ok());
    if !chosen {
        vm::with(|vm| vm.fault(id, Fault::HostCallFailed));
    }
    chosen
}

/// Leads a connection that was held to another upstream. The effective context is the connection's.
pub fn redirect_held(id: u32, guarded: &Guarded) {
    if redirect(id, guarded) {
        resume(id);
    } else {
        refuse_held(id, Reason::InflightLimit, guarded);
    }
}

/// Lets a held connection go on. The effective context is the connection's.
pub fn resume(id: u32) {
    if host::resume(Paused::Downstream).is_err() {
        vm::with(|vm| vm.fault(id, Fault::HostCallFailed));
    }
}

/// Refuses a connection that was held. The effective context is the connection's.
pub fn refuse_held(id: u32, reason: Reason, guarded: &Guarded) {
    if refuse(id, reason, guarded) == Action::Continue {
        resume(id);
    }
}

/// Refuses a connection; it must go on when its refusal is given by another cluster.
fn refuse(id: u32, reason: Reason, guarded: &Guarded) -> Action {
    #[cfg(feature = "inspect")]
    if inspect::refuse(id, reason, guarded) {
        return Action::Continue;
    }
    // The other module's configurations ask for nothing else.
    #[cfg(not(feature = "inspect"))]
    let _ = (reason, guarded);
    close(id);
    Action::Pause
}

/// Closes a connection. The effective context is the connection's.
pub fn close(id: u32) {
    if host::close_downstream().is_err() {
        vm::with(|vm| vm.fault(id, Fault::HostCallFailed));
    }
}

/// The refusals that a database's client understands.
///
/// The connection is led to a cluster that echoes, so that what the client would send to the
/// database comes back to it. On the way there its messages are replaced by the answers to them
/// (PostgreSQL), or what comes back is (MySQL, where the server speaks first, and the echoed line
/// of the PROXY protocol is what there is to replace).
#[cfg(feature = "inspect")]
mod inspect {
    use alloc::{collections::VecDeque, vec::Vec};
    use core::time::Duration;

    use super::{Action, Guarded, host, vm};
    use crate::{
        config::{Key, Protocol, TcpReject},
        engine::{Fault, Place, Reason, StreamId, Timestamp},
        plugin::host::Buffer,
        protocol::{mysql, postgres},
    };

    /// At most this many are being refused at once; the rest are closed.
    const MAX_REFUSALS: usize = 4096;
    /// So long is an answered client given to read its refusal and to leave.
    const LINGER: Duration = Duration::from_millis(500);
    /// So long is a client given to say something that can be answered.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// What a refused client reads.
    const fn message(reason: Reason) -> &'static str {
        match reason {
            Reason::HotCaller => {
                "too many connections: this client opens more than is normal for it, and tidegate \
                 keeps room for the others"
            }
            Reason::SurgePressure => {
                "too many connections: in this surge tidegate lets in a part of the users of this \
                 database"
            }
            Reason::InflightLimit
            | Reason::ArrivalLimit
            | Reason::ConnectingLimit
            | Reason::HoldFull
            | Reason::HoldTimeout
            | Reason::AdaptiveLimit => {
                "too many connections: tidegate is at the limit of this database"
            }
        }
    }

    const HINT: &str = "Try again in a few seconds.";

    /// A connection that is being refused in its own protocol.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Refusal {
        protocol: Protocol,
        reason: Reason,
        /// It had been led to its database before, whose answer is replaced.
        turned_out: bool,
        answered: bool,
    }

    impl Refusal {
        /// Whether the client is answered by replacing what comes from the upstream.
        fn is_from_upstream(self) -> bool {
            self.turned_out || self.protocol == Protocol::Mysql
        }
    }

    /// The connections that are being refused, in the order of the time when they are closed.
    #[derive(Debug, Default)]
    pub struct Refusals {
        waiting: VecDeque<(Timestamp, StreamId)>,
        answered: VecDeque<(Timestamp, StreamId)>,
    }

    impl Refusals {
        fn begin(&mut self, id: StreamId, now: Timestamp) -> bool {
            if self.waiting.len() + self.answered.len() >= MAX_REFUSALS {
                return false;
            }
            self.waiting.push_back((now.after(PATIENCE), id));
            true
        }

        fn answered(&mut self, id: StreamId, now: Timestamp) {
            self.forget(id);
            self.answered.push_back((now.after(LINGER), id));
        }

        fn close_next(&mut self, id: StreamId) {
            self.forget(id);
            self.answered.push_front((Timestamp::ZERO, id));
        }

        /// It is gone.
        pub fn forget(&mut self, id: StreamId) {
            for queue in [&mut self.answered, &mut self.waiting] {
                if let Some(index) = queue.iter().position(|(_, known)| *known == id) {
                    queue.remove(index);
                    return;
                }
            }
        }

        /// Takes out those whose time is up.
        ///
        /// By a clock that stepped back nobody is kept for longer than the longest time.
        pub fn due(&mut self, now: Timestamp, mut close: impl FnMut(StreamId)) {
            for (queue, span) in [(&mut self.waiting, PATIENCE), (&mut self.answered, LINGER)] {
                while let Some(&(at, id)) = queue.front()
                    && (at <= now || at > now.after(span))
                {
                    queue.pop_front();
                    close(id);
                }
            }
        }
    }

    /// Leads a connection to where it is refused in its protocol; whether that was asked for and
    /// possible.
    pub fn refuse(id: u32, reason: Reason, guarded: &Guarded) -> bool {
        let Some(rule) = guarded.guard().map(|guard| &guard.rule) else {
            return false;
        };
        let TcpReject::Protocol { cluster } = &rule.reject.tcp else {
            return false;
        };
        let begun = vm::with(|vm| {
            let now = host::now();
            if !vm.refusals.begin(StreamId(id), now) {
                vm.fault(id, Fault::RefusalsFull);
                return false;
            }
            if host::choose_cluster(cluster).is_err() {
                vm.refusals.forget(StreamId(id));
                vm.fault(id, Fault::HostCallFailed);
                return false;
            }
            if let Some(stream) = vm.stream(id) {
                stream.refusal = Some(Refusal {
                    protocol: rule.protocol,
                    reason,
                    turned_out: false,
                    answered: false,
                });
            }
            true
        });
        begun == Some(true)
    }

    /// What happens to bytes that pass.
    enum Pass {
        /// They are left alone.
        Unchanged,
        /// They are kept until more come.
        Wait,
        /// They are replaced by these.
        Replaced(Vec<u8>),
        /// They are dropped, and the connection is closed.
        Close,
    }

    /// The client sent something.
    pub fn on_downstream_data(id: u32, size: usize, end_of_stream: bool) -> Action {
        let pass = vm::with(|vm| {
            let Some(stream) = vm.stream(id) else {
                return Pass::Unchanged;
            };
            let Some(refusal) = stream.refusal else {
                let held = stream
                    .guarded
                    .as_ref()
                    .is_some_and(|guarded| guarded.place == Place::Waiting);
                if held || stream.kept.is_some() {
                    return Pass::Wait;
                }
                if !stream.introduced && introduce(vm, id) {
                    return turn_out(vm, id);
                }
                return Pass::Unchanged;
            };
            if end_of_stream && size == 0 {
                vm.refusals.close_next(StreamId(id));
                return Pass::Unchanged;
            }
            if refusal.answered || refusal.is_from_upstream() {
                return Pass::Replaced(Vec::new());
            }
            let bytes = host::buffer(Buffer::Downstream, postgres::MAX_FIRST);
            match postgres::First::read(&bytes) {
                postgres::First::Incomplete => Pass::Wait,
                postgres::First::EncryptionRequest => {
                    Pass::Replaced(postgres::NO_ENCRYPTION.to_vec())
                }
                postgres::First::Startup => {
                    if let Some(refusal) = vm.stream(id).and_then(|s| s.refusal.as_mut()) {
                        refusal.answered = true;
                    }
                    let now = host::now();
                    vm.refusals.answered(StreamId(id), now);
                    Pass::Replaced(postgres::error(message(refusal.reason), HINT))
                }
                postgres::First::Cancel | postgres::First::Foreign => {
                    vm.refusals.close_next(StreamId(id));
                    Pass::Replaced(Vec::new())
                }
            }
        });
        carry_out(id, Buffer::Downstream, pass)
    }

    /// The upstream sent something.
    pub fn on_upstream_data(id: u32, size: usize, _end_of_stream: bool) -> Action {
        let pass = vm::with(|vm| {
            let Some(stream) = vm.stream(id) else {
                return Pass::Unchanged;
            };
            let Some(refusal) = stream.refusal.as_mut() else {
                if size > 0 && !core::mem::replace(&mut stream.answered, true) {
                    first_answer(vm, id);
                }
                return Pass::Unchanged;
            };
            if !refusal.is_from_upstream() || size == 0 {
                return Pass::Unchanged;
            }
            if core::mem::replace(&mut refusal.answered, true) {
                return Pass::Replaced(Vec::new());
            }
            let Refusal {
                protocol, reason, ..
            } = *refusal;
            let now = host::now();
            vm.refusals.answered(StreamId(id), now);
            Pass::Replaced(match protocol {
                Protocol::Postgres => postgres::error(message(reason), HINT),
                Protocol::Mysql | Protocol::Tcp => mysql::error(message(reason)),
            })
        });
        carry_out(id, Buffer::Upstream, pass)
    }

    /// Refuses a client that has just said who it is, and whose connection leads to its database.
    ///
    /// The database is asked instead whether it encrypts, and not what the client has asked already:
    /// that costs it nothing and leaves no line in its log. Its answer is replaced by the refusal.
    fn turn_out(vm: &mut vm::Vm, id: u32) -> Pass {
        let Some(stream) = vm.stream(id) else {
            return Pass::Close;
        };
        let rule = stream.guarded.as_ref().and_then(Guarded::guard);
        let speaks = rule.is_some_and(|guard| {
            matches!(guard.rule.reject.tcp, TcpReject::Protocol { .. })
                && guard.rule.protocol == Protocol::Postgres
        });
        if !speaks {
            return Pass::Close;
        }
        let question = if stream.asked_for_tls {
            postgres::ASKS_FOR_GSSAPI
        } else {
            postgres::ASKS_FOR_TLS
        };
        stream.refusal = Some(Refusal {
            protocol: Protocol::Postgres,
            reason: Reason::HotCaller,
            turned_out: true,
            answered: false,
        });
        if !vm.refusals.begin(StreamId(id), host::now()) {
            vm.fault(id, Fault::RefusalsFull);
            return Pass::Close;
        }
        Pass::Replaced(question.to_vec())
    }

    /// Looks into what a client says first, where that says who it is; whether it is turned out.
    fn introduce(vm: &mut vm::Vm, id: u32) -> bool {
        let Some(stream) = vm.stream(id) else {
            return false;
        };
        let key = stream
            .guarded
            .as_ref()
            .and_then(Guarded::guard)
            .map(|guard| &guard.rule.key);
        let Some(Key::Postgres(name)) = key else {
            stream.introduced = true;
            return false;
        };
        let name = *name;
        let bytes = host::buffer(Buffer::Downstream, postgres::MAX_FIRST);
        match postgres::First::read(&bytes) {
            // It asks something before, and says it then; or in plain text never.
            postgres::First::EncryptionRequest => {
                stream.asked_for_tls |= bytes == postgres::ASKS_FOR_TLS;
                false
            }
            postgres::First::Startup => {
                stream.introduced = true;
                let caller = postgres::parameter(&bytes, name).unwrap_or_default();
                vm.on_introduced(id, caller)
            }
            // Split over two pieces of data: rare, and not worth holding it up for.
            postgres::First::Incomplete | postgres::First::Cancel | postgres::First::Foreign => {
                stream.introduced = true;
                false
            }
        }
    }

    /// The upstream has spoken for the first time on a connection that was let through.
    fn first_answer(vm: &mut vm::Vm, id: u32) {
        vm.on_answered(id);
        let protocol = vm
            .stream(id)
            .and_then(|stream| stream.guarded.as_ref()?.guard())
            .map(|guard| guard.rule.protocol);
        let refused = match protocol {
            Some(Protocol::Postgres) => {
                postgres::is_too_many(&host::buffer(Buffer::Upstream, postgres::ERROR_HEAD))
            }
            Some(Protocol::Mysql) => {
                mysql::is_too_many(&host::buffer(Buffer::Upstream, mysql::ERROR_HEAD))
            }
            Some(Protocol::Tcp) | None => false,
        };
        if refused {
            vm.on_refused(id);
        }
    }

    fn carry_out(id: u32, buffer: Buffer, pass: Option<Pass>) -> Action {
        match pass {
            None | Some(Pass::Unchanged) => Action::Continue,
            Some(Pass::Wait) => Action::Pause,
            Some(Pass::Close) => {
                super::close(id);
                Action::Pause
            }
            Some(Pass::Replaced(bytes)) => {
                if host::replace_buffer(buffer, &bytes).is_err() {
                    vm::with(|vm| {
                        vm.fault(id, Fault::HostCallFailed);
                        vm.refusals.close_next(StreamId(id));
                    });
                    // What could not be replaced must not pass.
                    return Action::Pause;
                }
                Action::Continue
            }
        }
    }
}
