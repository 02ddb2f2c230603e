// Two devices, their server, and the account of what became of every message.

import { knownAccount } from "../accounts.ts";
import { send } from "../chat.ts";
import type { Lives } from "../lives.ts";
import { oncePerTurn } from "../once_per_turn.ts";
import type { Control } from "./control.ts";
import { booksOf, type Device, noteArrivals } from "./device.ts";
import { countUp, type Ledger, type ServerBooks } from "./ledger.ts";
import { askServer } from "./server_books.ts";

/** The server as this page knows it. `unknown`: nobody supervises it, so the page can only tell whether it answers. */
export type Liveness = "running" | "killed" | "starting" | "unknown";

export class Stage {
  readonly devices: readonly [Device, Device];
  readonly lives: Lives;
  readonly #control: Control | null;
  readonly #report: (problem: string) => void;
  readonly #listeners = new Set<() => void>();
  #channel: string | null = null;
  #server: Liveness = "unknown";
  #books: ServerBooks | null = null;
  #isAnswering = false;
  #isAsking = false;
  /** Whether anything happened since the server was last asked. */
  #isStale = true;
  /** Once for all that changed together. */
  readonly #tell = oncePerTurn(() => {
    for (const listener of this.#listeners) listener();
  });
  #written = 0;

  constructor(
    devices: readonly [Device, Device],
    lives: Lives,
    control: Control | null,
    report: (problem: string) => void,
  ) {
    this.#report = report;
    this.devices = devices;
    this.lives = lives;
    this.#control = control;
    for (const { engine } of devices) {
      lives.attend(engine.mutations);
      engine.store.subscribe(() => this.#changed());
      engine.mutations.subscribe(() => this.#tell());
      engine.onStatus(() => this.#tell());
    }
    for (const device of devices) noteArrivals(device, lives);
    lives.subscribe(() => this.#changed());
    setInterval(() => {
      if (this.#isStale || !this.#isAnswering) void this.#ask();
    }, ASK_EVERY_MS);
    if (control !== null) void control.running().then((running) => this.#heard(running));
  }

  get channel(): string | null {
    return this.#channel;
  }

  get server(): Liveness {
    return this.#server;
  }

  /** Whether the server answered when it was last asked for its rows. */
  get isAnswering(): boolean {
    return this.#isAnswering;
  }

  /** Whether a device keeps its writes in memory alone, where a crash loses them: a private window, for one. */
  get isInMemory(): boolean {
    return this.devices.some(({ engine }) => engine.storage.kind === "memory");
  }

  get canKill(): boolean {
    return this.#control !== null;
  }

  /** Opens the channel both devices share. */
  show(channel: string): void {
    this.#channel = channel;
    this.#tell();
    void this.#ask();
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  ledger(): Ledger {
    const channel = this.#channel ?? "";
    return countUp(
      this.lives.all(),
      this.devices.map((device) => booksOf(device, channel)),
      this.#books,
    );
  }

  /** Writes a message on a device, in anybody's name. */
  write(device: Device, author: string, body: string): void {
    if (this.#channel === null) return;
    send(device.engine, this.lives, author, this.#channel, body).catch((error: unknown) => {
      this.#report(`${capital(device.user)}’s device could not store a message: ${String(error)}`);
    });
  }

  /** Writes many messages in one turn of the event loop, each a transaction of its own. */
  writeMany(device: Device, count: number): void {
    for (let n = 0; n < count; n += 1) {
      this.#written += 1;
      this.write(device, device.user, `${capital(device.user)} № ${this.#written}`);
    }
  }

  /** Writes in the other's name, which the server's policy refuses. */
  forge(device: Device): void {
    const other = this.otherThan(device);
    this.write(device, other.user, `${capital(device.user)} wrote this in ${capital(other.user)}’s name`);
  }

  /** The device beside this one. */
  otherThan(device: Device): Device {
    const [first, second] = this.devices;
    return device === first ? second : first;
  }

  async kill(): Promise<void> {
    this.#heard((await this.#control?.kill()) ?? null);
  }

  async restart(): Promise<void> {
    this.#server = "starting";
    this.#tell();
    this.#heard((await this.#control?.start()) ?? null);
    // The engines find out by themselves within their backoff; a demo need not wait for that.
    dispatchEvent(new Event("online"));
    await this.#ask();
  }

  /** Begins to count anew: what has come to an end is forgotten, what is on its way still counts. */
  countAnew(): void {
    const isOver = this.ledger().isSettled;
    const over = this.lives.all().filter((life) => isOver || life.end === "discarded");
    this.lives.forget(over.filter((life) => life.end !== "refused").map((life) => life.id));
  }

  #heard(running: boolean | null): void {
    this.#server = running === null ? "unknown" : running ? "running" : "killed";
    this.#tell();
  }

  /** Asks the server for its rows, one call at a time, and not at all while it is known to be dead. */
  async #ask(): Promise<void> {
    const account = knownAccount(this.devices[0].user);
    const isDead = this.#server === "killed" || this.#server === "starting";
    if (isDead) this.#isAnswering = false;
    if (this.#channel === null || account === null || this.#isAsking || isDead || document.hidden) return;
    this.#isAsking = true;
    this.#isStale = false;
    const books = await askServer(account.token, this.#channel);
    this.#isAsking = false;
    this.#isAnswering = books !== null;
    this.#books = books ?? this.#books;
    this.#tell();
  }

  #changed(): void {
    this.#isStale = true;
    this.#tell();
  }
}

/** A user's name as a person writes it. */
export function capital(user: string): string {
  return user.charAt(0).toUpperCase() + user.slice(1);
}

const ASK_EVERY_MS = 1_000;
