//! What goes wrong with the host's answers.

use proptest::prelude::*;

use crate::dice::Dice;

/// A function of the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Import {
    Log,
    GetCurrentTime,
    GetRandom,
    SetTickPeriod,
    SetEffectiveContext,
    GetProperty,
    GetHeader,
    GetBuffer,
    SetBuffer,
    GetSharedData,
    SetSharedData,
    ContinueStream,
    CloseStream,
    SendLocalResponse,
    ReplaceHeader,
    CallForeignFunction,
    DefineMetric,
    IncrementMetric,
    RecordMetric,
}

impl Import {
    pub const ALL: [Self; 19] = [
        Self::Log,
        Self::GetCurrentTime,
        Self::GetRandom,
        Self::SetTickPeriod,
        Self::SetEffectiveContext,
        Self::GetProperty,
        Self::GetHeader,
        Self::GetBuffer,
        Self::SetBuffer,
        Self::GetSharedData,
        Self::SetSharedData,
        Self::ContinueStream,
        Self::CloseStream,
        Self::SendLocalResponse,
        Self::ReplaceHeader,
        Self::CallForeignFunction,
        Self::DefineMetric,
        Self::IncrementMetric,
        Self::RecordMetric,
    ];

    /// Where the module has it from.
    pub const fn home(self) -> &'static str {
        match self {
            Self::GetRandom => "wasi_snapshot_preview1",
            _ => "env",
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Log => "proxy_log",
            Self::GetCurrentTime => "proxy_get_current_time_nanoseconds",
            Self::GetRandom => "random_get",
            Self::SetTickPeriod => "proxy_set_tick_period_milliseconds",
            Self::SetEffectiveContext => "proxy_set_effective_context",
            Self::GetProperty => "proxy_get_property",
            Self::GetHeader => "proxy_get_header_map_value",
            Self::GetBuffer => "proxy_get_buffer_bytes",
            Self::SetBuffer => "proxy_set_buffer_bytes",
            Self::GetSharedData => "proxy_get_shared_data",
            Self::SetSharedData => "proxy_set_shared_data",
            Self::ContinueStream => "proxy_continue_stream",
            Self::CloseStream => "proxy_close_stream",
            Self::SendLocalResponse => "proxy_send_local_response",
            Self::ReplaceHeader => "proxy_replace_header_map_value",
            Self::CallForeignFunction => "proxy_call_foreign_function",
            Self::DefineMetric => "proxy_define_metric",
            Self::IncrementMetric => "proxy_increment_metric",
            Self::RecordMetric => "proxy_record_metric",
        }
    }
}

/// How a host function ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    pub const OK: Self = Self(0);
    pub const NOT_FOUND: Self = Self(1);
    pub const BAD_ARGUMENT: Self = Self(2);
    pub const INVALID_MEMORY_ACCESS: Self = Self(6);
    pub const CAS_MISMATCH: Self = Self(8);
    pub const UNIMPLEMENTED: Self = Self(12);

    /// All that the ABI names, each at its number.
    pub const NAMES: [&str; 13] = [
        "Ok",
        "NotFound",
        "BadArgument",
        "SerializationFailure",
        "ParseFailure",
        "BadExpression",
        "InvalidMemoryAccess",
        "Empty",
        "CasMismatch",
        "ResultMismatch",
        "InternalFailure",
        "BrokenConnection",
        "Unimplemented",
    ];

    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::NAMES.len() as u32).map(Self)
    }
}

/// What is handed over in place of what was asked for.
#[derive(Clone, Copy, Debug)]
pub enum Instead {
    Nothing,
    /// Random bytes, so many.
    Noise(usize),
    /// More than the module takes.
    TooMuch,
    /// A length without bytes, and bytes without a length.
    NullOf(u32),
    LengthOfNone,
    /// The right bytes, of which one bit is wrong.
    OneBitOff,
    /// The first half of the right bytes.
    Half,
}

/// A megabyte.
pub const OVERSIZED: usize = 1 << 20;

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug)]
pub enum Mishap {
    /// It does nothing, and says so.
    Refused(Status),
    /// It is done, and another status is told.
    DoneBut(Status),
    /// All is well but what is handed over: bytes, a number, a version.
    Garbled(Instead),
}

/// What goes wrong with the calls of a callback.
#[derive(Clone, Debug)]
pub enum Weather {
    Fine,
    /// With every call, or every one of one import.
    All(Option<Import>, Mishap),
    /// With one call of so many, anything.
    Some {
        dice: Dice,
        odds: u64,
    },
    /// One call of so many is refused.
    Failing {
        dice: Dice,
        odds: u64,
    },
}

impl Weather {
    pub fn next(&mut self, import: Import) -> Option<Mishap> {
        match self {
            Self::Fine => None,
            Self::All(only, mishap) => only.is_none_or(|only| only == import).then_some(*mishap),
            Self::Some { dice, odds } => dice.one_in(*odds).then(|| mishap(dice)),
            Self::Failing { dice, odds } => dice
                .one_in(*odds)
                .then(|| Mishap::Refused(Status(1 + dice.below(12) as u32))),
        }
    }
}

fn mishap(dice: &mut Dice) -> Mishap {
    let status = match dice.below(20) {
        13.. => Status(dice.roll() as u32),
        named => Status(named as u32),
    };
    match dice.below(4) {
        0 => Mishap::Refused(status),
        1 => Mishap::DoneBut(status),
        _ => Mishap::Garbled(match dice.below(16) {
            0..=2 => Instead::Nothing,
            3..=7 => Instead::Noise(dice.below(300) as usize),
            8 => Instead::Noise(OVERSIZED),
            9 => Instead::TooMuch,
            10 => Instead::NullOf(dice.roll() as u32),
            11 => Instead::LengthOfNone,
            12..=13 => Instead::OneBitOff,
            _ => Instead::Half,
        }),
    }
}

/// Any weather, most of it fine.
pub fn any_weather() -> impl Strategy<Value = Weather> {
    let import = prop::option::of(prop::sample::select(&Import::ALL[..]));
    let one = (import, any::<u64>())
        .prop_map(|(import, seed)| Weather::All(import, mishap(&mut Dice::new(seed))));
    let some = (any::<u64>(), 1_u64..8).prop_map(|(seed, odds)| Weather::Some {
        dice: Dice::new(seed),
        odds,
    });
    prop_oneof![4 => Just(Weather::Fine), 2 => one, 3 => some]
}
