// What compiles and what does not. Checked by `tsc`, never run.

import {
  callFn,
  createSyncEngine,
  createWriteThroughStorage,
  defaultStorage,
  type ErrorCode,
  fetchList,
  getServerData,
  insert,
  mutationQueueListener,
  type Row,
  type SynclineError,
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
  // What failed has a reason, and nothing else has.
  if (status === "failed") same<Same<typeof error, SynclineError>>();
  else same<Same<typeof error, null>>();
  return [change.kind, change.entity, code];
});
chat.mutations.subscribe((transition) => {
  if (transition.status === "removed") same<Same<typeof transition.replacedBy, string | null>>();
  // @ts-expect-error: what failed was not replaced
  if (transition.status === "failed") transition.replacedBy;
});
const shorter: Write = chat.mutations.edit("op", (changes) =>
  changes.map((change) => ({ ...change, data: { ...change.data, text: "short" } })),
);
void chat.mutations.edit("op", [{ entity: "message", rowId: "m1", kind: "delete" }]);
// @ts-expect-error: a patch alone does not say which row
void chat.mutations.edit("op", { text: "short" });
// @ts-expect-error: no such kind of change
void chat.mutations.edit("op", [{ entity: "message", rowId: "m1", kind: "upsert" }]);
same<Same<typeof chat.mutations.hasPending, boolean>>();
same<Same<ReturnType<typeof chat.mutations.settled>, Promise<void>>>();
chat.mutations.onRollback(({ mutation, error, rows }) => {
  same<Same<typeof error, SynclineError>>();
  const title: Value | undefined = rows[0]?.row?.title;
  return [mutation.opId, title];
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

// Updates made from the row.
void chat.update("message", "m1", (row) => ({ likes: row.likes + 1 }));
// @ts-expect-error: no such field in the row
void chat.update("message", "m1", (row) => ({ likes: row.stars }));
// @ts-expect-error: no such field in the patch
void chat.update("message", "m1", () => ({ stars: 1 }));
// @ts-expect-error: an async function makes no patch
void chat.update("message", "m1", async () => ({ likes: 1 }));

// Pages.
const pages = chat.createInfiniteQuery("message", {
  pageSize: 20,
  filter: (row) => row.likes > 1,
  order: (left, right) => right.likes - left.likes,
});
same<Same<typeof pages.data, readonly Row<Chat, "message">[]>>();
// @ts-expect-error: no such entity
chat.createInfiniteQuery("messages");
// @ts-expect-error: no such field
chat.createInfiniteQuery("channel", { filter: (row) => row.likes > 1 });

// Server rendering.
const data = await getServerData<Chat>("https://app.example", ["channel"], { token: "t" });
chat.hydrate(data);
same<Same<typeof data.rows.channel, readonly Row<Chat, "channel">[] | undefined>>();
// @ts-expect-error: no such entity
void getServerData<Chat>("https://app.example", ["channels"]);
// @ts-expect-error: rows alone say not whose they are
chat.hydrate({ rows: {} });

// Looking inside.
const inside = await chat.inspect();
same<Same<typeof inside.rows.message, readonly Row<Chat, "message">[] | undefined>>();
void chat.export().then((file: Blob) => file.size);

// Sessions.
void chat.signOut({ unsent: "discard" });
// @ts-expect-error: nothing else can become of them
void chat.signOut({ unsent: "sell" });

// Direct calls.
const todos = await fetchList<{ title: string }>("https://app.example", "todo", { order: { title: "asc" } });
same<Same<(typeof todos)[number]["title"], string>>();
const sum = await callFn<number>("https://app.example", "sum", { a: 1 }, { token: null });
same<Same<typeof sum, number>>();
void insert<{ title: string }>("https://app.example", "todo", { title: "x" });
// @ts-expect-error: not its type
void insert<{ title: string }>("https://app.example", "todo", { title: 1 });

// Storage for the token.
createSyncEngine("https://app.example", { storage: defaultStorage() });
createSyncEngine("https://app.example", {
  storage: createWriteThroughStorage({ syncline_token: "t" }, async (key, value) => [key, value]),
});

// Configuration.
createSyncEngine("https://app.example", { persistence: "memory", pollInterval: 1000 });
createSyncEngine("https://app.example", {
  persistence: { open: (_name: string) => ({ read: () => new Map(), commit: async () => {}, close() {} }) },
});
// @ts-expect-error: it opens nothing
createSyncEngine("https://app.example", { persistence: { open: () => ({}) } });
// @ts-expect-error: no such place
createSyncEngine("https://app.example", { persistence: "floppy" });
// @ts-expect-error: no such transport
createSyncEngine("https://app.example", { transport: "pigeon" });
// @ts-expect-error: no such option
createSyncEngine("https://app.example", { colour: "red" });
// @ts-expect-error: the address is missing
createSyncEngine({ token: "t" });

export const used: readonly unknown[] = [id, confirmed, list, made, shorter];
