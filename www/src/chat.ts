// The chat's data: what it holds, how it is read, and every write there is.

import {
  createSyncEngine,
  type Mutation,
  type MutationStatus,
  type Row,
  type SyncEngine,
  type Write,
} from "syncline";
import { type Account, signIn } from "./accounts.ts";
import { type Lives, printOf } from "./lives.ts";

/** The entities of syncline.toml. Times are ISO-8601 texts. A type, not an interface, so that it counts as plain data. */
export type ChatSchema = {
  channels: { name: string; created_by: string; created_at: string };
  channel_members: { channel_id: string; member_id: string; added_at: string };
  messages: { channel_id: string; author_id: string; body: string; sent_at: string };
};

export type ChatEngine = SyncEngine<ChatSchema>;
export type Channel = Row<ChatSchema, "channels">;

/** A message on the screen: of the store, or one that the server refused and that its author has not decided about. */
export interface Message {
  readonly id: string;
  readonly author: string;
  readonly body: string;
  readonly sentAt: string;
  readonly delivery: Delivery;
}

/** How far a message has come. One that came from the server is `confirmed`. */
export type Delivery =
  | { readonly state: "local" | "sent" | "confirmed" }
  | { readonly state: "refused"; readonly reason: string; readonly opId: string };

/** What a page with more than one device says about each. */
export interface EngineOptions {
  /** Names a database of its own: another device of the same user. */
  readonly appName?: string;
  readonly getToken?: () => Promise<string>;
}

/** Makes the engine of one user. Nothing is read or sent before `start()`. */
export function createChatEngine(account: Account, options: EngineOptions = {}): ChatEngine {
  return createSyncEngine<ChatSchema>(location.origin, {
    appName: options.appName ?? "chat",
    token: account.token,
    // The token may have expired, or the server may have a new database: this server gives sessions for the asking.
    getToken: options.getToken ?? (async () => (await signIn(account.user)).token),
  });
}

/** Creates a channel together with its members. Returns its id. */
export function createChannel(
  engine: ChatEngine,
  user: string,
  name: string,
  others: readonly string[],
): Write<string> {
  const now = new Date();
  return engine.transaction((tx) => {
    const channel = tx.insert("channels", { name, created_by: user, created_at: now });
    for (const member of new Set([user, ...others])) {
      tx.insert("channel_members", { channel_id: channel, member_id: member, added_at: now });
    }
    return channel;
  });
}

/** Lets a user see a channel, its old messages included. */
export function invite(engine: ChatEngine, channel: string, member: string): Write {
  return engine.insert("channel_members", { channel_id: channel, member_id: member, added_at: new Date() });
}

/** Takes a user out of a channel, also if two people invited them at the same time. */
export function removeMember(engine: ChatEngine, channel: string, member: string): Write<void> {
  return engine.transaction((tx) => {
    for (const row of tx.list("channel_members")) {
      if (row.channel_id === channel && row.member_id === member) tx.delete("channel_members", row.id);
    }
  });
}

/** Writes a message and notes its life. The server refuses one whose `author` is not who writes it. */
export function send(engine: ChatEngine, lives: Lives, author: string, channel: string, body: string): Write {
  const sentAt = new Date();
  const write = engine.insert("messages", { channel_id: channel, author_id: author, body, sent_at: sentAt });
  lives.follow(author, printOf(author, sentAt.toISOString(), body), write);
  return write;
}

/** Writes a refused transaction once more; if it is a message, its life begins anew. */
export function retry(engine: ChatEngine, lives: Lives, opId: string): Write {
  const refused = engine.mutations.list().find((mutation) => mutation.opId === opId);
  const life = lives.get(refused?.changes[0]?.rowId ?? "");
  const write = engine.mutations.retry(opId);
  if (life !== undefined) lives.follow(life.author, life.print, write);
  return write;
}

/** The channels this user is in, by name. */
export function channels(engine: ChatEngine): readonly Channel[] {
  return [...engine.store.list("channels")].sort(
    (a, b) => a.name.localeCompare(b.name) || (a.id < b.id ? -1 : 1),
  );
}

/** The users of a channel, in order of their names. */
export function members(engine: ChatEngine, channel: string): readonly string[] {
  const rows = engine.store.list("channel_members").filter((row) => row.channel_id === channel);
  return [...new Set(rows.map((row) => row.member_id))].sort();
}

/**
 * The messages of a channel in order of their ids. The id is a UUID of version 7, which begins with the time of writing: so
 * every window shows the same order whenever and from whomever the messages reached it, each author's own order is kept,
 * and a message written offline stands where it was written. The list comes from the store in this order already.
 */
export function messages(engine: ChatEngine, channel: string): readonly Message[] {
  const queue = engine.mutations.list();
  const states = new Map(
    queue.flatMap((mutation) => mutation.changes.map((change) => [change.rowId, mutation.status])),
  );
  const stored = engine.store
    .list("messages")
    .filter((row) => row.channel_id === channel)
    .map(
      (row) =>
        ({
          id: row.id,
          author: row.author_id,
          body: row.body,
          sentAt: row.sent_at,
          delivery: { state: deliveryState(states.get(row.id)) },
        }) satisfies Message,
    );
  const refused = queue.flatMap((mutation) => refusedMessage(mutation, channel) ?? []);
  if (refused.length === 0) return stored;
  return [...stored, ...refused].sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** Refused transactions other than messages of a channel that is still there: those are shown in place. */
export function refusedElsewhere(engine: ChatEngine): readonly Mutation[] {
  return engine.mutations.list().filter((mutation) => {
    if (mutation.status !== "failed") return false;
    const channel = channelOfMessage(mutation);
    return channel === null || engine.store.get("channels", channel) === undefined;
  });
}

/** How many writes wait until it is decided what becomes of a refused one. */
export function waitingFor(engine: ChatEngine, opId: string): number {
  return engine.mutations.list().filter(({ waitingOn }) => waitingOn.includes(opId)).length;
}

/** What a transaction was about, in words. */
export function describeMutation(mutation: Mutation): string {
  const [first] = mutation.changes;
  const text = (field: string): string => String(first?.data?.[field] ?? "");
  if (first?.entity === "channels") return `Creating the channel “${text("name")}”`;
  if (first?.entity === "messages") return `Message “${text("body")}”`;
  return first?.kind === "delete" ? "Removing a member" : `Inviting ${text("member_id")}`;
}

function deliveryState(status: MutationStatus | undefined): "local" | "sent" | "confirmed" {
  if (status === "pending") return "local";
  return status === "sent" ? "sent" : "confirmed";
}

function refusedMessage(mutation: Mutation, channel: string): Message | null {
  if (mutation.status !== "failed" || channelOfMessage(mutation) !== channel) return null;
  const [change] = mutation.changes;
  if (change === undefined) return null;
  const reason = mutation.error?.message ?? "no reason given";
  return {
    id: change.rowId,
    author: String(change.data?.author_id),
    body: String(change.data?.body),
    sentAt: String(change.data?.sent_at),
    delivery: { state: "refused", reason, opId: mutation.opId },
  };
}

function channelOfMessage(mutation: Mutation): string | null {
  const [change] = mutation.changes;
  return change?.entity === "messages" && change.kind === "insert" ? String(change.data?.channel_id) : null;
}
