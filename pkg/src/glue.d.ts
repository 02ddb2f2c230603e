// The script that wasm-bindgen generates beside the module; `package.json` says where it is.
declare module "#wasm-glue" {
  export const RawEngine: import("./raw.ts").RawModule["RawEngine"];
  export const tokenHash: import("./raw.ts").RawModule["tokenHash"];
  /** Instantiates the module; every further call gives the same instance. */
  export default function instantiate(options: { module_or_path: WebAssembly.Module }): Promise<unknown>;
}
