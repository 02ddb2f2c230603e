// The script that wasm-bindgen generates beside the module; `package.json` says where it is.
declare module "#wasm-glue" {
  /** Makes an engine of `RawOptions` as JSON. */
  export const RawEngine: new (
    optionsJson: string,
    onEvents: import("./raw.ts").OnEvents,
    disk: import("./raw.ts").Disk,
  ) => import("./raw.ts").RawEngine;
  export const tokenHash: import("./raw.ts").RawModule["tokenHash"];
  export const recallIdentity: import("./raw.ts").RawModule["recallIdentity"];
  export const forgetIdentity: import("./raw.ts").RawModule["forgetIdentity"];
  /** Tells all engines, and lets go of what they hold. */
  export function brokeDown(message: string): void;
  /** Puts a new instance of the module in place of the present one, whose engines are of no use then. */
  export function __wbg_reset_state(): void;
  /** Instantiates the module; every further call gives the same instance. */
  export function initSync(options: { module: WebAssembly.Module }): unknown;
}
