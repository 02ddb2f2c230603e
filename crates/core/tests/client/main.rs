//! One client against fakes of everything around it, natively and on wasm32.

#![allow(clippy::tests_outside_test_module, missing_docs, reason = "an integration test is its own test module")]

mod connection;
mod converge;
mod disk;
mod node;
mod opening;
mod random;
mod server;
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
