//! The few messages of client protocols that a refusal needs, and the texts that say who comes:
//! bytes in, values out.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod address;
pub mod http;
pub mod mysql;
pub mod postgres;
