// What the server holds, asked of its REST query and not of any replica.

import { now, printOf } from "../lives.ts";
import { uncutFetch } from "./cable.ts";
import type { ServerBooks } from "./ledger.ts";

/** All messages of a channel, or `null` when the server did not answer. */
export async function askServer(token: string, channel: string): Promise<ServerBooks | null> {
  const askedAt = now();
  try {
    const response = await uncutFetch("/api/query/messages", {
      method: "POST",
      headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
      body: JSON.stringify({ channel_id: channel }),
      signal: AbortSignal.timeout(ANSWER_MS_MAX),
    });
    const rows: unknown = response.ok ? await response.json() : null;
    if (!Array.isArray(rows)) return null;
    return {
      askedAt,
      rows: rows.map((row: Record<string, unknown>) => ({
        id: String(row.id),
        print: printOf(String(row.author_id), String(row.sent_at), String(row.body)),
      })),
    };
  } catch {
    return null;
  }
}

const ANSWER_MS_MAX = 4_000;
