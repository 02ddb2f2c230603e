// Another client of the same server: its rows reach the browser through the stream, while the browser writes its own.

const PAUSE_MS = 25;
const CHANGES_MAX = 4;
const BATCH = 50;

/** Inserts, updates and deletes rows of `feed` until it is stopped. */
export class OtherClient {
  #url;
  #token;
  #random;
  #rows = [];
  #next = 0;
  #isStopped = false;
  #running;

  constructor(url, token, random) {
    this.#url = url;
    this.#token = token;
    this.#random = random;
  }

  start() {
    this.#isStopped = false;
    this.#running = this.#run();
    // Whoever stops it hears of a failure.
    this.#running.catch(() => {});
  }

  async stop() {
    this.#isStopped = true;
    await this.#running;
  }

  async #run() {
    while (!this.#isStopped) {
      const changes = Array.from({ length: 1 + Math.floor(this.#random() * CHANGES_MAX) }, () =>
        this.#change(),
      );
      await pushAll(this.#url, this.#token, changes);
      await new Promise((resolve) => setTimeout(resolve, this.#random() * 2 * PAUSE_MS));
    }
  }

  #change() {
    const choice = this.#random();
    const at = Math.floor(this.#random() * this.#rows.length);
    if (choice < 0.5 || this.#rows.length === 0) {
      const row = { entity: "feed", row_id: `feed-${this.#next++}`, n: 0 };
      this.#rows.push(row);
      return {
        entity: row.entity,
        row_id: row.row_id,
        kind: "insert",
        data: { n: 0, body: "x".repeat(200) },
      };
    }
    const row = this.#rows[at];
    if (choice < 0.9) {
      row.n += 1;
      return { entity: row.entity, row_id: row.row_id, kind: "update", data: { n: row.n } };
    }
    this.#rows.splice(at, 1);
    return { entity: row.entity, row_id: row.row_id, kind: "delete" };
  }
}

async function pushAll(url, token, changes) {
  const answer = await fetch(`${url}/api/sync/push`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
    body: JSON.stringify({ changes, client_id: "other" }),
  });
  const body = await answer.text();
  if (!answer.ok || JSON.parse(body).applied !== changes.length) {
    throw new Error(`the other client's push was answered ${answer.status} ${body.slice(0, 500)}`);
  }
}

/** Reads the whole log of the server. */
export async function logOf(url, token) {
  const changes = [];
  for (let since = 0; ; ) {
    const answer = await fetch(`${url}/api/sync/pull?since=${since}`, {
      headers: { Authorization: `Bearer ${token}` },
    });
    if (!answer.ok) throw new Error(`the log was answered ${answer.status} ${await answer.text()}`);
    const page = await answer.json();
    changes.push(...page.changes);
    if (!page.has_more) return changes;
    since = page.cursor.last_seq;
  }
}

/** Gives the server rows of `feed` that a replica needs a while to fetch. */
export async function prefill(url, token, count) {
  for (let first = 0; first < count; first += BATCH) {
    const changes = Array.from({ length: Math.min(BATCH, count - first) }, (_, index) => ({
      entity: "feed",
      row_id: `old-${first + index}`,
      kind: "insert",
      data: { n: 0, body: "y".repeat(200) },
    }));
    await pushAll(url, token, changes);
  }
}
