// Loading the WebAssembly module: once for the page, from wherever the application says.

import {
  brokeDown,
  forgetIdentity,
  RawEngine as GlueEngine,
  initSync as instantiateGlue,
  recallIdentity,
  __wbg_reset_state as resetGlue,
  tokenHash,
} from "#wasm-glue";
import { SynclineError } from "./errors.ts";
import type { OnEvents, RawEngine as RawEngineMethods, RawModule, RawOptions } from "./raw.ts";
import type { WasmSource } from "./types.ts";

let loading: Promise<RawModule> | undefined;

/**
 * Loads the WebAssembly module. `start()` does it too; call this to load earlier or from another place.
 *
 * The first call decides the source, later ones wait for the same module. After a failure the next call tries again.
 */
export async function init(source?: WasmSource): Promise<void> {
  await loadModule(source);
}

/** As `init`, and gives what the module exports. */
export function loadModule(source: WasmSource | undefined): Promise<RawModule> {
  loading ??= instantiate(source).catch((error: unknown) => {
    loading = undefined;
    throw error;
  });
  return loading;
}

async function instantiate(source: WasmSource | undefined): Promise<RawModule> {
  try {
    instantiateGlue({ module: await compile(source ?? defaultUrl()) });
    watchCalls();
    return { RawEngine, tokenHash, recallIdentity, forgetIdentity, renew };
  } catch (error) {
    if (error instanceof SynclineError) throw error;
    throw failure(`the WebAssembly module could not be started: ${text(error)}`, { cause: error });
  }
}

/** How often the module was instantiated anew. An engine is of no use but on its own instance. */
let renewals = 0;

/** Options cross as text, like everything else; times are whole there. */
class RawEngine extends GlueEngine {
  readonly instance: number = renewals;

  constructor(options: RawOptions, onEvents: OnEvents) {
    const reconnectMs = Math.min(Math.ceil(options.reconnectMs), Number.MAX_SAFE_INTEGER);
    super(JSON.stringify({ ...options, reconnectMs, disk: undefined }), onEvents, options.disk);
  }
}

function renew(broken: RawEngineMethods): void {
  if ((broken as RawEngine).instance !== renewals) return;
  renewals += 1;
  fallen = undefined;
  resetGlue();
}

/** What a call threw that was no refusal, until the engines were told. */
let fallen: { readonly thrown: unknown } | undefined;

/**
 * Has every call look after its end. A refusal has a code; whatever else is thrown is a trap, a stack that overflowed or a
 * memory that is full, and the instance is not to be used again: half-changed values stay.
 */
function watchCalls(): void {
  const methods = GlueEngine.prototype as unknown as Record<string, (...args: unknown[]) => unknown>;
  for (const name of Object.getOwnPropertyNames(methods)) {
    const call = methods[name];
    if (name === "constructor" || call === undefined) continue;
    methods[name] = function (this: RawEngine, ...args) {
      const isCurrent = this.instance === renewals;
      // Its memory went with its instance.
      if (name === "free" && !isCurrent) return undefined;
      if (isCurrent) tellFallen();
      try {
        return call.apply(this, args);
      } catch (thrown) {
        if (isCurrent && (thrown as { readonly code?: unknown } | undefined)?.code === undefined) {
          // Noted without a call: there may be no stack left for one. The next call tells then.
          fallen = { thrown };
          tellFallen();
        }
        throw thrown;
      }
    };
  }
}

function tellFallen(): void {
  if (fallen === undefined) return;
  const { thrown } = fallen;
  brokeDown(text(thrown));
  fallen = undefined;
  throw thrown;
}

/** Bundlers find the file by this pattern and put it where the page can load it. */
function defaultUrl(): URL {
  return new URL("../wasm/syncline_web_bg.wasm", import.meta.url);
}

/** Gives the compiled module for any source. */
export async function compile(source: WasmSource): Promise<WebAssembly.Module> {
  if (source instanceof WebAssembly.Module) return source;
  // The type of a module is empty, so the check above leaves nothing that TypeScript could tell apart.
  const { bytes, from } = await read(source as ReadableSource);
  checkBytes(bytes, from);
  return WebAssembly.compile(bytes);
}

type ReadableSource = string | URL | Request | Response | BufferSource;

interface Loaded {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** For messages. */
  readonly from: string;
}

async function read(source: ReadableSource): Promise<Loaded> {
  if (source instanceof ArrayBuffer) return { bytes: new Uint8Array(source), from: "the given bytes" };
  if (ArrayBuffer.isView(source)) {
    const bytes = new Uint8Array(source.byteLength);
    bytes.set(new Uint8Array(source.buffer, source.byteOffset, source.byteLength));
    return { bytes, from: "the given bytes" };
  }
  if (source instanceof Response) return readResponse(source);
  const address = source instanceof Request ? source.url : String(source);
  if (address.startsWith("file:")) return readFile(address);
  try {
    return await readResponse(await fetch(source));
  } catch (error) {
    if (error instanceof SynclineError) throw error;
    throw failure(`the WebAssembly module could not be fetched from ${address}: ${text(error)}`, {
      cause: error,
    });
  }
}

async function readResponse(response: Response): Promise<Loaded> {
  const from = response.url || "the given response";
  if (!response.ok) {
    throw failure(`${from} answered ${response.status} instead of the WebAssembly module`, { hint: WHERE });
  }
  return { bytes: new Uint8Array(await response.arrayBuffer()), from };
}

/** Node's `fetch` does not read files. `getBuiltinModule` keeps `node:` imports out of sight of bundlers. */
async function readFile(address: string): Promise<Loaded> {
  const files = (globalThis as { process?: NodeProcess }).process?.getBuiltinModule?.("node:fs/promises");
  if (files === undefined) {
    throw failure(`${address} is a file, which this environment cannot read`, {
      hint: "Serve the page over http, or read the file and give its bytes to init().",
    });
  }
  return { bytes: new Uint8Array(await files.readFile(new URL(address))), from: address };
}

interface NodeProcess {
  getBuiltinModule?(
    name: "node:fs/promises",
  ): { readFile(file: URL): Promise<ArrayLike<number>> } | undefined;
}

function checkBytes(bytes: Uint8Array, from: string): void {
  const start = new TextDecoder().decode(bytes.subarray(0, 64)).trimStart();
  if (start.startsWith("<")) {
    throw failure(`${from} answered with a page of HTML instead of the WebAssembly module`, { hint: WHERE });
  }
  if (bytes[0] !== 0 || !start.slice(1).startsWith("asm")) {
    throw failure(`${from} is no WebAssembly module`, { hint: WHERE });
  }
}

const WHERE =
  "Servers answer like this when the file is not where the page looks for it. Check that syncline_web_bg.wasm was copied " +
  "with the build and that no catch-all route stands before it, or name its address with init(url) or the option `wasm`.";

function failure(message: string, details: { hint?: string; cause?: unknown }): SynclineError {
  return new SynclineError("WASM_LOAD_FAILED", message, details);
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
