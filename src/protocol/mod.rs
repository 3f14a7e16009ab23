//! The few messages of client protocols that a refusal needs: bytes in, values out.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod http;
pub mod mysql;
pub mod postgres;
