// What the tests of the engine share: an engine over the fake, started and open.

import { checkConfig } from "../src/config.ts";
import { Engine } from "../src/engine.ts";
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
