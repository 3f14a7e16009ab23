//! `tidegatectl`: the companion of the plugin.

fn main() {}
