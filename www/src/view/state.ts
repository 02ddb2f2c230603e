// What the views show: computed from the engine anew after every change, never kept beside it.

import type { Mutation, Status } from "syncline";
import * as chat from "../chat.ts";

export interface ChatState {
  readonly user: string;
  readonly channels: readonly chat.Channel[];
  /** What the address asks for, whether or not it is there. */
  readonly wantedChannel: string | null;
  readonly channel: chat.Channel | null;
  readonly members: readonly string[];
  readonly messages: readonly chat.Message[];
  readonly refused: readonly Mutation[];
  /** How many writes wait for a refused one. */
  waitingFor(opId: string): number;
  readonly status: Status;
}

/** A part of the page: made once, then told each new state. */
export interface View {
  readonly root: HTMLElement;
  update(state: ChatState): void;
}

/** What there is to show of one channel, which may not be there. */
export function readState(engine: chat.ChatEngine, user: string, wantedChannel: string | null): ChatState {
  const channel = wantedChannel === null ? undefined : engine.store.get("channels", wantedChannel);
  return {
    user,
    channels: chat.channels(engine),
    wantedChannel,
    channel: channel ?? null,
    members: channel === undefined ? [] : chat.members(engine, channel.id),
    messages: channel === undefined ? [] : chat.messages(engine, channel.id),
    refused: chat.refusedElsewhere(engine),
    waitingFor: (opId) => chat.waitingFor(engine, opId),
    status: engine.status,
  };
}

/** The channel's part of the address: it stays over a reload and goes with Back. */
export function addressOfChannel(channel: string): string {
  return `#${CHANNEL_PREFIX}${encodeURIComponent(channel)}`;
}

/** The channel that the address names. */
export function channelOfAddress(): string | null {
  const fragment = location.hash.slice(1);
  return fragment.startsWith(CHANNEL_PREFIX)
    ? decodeURIComponent(fragment.slice(CHANNEL_PREFIX.length))
    : null;
}

const CHANNEL_PREFIX = "channel/";
