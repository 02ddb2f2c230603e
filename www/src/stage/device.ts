// One device of the page that shows two: a user with an engine, a database and a network cable of its own.

import { type Account, knownAccount, signIn } from "../accounts.ts";
import { type ChatEngine, createChannel, createChatEngine } from "../chat.ts";
import type { Lives } from "../lives.ts";
import { printOf } from "../lives.ts";
import { Cable } from "./cable.ts";
import type { DeviceBooks } from "./ledger.ts";

export interface Device {
  readonly user: string;
  readonly engine: ChatEngine;
  readonly cable: Cable;
}

/** Makes the device of one user; the `place` tells its database from those of other devices and windows of that user. */
export async function openDevice(user: string, place: number): Promise<Device> {
  const account: Account = knownAccount(user) ?? (await signIn(user));
  const cable = new Cable();
  cable.carry(account.token);
  const engine = createChatEngine(account, {
    appName: `chat-device-${place}`,
    getToken: async () => {
      if (cable.isCut) throw new Error("the network of this device is cut");
      const { token } = await signIn(user);
      cable.carry(token);
      return token;
    },
  });
  return { user, engine, cable };
}

/** Cuts or mends the network of one device. */
export function setCut(device: Device, cut: boolean): void {
  if (cut) device.cable.cut();
  else device.cable.mend();
}

/** The channel that both devices are in: the first device makes it, once for ever. */
export async function sharedChannel(first: Device, others: readonly string[]): Promise<string> {
  await first.engine.synced();
  const mine = first.engine.store.list("channels").filter((channel) => channel.name === CHANNEL_NAME);
  const own = mine.find((channel) => channel.created_by === first.user);
  return own?.id ?? createChannel(first.engine, first.user, CHANNEL_NAME, others).id;
}

/** What this device holds of a channel, for the ledger. */
export function booksOf({ user, engine }: Device, channel: string): DeviceBooks {
  const rows = engine.store
    .list("messages")
    .filter((row) => row.channel_id === channel)
    .map((row) => ({ id: row.id, print: printOf(row.author_id, row.sent_at, row.body) }));
  const waiting = new Set<string>();
  const refused = new Set<string>();
  for (const mutation of engine.mutations.list()) {
    const held = mutation.status === "failed" ? refused : waiting;
    for (const change of mutation.changes) held.add(change.rowId);
  }
  return { user, rows, waiting, refused };
}

/** Notes when messages of others are on this device's screen. */
export function noteArrivals({ user, engine }: Device, lives: Lives): void {
  engine.store.subscribe(() => {
    for (const { id, author, arrivedAt } of lives.all()) {
      const isAwaited = arrivedAt === null && author !== user;
      if (isAwaited && engine.store.get("messages", id) !== undefined) lives.arrived(id);
    }
  });
}

const CHANNEL_NAME = "two devices";
