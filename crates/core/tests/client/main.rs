//! One client against fakes of everything around it, natively and on wasm32.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "clippy's settings for tests reach only functions marked as tests"
)]

mod adopt;
mod connection;
mod converge;
mod disk;
mod folding;
mod followers;
mod held;
mod node;
mod opening;
mod pushing;
mod random;
mod recovery;
mod script;
mod server;
mod tabs;
mod two_servers;
mod visibility;
mod writes;

/// Declares tests that run natively and, with the same body, in a browser or Node.
macro_rules! tests {
    ($(fn $name:ident() $body:block)*) => {
        $(
            #[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
            #[cfg_attr(not(target_arch = "wasm32"), test)]
            fn $name() $body
        )*
    };
}
pub(crate) use tests;
