// What the tests of the engine share: an engine over the fake, started and open.

import { checkConfig } from "../src/config.ts";
import { Engine } from "../src/engine.ts";
import type { ErrorCode } from "../src/errors.ts";
import type { SyncEngineConfig } from "../src/types.ts";
import { FakeWorld } from "./fake_raw.ts";

/** The schema of the tests. */
export interface Todos {
  todo: { title: string; done?: boolean; owner?: string };
  note: { text: string };
}

export interface Harness {
  readonly world: FakeWorld;
  readonly engine: Engine<Todos>;
}

export const ALICE = { user_id: "alice", tenant_id: null };
export const BOB = { user_id: "bob", tenant_id: null };

/** What `assert.rejects` and `assert.throws` expect of our error with this code. */
export function code(wanted: ErrorCode): { name: string; code: ErrorCode } {
  return { name: "SynclineError", code: wanted };
}

/** A world in which this device has seen both tokens before. */
export function known(): FakeWorld {
  const world = new FakeWorld();
  world.known.set("a", ALICE).set("b", BOB);
  world.disks.set("alice", new Map([["todo/a1", { id: "a1", title: "of alice" }]]));
  world.disks.set("bob", new Map([["todo/b1", { id: "b1", title: "of bob" }]]));
  return world;
}

/** An engine that was not started. */
export function make(config: SyncEngineConfig = {}, world: FakeWorld = new FakeWorld()): Harness {
  const settings = checkConfig({ baseUrl: "http://server.test", ...config });
  return { world, engine: new Engine<Todos>(settings, () => Promise.resolve(world.module)) };
}

/** An engine that is open. */
export async function started(config: SyncEngineConfig = {}): Promise<Harness> {
  const harness = make(config);
  await harness.engine.start();
  return harness;
}

/** Lets everything that is ready to run do so. */
export function settle(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
