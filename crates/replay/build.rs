//! Gives the program all its memory at the start when it is made for WebAssembly: Node 20 was seen to crash in its garbage
//! collector while the memory grew.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "wasm32") {
        println!("cargo:rustc-link-arg-bins=--initial-memory={}", 256 * 1024 * 1024);
    }
}
