/**
 * Serves the page, its script, style and wasm when the server cannot be reached. It knows nothing of the chat's data:
 * that is the engine's, and no request to the server's API passes through here.
 */

declare const self: ServiceWorkerGlobalScope;

export {};

/** Set by service_worker.config.mjs: the hash of everything below, and every file of the page, its content's hash in its name. */
declare const BUILD: string;
declare const FILES: readonly string[];

const CACHE = `syncline-chat-${BUILD}`;
const PAGE = "./";
/** A network that accepts connections and then says nothing must not keep the page from opening. */
const PAGE_WAIT_MS = 2_000;

self.addEventListener("install", (event) => {
  event.waitUntil(precache());
});

self.addEventListener("activate", (event) => {
  event.waitUntil(takeOver());
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== self.location.origin) return;
  if (request.mode === "navigate") {
    if (url.pathname === new URL(PAGE, self.location.href).pathname) event.respondWith(page(event));
    return;
  }
  if (FILES.some((file) => new URL(file, self.location.href).pathname === url.pathname)) {
    event.respondWith(file(request));
  }
});

async function precache(): Promise<void> {
  const cache = await caches.open(CACHE);
  // Past the browser's own cache, which might hold a page from before this build.
  await cache.addAll([PAGE, ...FILES].map((path) => new Request(path, { cache: "reload" })));
  // An open page has loaded all its files already, so a newer worker may take over at once.
  await self.skipWaiting();
}

async function takeOver(): Promise<void> {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name !== CACHE).map((name) => caches.delete(name)));
  await self.clients.claim();
}

/** The newest page if the server answers, else the one that was stored together with its files. */
async function page(event: FetchEvent): Promise<Response> {
  const stored = await caches.match(PAGE, { cacheName: CACHE, ignoreVary: true });
  try {
    const response = await fetch(event.request, { signal: AbortSignal.timeout(PAGE_WAIT_MS) });
    if (response.ok) {
      if (stored !== undefined) event.waitUntil(keepHeaders(response.clone(), stored));
      return response;
    }
  } catch {
    // No server: the stored page is the answer.
  }
  return stored ?? Response.error();
}

/** The page is this build's own, but its policy may be newer: which addresses it may call is the server's to say. */
async function keepHeaders(fresh: Response, stored: Response): Promise<void> {
  const copy = fresh.clone();
  if ((await fresh.text()) !== (await stored.text())) return;
  const cache = await caches.open(CACHE);
  await cache.put(PAGE, copy);
}

/** The name holds the hash of the content, so what is stored under it is right for ever. */
async function file(request: Request): Promise<Response> {
  const stored = await caches.match(request, { cacheName: CACHE, ignoreVary: true });
  return stored ?? (await fetch(request));
}
