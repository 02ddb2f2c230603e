// What compiles and what does not. Checked by `tsc`, never run.

import {
  createSyncEngine,
  type ErrorCode,
  mutationQueueListener,
  type Row,
  type Value,
  type Write,
} from "../src/index.ts";

interface Chat {
  channel: { name: string; topic?: string | null };
  message: {
    readonly channel_id: string;
    text: string;
    likes: number;
    sent_at: string;
    mood: "good" | "bad";
  };
}

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function same<_ extends true>(): void {}

const chat = createSyncEngine<Chat>("https://app.example", { appName: "chat" });

// Rows.
const message = chat.store.get("message", "m1");
same<Same<typeof message, Row<Chat, "message"> | undefined>>();
same<Same<Row<Chat, "channel">["name"], string>>();
same<Same<Row<Chat, "channel">["id"], string>>();
same<Same<Row<Chat, "channel">["topic"], string | null | undefined>>();
same<Same<Row<Chat, "message">["mood"], "good" | "bad">>();
const list: readonly Row<Chat, "message">[] = chat.store.list("message");
// @ts-expect-error: no such entity
chat.store.list("messages");
// @ts-expect-error: no such field
message?.body;
// @ts-expect-error: rows are frozen
if (message) message.text = "x";
// @ts-expect-error: lists are frozen
list.push(message);

// Writes.
const write: Write = chat.insert("message", {
  channel_id: "c",
  text: "hi",
  likes: 0,
  sent_at: new Date(),
  mood: "good",
});
const id: Promise<string> = write;
const confirmed: Promise<{ readonly seq: number }> = write.confirmed;
void chat.insert("channel", { id: "mine", name: "general", topic: undefined });
void chat.update("message", "m1", { text: "edited", likes: undefined });
void chat.update("channel", "c", { topic: null });
// @ts-expect-error: a field is missing
void chat.insert("message", { text: "hi" });
// @ts-expect-error: no such field
void chat.insert("channel", { name: "x", colour: "red" });
// @ts-expect-error: not its type
void chat.update("message", "m1", { likes: "many" });
// @ts-expect-error: a date is no number
void chat.update("message", "m1", { likes: new Date() });
// @ts-expect-error: a date is none of these texts
void chat.update("message", "m1", { mood: new Date() });
// @ts-expect-error: no such entity
void chat.delete("messages", "m1");

// Transactions.
const made: Write<readonly [string, number]> = chat.transaction((tx) => {
  const channel = tx.insert("channel", { name: "new" });
  tx.update("channel", channel, { topic: "t" });
  // @ts-expect-error: no such field
  tx.update("channel", channel, { title: "t" });
  return [channel, tx.list("message").length] as const;
});

// The queue.
mutationQueueListener(chat.mutations, ({ status, change, error }) => {
  same<Same<typeof status, "pending" | "sent" | "applied" | "failed" | "removed">>();
  const code: ErrorCode | undefined = error?.code;
  return [change.kind, change.entity, code];
});

// The status tells its cases apart.
const { connection, storage } = chat.status;
if (connection.state === "waiting") same<Same<typeof connection.retryAt, number | null>>();
// @ts-expect-error: only a connection that waits has a next try
connection.retryAt;
if (storage.kind === "memory") same<Same<typeof storage.reason, string>>();

// Without a schema any entity and field goes, and nothing is `any`.
const open = createSyncEngine({ baseUrl: "https://app.example", token: null, getToken: async () => "t" });
const value = open.store.get("anything", "x")?.field;
same<Same<typeof value, Value | undefined>>();
void open.insert("anything", { n: 1, list: [{ deep: true }], when: new Date() });
// @ts-expect-error: no value of a row
void open.insert("anything", { f: () => 1 });

// Configuration.
// @ts-expect-error: no such option
createSyncEngine("https://app.example", { colour: "red" });
// @ts-expect-error: the address is missing
createSyncEngine({ token: "t" });

export const used: readonly unknown[] = [id, confirmed, list, made];
